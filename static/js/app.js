// The shell of every page: theme, times, toasts, dialogs, shortcuts, and the one event stream with its watchdog.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// ---- words and numbers, the same as the filters of the server -------------------------------------------------
const words = {
  number: (value, digits = 0) =>
    value == null ? "–" : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
  loss(value) {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (value !== 0 && size < 0.001) return words.short(value);
    return value.toFixed(size >= 10 ? 2 : size >= 0.1 ? 3 : 4);
  },
  short(value) {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (value === 0 || (size >= 0.01 && size < 10000)) return String(Number(value.toPrecision(4)));
    const [mantissa, exponent] = value.toExponential(2).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`;
  },
  duration(seconds) {
    if (seconds == null) return "–";
    if (seconds < 59.5) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60);
    if (minutes < 60) return `${minutes} min`;
    if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
    return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  },
  size(bytes) {
    let value = bytes;
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (value < 999.5) return `${value.toFixed(unit === "B" || value >= 99.95 ? 0 : 1)} ${unit}`;
      value /= 1000;
    }
    return `${value.toFixed(2)} TB`;
  },
  clock: (date) => date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }),
  soon(date) {
    const days = Math.round((new Date(date).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 86400000);
    if (days === 0) return words.clock(date);
    if (days < 0 || days > 6) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    return `${date.toLocaleDateString("en-GB", { weekday: "short" })} ${words.clock(date)}`;
  },
  ago(date) {
    const seconds = (Date.now() - date) / 1000;
    if (seconds < 60) return "just now";
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    return seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} d ago`;
  },
};

function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function showTimes(root = document) {
  for (const element of $$("time[data-as]", root)) {
    const date = new Date(element.dateTime), style = element.dataset.as;
    if (isNaN(date)) continue;
    element.title = date.toLocaleString("en-GB");
    if (style === "second") setText(element, date.toLocaleTimeString("en-GB"));
    else setText(element, (words[style] || words.clock)(date));
  }
}

// ---- theme: the cookie lets the server write it, so nothing flashes --------------------------------------------
function toggleTheme() {
  const order = ["auto", "light", "dark"], root = document.documentElement;
  const next = order[(order.indexOf(root.dataset.theme) + 1) % 3];
  root.dataset.theme = next;
  document.cookie = `theme=${next}; path=/; max-age=31536000; samesite=strict`;
  for (const button of $$("[data-theme-toggle]")) {
    button.title = `Theme: ${next}`;
    button.setAttribute("aria-label", button.title);
    const use = $("use", button);
    use.setAttribute("href", use.getAttribute("href").replace(/#.*/, "#" + { auto: "sun-moon", light: "sun", dark: "moon" }[next]));
  }
  document.dispatchEvent(new Event("themechange"));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));

// A canvas cannot read light-dark(): an element can.
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// ---- toasts and dialogs ----------------------------------------------------------------------------------------
function toast(text, kind = "ok", undo = null) {
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  box.textContent = text;
  if (undo) {
    const button = Object.assign(document.createElement("button"), { className: "btn small", type: "button", textContent: "Undo" });
    button.onclick = () => { box.remove(); $(undo)?.click(); };
    box.append(" ", button);
  }
  $("#toasts").append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 9000 : 5000);
}
document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.kind, event.detail.undo));

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]"), copy = event.target.closest("[data-copy]");
  if (opener) $("#" + opener.dataset.open).showModal();
  if (event.target.closest("[data-theme-toggle]")) toggleTheme();
  if (copy) navigator.clipboard.writeText($(copy.dataset.copy).textContent).then(() => toast("Copied."));
  // The second half of a double click meets the backdrop of the dialog that the first one opened.
  if (event.target.tagName === "DIALOG" && event.detail < 2) event.target.close();
  const menu = event.target.closest("[popover] button")?.closest("[popover]");
  if (menu) setTimeout(() => menu.hidePopover());
  const left = event.target.closest("[data-close]")?.closest("dialog");
  if (left) { event.preventDefault(); left.close(); }
});

// ---- shortcuts -------------------------------------------------------------------------------------------------
const places = { d: "/", j: "/jobs", s: "/datasets", a: "/adapters", n: "/nodes", q: "/queue" };
let goPressed = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select") || $("dialog[open]")) return;
  if (Date.now() - goPressed < 1200 && places[event.key]) return void location.assign(places[event.key]);
  goPressed = event.key === "g" ? Date.now() : 0;
  if (event.key === "n") location.assign("/jobs/new");
  if (event.key === "?") $("#help")?.showModal();
  if (event.key === "/" && $("[data-log-find]")) {
    event.preventDefault();
    $("[data-log-find]").focus();
  }
});

