// The list of entries: their counts, the filter over them, and what a screen reader is told.

import { $, make } from "./dom.js";

export const entries = []; // as on the page

const GROUPS = [
  ["", "All"], ["answer", "Answered"], ["abstain", "Not sure"], ["not_mr", "Unlike training"], ["failed", "Failed"],
];

function groupOf(entry) {
  if (entry.state === "done") return entry.answer.decision;
  return entry.state === "failed" ? "failed" : "";
}

export function summarise() {
  const groups = entries.map(groupOf);
  const only = $("list").dataset.only ?? "";
  const numbers = GROUPS.map(([group]) => (group ? groups.filter((of) => of === group).length : entries.length));
  if (only && !numbers[GROUPS.findIndex(([group]) => group === only)]) return showOnly("");
  $("empty").hidden = entries.length + $("studies").children.length > 0;
  $("actions").hidden = !entries.length;
  $("filters").hidden = entries.length < 2;
  if (!$("filters").children.length) {
    $("filters").append(...GROUPS.map(([group, name]) => {
      const button = make("button", { type: "button" }, `${name} `, make("b"));
      button.addEventListener("click", () => showOnly(group));
      return button;
    }));
  }
  GROUPS.forEach(([group], i) => {
    const button = $("filters").children[i];
    button.hidden = Boolean(group) && !numbers[i];
    button.querySelector("b").textContent = numbers[i];
    button.setAttribute("aria-pressed", String(group === only));
  });
}

export function showOnly(group) {
  $("list").dataset.only = group;
  summarise();
}

/** Tell a screen reader, once for what comes in quick succession. */
export function announce(entry, text) {
  announce.texts.push(`${entry.name}: ${text}`);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => {
    const open = entries.filter(({ state }) => !["done", "failed"].includes(state)).length;
    const rest = open ? ` ${open} are still open.` : "";
    const many = `${announce.texts.length} more images are read.`;
    $("status").textContent = (announce.texts.length > 3 ? many : announce.texts.join(" ")) + rest;
    announce.texts = [];
  }, 400);
}
announce.texts = [];
