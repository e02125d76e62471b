// The page of a sweep: what it found, which parameters matter, every trial. It is made of the journal, also while the
// sweep is on its way. However many trials there are, the page stays small: lines that look alike are one path, and the
// table has the best ones. trials.csv and trials.json have all.
import { join } from "node:path";
import { barChart, lineChart, parallelChart } from "../io/charts.js";
import { writeFileAtomic } from "../io/files.js";
import { toJson } from "../io/json.js";
import { Report, type TableCell } from "../io/report.js";
import { check, text } from "../tensor/options.js";
import type { Figures, TrialResult } from "./executor.js";
import { importances } from "./importance.js";
import { type Parameter, positionOf, type Space, valueAt } from "./space.js";
import { bestOf, type Goal, type SweepState, sweepState, type TrialRecord } from "./sweep.js";

/** Rows of the table. */
const MOST_ROWS = 250;
/** Points drawn of a curve. */
const DRAWN_POINTS = 60;

/** Which files of a sweep's folder a report is. */
export interface WrittenReport {
  readonly report: string;
  readonly csv: string;
  readonly json: string;
}

/**
 * Writes report.html, trials.csv and trials.json of the sweep in a folder, which may still be on its way.
 * @example await writeSweepReport("out/first-sweep")
 * @throws UsageError where there is no sweep; DataError for a damaged journal
 */
export async function writeSweepReport(folder: string): Promise<WrittenReport> {
  check("writeSweepReport", "folder", folder, text);
  const state = await sweepState(folder);
  const written = {
    report: join(folder, "report.html"),
    csv: join(folder, "trials.csv"),
    json: join(folder, "trials.json"),
  };
  const { identity } = state;
  await writeFileAtomic(written.csv, trialsCsv(state));
  await writeFileAtomic(written.json, `${toJson({ ...identity, trials: [...state.trials.values()] })}\n`);
  await writeFileAtomic(written.report, sweepPage(state));
  return written;
}

type Known = SweepState & { readonly identity: NonNullable<SweepState["identity"]> };

/** What a trial came to, by its goal: the last report of one that runs or was stopped is none. */
function figureOf({ outcome }: TrialRecord, { figure }: Goal): number {
  return outcome?.status === "finished" ? (outcome.figures[figure] ?? Number.NaN) : Number.NaN;
}

