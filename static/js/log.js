// The log of a job: opens with its past, follows until the reader scrolls up, and is searched while it grows.
"use strict";

const LOG_LINES = 1000;
const logBox = $("[data-log]");
const logState = { follow: true, unseen: 0, find: "", level: "all" };

function logLine(event) {
  const line = document.createElement("p"), time = document.createElement("time"), text = document.createElement("span");
  line.className = event.level;
  time.dateTime = event.at;
  time.dataset.as = "second";
  time.textContent = new Date(event.at).toLocaleTimeString("en-GB");
  text.textContent = event.text;
  line.append(time, text);
  return line;
}

function filterLine(line) {
  const text = line.lastElementChild, words = text.textContent, at = logState.find ? words.toLowerCase().indexOf(logState.find) : -1;
  const level = logState.level === "all" || line.classList.contains("warning") || line.classList.contains("error");
  line.hidden = !level || (logState.find !== "" && at < 0);
  if (text.firstElementChild) text.textContent = words;
  if (at < 0 || line.hidden) return;
  const mark = document.createElement("mark");
  mark.textContent = words.slice(at, at + logState.find.length);
  text.replaceChildren(words.slice(0, at), mark, words.slice(at + logState.find.length));
}

// A box in which every line is hidden says why it is empty.
function tellNone() {
  const lines = $$("p:not([data-log-empty])", logBox);
  $("[data-log-none]").hidden = !lines.length || lines.some((line) => !line.hidden);
}
function filterAll() {
  for (const line of $$("p:not([data-log-empty])", logBox)) filterLine(line);
  tellNone();
}

function toEnd() {
  logState.follow = true;
  logState.unseen = 0;
  logBox.scrollTop = logBox.scrollHeight;
  $("[data-log-follow]").hidden = true;
}

if (logBox) {
  const follow = $("[data-log-follow]");
  live.on("log", (events) => {
    const lines = events.map(logLine);
    lines.forEach(filterLine);
    $("[data-log-empty]")?.remove();
    logBox.append(...lines);
    while (logBox.childElementCount > LOG_LINES) logBox.firstElementChild.remove();
    tellNone();
    if (logState.follow) return toEnd();
    logState.unseen += lines.length;
    setText(follow, `${logState.unseen} new`);
    follow.hidden = false;
  });
  logBox.addEventListener("scroll", () => {
    logState.follow = logBox.scrollHeight - logBox.scrollTop - logBox.clientHeight < 24;
    if (logState.follow) { logState.unseen = 0; follow.hidden = true; }
  });
  follow.addEventListener("click", toEnd);
  $("[data-log-find]").addEventListener("input", (event) => {
    logState.find = event.target.value.trim().toLowerCase();
    filterAll();
  });
  for (const button of $$("[data-log-level]")) button.addEventListener("click", () => {
    logState.level = button.dataset.logLevel;
    for (const one of $$("[data-log-level]")) {
      one.classList.toggle("on", one === button);
      one.setAttribute("aria-pressed", one === button);
    }
    filterAll();
    if (logState.follow) toEnd();
  });
  toEnd();
}
