// `kilograd run`: one experiment, or all of them with an index page that links their reports.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { prepareOutputFolder, writeFileAtomic, writeJson } from "../io/files.js";
import { type KeyFigure, Report, type TableCell } from "../io/report.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import { type ExperimentOptions, presetOf, runExperiment } from "./lib/frame/experiment.js";
import { jobWorkers } from "./lib/frame/job-workers.js";
import { experiments, type RegisteredExperiment, registeredExperiment } from "./lib/frame/registry.js";
import { machineText, type RunContext } from "./lib/frame/run.js";
import { counted, duration, listed } from "./lib/report/text.js";

/** Runs an experiment by name. @throws UsageError for an unknown name or options that do not fit */
export async function run(name: string, options: ExperimentOptions, context: RunContext) {
  const { load } = registeredExperiment(name);
  presetOf(options.preset ?? "quick"); // Before a script is loaded.
  return runExperiment(name, (await load()).experiment, options, { ...context, jobWorkers });
}

/** What became of one experiment of `run all`. */
interface Outcome {
  readonly name: string;
  readonly description: string;
  readonly seconds: number;
  readonly figure?: KeyFigure;
  readonly error?: string;
}

/**
 * Runs every experiment into a folder of its own and writes index.html. One that fails does not keep the others from
 * running; `failed` names it. With `resume`, experiments that were begun go on and finished ones are only reported
 * anew.
 */
export async function runAll(
  options: ExperimentOptions,
  context: RunContext,
  all: readonly RegisteredExperiment[] = experiments,
) {
  const preset = presetOf(options.preset ?? "quick");
  if ((options.set ?? []).length > 0) throw new UsageError("set: is for one experiment, not for all");
  const folder = await prepareOutputFolder(options.out ?? join("out", `all-${preset}`));
  const outcomes: Outcome[] = [];
  const begun = performance.now();
  for (const { name, description, load } of all) {
    context.signal.throwIfAborted();
    const start = performance.now();
    const out = join(folder, name);
    const resume = (options.resume ?? false) && existsSync(join(out, "run.json"));
    context.say(`\n== ${name}: ${description}`);
    const told = { name, description };
    try {
      const { figures, summary } = await runExperiment(
        name,
        (await load()).experiment,
        { ...options, preset, out, resume },
        { ...context, jobWorkers },
      );
      context.say(summary);
      outcomes.push({ ...told, seconds: secondsSince(start), ...(figures[0] && { figure: figures[0] }) });
    } catch (error) {
      context.signal.throwIfAborted();
      const foreseen = error instanceof KilogradError;
      const message = foreseen ? error.message : String((error as Error)?.stack ?? error);
      context.say(`kilograd: ${name} failed: ${message}`);
      outcomes.push({ ...told, seconds: secondsSince(start), error: message });
    }
    await writeFileAtomic(join(folder, "index.html"), await indexPage(preset, outcomes, all.length, context));
  }
  const failed = outcomes.flatMap(({ name, error }) => (error === undefined ? [] : [name]));
  const metrics = {
    command: "run all",
    preset,
    seed: options.seed ?? 0,
    totalSeconds: secondsSince(begun),
    failed,
    experiments: outcomes,
  };
  await writeJson(join(folder, "index.json"), metrics);
  const summary =
    `${counted(outcomes.length - failed.length, "experiment")} of ${outcomes.length} ran to the end in ${duration(secondsSince(begun))}.` +
    (failed.length === 0 ? "" : ` Failed: ${listed(failed)}.`);
  return { folder, metrics, summary, failed };
}

const secondsSince = (begun: number) => (performance.now() - begun) / 1000;

async function indexPage(
  preset: string,
  outcomes: readonly Outcome[],
  count: number,
  context: RunContext,
): Promise<string> {
  const rows = outcomes.map(({ name, description, seconds, figure, error }): TableCell[] => [
    error === undefined ? { text: name, href: `${name}/report.html` } : name,
    description,
    error === undefined
      ? {
          text: figure === undefined ? "done" : `${figure.label}: ${figure.value}`,
          ...(figure?.tone && { tone: figure.tone }),
        }
      : { text: `failed: ${error.split("\n")[0]}`, tone: "bad" },
    { text: duration(seconds), numeric: true },
  ]);
  const done = outcomes.filter(({ error }) => error === undefined).length;
  return new Report({
    title: "Kilograd's experiments",
    subtitle: `Preset ${preset}: ${done} of ${count} ran to the end, ${duration(outcomes.reduce((sum, { seconds }) => sum + seconds, 0))} in all`,
    footer: machineText(await context.openDevice()),
  })
    .section("Reports", (section) =>
      section.table({ columns: ["experiment", "what it is about", "result", "time"], rows }),
    )
    .html();
}
