// What the page does by itself: colours, sorting, another metric, layers of pictures. It loads nothing.
"use strict";

const root = document.documentElement;
const DASH = "\u2013";

// Colours

function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  for (const button of document.querySelectorAll("button[data-theme]")) {
    button.setAttribute("aria-pressed", String(button.dataset.theme === theme));
  }
  // A page opened from disk may have no storage: the choice then lasts until it is closed.
  try { localStorage.setItem("autoseg-theme", theme); } catch { /* as said */ }
}

function knownTheme() {
  try { return localStorage.getItem("autoseg-theme") || "auto"; } catch { return "auto"; }
}

// Paper is white: before printing the colours are those of day.
let themeOnScreen = null;
addEventListener("beforeprint", () => {
  themeOnScreen = root.dataset.theme ?? null;
  root.dataset.theme = "light";
  for (const part of document.querySelectorAll("details:not([open]):not([data-long])")) {
    part.dataset.closed = "";
    part.open = true;
  }
});
addEventListener("afterprint", () => {
  if (themeOnScreen === null) delete root.dataset.theme;
  else root.dataset.theme = themeOnScreen;
  for (const part of document.querySelectorAll("details[data-closed]")) {
    delete part.dataset.closed;
    part.open = false;
  }
});

// Tables

const names = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function orderOf(cell) {
  const text = cell.dataset.order ?? cell.textContent.trim();
  const number = Number(text.replace("\u2212", "-"));
  if (text !== "" && Number.isFinite(number)) return number;
  return text === "" || text === DASH || text === "n.a." ? null : text;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return names.compare(String(one), String(other));
}

function sort(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, order: orderOf(row.cells[column]) }));
  rows.sort((one, other) => {
    // What has no value stands last, whichever way.
    if (one.order === null || other.order === null) return (one.order === null) - (other.order === null);
    return ascending ? compare(one.order, other.order) : compare(other.order, one.order);
  });
  body.append(...rows.map(({ row }) => row));
  Array.from(table.tHead.rows[0].cells).forEach((head, number) => {
    if (number !== column) head.removeAttribute("aria-sort");
    else head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      sort(table, column, head.getAttribute("aria-sort") !== "ascending");
    });
  });
}

// Another metric in the table of cases

const scores = document.getElementById("case-scores");
const select = document.getElementById("metric");
if (scores && select) {
  const metrics = JSON.parse(document.getElementById("case-data").textContent);
  const heads = Array.from(scores.tHead.rows[0].cells);
  const columns = heads.flatMap((head, number) => (head.dataset.key === "score" ? [number] : []));
  const rows = Array.from(scores.tBodies[0].rows);
  const mean = heads[columns[0]].querySelector("button");
  const meanOfDice = mean.textContent;
  const dice = rows.map((row) => columns.map((column) => row.cells[column].textContent));
  const known = dice.map((texts) => texts.map((text) => text !== "n.a."));

  const inWords = (value, digits) => {
    if (value === null || value === undefined) return DASH;
    const text = digits ? value.toFixed(digits) : String(Number(value.toPrecision(3)));
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
  };
  select.addEventListener("change", () => {
    const metric = metrics[select.value];
    mean.textContent = metric ? metric.mean : meanOfDice;
    rows.forEach((row, number) => {
      columns.forEach((column, place) => {
        if (!known[number][place]) return;
        row.cells[column].textContent = metric
          ? inWords(metric.rows[number][place], metric.digits)
          : dice[number][place];
      });
    });
    const sorted = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    if (sorted >= 0) sort(scores, sorted, heads[sorted].getAttribute("aria-sort") === "ascending");
  });
}

// Layers of the pictures

const pictures = document.getElementById("pictures");
if (pictures) {
  const boxes = Array.from(pictures.querySelectorAll("input[data-layer]"));
  const only = pictures.querySelector("button[data-only]");
  const show = (box, isShown) => {
    box.checked = isShown;
    pictures.classList.toggle(`hide-${box.dataset.layer}`, !isShown);
    only?.setAttribute("aria-pressed", String(boxes.every((each) => !each.checked)));
  };
  const imageOnly = () => {
    const isOn = boxes.some((box) => box.checked);
    for (const box of boxes) show(box, !isOn);
  };
  for (const box of boxes) box.addEventListener("change", () => show(box, box.checked));
  only?.addEventListener("click", imageOnly);
  if (boxes.length) {
    addEventListener("keydown", (event) => {
      const isTyping = event.target.closest?.("select, textarea, input:not([type=checkbox])");
      if (isTyping || event.ctrlKey || event.altKey || event.metaKey) return;
      const box = boxes.find((each) => each.dataset.layer[0] === event.key.toLowerCase());
      if (box) show(box, !box.checked);
      else if (event.key.toLowerCase() === "i") imageOnly();
    });
  }
}

for (const button of document.querySelectorAll("button[data-theme]")) {
  button.addEventListener("click", () => setTheme(button.dataset.theme));
}
root.dataset.scripted = "";
setTheme(knownTheme());