// ---- the stream: one a page, events by kind as JSON arrays ------------------------------------------------------
const KINDS = ["step", "eval", "sample", "checkpoint", "state", "log", "advice", "telemetry", "queue", "node", "dataset"];
const SILENCE_MS = 15000;
const live = {
  element: null, connection: null, heardAt: 0, downSince: 0, retryMs: 500, ended: false, listeners: {}, lastId: 0, asking: true, retryAt: 0,

  on(kind, call) { (live.listeners[kind] ||= []).push(call); },
  tell(kind, events) { for (const call of live.listeners[kind] || []) call(events); },

  show(state, text) {
    const pill = $("#link");
    pill.hidden = false;
    pill.className = `dot ${state}`;
    setText(pill, text);
  },
  up() { live.downSince = 0; live.retryMs = 500; live.show("live", "Live"); },
  down() {
    live.connection = null;
    if (live.ended || document.hidden) return;
    live.downSince ||= Date.now();
    if (Date.now() - live.downSince > 20000 || !navigator.onLine) live.show("off", "Offline");
    else if (Date.now() - live.downSince > 800) live.show("wait", "Reconnecting");
  },
  // hx-sse gives up when its very first connection fails: ask again, slower each time.
  retry() {
    live.asking = false;
    if (live.element._htmx?.sse || live.ended) return;
    live.down();
    live.retryAt = Date.now() + live.retryMs;
    live.retryMs = Math.min(5000, live.retryMs * 2);
  },
  watch() {
    if (live.ended) return;
    const now = Date.now();
    if (live.connection && now - live.heardAt > SILENCE_MS) live.connection.reader?.cancel();
    if (!live.connection) live.down();
    if (live.asking || live.element._htmx?.sse || now < live.retryAt) return;
    live.asking = true;
    htmx.trigger(live.element, "sse-retry");
  },
  receive(kind, event) {
    let events;
    try { events = JSON.parse(event.detail.data); } catch { return; }
    if (!Array.isArray(events)) events = [events];
    for (const one of events) live.lastId = Math.max(live.lastId, one.id || 0);
    live.tell(kind, events);
  },
  attach(element) {
    live.element = element;
    live.ended = false;
    element.addEventListener("htmx:sse:after:connection", (event) => {
      live.connection = event.detail.connection;
      live.heardAt = Date.now();
      live.up();
    });
    element.addEventListener("htmx:sse:before:message", () => {
      live.heardAt = Date.now();
      if (live.downSince) live.up();
    });
    element.addEventListener("htmx:sse:error", live.down);
    element.addEventListener("htmx:sse:before:connection", (event) => {
      if (event.detail.connection.attempt > 0) live.down();
    });
    element.addEventListener("htmx:finally:request", live.retry);
    for (const kind of KINDS) element.addEventListener(kind, (event) => live.receive(kind, event));
    element.addEventListener("reset", () => { live.tell("reset", []); htmx.trigger(document.body, "state", {}); });
    element.addEventListener("done", () => { live.ended = true; live.show("", "Ended"); live.tell("done", []); });
  },
  // Follow other jobs than the page was rendered with, from the last event seen.
  restart(url) {
    const next = live.element.cloneNode();
    const after = live.lastId ? url.replace(/after=\d+/, `after=${live.lastId}`) : url;
    next.setAttribute("hx-sse:connect", after);
    live.element.replaceWith(next);
    live.connection?.reader?.cancel();
    live.attach(next);
    htmx.process(next);
  },
};
if ($("#stream")) {
  live.attach($("#stream"));
  setInterval(live.watch, 500);
}

// ---- upload: XHR, because fetch tells no progress ---------------------------------------------------------------
function upload(file, box) {
  const panel = $("[data-upload]", box), cancel = $("[data-upload-cancel]", box), started = Date.now();
  const request = new XMLHttpRequest();
  const say = (text, bad) => { const line = $("[data-upload-text]", box); setText(line, text); line.classList.toggle("bad", !!bad); };
  const end = (text) => { say(text, true); cancel.hidden = true; $(".drop", box).hidden = false; };
  panel.hidden = cancel.hidden = false;
  $(".drop", box).hidden = true;
  setText($("[data-upload-name]", box), file.name);
  request.upload.onprogress = (event) => {
    const seconds = (Date.now() - started) / 1000 || 1, rate = event.loaded / seconds;
    const left = rate ? (event.total - event.loaded) / rate : null, share = (100 * event.loaded) / event.total;
    $("[data-upload] .bar", box).setAttribute("aria-valuenow", Math.round(share));
    $("[data-upload] .bar i", box).style.setProperty("--w", share + "%");
    say(share < 100
      ? `${words.size(event.loaded)} of ${words.size(event.total)} · ${words.size(rate)}/s · ${words.duration(left)} left`
      : "Sent. The server writes it down.");
  };
  request.onload = () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* a proxy's page; the status says enough */ }
    if (request.status < 300 && answer.id) return location.assign(`/datasets/${answer.id}`);
    end(answer.error?.message || `The server refused the file with status ${request.status}.`);
  };
  request.onerror = () => end("The connection was cut before the file was whole. Nothing was kept; choose the file again.");
  request.onabort = () => end("Cancelled. Nothing was kept.");
  cancel.onclick = () => request.abort();
  request.open("PUT", "/api/datasets/" + encodeURIComponent(file.name));
  request.send(file);
}
for (const box of $$("[data-upload-box]")) {
  const drop = $(".drop", box), input = $("input[type=file]", box);
  input.addEventListener("change", () => { if (input.files[0]) upload(input.files[0], box); input.value = ""; });
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  drop.addEventListener("drop", (event) => { if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0], box); });
}

showTimes();
setInterval(showTimes, 30000);
