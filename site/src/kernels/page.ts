// The page "Kernels": a table that grows, to be copied as text.
import { element, html } from "../dom.js";
import { onClick, startPage } from "../shell.js";
import type { Measured } from "./measuring.js";
import type { KernelsService } from "./service.js";

const status = element("status");
const copy = element<HTMLButtonElement>("copy");
const rows: string[][] = [];

const worker = await startPage<KernelsService, { row: Measured }>("kernels");

function show(): void {
  const head = ["", "ms", "rate"].map((title) => html("th", { scope: "col" }, title));
  const lines = rows.map(([name, ...figures]) =>
    html("tr", {}, html("th", { scope: "row" }, name!), ...figures.map((figure) => html("td", {}, figure))),
  );
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...lines));
  element("table").replaceChildren(table);
}

if (worker !== undefined) {
  worker.on("row", ({ name, ms, rate }) => {
    rows.push([name, ms.toFixed(ms < 10 ? 3 : 1), rate]);
    show();
    status.textContent = `${name}: ${rate}`;
  });
  onClick(element<HTMLButtonElement>("start"), async () => {
    rows.length = 0;
    copy.disabled = true;
    status.textContent = "Compiling kernels …";
    const { adapter, ceilings } = await worker.call("measure");
    rows.push(["adapter", "", adapter], ["its ceilings", "", ceilings]);
    show();
    status.textContent = "Done.";
    copy.disabled = false;
  });
  onClick(copy, async () => {
    await navigator.clipboard.writeText([["", "ms", "rate"], ...rows].map((row) => row.join("\t")).join("\n"));
    status.textContent = "The table is in the clipboard.";
  });
}
