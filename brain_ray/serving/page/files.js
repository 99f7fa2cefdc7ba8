// Files that are dropped or chosen, folders walked through.

import { $ } from "./dom.js";

export const MOST_LISTED = 500; // entries on the page

export const HIDDEN = /^(\..*|thumbs\.db|desktop\.ini|dicomdir)$/i;

/** Files of what was dropped, folders walked through; entries must be taken before the first await. */
async function filesOf(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const item of found) {
    if (item instanceof File) files.push({ file: item });
    else if (item?.isFile) files.push({ file: await new Promise((ok, no) => item.file(ok, no)) });
    else if (item) files.push(...inOrder(await walk(item)));
  }
  return files;
}

async function walk(folder) {
  const reader = folder.createReader();
  const files = [];
  for (;;) {
    const part = await new Promise((ok, no) => reader.readEntries(ok, no)); // at most a hundred at a time
    if (!part.length) return files;
    for (const item of part) {
      if (files.length > 2 * MOST_LISTED) return files;
      if (item.isDirectory) files.push(...(await walk(item)));
      else if (!HIDDEN.test(item.name)) {
        const file = await new Promise((ok, no) => item.file(ok, no));
        files.push({ file, path: item.fullPath.replace(/^\//, "") });
      }
    }
  }
}

/** A folder's files, slice 2 before slice 10. */
export function inOrder(files) {
  return files.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
}

/** Take what is dropped: on the whole window, where a file beside the field would otherwise replace the page. */
export function takeDrops(take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    $("drop").classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    try {
      take(await filesOf(event.dataTransfer));
    } catch {
      $("left-out").textContent = "The browser could not read what was dropped. Choose the files instead.";
    }
  });
}