/** The page, which may load itself anew. @param reloadOn see `ReportOptions` */
export function sweepPage(
  state: Known,
  { reloadOn, footer }: { readonly reloadOn?: string; readonly footer?: string } = {},
): string {
  const { identity } = state;
  const goal = identity.goal as Goal;
  const space = identity.space as Space;
  const trials = [...state.trials.values()].toSorted((a, b) => a.number - b.number);
  const sign = goal.direction === "minimize" ? 1 : -1;
  const losses = trials.map((trial) => sign * figureOf(trial, goal));
  const counts = (status: string) => trials.filter(({ outcome }) => (outcome?.status ?? "running") === status).length;
  const best = bestOf(trials, goal);
  const order = trials
    .map((_, i) => i)
    .filter((i) => !Number.isNaN(losses[i]!))
    .toSorted((a, b) => losses[a]! - losses[b]!);
  const report = new Report({
    title: `Sweep ${identity.name}`,
    subtitle: [
      `${goal.direction} ${goal.figure}`,
      `search ${(identity.search as { name: string }).name}`,
      `${trials.length.toLocaleString("en-US")} trials`,
      ...(reloadOn === undefined ? [] : ["on its way"]),
    ].join(", "),
    ...(footer !== undefined && { footer }),
    ...(reloadOn !== undefined && { reloadOn }),
  });
  const numbers = ["finished", "stopped", "failed", "running"].map((status) => [status, counts(status)] as const);
  report.figures([
    {
      label: `Best ${goal.figure}`,
      value: best === undefined ? "–" : figureOf(best, goal),
      note: best === undefined ? "no trial has one yet" : `trial ${best.number}`,
    },
    ...numbers
      .filter(([status, count]) => count > 0 || status === "finished")
      .map(([label, value]) => ({ label, value })),
  ]);
  if (best !== undefined) {
    report.section("What came best", (section) => {
      section.properties(best.config as Record<string, unknown>);
      const soFar = bestSoFar(losses);
      section.chart(
        lineChart({
          title: `Best ${goal.figure} so far`,
          width: 900,
          series: [{ name: goal.figure, x: soFar.map(([number]) => number), y: soFar.map(([, loss]) => sign * loss) }],
          x: { label: "trials" },
          y: { label: goal.figure },
        }),
        "By the numbers of trials, not by when they ended.",
      );
    });
    report.section("Parameters", (section) => {
      section.chart(
        parallelOf(space, goal, trials, losses, order),
        `Each line is a trial that ran to its end; ${goal.figure} is the last axis.`,
      );
      const shares = [...importances(space, trials, losses)].toSorted(([, a], [, b]) => b - a);
      if (order.length >= 10) {
        section.chart(
          barChart({
            title: `What explains ${goal.figure}`,
            categories: shares.map(([name]) => name),
            series: [{ name: "share of the variance", values: shares.map(([, share]) => Number(share.toFixed(3))) }],
            values: { percent: true },
            showValues: true,
          }),
          `Share of the variance of ${goal.figure}'s ranks that a parameter explains by itself: epsilon squared, ` +
            "(B − (k − 1) W / (n − k)) / T, of k groups of its values (those of a choice, or five equal parts of a range). " +
            "B, W, T: sums of squares between groups, within them, in all. What parameters explain only together is not seen.",
        );
      }
    });
  }
  addCurves(report, goal, trials, order);
  addTable(report, { goal, space, trials, order });
  report.section("Configuration", (section) =>
    section.properties({
      ...{ search: identity.search, seed: identity.seed, stopping: identity.stopping ?? "none" },
      ...(identity.delay !== null && { delay: identity.delay }),
      code: identity.code.slice(0, 16),
      ...Object.fromEntries(Object.entries(space).map(([name, parameter]) => [`space.${name}`, wordsOf(parameter)])),
    }),
  );
  return report.html();
}

/** A parameter in words. */
function wordsOf(parameter: Parameter): string {
  const condition = parameter.when === undefined ? "" : ` when ${JSON.stringify(parameter.when)}`;
  if (parameter.kind === "choice")
    return `one of ${parameter.values.map((value) => JSON.stringify(value)).join(", ")}${condition}`;
  const log = parameter.kind === "logUniform" || (parameter.kind === "int" && parameter.log) ? ", logarithmic" : "";
  return `${parameter.kind === "int" ? "whole numbers " : ""}${parameter.from} to ${parameter.to}${log}${condition}`;
}

/** Where the best figure so far changes, and the last trial. */
function bestSoFar(losses: readonly number[]): [number: number, loss: number][] {
  const points: [number, number][] = [];
  let least = Number.POSITIVE_INFINITY;
  losses.forEach((loss, number) => {
    if (!(loss < least)) return;
    if (points.length > 0) points.push([number, least]);
    least = loss;
    points.push([number + 1, least]);
  });
  if (points.length > 0 && points.at(-1)![0] < losses.length) points.push([losses.length, least]);
  return points;
}

/** A number as short as it tells. */
const short = (value: unknown): string =>
  typeof value === "number"
    ? String(Number(value.toPrecision(3)))
    : typeof value === "string"
      ? value
      : JSON.stringify(value);

