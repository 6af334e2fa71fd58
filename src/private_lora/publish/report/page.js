// Tables sort by a click on a column's name: up, down, and as they were. A link into a folded part unfolds it.
"use strict";

const numberOf = (text) => {
  const found = text.replaceAll(",", "").match(/^-?(\d+(\.\d*)?(e[-+]?\d+)?|inf)/i);
  return found ? Number(found[0].replace("inf", "Infinity")) : null;
};

// Numbers before words, words before nothing, whichever way is up.
const compare = (a, b, way) => {
  const kind = (cell) => (cell.number !== null ? 0 : cell.text ? 1 : 2);
  if (kind(a) !== kind(b)) return kind(a) - kind(b);
  if (kind(a) === 0) return a.number === b.number ? 0 : way * (a.number < b.number ? -1 : 1);
  return way * a.text.localeCompare(b.text);
};

const sort = (table, head, original) => {
  const state = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
  for (const other of head.parentElement.children) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", state);
  const cell = (row) => {
    const text = row.cells[head.cellIndex].textContent.trim();
    return { text, number: numberOf(text) };
  };
  const keyed = original.map((row) => [cell(row), row]);
  const way = state === "descending" ? -1 : 1;
  if (state !== "none") keyed.sort(([a], [b]) => compare(a, b, way));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
};

for (const table of document.querySelectorAll("table.sortable")) {
  const original = [...table.tBodies[0].rows];
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "Sort by this column";
    button.addEventListener("click", () => sort(table, head, original));
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  }
}

// The image is in the page once, not again in a link.
for (const figure of document.querySelectorAll("figure")) {
  const link = document.createElement("a");
  link.textContent = "PNG";
  link.download = `${figure.id.replace("figure-", "")}.png`;
  link.href = figure.querySelector("img").src;
  figure.querySelector(".downloads").prepend(link);
}

const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
