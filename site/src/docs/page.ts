// A page of the docs: the search, whose index is loaded when somebody asks, and buttons that copy code.
import MiniSearch, { type SearchResult } from "minisearch";
import { element, html } from "../dom.js";
import { showNavigation } from "../shell.js";
import { type Entry, indexOptions } from "./entries.js";

const MOST_RESULTS = 12;
const docs = new URL(`${document.documentElement.dataset["root"] ?? "./"}docs/`, location.href);
const field = element<HTMLInputElement>("search");
const list = element("found");
const say = (text: string) => void (element("found-status").textContent = text);

let loading: Promise<MiniSearch<Entry>> | undefined;

/** The index, loaded once; after a failure it is asked for again. */
function index(): Promise<MiniSearch<Entry>> {
  loading ??= (async () => {
    const answer = await fetch(new URL("search.json", docs));
    if (!answer.ok) throw new Error(`the index could not be loaded (${answer.status})`);
    return MiniSearch.loadJSON<Entry>(await answer.text(), indexOptions);
  })();
  loading.catch(() => (loading = undefined));
  return loading;
}

let chosen = -1;

function choose(place: number): void {
  const items = [...list.children];
  chosen = items.length === 0 ? -1 : (place + items.length) % items.length;
  for (const [i, item] of items.entries()) item.setAttribute("aria-selected", String(i === chosen));
  items[chosen]?.scrollIntoView({ block: "nearest" });
  if (chosen < 0) field.removeAttribute("aria-activedescendant");
  else field.setAttribute("aria-activedescendant", items[chosen]!.id);
}

function show(found: readonly SearchResult[]): void {
  const items = found.map(({ id, title, kind }, i) => {
    const item = html("div", { id: `found-${i}`, role: "option" }, html("b", {}, title), html("span", {}, kind));
    item.addEventListener("click", () => location.assign(new URL(id, docs)));
    return item;
  });
  list.replaceChildren(...items);
  list.hidden = items.length === 0;
  field.setAttribute("aria-expanded", String(items.length > 0));
  choose(items.length > 0 ? 0 : -1);
}

async function search(): Promise<void> {
  const asked = field.value;
  if (asked.trim() === "") {
    show([]);
    return say("");
  }
  try {
    const found = (await index()).search(asked);
    // What was typed meanwhile has its own answer.
    if (asked !== field.value) return;
    show(found.slice(0, MOST_RESULTS));
    say(found.length === 0 ? "Nothing found." : `${found.length} found`);
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
  }
}

field.addEventListener("focus", () => void index().catch((error: Error) => say(error.message)));
field.addEventListener("input", () => void search());
field.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen - 1);
  else if (event.key === "Enter") list.querySelector<HTMLElement>("[aria-selected=true]")?.click();
  else if (event.key === "Escape") show([]);
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof Element && event.target.closest("input, select, textarea") !== null;
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  field.focus();
  field.select();
});

for (const code of document.querySelectorAll("pre")) {
  const button = code.querySelector("button");
  button?.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.querySelector("code")?.textContent ?? "");
    button.textContent = "Copied";
  });
}

showNavigation();
