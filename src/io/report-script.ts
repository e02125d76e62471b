// The script of reports, as text: picture grids and tables are sorted, and pictures opened. A report is whole without
// it. It asks for nothing from outside, and the page's policy admits it by its digest alone.
import { createHash } from "node:crypto";

export const reportScript = `
"use strict";
// ---- Sorting: cells move into a list that flows, and back to their places.
for (const grid of document.querySelectorAll(".pictures")) {
  const cells = [...grid.querySelectorAll(".cell")];
  const figures = new Map(cells.map((cell) => [cell, JSON.parse(cell.dataset.figures)]));
  const homes = cells.map((cell) => cell.parentElement);
  const names = JSON.parse(grid.dataset.sorts);
  if (cells.length > 1 && names.length > 0) {
    const arranged = grid.firstElementChild;
    const list = document.createElement("div");
    list.className = "cells sorted";
    list.hidden = true;
    const widest = Math.max(...cells.map((cell) => cell.querySelector("img").width));
    list.style.setProperty("--picture", widest + "px");
    list.style.setProperty("--columns", 1000);
    grid.append(list);
    const label = document.createElement("label");
    label.className = "sort";
    const select = document.createElement("select");
    const option = (text, name = "", sign = 0) => {
      const made = new Option(text);
      made.dataset.name = name;
      made.dataset.sign = sign;
      return made;
    };
    select.append(option("as arranged"));
    for (const name of names) select.append(option(name + ", highest first", name, -1), option(name + ", lowest first", name, 1));
    label.append("Sort ", select);
    grid.prepend(label);
    select.addEventListener("change", () => {
      const { name, sign } = select.selectedOptions[0].dataset;
      if (name === "") cells.forEach((cell, i) => homes[i].append(cell));
      else {
        const value = (cell) => {
          const given = figures.get(cell)[name];
          return typeof given === "number" ? sign * given : Number.MAX_VALUE;
        };
        list.append(...cells.toSorted((a, b) => value(a) - value(b) || cells.indexOf(a) - cells.indexOf(b)));
      }
      arranged.hidden = name !== "";
      list.hidden = name === "";
    });
  }
}
// ---- Tables: a button in each head sorts the rows by its column, once more the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  // Null of what is no number.
  const number = (text) => {
    const value = Number(text.replace(/[,\\s%]/g, ""));
    return /^[-+.\\d]/.test(text) && Number.isFinite(value) ? value : null;
  };
  const heads = [...table.tHead.rows[0].cells];
  for (const [column, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keys = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
      const compare = (a, b) => {
        const [one, two] = [keys.get(a), keys.get(b)];
        const [x, y] = [number(one), number(two)];
        if ((x === null) !== (y === null)) return x === null ? 1 : -1;
        return sign * (x === null ? one.localeCompare(two) : x - y);
      };
      body.append(...rows.toSorted(compare));
    });
  }
}
// ---- Opening: a large view with the figures; arrow keys go on in the order on the page.
const dialog = document.createElement("dialog");
dialog.className = "zoom";
dialog.innerHTML =
  '<img alt=""><div><h3></h3><p></p><dl></dl><nav><button type="button">Previous</button>' +
  '<button type="button">Next</button><button type="button">Close</button></nav></div>';
document.body.append(dialog);
let open;
const show = (cell) => {
  open = cell;
  const picture = cell.querySelector("img");
  const [large, title, text, list] = ["img", "h3", "p", "dl"].map((name) => dialog.querySelector(name));
  large.src = picture.src;
  large.alt = picture.alt;
  large.style.aspectRatio = picture.width + " / " + picture.height;
  const words = [cell.querySelector(".place"), ...cell.querySelectorAll(".lines > *")].flatMap((each) => (each ? [each.textContent] : []));
  title.textContent = words[0] ?? "";
  text.textContent = words.slice(1).join(" · ");
  list.replaceChildren(
    ...Object.entries(JSON.parse(cell.dataset.figures)).map(([name, value]) => {
      const pair = document.createElement("div");
      const [term, told] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      told.textContent = typeof value === "number" ? value.toLocaleString("en-US", { maximumSignificantDigits: 6 }) : value;
      pair.append(term, told);
      return pair;
    }),
  );
  if (!dialog.open) dialog.showModal();
};
const step = (by) => {
  const all = [...open.closest(".pictures").querySelectorAll(".cell")];
  show(all[(all.indexOf(open) + by + all.length) % all.length]);
};
document.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell button")?.closest(".cell");
  if (cell) show(cell);
  else if (event.target === dialog) dialog.close();
});
const [previous, next, close] = dialog.querySelectorAll("button");
previous.addEventListener("click", () => step(-1));
next.addEventListener("click", () => step(1));
close.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", ({ key }) => {
  if (key === "ArrowLeft") step(-1);
  if (key === "ArrowRight") step(1);
});
dialog.addEventListener("close", () => open.querySelector("button").focus());
`;

/** The script of a page that is loaded anew whenever its server says so, but not while a picture is open. */
export const reloadScript = `
"use strict";
const source = new EventSource(document.documentElement.dataset.reload);
let stale = false;
const reload = () => {
  if (stale && !document.hidden && !document.querySelector("dialog[open]")) location.reload();
};
source.addEventListener("message", ({ data }) => {
  stale = true;
  if (data === "ended") location.reload();
  else reload();
});
document.addEventListener("visibilitychange", reload);
document.addEventListener("close", reload, true);
source.addEventListener("error", () => {
  source.close();
  stale = false;
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = "The run has ended. This is the last that was seen of it.";
  document.querySelector("main").prepend(note);
});
`;

/** As a page's policy names a script that it admits. */
export const digestOf = (script: string): string => `'sha256-${createHash("sha256").update(script).digest("base64")}'`;
