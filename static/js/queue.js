// Waiting jobs dragged to another place, or moved by the arrow keys at their handle; the server keeps the order.
"use strict";

const drag = { item: null, next: null };

async function moveJob(item) {
  const next = item.nextElementSibling, number = [...item.parentElement.children].indexOf(item) + 1;
  const body = next ? { before: Number(next.dataset.job) } : { position: number };
  const answer = await fetch(`/api/jobs/${item.dataset.job}/move`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  }).catch(() => null);
  const said = await answer?.json().catch(() => null);
  // Across a priority it takes that of the job it stands before.
  const now = answer?.ok && said.priority !== item.dataset.priority ? `, with priority ${said.priority} now` : "";
  if (answer?.ok) toast(`${said.name}: queued at place ${said.position}${now}.`);
  else toast(said?.error?.message || "The control center did not answer; the order is as it was.", "bad");
  htmx.trigger(document.body, "queue", {});
}

document.addEventListener("dragstart", (event) => {
  const item = event.target.closest?.("[data-queue] > li");
  if (!item) return;
  Object.assign(drag, { item, next: item.nextElementSibling });
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", item.dataset.job);
  requestAnimationFrame(() => item.classList.add("dragged"));
});
document.addEventListener("dragover", (event) => {
  const list = drag.item?.parentElement;
  if (!list?.contains(event.target)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "move";
  const others = [...list.children].filter((one) => one !== drag.item);
  const below = others.find((one) => { const box = one.getBoundingClientRect(); return event.clientY < box.top + box.height / 2; });
  if ((below ?? null) !== drag.item.nextElementSibling) list.insertBefore(drag.item, below ?? null);
});
document.addEventListener("drop", (event) => { if (drag.item) event.preventDefault(); });
document.addEventListener("dragend", (event) => {
  const { item, next } = drag;
  if (!item) return;
  Object.assign(drag, { item: null, next: null });
  item.classList.remove("dragged");
  if (event.dataTransfer.dropEffect === "none") item.parentElement.insertBefore(item, next);
  else if (item.nextElementSibling !== next) return void moveJob(item);
  htmx.trigger(document.body, "queue", {});
});
// What comes in meanwhile must not tear the list from under the pointer, which drags or may click again; it is read
// anew after the drop, or once the clicks on a button have ended.
let clicks = 0;
document.addEventListener("click", (event) => {
  if (!event.detail || !event.target.closest("[data-move] button")) return;
  clearTimeout(clicks);
  clicks = setTimeout(() => { clicks = 0; htmx.trigger(document.body, "queue", {}); }, 400);
});
document.addEventListener("htmx:before:swap", (event) => {
  const list = (drag.item || clicks) && $("[data-queue]");
  if (list && event.detail.ctx?.target?.contains?.(list)) event.preventDefault();
});

const WAYS = { ArrowUp: "up", ArrowDown: "down", Home: "first" };
document.addEventListener("keydown", (event) => {
  const way = WAYS[event.key], item = event.target.closest?.("[data-grip]")?.closest("li");
  if (!way || !item) return;
  event.preventDefault();
  const form = $(`[data-move="${way}"]`, item);
  if (form && !$("button", form).disabled) form.requestSubmit();
});
