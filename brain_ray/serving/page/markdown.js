// Markdown as elements, for the model cards.

import { make } from "./dom.js";

/** Build the elements of a Markdown text: headings, lists, tables, code, paragraphs; HTML in it stays text. */
export function markdown(text) {
  const lines = text.replaceAll("\r", "").split("\n");
  const blocks = [];
  while (lines.length) {
    const line = lines[0];
    if (!line.trim()) lines.shift();
    else if (line.startsWith("```")) blocks.push(codeBlock(lines));
    else if (/^#{1,6} /.test(line)) {
      const [, marks, title] = lines.shift().match(/^(#+)\s+(.*?)\s*#*$/);
      blocks.push(make(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(title)));
    } else if (/^\|/.test(line)) blocks.push(table(lines));
    else if (ITEM.test(line)) blocks.push(list(lines));
    else {
      const words = [];
      const ends = (next) => !next.trim() || /^(```|#{1,6} |\|)/.test(next) || ITEM.test(next);
      do words.push(lines.shift().trim()); while (lines.length && !ends(lines[0]));
      blocks.push(make("p", {}, ...inline(words.join(" "))));
    }
  }
  return blocks;
}

const ITEM = /^(\s*)([-*]|\d+\.)\s+(.*)$/;

function codeBlock(lines) {
  lines.shift();
  const code = [];
  while (lines.length && !lines[0].startsWith("```")) code.push(lines.shift());
  lines.shift();
  return make("pre", { tabIndex: 0 }, make("code", {}, code.join("\n")));
}

function table(lines) {
  const rows = [];
  while (lines.length && lines[0].startsWith("|")) {
    const line = lines.shift().trim().replace(/^\||\|$/g, "");
    rows.push(line.split("|").map((cell) => cell.trim()));
  }
  const isRule = (row) => row.every((cell) => /^:?-+:?$/.test(cell));
  const head = rows.length > 1 && isRule(rows[1]) ? rows.splice(0, 2)[0] : null;
  const result = make("table");
  const rowOf = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, {}, ...inline(cell))));
  if (head) result.append(make("thead", {}, rowOf(head, "th")));
  result.append(make("tbody", {}, ...rows.map((row) => rowOf(row, "td"))));
  return make("div", { className: "scroll", tabIndex: 0 }, result);
}

/** A list with those inside it; an indented line without a mark goes on with its item. */
function list(lines) {
  const [, indent, mark] = lines[0].match(ITEM);
  const result = make(/\d/.test(mark) ? "ol" : "ul");
  while (lines.length) {
    const [, depth, , text] = lines[0].match(ITEM) ?? [];
    if (depth === undefined || depth.length < indent.length) break;
    if (depth.length > indent.length) {
      result.lastElementChild.append(list(lines));
      continue;
    }
    lines.shift();
    const words = [text];
    while (lines.length && /^\s+\S/.test(lines[0]) && !ITEM.test(lines[0])) words.push(lines.shift().trim());
    result.append(make("li", {}, ...inline(words.join(" "))));
  }
  return result;
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/).filter(Boolean).map((part) => {
    if (/^`[^`]+`$/.test(part)) return make("code", {}, part.slice(1, -1));
    if (/^\*\*[^*]+\*\*$/.test(part)) return make("strong", {}, part.slice(2, -2));
    const [, words, address] = part.match(/^\[([^\]]+)\]\((https?:\/\/[^)\s]+)\)$/) ?? [];
    return address ? make("a", { href: address, rel: "noopener noreferrer" }, words) : part;
  });
}
