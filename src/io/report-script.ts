// The script of reports, as text: picture grids and tables are sorted, and pictures opened. A report is whole without
// it. It asks for nothing from outside, and the page's policy admits it by its digest alone.
import { createHash } from "node:crypto";

export const reportScript = `
"use strict";
// ---- Sorting: cells move into a list that flows, and back to their places.
const sortsPictures = (root) => {
for (const grid of root.querySelectorAll(".pictures")) {
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
};
// ---- Tables: a button in each head sorts the rows by its column, once more the other way round. A section that is
// shown anew is sorted as the one before it was.
const sortedBy = new Map();
const sortsTables = (root) => {
for (const table of root.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  // Null of what is no number.
  const number = (text) => {
    const value = Number(text.replace(/[,\\s%]/g, ""));
    return /^[-+.\\d]/.test(text) && Number.isFinite(value) ? value : null;
  };
  const heads = [...table.tHead.rows[0].cells];
  const place = table.closest("section").querySelector("h2").textContent;
  const sort = (column, sign) => {
    for (const other of heads) other.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const keys = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
    const compare = (a, b) => {
      const [one, two] = [keys.get(a), keys.get(b)];
      const [x, y] = [number(one), number(two)];
      if ((x === null) !== (y === null)) return x === null ? 1 : -1;
      return sign * (x === null ? one.localeCompare(two) : x - y);
    };
    body.append(...rows.toSorted(compare));
  };
  for (const [column, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      sortedBy.set(place, [column, sign]);
      sort(column, sign);
    });
  }
  const [column, sign] = sortedBy.get(place) ?? [];
  if (column < heads.length) sort(column, sign);
}
};
sortsPictures(document);
sortsTables(document);
document.addEventListener("shown-anew", ({ target }) => {
  sortsPictures(target);
  sortsTables(target);
});
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

/**
 * The script of a page that shows itself anew whenever its server says so: section by section, so that no step takes
 * long, and with order, places and focus as they were. Not while a picture is open or text is selected. At the end the
 * page is loaded.
 */
export const reloadScript = `
"use strict";
// In a block: names of the other script are not its own.
{
const source = new EventSource(document.documentElement.dataset.reload);
let stale = false;
let busy = false;
/** What the server sent last, by section. */
const known = new Map();
const isRead = () => document.hidden || document.querySelector("dialog[open]") || !document.getSelection().isCollapsed;
const nextFrame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
const replace = (old, made) => {
  const text = made.outerHTML;
  const name = made.id || made.className || made.tagName;
  if (known.get(name) === text) return;
  known.set(name, text);
  const scrolled = (node) => [...node.querySelectorAll(".table, .scroll")];
  const places = scrolled(old).map((each) => each.scrollLeft);
  const buttons = (node) => [...node.querySelectorAll("button, a, select, summary")];
  const focused = buttons(old).indexOf(document.activeElement);
  const opened = [...old.querySelectorAll("details")].map((each) => each.open);
  old.replaceWith(made);
  made.dispatchEvent(new Event("shown-anew", { bubbles: true }));
  [...made.querySelectorAll("details")].forEach((each, i) => (each.open = opened[i] ?? each.open));
  scrolled(made).forEach((each, i) => (each.scrollLeft = places[i] ?? 0));
  if (focused >= 0) buttons(made)[focused]?.focus({ preventScroll: true });
};
const show = async () => {
  if (!stale || busy || isRead()) return;
  [stale, busy] = [false, true];
  try {
    const response = await fetch(location.pathname, { cache: "no-store" });
    const made = new DOMParser().parseFromString(await response.text(), "text/html");
    const parts = (of) => [of.querySelector("header"), ...of.querySelector("main").children];
    const [old, fresh] = [parts(document), parts(made)];
    if (old.map(({ tagName }) => tagName).join() !== fresh.map(({ tagName }) => tagName).join()) {
      const main = made.querySelector("main");
      document.querySelector("main").replaceWith(main);
      main.dispatchEvent(new Event("shown-anew", { bubbles: true }));
      known.clear();
    } else {
      for (const [i, part] of fresh.entries()) {
        replace(old[i], part);
        await nextFrame();
      }
    }
  } catch {
    stale = true; // The server says so itself where it has ended.
  } finally {
    busy = false;
  }
};
source.addEventListener("message", ({ data }) => {
  stale = true;
  if (data === "ended") location.reload();
  else show();
});
for (const event of ["visibilitychange", "selectionchange"]) document.addEventListener(event, show);
document.addEventListener("close", show, true);
source.addEventListener("error", () => {
  source.close();
  stale = false;
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = "The run has ended. This is the last that was seen of it.";
  document.querySelector("main").prepend(note);
});
}
`;

/** As a page's policy names a script that it admits. */
export const digestOf = (script: string): string => `'sha256-${createHash("sha256").update(script).digest("base64")}'`;
