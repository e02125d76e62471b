// The page of a sweep, and which parameters it says matter.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { parallelChart } from "../../src/io/charts.js";
import { importances } from "../../src/sweeps/importance.js";
import { choice, type Space, uniform } from "../../src/sweeps/space.js";
import { asha } from "../../src/sweeps/stopping.js";
import { sweep, type TrialRecord } from "../../src/sweeps/sweep.js";
import { writeSweepReport } from "../../src/sweeps/sweep-report.js";
import { RandomStream } from "../../src/tensor/random.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-sweep-report-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Trials over a space at random, with losses that a function gives. */
function tried(space: Space, count: number, loss: (config: Record<string, number>, noise: number) => number) {
  const random = new RandomStream(1);
  const trials = Array.from({ length: count }, (_, number): TrialRecord => {
    const config = Object.fromEntries(
      Object.entries(space).map(([name, parameter]) => [
        name,
        parameter.kind === "choice" ? parameter.values[random.integer(parameter.values.length)] : random.uniform(),
      ]),
    );
    return { number, config, seed: 0 };
  });
  return { trials, losses: trials.map(({ config }) => loss(config as Record<string, number>, random.normal())) };
}

it("tells the share of a variance that a parameter explains, and none where it explains nothing", () => {
  const space: Space = { a: uniform(0, 1), b: choice([0, 1]), c: uniform(0, 1) };
  const { trials, losses } = tried(space, 2000, ({ b }, noise) => b! + 1e-9 * noise);
  const all = importances(space, trials, losses);
  // Ranks within a half are noise: 1 - (n / 2)^2 / n^2 of their variance is between the halves.
  expect(all.get("b")).toBeCloseTo(0.75, 2);
  expect(all.get("a")).toBeLessThan(0.005);
  expect(all.get("c")).toBeLessThan(0.005);
  const mixed = tried(space, 2000, ({ a, c }) => 3 * a! + c!);
  const shares = importances(space, mixed.trials, mixed.losses);
  expect(shares.get("a")).toBeGreaterThan(0.8);
  expect(shares.get("c")).toBeGreaterThan(0.05);
  expect(shares.get("c")).toBeLessThan(0.15);
  expect(
    importances(
      space,
      trials,
      trials.map(() => Number.NaN),
    ).get("a"),
  ).toBe(0);
  expect(
    importances(
      space,
      trials,
      trials.map(() => 1),
    ).get("a"),
  ).toBe(0);
});

it("draws a thousand lines as three paths, and passes by an axis without a place", () => {
  const lines = Array.from({ length: 1000 }, (_, i) => [i / 1000, Number.NaN, 1]);
  const axes = ["a<b", "b", "c"].map((label) => ({ label, ticks: [{ at: 0, text: "0" }] }));
  const svg = parallelChart({ title: "t", axes, groups: [{ name: "all", look: "plain", lines }] });
  expect(svg).toContain("a&lt;b");
  const paths = [...svg.matchAll(/<path d="([^"]*)" fill="none"/g)].map(([, path]) => path!);
  expect(paths).toHaveLength(2); // Wide and narrow.
  expect(paths[0]!.match(/M/g)).toHaveLength(1000);
  expect(paths[0]!.match(/L/g)).toHaveLength(1000);
  expect(() => parallelChart({ axes, groups: [{ name: "g", look: "plain", lines: [[1]] }] })).toThrow(
    "must have 3 entries",
  );
});

it("of a thousand trials is one page of bounded size, with all of them in CSV and JSON", async () => {
  await sweep({
    space: { x: uniform(0, 1), word: choice(["plain", '=1+"2"', "<b>"]) },
    trial: async ({ x }, { report, number }) => {
      if (number % 100 === 7) throw new Error("no <memory>");
      for (let step = 1; step <= 9; step++) {
        if ((await report(step, { loss: (x as number) + 1 / step })) === "stop") break;
      }
      return { loss: x as number, other: number === 3 ? Number.NaN : 1 };
    },
    ...{
      trials: 1000,
      workers: 4,
      attempts: 1,
      stopping: asha(),
      folder,
      goal: { figure: "loss", direction: "minimize" },
    },
  });
  const { report, csv, json } = await writeSweepReport(folder);
  const page = readFileSync(report, "utf8");
  expect(page.length).toBeLessThan(600_000);
  expect(page.match(/<[a-z]/g)!.length).toBeLessThan(8000);
  for (const part of [
    'table class="sortable"',
    "The best 250 of 1,000",
    "Parameters and what came of them",
    "What explains loss",
  ]) {
    expect(page).toContain(part);
  }
  expect(page).not.toContain("<b>");
  expect(page).not.toContain("no <memory>");
  const lines = readFileSync(csv, "utf8").trimEnd().split("\n");
  expect(lines).toHaveLength(1001);
  expect(lines.some((line) => line.includes('"\'=1+""2"""'))).toBe(true);
  expect(lines.filter((line) => line.includes('"Error: no <memory>"'))).toHaveLength(10);
  expect(JSON.parse(readFileSync(json, "utf8")).trials).toHaveLength(1000);
});
