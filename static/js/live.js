// What moves on a job: curves keyed by step, numbers, title. Fed by the page's history and then by its stream.
"use strict";

const stores = new Map(); // job id -> {step, loss, learning_rate, grad_norm, evals: Map(step -> loss)}
const charts = new Map(); // element -> drawing
const DRAW_EVERY_MS = 250;
const LATEST_STEPS = 200;

// ---- data ------------------------------------------------------------------------------------------------------
const COLUMNS = ["loss", "learning_rate", "grad_norm"];

function newStore(history) {
  const store = { step: [...history.step], evals: new Map(), num_steps: history.num_steps };
  for (const name of COLUMNS) store[name] = [...history[name]];
  history.eval.step.forEach((step, i) => store.evals.set(step, history.eval.loss[i]));
  return store;
}

function place(steps, step) {
  let low = 0, high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle + 1; else high = middle;
  }
  return low;
}

function addStep(store, event) {
  const at = place(store.step, event.step), known = store.step[at] === event.step ? 1 : 0;
  store.step.splice(at, known, event.step);
  for (const name of COLUMNS) store[name].splice(at, known, event[name] ?? null);
}

function dropBeyond(store, step) {
  const keep = place(store.step, step + 1);
  store.step.length = keep;
  for (const name of COLUMNS) store[name].length = keep;
  for (const one of [...store.evals.keys()]) if (one > step) store.evals.delete(one);
}