function parallelOf(
  space: Space,
  goal: Goal,
  trials: readonly TrialRecord[],
  losses: readonly number[],
  order: readonly number[],
): string {
  const parameters = Object.entries(space);
  // By ranks: the worst trials are often far off.
  const place = new Map(order.map((i, rank) => [i, order.length < 2 ? 0.5 : 1 - rank / (order.length - 1)]));
  const lineOf = (i: number): number[] => [
    ...parameters.map(([name, parameter]) => {
      const { config } = trials[i]!;
      return Object.hasOwn(config, name) ? positionOf(parameter, config[name]) : Number.NaN;
    }),
    place.get(i)!,
  ];
  const strong = Math.max(1, Math.ceil(order.length / 10));
  const half = Math.max(strong, Math.ceil(order.length / 2));
  const sign = goal.direction === "minimize" ? 1 : -1;
  const at = (rank: number) => short(sign * losses[order[rank]!]!);
  const last = order.length - 1;
  return parallelChart({
    title: "Parameters and what came of them",
    width: 900,
    height: 380,
    axes: [
      ...parameters.map(([name, parameter]) => ({
        label: name,
        ticks:
          parameter.kind === "choice"
            ? parameter.values.slice(0, 12).map((value) => ({ at: positionOf(parameter, value), text: short(value) }))
            : [0, 0.5, 1].map((place) => ({ at: place, text: short(valueAt(parameter, place)) })),
      })),
      {
        label: `${goal.figure} (ranks)`,
        ticks:
          last < 1
            ? [{ at: 0.5, text: at(0) }]
            : [1, 0.5, 0].map((share) => ({ at: share, text: at(Math.round((1 - share) * last)) })),
      },
    ],
    groups: [
      { name: "others", look: "faint", lines: order.slice(half).map(lineOf) },
      { name: "better half", look: "plain", lines: order.slice(strong, half).map(lineOf) },
      { name: "best tenth", look: "strong", lines: order.slice(0, strong).map(lineOf) },
    ],
  });
}

type Curve = readonly (readonly [step: number, value: number])[];

/** Reported figures of the goal's name. */
const curveOf = ({ outcome }: TrialRecord, { figure }: Goal): Curve =>
  outcome === undefined || outcome.status === "failed" ? [] : thinned((outcome as TrialResult).series[figure] ?? []);

/** At most so many points, the last one among them. */
function thinned(points: Curve): Curve {
  const every = Math.ceil(points.length / DRAWN_POINTS);
  return points.filter((_, i) => (points.length - 1 - i) % every === 0);
}

function addCurves(report: Report, goal: Goal, trials: readonly TrialRecord[], order: readonly number[]): void {
  const stopped = trials.flatMap(({ outcome }, i) => (outcome?.status === "stopped" ? [i] : []));
  const all = [...order, ...stopped].filter((i) => curveOf(trials[i]!, goal).length > 1);
  if (all.length === 0) return;
  const few = all.slice(0, 8);
  report.section("Curves", (section) => {
    section.chart(
      lineChart({
        title: `Reported ${goal.figure} of the best trials`,
        width: 900,
        series: few.map((i) => {
          const curve = curveOf(trials[i]!, goal);
          return {
            name: `trial ${trials[i]!.number}`,
            x: curve.map(([step]) => step),
            y: curve.map(([, value]) => value),
          };
        }),
        x: { label: "step" },
        y: { label: goal.figure },
      }),
      all.length > few.length ? "Those of the others are in the table." : undefined,
    );
  });
}

function addTable(
  report: Report,
  {
    goal,
    space,
    trials,
    order,
  }: { goal: Goal; space: Space; trials: readonly TrialRecord[]; order: readonly number[] },
): void {
  const known = new Set(order);
  const rest = trials.map((_, i) => i).filter((i) => !known.has(i));
  const rows = [...order, ...rest].slice(0, MOST_ROWS);
  const curves = rows.map((i) => curveOf(trials[i]!, goal));
  const scale = rangeOf(curves);
  const names = Object.keys(space);
  report.section("Trials", (section) => {
    section.table({
      sortable: true,
      columns: ["trial", goal.figure, "curve", ...names, "seconds", "outcome"],
      rows: rows.map((i, row): TableCell[] => {
        const trial = trials[i]!;
        const { outcome, number, config } = trial;
        const value = figureOf(trial, goal);
        const last = outcome?.status === "stopped" ? outcome.figures[goal.figure] : undefined;
        const chart = sparkline(curves[row]!, scale);
        return [
          number,
          {
            text: Number.isNaN(value)
              ? last === undefined
                ? "–"
                : String(Number(last.toPrecision(5)))
              : Number(value.toPrecision(5)),
            numeric: true,
          },
          chart === undefined ? "" : { text: "", chart },
          ...names.map((name): TableCell => (Object.hasOwn(config, name) ? cellOf(config[name]) : null)),
          outcome === undefined || outcome.status === "failed" ? null : Number(outcome.seconds.toPrecision(3)),
          outcome?.status === "failed"
            ? { text: `failed: ${outcome.error.slice(0, 120)}`, tone: "bad" }
            : `${outcome?.status ?? "running"}${(outcome?.attempts ?? 1) > 1 ? `, attempt ${outcome!.attempts}` : ""}`,
        ];
      }),
      caption: [
        ...(rows.length < trials.length
          ? [
              `The best ${rows.length} of ${trials.length.toLocaleString("en-US")}; all are in trials.csv and trials.json.`,
            ]
          : []),
        `Small curves: reported ${goal.figure}, all on one scale. Of a stopped trial its last report.`,
      ].join(" "),
    });
  });
}

