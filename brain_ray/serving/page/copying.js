// Answers as JSON, for the clipboard.

import { $ } from "./dom.js";

/** An entry as the endpoint told it, without the pictures. */
export function plain(entry) {
  if (entry.answer) return entry.answer;
  const { status, code, detail } = entry.problem ?? { status: 0, code: entry.state, detail: "" };
  return { status: "error", name: entry.name, problem: entry.problem?.body ?? { status, code, detail } };
}

export const asJson = (entry) => JSON.stringify(plain(entry), null, 2);

export async function copy(button, area, text) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text); // there only on https or on this machine
    copied = true;
  } catch {
    area.hidden = false;
    area.value = text;
    area.setAttribute("aria-label", "JSON, to copy by hand");
    area.focus();
    area.select();
    copied = document.execCommand("copy");
    if (copied) {
      area.hidden = true;
      button.focus();
    }
  }
  button.dataset.text ??= button.textContent;
  button.textContent = copied ? "Copied" : "Copy it from the field";
  $("status").textContent = copied ? "JSON copied" : "JSON is in the field, selected: copy it from there";
  clearTimeout(button.timer);
  button.timer = setTimeout(() => { button.textContent = button.dataset.text; }, 2500);
}