// De-biased, so that the first points do not hang at zero; a missing loss leaves a gap and does not move it.
function smooth(values, weight) {
  let sum = 0, norm = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

// Columns for uPlot on one x axis: thinned steps may lack the step of an evaluation.
function lossColumns(store, weight) {
  const extra = [...store.evals.keys()].filter((step) => store.step[place(store.step, step)] !== step);
  const x = extra.length ? [...store.step, ...extra].sort((a, b) => a - b) : store.step;
  const smoothed = smooth(store.loss, weight);
  if (!extra.length) return [x, store.loss, smoothed, x.map((step) => store.evals.get(step) ?? null)];
  const index = new Map(store.step.map((step, i) => [step, i]));
  // undefined is bridged, null is a gap: a step that was not kept is no gap.
  const pick = (column) => x.map((step) => (index.has(step) ? column[index.get(step)] : undefined));
  return [x, pick(store.loss), pick(smoothed), x.map((step) => store.evals.get(step) ?? null)];
}

// ---- drawing ---------------------------------------------------------------------------------------------------
const faint = (value, share) => `color-mix(in oklab, ${value} ${share}%, ${colour("card")})`;
const tick = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en-US") : words.short(Number(value.toPrecision(6))));

function series(kind) {
  const c = { loss: colour("c1"), eval: colour("c2"), learning_rate: colour("c3"), grad_norm: colour("c4"), card: colour("card") };
  if (kind === "loss") return [
    { label: "Loss", stroke: faint(c.loss, 42), width: 1, points: { show: false } },
    { label: "Smoothed", stroke: c.loss, width: 2, points: { show: false } },
    { label: "Evaluation", stroke: faint(c.eval, 55), width: 1, spanGaps: true, points: { show: true, size: 9, width: 2, stroke: c.card, fill: c.eval } },
  ];
  const one = { label: kind === "grad_norm" ? "Gradient norm" : "Learning rate", stroke: c[kind], width: 1.5, points: { show: false } };
  return [kind === "learning_rate" ? { ...one, fill: faint(c[kind], 14) } : one];
}

class Drawing {
  constructor(element) {
    this.element = element;
    this.kind = element.dataset.chart;
    this.store = stores.get(element.dataset.job);
    this.plot = null;
    this.weight = 0.9;
    this.log = this.latest = this.zoomed = false;
    this.drawnAt = 0;
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.seen = true;
    this.resize = new ResizeObserver(() => this.fit());
    this.resize.observe(element);
    this.watch = new IntersectionObserver((entries) => { this.seen = entries.at(-1).isIntersecting; if (this.seen) this.ask(); });
    this.watch.observe(element);
  }
  columns() {
    return this.kind === "loss" ? lossColumns(this.store, this.weight) : [this.store.step, this.store[this.kind]];
  }
  range(plot, low, high) {
    if (this.latest) return [Math.max(low, high - LATEST_STEPS), high];
    return low === high ? [low - 1, high + 1] : [low, high];
  }
  build() {
    this.plot?.destroy();
    const ink = colour("muted"), line = colour("line"), font = "12px Geist, system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const y = this.kind === "loss" ? { distr: this.log ? 3 : 1 } : this.kind === "learning_rate" ? { range: (u, low, high) => [0, high * 1.08 || 1] } : {};
    this.plot = new uPlot({
      width: this.element.clientWidth, height: this.element.clientHeight,
      padding: [8, 8, 0, 0], legend: { show: false },
      cursor: { sync: { key: "steps" }, y: false, points: { size: 7 }, drag: { x: true, y: false, setScale: true } },
      scales: { x: { time: false, range: (...given) => this.range(...given) }, y },
      axes: [
        { ...axis, size: 28, gap: 6, space: 70, values: (u, values) => values.map((v) => (Number.isInteger(v) ? v.toLocaleString("en-US") : "")) },
        { ...axis, size: 42, gap: 6, space: 34, values: (u, values) => values.map((v) => (v == null ? "" : tick(v))) },
      ],
      series: [{ label: "Step" }, ...series(this.kind)],
      hooks: {
        setCursor: [(plot) => this.hover(plot)],
        setSelect: [(plot) => { this.zoomed ||= plot.select.width > 0; }],
        ready: [(plot) => { plot.over.append(this.tip); this.tip.hidden = true; plot.over.addEventListener("dblclick", () => { this.zoomed = false; this.ask(); }); }],
      },
    }, this.columns(), this.element);
  }
  hover(plot) {
    const { idx, left } = plot.cursor, box = plot.over;
    this.tip.hidden = idx == null || left < 0 || !box.matches(":hover");
    if (this.tip.hidden) return;
    const rows = plot.series.slice(1).map((one, i) => [one.label, plot.data[i + 1][idx]]).filter(([, value]) => value != null);
    const line = ([label, value]) => {
      const row = document.createElement("div"), number = document.createElement("b");
      number.textContent = this.kind === "learning_rate" ? words.short(value) : words.loss(value);
      row.append(label, number);
      return row;
    };
    const head = document.createElement("b");
    head.textContent = `Step ${plot.data[0][idx].toLocaleString("en-US")}`;
    this.tip.replaceChildren(head, ...rows.map(line));
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${left + 14 + wide > box.clientWidth ? left - wide - 14 : left + 14}px`;
    this.tip.style.top = "8px";
  }
  fit() {
    if (this.plot && this.element.clientWidth) this.plot.setSize({ width: this.element.clientWidth, height: this.element.clientHeight });
  }
  ask() {
    if (this.asked || !this.seen) return;
    this.asked = true;
    const wait = Math.max(0, this.drawnAt + DRAW_EVERY_MS - performance.now());
    setTimeout(() => requestAnimationFrame(() => { this.asked = false; this.draw(); }), wait);
  }
  draw() {
    if (!this.element.isConnected) return;
    this.drawnAt = performance.now();
    const columns = this.columns(), waiting = $(".waiting", this.element);
    if (waiting) waiting.hidden = columns[0].length > 0;
    this.element.dataset.points = columns[0].length;
    if (!columns[0].length && !this.plot) return;
    if (!this.plot) return this.build();
    if (!this.zoomed) return this.plot.setData(columns);
    const { min, max } = this.plot.scales.x;
    this.plot.setData(columns, false);
    this.plot.setScale("x", { min, max });
  }
  redo() { if (this.plot) { this.build(); } else this.ask(); }
  end() { this.plot?.destroy(); this.resize.disconnect(); this.watch.disconnect(); }
}

function scan() {
  for (const script of $$("script[data-history]")) {
    if (!stores.has(script.dataset.history)) stores.set(script.dataset.history, newStore(JSON.parse(script.textContent)));
  }
  for (const [element, drawing] of charts) if (!element.isConnected) { drawing.end(); charts.delete(element); }
  for (const element of $$("[data-chart]")) {
    if (charts.has(element)) continue;
    const drawing = new Drawing(element);
    charts.set(element, drawing);
    drawing.draw();
  }
  const wanted = $("[data-stream-job]");
  if (wanted && live.element && !streamHolds(wanted.dataset.streamJob)) live.restart(wanted.dataset.streamUrl);
}
function streamHolds(job) {
  const jobs = new URL(live.element.getAttribute("hx-sse:connect"), location.href).searchParams.get("jobs") || "";
  return !job || jobs.split(",").includes(job);
}
function redraw(job) {
  for (const drawing of charts.values()) if (drawing.element.dataset.job === job) drawing.ask();
}

// ---- numbers ---------------------------------------------------------------------------------------------------
const pending = new Map(); // job id -> newest step event, written a few times a second at most
let lastTitle = "";

function writeNumbers() {
  for (const [job, event] of pending) for (const scope of $$(`[data-live-job="${job}"]`)) writeScope(scope, event);
  pending.clear();
}
function writeScope(scope, event) {
  const share = event.num_steps ? (100 * event.step) / event.num_steps : 0;
  const done = event.eta_s == null ? null : new Date(Date.now() + event.eta_s * 1000);
  const texts = {
    step: words.number(event.step), num_steps: words.number(event.num_steps), loss: words.loss(event.loss),
    learning_rate: words.short(event.learning_rate), grad_norm: words.loss(event.grad_norm), speed: words.number(event.tokens_per_s),
    rate: event.step_s ? `${words.short(Number((1 / event.step_s).toPrecision(3)))} steps/s` : "", eta: words.duration(event.eta_s),
    done: done ? words.clock(done) : "–", epoch: event.epoch == null ? "–" : event.epoch.toFixed(2), percent: `${share.toFixed(1)} %`,
  };
  for (const element of $$("[data-live]", scope)) setText(element, texts[element.dataset.live]);
  for (const bar of $$("[data-live-bar] > i", scope)) bar.style.setProperty("--w", share + "%");
  for (const element of $$("[data-live-trend]", scope)) writeTrend(element, stores.get(scope.dataset.liveJob));
  if (scope.dataset.title) {
    lastTitle = `${share.toFixed(0)} % · ${texts.loss} · ${scope.dataset.title}`;
    if (document.title !== lastTitle) document.title = lastTitle;
  }
}
function writeTrend(element, store) {
  const curve = store ? smooth(store.loss, 0.95).filter((one) => one != null) : [];
  const back = Math.min(100, Math.floor(curve.length / 2));
  if (back < 5) return setText(element, "");
  const [old, now] = [curve.at(-1 - back), curve.at(-1)], change = (100 * (now - old)) / Math.abs(old || 1);
  setText(element, `${change < 0 ? "↓" : "↑"} ${Math.abs(change).toFixed(1)} % in ${back} steps`);
  element.className = `note ${change < 0 ? "good" : "warn"}`;
}

// ---- events ----------------------------------------------------------------------------------------------------
live.on("step", (events) => {
  for (const event of events) {
    const store = stores.get(String(event.job));
    if (store) addStep(store, event);
    if (!pending.size) setTimeout(writeNumbers, DRAW_EVERY_MS);
    pending.set(String(event.job), event);
  }
  new Set(events.map((event) => String(event.job))).forEach(redraw);
});
live.on("eval", (events) => {
  for (const event of events) {
    const job = String(event.job), store = stores.get(job);
    if (!store) continue;
    store.evals.set(event.step, event.loss);
    const known = [...store.evals].filter(([, loss]) => loss != null), best = known.length && known.reduce((a, b) => (b[1] < a[1] ? b : a));
    for (const scope of best ? $$(`[data-live-job="${job}"]`) : []) {
      $$("[data-best]", scope).forEach((one) => setText(one, words.loss(best[1])));
      $$("[data-best-step]", scope).forEach((one) => setText(one, `at step ${words.number(best[0])}`));
    }
    redraw(job);
  }
});
live.on("state", (events) => {
  for (const event of events) {
    const store = stores.get(String(event.job));
    if (store && event.resume_step != null) dropBeyond(store, event.resume_step);
    redraw(String(event.job));
  }
});
live.on("reset", async () => {
  for (const job of stores.keys()) {
    const answer = await fetch(`/api/jobs/${job}/metrics`);
    if (!answer.ok) continue;
    stores.set(job, newStore(await answer.json()));
    for (const drawing of charts.values()) if (drawing.element.dataset.job === job) { drawing.store = stores.get(job); drawing.ask(); }
  }
});

// ---- controls --------------------------------------------------------------------------------------------------
const drawingOf = (control) => charts.get($("[data-chart]", control.closest(".card")));
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-smoothing]")) return;
  const drawing = drawingOf(event.target);
  drawing.weight = Number(event.target.value);
  setText($("output", event.target.closest("label")), drawing.weight.toFixed(2));
  drawing.ask();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-toggle-chart]");
  if (!button) return;
  const drawing = drawingOf(button), name = button.dataset.toggleChart;
  drawing[name] = !drawing[name];
  drawing.zoomed = false;
  button.classList.toggle("on", drawing[name]);
  button.setAttribute("aria-pressed", drawing[name]);
  drawing.redo();
});
document.addEventListener("themechange", () => setTimeout(() => charts.forEach((drawing) => drawing.redo())));
document.addEventListener("htmx:after:swap", scan);
document.fonts.ready.then(() => charts.forEach((drawing) => drawing.redo()));
scan();
