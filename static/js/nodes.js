// The past of each node's instruments: one line a lane, read once and then carried on by the stream.
"use strict";

const GAP_S = 60, pasts = new Map(); // element -> Past
const whole = (part, all) => (part == null || !all ? null : (100 * part) / all);
const figuresOf = {
  busy: { of: (t) => t.gpu_util ?? t.cpu_util ?? null, unit: " %", top: 100 },
  memory: { of: (t) => whole(t.vram_used, t.vram_total) ?? whole(t.ram_used, t.ram_total), unit: " %", top: 100 },
  temperature: { of: (t) => t.temperature ?? null, unit: " °C", top: 90 },
  power: { of: (t) => t.power ?? null, unit: " W", top: 100 },
};

class Past {
  constructor(element) {
    this.element = element;
    this.canvas = $("[data-canvas]", element);
    this.lanes = new Map(); // lane -> [{x, and what was shown}], in the order of time
    this.plot = null;
    this.resize = new ResizeObserver(() => this.plot?.setSize({ width: this.canvas.clientWidth, height: this.canvas.clientHeight }));
    this.resize.observe(this.canvas);
    element.addEventListener("change", (event) => (event.target.matches("[data-minutes]") ? this.read() : this.draw()));
    this.read();
  }
  get minutes() { return Number($("[data-minutes]", this.element).value); }
  get figure() { return figuresOf[$("[data-figure]", this.element).value]; }
  async read() {
    const answer = await fetch(`/api/nodes/${this.element.dataset.nodePast}/telemetry?minutes=${this.minutes}&max_points=400`).catch(() => null);
    if (!answer?.ok) return setText($(".waiting", this.canvas), "Its past cannot be read now.");
    this.lanes.clear();
    for (const one of (await answer.json()).lanes) {
      const names = Object.keys(one).filter((name) => Array.isArray(one[name]));
      this.lanes.set(one.lane, one.at.map((at, i) => ({ ...Object.fromEntries(names.map((name) => [name, one[name][i]])), x: Date.parse(at) / 1000 })));
    }
    this.draw();
  }
  add(event) {
    if (!this.lanes.has(event.lane)) this.lanes.set(event.lane, []);
    const rows = this.lanes.get(event.lane), x = Date.parse(event.at) / 1000;
    if (x > (rows.at(-1)?.x ?? 0)) rows.push({ ...event, x });
    while (rows.length && rows[0].x < Date.now() / 1000 - 60 * this.minutes) rows.shift();
    this.ask();
  }
  ask() {
    if (this.asked || document.hidden) return;
    this.asked = true;
    setTimeout(() => { this.asked = false; this.draw(); }, 1000);
  }
  // One x for all lanes; where a lane was silent for a while its line ends and begins anew.
  columns() {
    const tables = [...this.lanes.values()].map((rows) => {
      const x = [], y = [];
      rows.forEach((row, i) => {
        if (i && row.x - rows[i - 1].x > Math.max(GAP_S, 3 * this.minutes)) { x.push(rows[i - 1].x + 1); y.push(null); }
        x.push(row.x);
        y.push(this.figure.of(row));
      });
      return [x, y];
    });
    return tables.length > 1 ? uPlot.join(tables) : tables[0] ?? [[], []];
  }
  draw() {
    if (!this.element.isConnected) return;
    const columns = this.columns(), known = columns.slice(1).some((one) => one.some((value) => value != null)), waiting = $(".waiting", this.canvas);
    setText(waiting, known ? "" : "Its instruments have shown nothing of this in that time.");
    this.canvas.dataset.points = known ? columns[0].length : 0;
    this.legend();
    const shape = `${[...this.lanes.keys()]}/${$("[data-figure]", this.element).value}`;
    if (shape !== this.shape || !this.plot) this.build(shape, columns);
    else this.plot.setData(columns);
    this.plot.root.hidden = !known;
  }
  legend() {
    const names = [...this.lanes.keys()].map((name, i) => {
      const item = document.createElement("span"), last = this.lanes.get(name).at(-1), value = last && this.figure.of(last);
      item.style.setProperty("--k", `var(--c${1 + (i % 4)})`);
      item.textContent = value == null ? name : `${name} ${value.toFixed(0)}${this.figure.unit}`;
      return item;
    });
    $("[data-legend]", this.element).replaceChildren(...names);
  }
  build(shape, columns) {
    this.plot?.destroy();
    this.shape = shape;
    const { unit, top } = this.figure, axis = { stroke: colour("muted"), font: "12px Geist, system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const lines = [...this.lanes.keys()].map((label, i) => ({ label, stroke: colour(`c${1 + (i % 4)}`), width: 1.5, points: { show: false } }));
    this.plot = new uPlot({
      width: this.canvas.clientWidth, height: this.canvas.clientHeight, padding: [8, 8, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [Date.now() / 1000 - 60 * this.minutes, Date.now() / 1000] },
        y: { range: (u, low, high) => [0, Math.max(top, high || 0) * 1.02] },
      },
      axes: [
        { ...axis, size: 26, gap: 6, space: 64, values: (u, values) => values.map((value) => words.clock(new Date(value * 1000))) },
        { ...axis, size: 52, gap: 6, space: 34, values: (u, values) => values.map((value) => `${value}${unit}`) },
      ],
      series: [{}, ...(lines.length ? lines : [{}])],
    }, columns, this.canvas);
  }
  end() { this.plot?.destroy(); this.resize.disconnect(); }
}

function scanPasts() {
  for (const [element, past] of pasts) if (!element.isConnected) { past.end(); pasts.delete(element); }
  for (const element of $$("[data-node-past]")) if (!pasts.has(element)) pasts.set(element, new Past(element));
}
live.on("telemetry", (events) => {
  for (const event of events) for (const [element, past] of pasts) if (element.dataset.nodeName === event.node) past.add(event);
});
document.addEventListener("themechange", () => setTimeout(() => pasts.forEach((past) => { past.shape = ""; past.draw(); })));
document.addEventListener("htmx:after:swap", scanPasts);
scanPasts();
