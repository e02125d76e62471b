// What every page has: where the others are, the worker, and words for a browser without WebGPU.
import { advice } from "./advice.js";
import { type Connection, connect, type Service } from "./channel.js";
import { element, html } from "./dom.js";
import type { ServiceName } from "./worker.js";

const pages = [
  ["index.html", "Kilograd"],
  ["train.html", "Train"],
  ["draw.html", "Draw"],
  ["dream.html", "Dream"],
  ["depth.html", "Depth"],
  ["faces.html", "Faces"],
  ["inside.html", "Look inside"],
  ["kernels.html", "Kernels"],
  ["docs/index.html", "Docs"],
] as const;

/** Fills the page's header. */
export function showNavigation(): void {
  // Pages of the docs lie in folders of the site's.
  const root = document.documentElement.dataset["root"] ?? "./";
  const here = root === "./" ? location.pathname.split("/").at(-1) || "index.html" : "docs/index.html";
  const links = pages.map(([path, title]) =>
    html("a", { href: `${root}${path}`, ...(path === here && { "aria-current": "page" }) }, title),
  );
  element("navigation").append(...links);
}

/** Says something that is wrong, where it is read out. */
export function showProblem(message: string): void {
  const place = element("problem");
  place.textContent = message;
  place.hidden = false;
}

/** Starts a page: its header, and its worker where there is WebGPU; undefined where there is none. */
export async function startPage<S extends Service, Events>(
  name: ServiceName,
): Promise<Connection<S, Events> | undefined> {
  showNavigation();
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) {
    showProblem(`This browser gives no WebGPU adapter, which this page needs. ${advice(navigator.userAgent)}`);
    return undefined;
  }
  // One file for the workers of all pages, so that a browser loads the engine once.
  return connect<S, Events>(new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name }), showProblem);
}

/** Runs what a button does; the button waits meanwhile, and an error is shown. */
export function onClick(button: HTMLButtonElement, action: () => Promise<void>): void {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      element("problem").hidden = true;
      await action();
    } catch (error) {
      showProblem(error instanceof Error ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  });
}