const cellOf = (value: unknown): TableCell =>
  typeof value === "number" ? { text: short(value), numeric: true } : short(value);

interface Range {
  readonly steps: readonly [number, number];
  readonly values: readonly [number, number];
}

/** Where most of the curves are: the highest and lowest twentieth of values would flatten the others. */
function rangeOf(curves: readonly Curve[]): Range | undefined {
  const points = curves.flat().filter(([, value]) => Number.isFinite(value));
  if (points.length < 2) return undefined;
  const values = points.map(([, value]) => value).toSorted((a, b) => a - b);
  const at = (share: number) => values[Math.round(share * (values.length - 1))]!;
  const steps = points.map(([step]) => step);
  const [first, last] = steps.reduce(
    ([low, high], step) => [Math.min(low, step), Math.max(high, step)],
    [Infinity, -Infinity],
  );
  return { steps: [first!, last!], values: [at(0.05), at(0.95)] };
}

const SPARK_WIDTH = 64;
const SPARK_HEIGHT = 18;

/** A curve within a line of text; undefined for less than two points. */
function sparkline(curve: Curve, range: Range | undefined): string | undefined {
  if (curve.length < 2 || range === undefined) return undefined;
  const [first, last] = range.steps;
  const [low, high] = range.values;
  const points = curve.flatMap(([step, value]) => {
    if (!Number.isFinite(value)) return [];
    const x = (SPARK_WIDTH * (step - first)) / (last - first || 1);
    const share = Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
    return [`${x.toFixed(1)} ${(1 + (SPARK_HEIGHT - 2) * (1 - share)).toFixed(1)}`];
  });
  return (
    `<svg width="${SPARK_WIDTH}" height="${SPARK_HEIGHT}" viewBox="0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}" aria-hidden="true">` +
    `<path d="M${points.join("L")}" fill="none" stroke="currentColor" stroke-width="1"/></svg>`
  );
}

/** All trials as comma-separated values, with a head. Texts are quoted. */
function trialsCsv({ identity, trials }: Known): string {
  const all = [...trials.values()].toSorted((a, b) => a.number - b.number);
  const names = Object.keys(identity.space as Space);
  const figures = [
    ...new Set(
      all.flatMap(({ outcome }) =>
        outcome === undefined || outcome.status === "failed" ? [] : Object.keys(outcome.figures),
      ),
    ),
  ];
  const cell = (value: unknown) => {
    if (value === undefined) return "";
    if (typeof value === "number") return String(value);
    // A spreadsheet must not take a text for a formula.
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return `"${(/^[=+@\t\r-]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  const rows = all.map(({ number, config, seed, outcome }) => {
    const found: Figures = outcome === undefined || outcome.status === "failed" ? {} : outcome.figures;
    return [
      ...[number, outcome?.status ?? "running", seed, ...names.map((name) => config[name])],
      ...figures.map((name) => found[name]),
      ...[outcome?.attempts, outcome === undefined || outcome.status === "failed" ? undefined : outcome.seconds],
      outcome?.status === "failed" ? outcome.error : undefined,
    ];
  });
  const head = ["number", "status", "seed", ...names, ...figures, "attempts", "seconds", "error"];
  return [head, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");
}
