// One record: the next and the previous by key, and a walk over its tokens.
"use strict";

const steps = { j: "next", ArrowRight: "next", k: "prev", ArrowLeft: "prev" };
const box = document.getElementById("token-box"), readout = document.getElementById("readout");
let current = null, goAt = 0;

function tell(token) {
  if (!token || token === current) return;
  current?.classList.remove("at");
  current = token;
  token.classList.add("at");
  const times = token.dataset.times ? ` · ${token.dataset.times} times` : "";
  readout.textContent = `Token ${token.title}${times} · “${token.textContent.replaceAll("\n", "↵")}”`;
}

function walk(event) {
  const tokens = [...box.getElementsByTagName("i")], at = tokens.indexOf(current);
  const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 };
  if (!(event.key in moves)) return false;
  event.preventDefault();
  tell(tokens[Math.min(Math.max(moves[event.key], 0), tokens.length - 1)]);
  current?.scrollIntoView({ block: "nearest" });
  return true;
}

document.addEventListener("keydown", (event) => {
  const afterGo = Date.now() - goAt < 1200;
  goAt = event.key === "g" ? Date.now() : 0;
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select")) return;
  if (box && event.target === box && walk(event)) return;
  // "g" and then a letter goes to a page.
  if (!afterGo && event.key in steps) document.querySelector(`[rel=${steps[event.key]}]`).click();
});

box?.addEventListener("mouseover", (event) => tell(event.target.closest("i")));
box?.addEventListener("click", (event) => tell(event.target.closest("i")));
