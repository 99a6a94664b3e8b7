// Requests of the page: each click sends one, what goes wrong is told, and what was asked shows at once.
"use strict";

const SEND_AGAIN_MS = 15000; // a page that has not left by then may be sent once more
const underWay = new WeakSet(); // what has a request under way
const isPosting = (form) => form?.getAttribute("method") === "post" && !form.matches("[hx-sync]");

// Of a double click the first counts: the second may meet another button where the first one was.
document.addEventListener("click", (event) => {
  const button = event.detail > 1 && event.target.closest("button");
  if (!button || button.type !== "submit" || !isPosting(button.form)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, true);

// A form that says itself how its requests follow each other (hx-sync) sends all of them.
document.addEventListener("htmx:config:request", (event) => {
  const { sourceElement, sourceEvent } = event.detail.ctx;
  if (sourceEvent?.type !== "submit" || !isPosting(sourceElement)) return;
  if (underWay.has(sourceElement)) return event.preventDefault();
  underWay.add(sourceElement);
  event.detail.ctx.sender = sourceElement;
});
document.addEventListener("htmx:finally:request", (event) => underWay.delete(event.detail.ctx.sender));

// A form without htmx leaves the page: it is sent once, until the browser shows the page again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !isPosting(form) || form.matches("[hx-post]")) return;
  if (underWay.has(form)) return event.preventDefault();
  underWay.add(form);
  setTimeout(() => underWay.delete(form), SEND_AGAIN_MS);
});
addEventListener("pageshow", (event) => { if (event.persisted) for (const form of $$("form")) underWay.delete(form); });

document.addEventListener("htmx:after:swap", (event) => {
  showTimes();
  const dialog = $("#dialog");
  if (event.detail?.ctx?.target === dialog && dialog.childElementCount && !dialog.open) dialog.showModal();
});
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.sourceElement.closest("dialog") && ctx.request.method === "POST") $("#dialog").close();
  if (ctx.response.status === 401 || new URL(ctx.response.raw.url).pathname === "/login") location.reload();
});

// What a search asks for stands in the address too, so that the way back leads to the same hits.
document.addEventListener("htmx:after:request", (event) => {
  const { sourceElement, request } = event.detail.ctx;
  if (!sourceElement.matches("[data-in-address]")) return;
  const address = new URL(location.href);
  address.searchParams.delete("after");
  for (const [name, value] of new URL(request.action, location.href).searchParams) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  history.replaceState(history.state, "", address);
});

// What was asked shows at once; the server's answer, good or bad, reads the region anew.
document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = event.detail, word = ctx.sourceElement.dataset.soon, pill = $("#job-head .pill");
  if (!word || !pill) return;
  const { className, textContent } = pill;
  ctx.takeBack = () => { pill.className = className; setText(pill, textContent); };
  pill.className = "pill stopping";
  setText(pill, word);
});

// No answer at all. Regions that read themselves anew are silent: the stream's own sign tells of the outage.
document.addEventListener("htmx:error", (event) => {
  const { ctx } = event.detail, way = ctx?.sourceEvent?.type;
  if (!["click", "submit", "change"].includes(way)) return;
  ctx.takeBack?.();
  if (way === "change" && ctx.request.method === "POST") ctx.sourceElement.reset();
  if (ctx.sourceElement.closest("dialog")) $("#dialog").close();
  toast(ctx.request.signal.reason === "timeout"
    ? "The control center did not answer in time; reload the page to see whether it was done."
    : "The control center does not answer; nothing was changed.", "bad");
});
document.addEventListener("htmx:before:swap", (event) => {
  // An error page must not land in the middle of a region; a refusal says why in a toast instead.
  const { ctx } = event.detail, status = ctx.response?.status ?? 200;
  if (status < 400) return;
  event.preventDefault();
  if (ctx.sourceElement === live.element) return;
  if (ctx.sourceElement.dataset.soon) htmx.trigger(document.body, "state", {});
  if (!ctx.response.headers.get("HX-Trigger")) toast(`The control center answered ${status}. Reload the page and try again.`, "bad");
});
