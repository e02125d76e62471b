// A sweep on a queue as a program of its own, for tests that kill it: `node queue-sweep.mjs ADDRESS TRIAL FOLDER LOG`.
// It begins the sweep in the folder, or goes on with it, and prints the numbers of the trials with their figures.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { choice, sweep, uniform } from "../../dist/sweeps.js";

const [queue, file, folder, log] = process.argv.slice(2);
const { trials } = await sweep({
  ...{ queue, file, folder, trials: 24, seed: 3, attempts: 50, resume: existsSync(join(folder, "journal.jsonl")) },
  space: { x: uniform(0, 1), log: choice([log]), sleep: choice([50]) },
  goal: { figure: "loss", direction: "minimize" },
  onMessage: (message) => console.error(message),
});
console.log(JSON.stringify(trials.map(({ number, outcome }) => [number, outcome.figures.loss])));
