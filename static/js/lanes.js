// Telemetry of lanes on every page: numbers, bars, gauges, sparklines.
"use strict";

const GIB = 2 ** 30, laneHistory = new Map(), laneHeard = new Map(), pageOpened = Date.now();
const shares = {
  vram_used: (t) => [t.vram_used, t.vram_total], ram_used: (t) => [t.ram_used, t.ram_total], gpu_util: (t) => [t.gpu_util, 100],
  cpu_util: (t) => [t.cpu_util, 100], temperature: (t) => [t.temperature, 100], power: (t) => [t.power, t.power_limit || 500],
};
const figures = {
  vram_used: (v) => (v / GIB).toFixed(1), ram_used: (v) => (v / GIB).toFixed(1), disk_free: (v) => words.size(v),
};
function showTelemetry(event) {
  for (const scope of $$(`[data-lane="${CSS.escape(`${event.node}/${event.lane}`)}"]`)) {
    for (const element of $$("[data-t]", scope)) {
      const value = event[element.dataset.t];
      if (value != null) setText(element, (figures[element.dataset.t] || ((v) => v.toFixed(0)))(value));
    }
    for (const element of $$("[data-bar], [data-gauge]", scope)) {
      const [part, whole] = shares[element.dataset.bar || element.dataset.gauge](event);
      if (part == null || !whole) continue;
      const share = Math.min(100, (100 * part) / whole);
      if (element.dataset.gauge) $(".fore", element).style.setProperty("--w", share.toFixed(1));
      else $("i", element).style.setProperty("--w", share.toFixed(1) + "%");
    }
    for (const element of $$("[data-spark]", scope)) showSpark(element, `${event.node}/${event.lane}`, element.dataset.spark, event);
  }
}
function showSpark(element, lane, key, event) {
  const [value, top] = shares[key](event);
  if (value == null) return;
  const name = `${lane}/${key}`, seen = laneHistory.get(name) || laneHistory.set(name, []).get(name);
  if (seen.at(-1)?.id !== event.id) seen.push({ id: event.id, value });
  if (seen.length > 120) seen.shift();
  const x = (i) => (96 * (i + 120 - seen.length)) / 119, y = (v) => 25 - (24 * Math.min(v, top)) / top;
  const points = seen.map((one, i) => `${x(i).toFixed(1)},${y(one.value).toFixed(1)}`);
  $("polyline", element).setAttribute("points", points.join(" "));
  $("path", element).setAttribute("d", `M${x(0).toFixed(1)},26 L${points.join(" L")} L96,26 Z`);
}
live.on("telemetry", (events) => {
  for (const event of events) laneHeard.set(`${event.node}/${event.lane}`, Date.now());
  events.forEach(showTelemetry);
});
// A lane that has fallen silent tells nobody so: its figures turn grey by themselves.
setInterval(() => {
  for (const scope of $$("[data-lane]")) {
    const silent = Date.now() - (laneHeard.get(scope.dataset.lane) || pageOpened) > SILENCE_MS;
    if (!document.hidden) scope.classList.toggle("stale", silent);
  }
}, 2000);
for (const script of $$("script[data-lane-history]")) {
  for (const event of JSON.parse(script.textContent)) {
    for (const scope of $$(`[data-lane="${CSS.escape(`${event.node}/${event.lane}`)}"]`)) {
      for (const element of $$("[data-spark]", scope)) showSpark(element, `${event.node}/${event.lane}`, element.dataset.spark, event);
    }
  }
}
