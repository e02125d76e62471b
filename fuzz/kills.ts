// `npm run kills -- [--suite NAME] [--trainings N] [--runs N] [--queue N] [--seed N]`: kills trainings and experiments
// at random moments with SIGKILL and goes on with each until it ends; weights and results must be those of one that
// nobody killed, to the bit. Workers of a queue, too, whose sweep must count each trial once. Exit code 1 where it is
// not so.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readSafetensors } from "../src/io/safetensors-file.js";
import { RandomStream } from "../src/tensor/random.js";
import { hasRedis } from "../test/sweeps/redis.js";
import { command, type Ended } from "./process.js";
import { queueKilled } from "./queue-kills.js";

/** A command that is killed and gone on with. */
export interface Victim {
  readonly name: string;
  /** To begin, or to go on where `folder` holds something to go on with. */
  args(folder: string): string[];
  /** What has to be the same in the end. */
  result(folder: string): Promise<string>;
}

/** 20 steps an epoch, a checkpoint after each. */
export const training = ({ epochs }: { readonly epochs: number }): Victim => ({
  name: "training",
  args(folder) {
    const checkpoint = join(folder, "checkpoint.safetensors");
    const begin = `--data digits --limit-train 640 --limit-test 32 --batch 32 --epochs ${epochs} --seed 3`.split(" ");
    const how = existsSync(checkpoint) ? ["--resume", checkpoint] : begin;
    return ["train", "mlp-64", ...how, "--out", folder];
  },
  async result(folder) {
    const { tensors } = await readSafetensors(join(folder, "model.safetensors"));
    return [...tensors]
      .map(
        ([name, { data }]) =>
          `${name} ${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64")}`,
      )
      .join("\n");
  },
});

/** Eight small networks, each a part of the run. */
export const experiment = ({ epochs }: { readonly epochs: number }): Victim => ({
  name: "experiment",
  args(folder) {
    const size = ["trainImages=640", "testImages=64", `epochs=${epochs}`, "gradientEpoch=2", "depths=[2,4]"];
    const set = ["data=digits", ...size];
    const resumable = existsSync(join(folder, "run.json"));
    return [
      ...["run", "vanishing-gradients", ...set.flatMap((each) => ["--set", each]), "--seed", "5", "--out", folder],
      ...(resumable ? ["--resume"] : []),
    ];
  },
  async result(folder) {
    const metrics = JSON.parse(readFileSync(join(folder, "metrics.json"), "utf8"));
    // What a clock or the adapter's pool says differs from run to run.
    const timeless = (key: string, value: unknown) =>
      /^(timing|memory|seconds|stepMs|adapter|versions)$/.test(key) ? undefined : value;
    return JSON.stringify(metrics, timeless);
  },
});

export interface KillOptions {
  readonly kills: number;
  readonly seed: number;
  readonly say?: (text: string) => void;
}

/** Kills in a row before one may come to its end. */
const CHAIN = 10;
/** No session takes longer. */
const LONGEST = 600_000;

/** Gives what was wrong. */
export async function killed(victim: Victim, { kills, seed, say = () => {} }: KillOptions): Promise<string[]> {
  const parent = mkdtempSync(join(tmpdir(), "kilograd-kills-"));
  const random = new RandomStream(seed, `kills ${victim.name}`);
  const findings: string[] = [];
  const session = (folder: string, after: number): Promise<Ended> =>
    command(victim.args(folder), { cwd: parent, signal: "SIGKILL", after, patience: 0 });
  try {
    // The first may compile programs that later ones find in the driver's cache.
    const wholes: Ended[] = [];
    for (const name of ["whole-0", "whole-1"]) {
      const whole = await session(join(parent, name), LONGEST);
      if (whole.code !== 0) throw new Error(`${victim.name}: does not run at all: ${whole.stderr.slice(-2000)}`);
      wholes.push(whole);
    }
    const whole = wholes[1]!;
    const expected = await victim.result(join(parent, "whole-0"));
    if ((await victim.result(join(parent, "whole-1"))) !== expected) {
      findings.push(`${victim.name}: two runs without a kill differ`);
    }
    say(`${victim.name}: ${Math.round(whole.milliseconds)} ms without a kill`);
    for (let done = 0, chain = 0; done < kills; chain++) {
      const folder = join(parent, `chain-${chain}`);
      let ended: Ended | undefined;
      for (let inChain = 0; inChain < CHAIN && done < kills; inChain++) {
        ended = await session(folder, random.uniform() * whole.milliseconds);
        if (ended.signal !== "SIGKILL") break;
        done++;
      }
      if (ended!.signal === "SIGKILL") ended = await session(folder, LONGEST);
      if (ended!.code !== 0) {
        findings.push(`${victim.name}, chain ${chain}: exit code ${ended!.code}: ${ended!.stderr.slice(-600)}`);
      } else if ((await victim.result(folder)) !== expected) {
        findings.push(`${victim.name}, chain ${chain}: another result than without kills`);
      } else {
        const left = readdirSync(folder).filter((name) => name.startsWith("."));
        if (left.length > 0) findings.push(`${victim.name}, chain ${chain}: ${left.join(", ")} left behind`);
        rmSync(folder, { recursive: true });
      }
      say(`${victim.name}: ${done} kills in ${chain + 1} chains, ${findings.length} findings`);
    }
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
  return findings;
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      ...{ suite: { type: "string" }, seed: { type: "string" } },
      ...{ trainings: { type: "string" }, runs: { type: "string" }, queue: { type: "string" } },
    },
  });
  const isAsked = (suite: string) => values.suite === undefined || values.suite === suite;
  const most = (given: string | undefined, usual: number) => Number(given ?? usual);
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  console.log(`seed ${seed}`);
  const say = (text: string) => console.log(text);
  const findings: string[] = [];
  if (isAsked("training")) {
    findings.push(...(await killed(training({ epochs: 40 }), { kills: most(values.trainings, 200), seed, say })));
  }
  if (isAsked("experiment")) {
    findings.push(...(await killed(experiment({ epochs: 4 }), { kills: most(values.runs, 50), seed, say })));
  }
  if (isAsked("queue") && hasRedis) {
    const kills = most(values.queue, 100);
    findings.push(...(await queueKilled({ kills, trials: 2 * kills, workers: 4, every: 600, seed, say })));
  } else if (isAsked("queue")) console.log("queue: skipped, there is no redis-server");
  for (const finding of findings) console.log(finding);
  process.exit(findings.length > 0 ? 1 : 0);
}
