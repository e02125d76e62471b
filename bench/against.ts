// `npm run bench:against -- COMMIT`: whole steps of this build and of another commit's, in turns. The commit is built
// in a temporary folder; a folder with a build in it is taken as it is. Each build is a process of its own per
// workload. Both take steps from the same beginning first, and the results are compared. Then they take turns, and
// change who is first. The figure is the median over the rounds of the time of ours over the time of theirs, in the
// same round.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, symlinkSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { driverThreads } from "../src/webgpu/open.js";
import { temporaryFolder, undoing } from "./cleanup.js";
import { ContenderProcess } from "./contender-process.js";
import { median, parseOptions, resultsFile, tableLine, withDevice } from "./harness.js";
import { hasTinyDispatches, makeTask, type Workload, withWeights, workloads, writeTask } from "./workloads.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
const SCRIPT = "build/bench/contender.js";
const ROUNDS = { full: 15, quick: 5 };
/** Time of a run in a round, in which a build takes as many steps as fit, at least one. */
const RUN_MS = 700;
const CHECK_STEPS = 3;

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

const versionsOf = ({ dependencies, devDependencies }: Manifest) => ({ ...dependencies, ...devDependencies });

/** Compiles what is checked out in a folder; with our modules where it names no others. */
async function build(folder: string): Promise<void> {
  // Not synchronously: a signal is to be heard meanwhile.
  const run = async (program: string, ...args: string[]) => {
    const child = spawn(program, args, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
    const [code, signal] = await once(child, "exit");
    if (code !== 0)
      throw new Error(`${program} ${args[0]} ended with ${signal ?? `code ${code}`}; its output is above`);
  };
  const manifest = (at: string) => versionsOf(JSON.parse(readFileSync(join(at, "package.json"), "utf8")) as Manifest);
  const [theirs, ours] = [manifest(folder), manifest(root)];
  if (Object.entries(theirs).every(([name, version]) => ours[name] === version)) {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"), "dir");
  } else {
    await run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund");
  }
  await run(process.execPath, "node_modules/typescript/bin/tsc");
}

interface Row {
  readonly name: string;
  readonly oursMs: number;
  readonly theirsMs: number;
  /** Median of ours over theirs, round by round, and the quartiles. */
  readonly ratio: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
  /** The least time of ours over the least of theirs: what is left where the machine disturbs the fewest. */
  readonly leastRatio: number;
  readonly sameBits: boolean;
  readonly rounds: number;
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.round(share * (values.length - 1))]!;
}

async function compare(workload: Workload, theirs: string, quick: boolean): Promise<Row> {
  using temporary = temporaryFolder("against");
  const folder = temporary.path;
  const builds: ContenderProcess[] = [];
  try {
    const task = await withWeights(makeTask(workload, { dropout: false }));
    await writeTask(folder, task);
    const threads = await driverThreads({ tinyDispatches: hasTinyDispatches(task.spec) });
    const rates = new Array<number>(CHECK_STEPS).fill(task.spec.optimizer.learningRate);
    const results: Buffer[] = [];
    for (const cwd of [root, theirs]) {
      const contender = new ContenderProcess([process.execPath, join(cwd, SCRIPT)], folder, { cwd, threads });
      builds.push(contender);
      await contender.ready();
      const out = join(folder, `result-${builds.length}`);
      await contender.ask({ do: "check", rates, out });
      results.push(readFileSync(out));
    }
    const steps: number[] = [];
    for (const contender of builds) {
      const warm = await contender.ask({ do: "run", steps: 1 });
      steps.push(Math.max(1, Math.round((RUN_MS * warm.steps) / warm.ms)));
    }
    const times: [number[], number[]] = [[], []];
    const rounds = quick ? ROUNDS.quick : ROUNDS.full;
    for (let round = 0; round < rounds; round++) {
      for (const who of round % 2 === 0 ? [0, 1] : [1, 0]) {
        // Some workloads take a number of steps of their own.
        let [ms, taken] = [0, 0];
        while (taken === 0 || (ms < RUN_MS && taken < steps[who]!)) {
          const run = await builds[who]!.ask({ do: "run", steps: steps[who]! - taken });
          ms += run.ms;
          taken += run.steps;
        }
        times[who]!.push(ms / taken);
      }
    }
    const ratios = times[0].map((ours, round) => ours / times[1][round]!);
    return {
      name: workload.name,
      oursMs: median(times[0]),
      theirsMs: median(times[1]),
      ratio: median(ratios),
      lowerQuartile: quantile(ratios, 0.25),
      upperQuartile: quantile(ratios, 0.75),
      leastRatio: Math.min(...times[0]) / Math.min(...times[1]),
      sameBits: results[0]!.equals(results[1]!),
      rounds,
    };
  } finally {
    for (const contender of builds) contender.end();
  }
}

/** A build of what the command line names; what was made for it goes with it. */
async function buildOf(named: string): Promise<Disposable & { readonly name: string; readonly folder: string }> {
  if (existsSync(join(named, SCRIPT))) {
    const folder = resolve(named);
    // Where it lies is of this machine alone.
    return { name: basename(folder), folder, [Symbol.dispose]: () => {} };
  }
  const words = ["-C", root, "rev-parse", "--verify", `${named}^{commit}`];
  const commit = execFileSync("git", words, { encoding: "utf8" }).trim();
  const temporary = temporaryFolder("commit");
  const folder = temporary.path;
  const worktree = (...args: string[]) => execFileSync("git", ["-C", root, "worktree", ...args]);
  const made: Disposable[] = [temporary];
  const takeAway = () => {
    for (const each of made.reverse()) each[Symbol.dispose]();
  };
  try {
    worktree("add", "--quiet", "--force", "--detach", folder, commit);
    made.push(undoing(() => worktree("remove", "--force", folder)));
    await build(folder);
  } catch (error) {
    takeAway();
    throw error;
  }
  return { name: commit.slice(0, 7), folder, [Symbol.dispose]: takeAway };
}

const options = parseOptions("Times whole steps against another commit's build, in turns.", "<commit>");
const WIDTHS = [18, 10, 10, 8, 14, 8, 10];

await withDevice(options, async (device) => {
  const chosen = workloads.filter(({ name }) =>
    options.filter.source === "(?:)" ? !name.startsWith("alexnet") : options.filter.test(name),
  );
  const write = await resultsFile(device, options, "against");
  using against = await buildOf(options.argument);
  const results: Row[] = [];
  console.log(
    `\n${tableLine([against.name, "ours ms", "theirs ms", "ratio", "quartiles", "least", "same bits"], WIDTHS)}`,
  );
  for (const workload of chosen) {
    const row = await compare(workload, against.folder, options.quick);
    results.push(row);
    const quartiles = `${row.lowerQuartile.toFixed(3)}-${row.upperQuartile.toFixed(3)}`;
    const times = [row.oursMs.toFixed(3), row.theirsMs.toFixed(3), row.ratio.toFixed(3)];
    console.log(
      tableLine([row.name, ...times, quartiles, row.leastRatio.toFixed(3), row.sameBits ? "yes" : "no"], WIDTHS),
    );
    await write({ against: against.name, results });
  }
});
