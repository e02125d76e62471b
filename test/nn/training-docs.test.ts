// docs/training.md names every loss, metric and optimizer with each of its options, and its first example runs.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { data, loss, metric, nn, openDevice, optim } from "../../src/index.js";

const page = readFileSync("docs/training.md", "utf8");

/** Rows of the table after a heading: names in the first column, options in the last. */
function rowsOf(heading: string): [names: string[], options: string[]][] {
  const section = page.split(`## ${heading}\n`)[1]!.split("\n## ")[0]!;
  const rows = section.split("\n").filter((line) => line.startsWith("| ") && line.includes("`"));
  const words = (cell: string) =>
    [...cell.matchAll(/`(?:metric\.)?([a-zA-Z0-9]+)(?:\(\))?`/g)].map(([, word]) => word!);
  return rows.slice(1).map((row) => {
    const cells = row.split("|").slice(1, -1);
    return [words(cells[0]!), words(cells.at(-1)!)];
  });
}

/** Options that a maker knows, as its refusal lists them. */
function optionsOf(make: (options: object) => unknown): string[] {
  try {
    make({ never: 1 });
  } catch (error) {
    return /options are ([\w, ]+)/.exec((error as Error).message)![1]!.split(", ");
  }
  throw new Error("nothing was refused");
}

type Makers = Readonly<Record<string, (options: object) => unknown>>;

test("losses", () => {
  const rows = rowsOf("Losses");
  expect(rows.flatMap(([names]) => names).sort()).toEqual(Object.keys(loss).sort());
  for (const [names, options] of rows) {
    for (const name of names) {
      const value = loss[name as keyof typeof loss];
      expect([...options].sort(), name).toEqual("with" in value ? optionsOf(value.with as never).sort() : []);
    }
  }
});

test("metrics", () => {
  const rows = rowsOf("Metrics").filter(([names]) => names.length > 0 && names[0]! in metric);
  expect(rows.flatMap(([names]) => names).sort()).toEqual(Object.keys(metric).sort());
  for (const [names, options] of rows) {
    for (const name of names) {
      expect([...options, "name"].sort(), name).toEqual(optionsOf((metric as unknown as Makers)[name]!).sort());
    }
  }
});

test("optimizers and schedules", () => {
  const rows = rowsOf("Optimizers");
  const section = page.split("## Optimizers\n")[1]!;
  const schedules = Object.keys(optim).filter((name) => /Rate$|Decay$/.test(name));
  for (const name of schedules) expect(section).toContain(`\`${name}\``);
  const makers = Object.keys(optim).filter((name) => !schedules.includes(name));
  expect(rows.flatMap(([names]) => names).sort()).toEqual(makers.sort());
  const common = [
    "learningRate",
    "emaMomentum",
    "clipNorm",
    "globalClipNorm",
    "clipValue",
    "gradientAccumulationSteps",
  ];
  for (const name of common) expect(section).toContain(`\`${name}\``);
  for (const [names, options] of rows) {
    for (const name of names) {
      const own = optionsOf((optim as unknown as Makers)[name]!).filter((option) => !common.includes(option));
      expect([...options].sort(), name).toEqual(own.sort());
    }
  }
});

test("the first example runs as it stands", { timeout: 120_000 }, async () => {
  const code = /^```js\n(.*?)^```$/ms.exec(page)![1]!.replace(/^import .*$/m, "");
  const said: unknown[] = [];
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  const run = AsyncFunction(
    "data",
    "loss",
    "metric",
    "nn",
    "openDevice",
    "optim",
    "console",
    `${code}\ndevice.destroy();`,
  );
  await run(data, loss, metric, nn, openDevice, optim, { log: (value: unknown) => said.push(value) });
  const [figures, counts] = said as [Record<string, number>, number[][]];
  expect(Object.keys(figures).sort()).toEqual(["auc", "loss"]);
  expect(figures["auc"]).toBeGreaterThan(0.7);
  expect(counts.flat().reduce((a, b) => a + b)).toBe(200);
});
