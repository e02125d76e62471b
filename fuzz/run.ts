// `npm run fuzz -- [--suite NAME] [--count N] [--seed N] [--trial N]`: random trials of readers, of the exported
// functions and of command lines. A reader's own name, such as "npy", is a suite of it alone. A trial may end well or
// with an error of this library, within 10 s; anything else is a finding. Prints the seed, and for each finding how to
// run it again. Exit code 1 where there were findings.
import { Command, InvalidArgumentError } from "commander";
import { commands } from "./commands.js";
import { exportsSuite } from "./exports.js";
import { allReaders, readerSuite, readers } from "./readers.js";
import { type Suite, trialRandom } from "./suite.js";

/** Longest that a trial may take, in milliseconds. */
const DEADLINE = 10_000;

const suites: readonly Suite[] = [readers, commands, exportsSuite(0.25)];
/** Suites that run when they are named. */
const single = allReaders.map(readerSuite);

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("a whole number from 0 is required");
  return value;
}

async function withDeadline(work: Promise<string | undefined>, deadline: number): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${deadline / 1000} s`), deadline);
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    return `the trial itself failed: ${error instanceof Error ? error.stack : String(error)}`;
  } finally {
    clearTimeout(timer);
  }
}

const options = new Command("fuzz")
  .option("--suite <name>", `one of ${suites.map(({ name }) => name).join(", ")}, or a reader; default all`)
  .option("--count <n>", "trials of each suite", whole)
  .option("--seed <n>", "of the random numbers; default the time", whole)
  .option("--trial <n>", "this trial alone", whole)
  .parse()
  .opts<{ suite?: string; count?: number; seed?: number; trial?: number }>();
const seed = options.seed ?? Date.now() % 2 ** 31;
const chosen =
  options.suite === undefined ? suites : [...suites, ...single].filter(({ name }) => name === options.suite);
if (chosen.length === 0) {
  throw new Error(`--suite: one of ${[...suites, ...single].map(({ name }) => name).join(", ")} is required`);
}
console.log(`seed ${seed}`);
let findings = 0;
for (const suite of chosen) {
  const first = options.trial ?? 0;
  const end = options.trial === undefined ? (options.count ?? suite.count) : first + 1;
  const before = findings;
  const { deadline = DEADLINE } = suite;
  await suite.begin?.();
  const started = performance.now();
  let slowest = 0;
  for (let trial = first; trial < end; trial++) {
    const begun = performance.now();
    const finding = await withDeadline(suite.run(trialRandom(seed, suite, trial)), deadline);
    const took = performance.now() - begun;
    slowest = Math.max(slowest, took);
    const said = finding ?? (took > deadline ? `took ${(took / 1000).toFixed(1)} s` : undefined);
    if (said === undefined) continue;
    findings++;
    console.log(`${said}\n  again: npm run fuzz -- --suite ${suite.name} --seed ${seed} --trial ${trial}`);
  }
  await suite.end?.();
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(
    `${suite.name}: ${end - first} trials, ${findings - before} findings, ${seconds} s, slowest trial ${slowest.toFixed(0)} ms`,
  );
}
process.exit(findings > 0 ? 1 : 0);
