// Sweeps as a whole: the same figures on any workers, journals that are damaged, workers that are killed.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TrialContext } from "../../src/sweeps/executor.js";
import { random, type Search, sobol } from "../../src/sweeps/search.js";
import { choice, uniform } from "../../src/sweeps/space.js";
import { asha, median } from "../../src/sweeps/stopping.js";
import { type SweepOptions, type SweepResult, sweep, sweepState } from "../../src/sweeps/sweep.js";
import { tpe } from "../../src/sweeps/tpe.js";
import { codeDigest } from "../../src/sweeps/trial-file.js";
import type * as Sweeps from "../../src/sweeps.js";
import { build } from "../cli/run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-sweeps-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;
const newFolder = () => join(folder, `sweep ${++made}`);

/** What of a sweep must come again: all but times and workers. */
const bits = ({ trials, best }: SweepResult) => ({
  best: best?.number,
  trials: trials.map(({ outcome, ...trial }) => {
    const { worker: _, seconds: __, attempts: ___, ...rest } = outcome as Sweeps.TrialResult;
    return { ...trial, ...rest };
  }),
});

/** A trial in steps whose time differs from run to run, and its figures do not. */
const jittery =
  (ms: number) =>
  async ({ x }: Sweeps.TrialConfig, { seed, report }: TrialContext) => {
    const loss = ((x as number) - 0.3) ** 2 + (seed % 1000) / 1e5;
    for (let step = 1; step <= 9; step++) {
      await new Promise((resolve) => setTimeout(resolve, ms * Math.random()));
      if ((await report(step, { loss: loss + 1 / step })) === "stop") break;
    }
    return { loss };
  };

const basic = (more: Partial<SweepOptions> = {}): SweepOptions => ({
  space: { x: uniform(0, 1) },
  trial: jittery(2),
  goal: { figure: "loss", direction: "minimize" },
  folder: newFolder(),
  trials: 24,
  seed: 3,
  ...more,
});

describe("a sweep comes to the same figures", () => {
  it.each<[string, Search, Sweeps.Stopping | undefined]>([
    ["random", random(), undefined],
    ["sobol", sobol(), undefined],
    ["tpe", tpe({ startup: 5 }), undefined],
    ["random with asha", random(), asha()],
    ["tpe with the median", tpe({ startup: 5 }), median({ startup: 3 })],
  ])("on one worker and on four, in any order: %s", async (_, search, stopping) => {
    const options = { search, ...(stopping && { stopping }), delay: 4 };
    const one = bits(await sweep(basic({ ...options, trial: jittery(0) })));
    expect(one.trials).toHaveLength(24);
    expect(bits(await sweep(basic({ ...options, workers: 4 })))).toEqual(one);
    expect(bits(await sweep(basic({ ...options, workers: 3 })))).toEqual(one);
    const stopped = one.trials.filter(({ status }) => status === "stopped").length;
    if (stopping === undefined) expect(stopped).toBe(0);
    else expect(stopped).toBeGreaterThan(3);
  });

  it("interrupted after any trial and gone on with", async () => {
    const options = { search: tpe({ startup: 5 }), stopping: asha(), delay: 3, workers: 3 };
    const whole = bits(await sweep(basic(options)));
    const target = newFolder();
    let result: SweepResult | undefined;
    for (let session = 0; result === undefined; session++) {
      const abort = new AbortController();
      const reason = new Error("interrupted");
      let ended = 0;
      const run = sweep({
        ...basic({ ...options, folder: target, signal: abort.signal, resume: session > 0 }),
        onTrial: ({ outcome }) => {
          if (outcome !== undefined && ++ended === 4) abort.abort(reason);
        },
      });
      result = await run.catch((error) => {
        expect(error).toBe(reason);
        return undefined;
      });
    }
    expect(bits(result)).toEqual(whole);
  });
});

describe("a sweep", () => {
  it("gives the best trial, keeps NaN, and fails no other where one always fails", async () => {
    const trial = ({ x }: Sweeps.TrialConfig, { number }: TrialContext) => {
      if (number === 5) throw new TypeError("no such thing");
      return { score: number === 3 ? Number.NaN : (x as number), other: Number.POSITIVE_INFINITY };
    };
    const told: number[] = [];
    const {
      trials,
      best,
      folder: written,
    } = await sweep(
      basic({ trial, goal: { figure: "score", direction: "maximize" }, onTrial: ({ number }) => told.push(number) }),
    );
    const values = trials.flatMap(({ outcome }) =>
      outcome!.status === "finished" ? [outcome!.figures["score"]!] : [],
    );
    expect(values).toHaveLength(23);
    expect(best!.outcome).toMatchObject({
      figures: { score: Math.max(...values.filter((value) => !Number.isNaN(value))) },
    });
    expect(trials[5]!.outcome).toEqual({ status: "failed", number: 5, error: "TypeError: no such thing", attempts: 3 });
    const state = await sweepState(written);
    expect(state.trials.get(3)!.outcome).toMatchObject({
      figures: { score: Number.NaN, other: Number.POSITIVE_INFINITY },
    });
    expect(told.filter((number) => number === 5)).toHaveLength(2);
  });

  it("goes on with more trials, and refuses to go on with what it is not", async () => {
    const given = basic({ trials: 5 });
    const { trials } = await sweep(given);
    const again = await sweep({ ...given, trials: 8, resume: true });
    expect(again.trials.slice(0, 5)).toEqual(trials);
    await expect(sweep(given)).rejects.toThrow("go on with resume, or name another folder");
    await expect(sweep({ ...given, resume: true, seed: 4 })).rejects.toThrow("resume: seed must be as in");
    await expect(sweep({ ...given, resume: true, search: sobol() })).rejects.toThrow("resume: search must be as in");
    await expect(sweep({ ...given, resume: true, trial: () => ({ loss: 1 }) })).rejects.toThrow(
      "resume: the trial's code",
    );
    await expect(sweep(basic({ resume: true }))).rejects.toThrow("holds no sweep to go on with");
  });

  it("refuses a second one in the same folder", async () => {
    const given = basic({ trials: 4, trial: jittery(20) });
    const first = sweep(given);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await expect(sweep({ ...given, resume: true })).rejects.toThrow("is being written by process");
    await first;
  });

  it("ends where a file says so", async () => {
    const given = basic({ trials: 100_000, trial: jittery(1) });
    const run = sweep(given);
    setTimeout(() => writeFileSync(join(given.folder, "stop"), ""), 200);
    await expect(run).rejects.toThrow("sweep: was stopped");
    expect((await sweepState(given.folder)).trials.size).toBeGreaterThan(0);
  });

  it.each<[Partial<SweepOptions> | Record<string, unknown>, string]>([
    [{ space: { x: 1 } }, "space.x must be a parameter"],
    [{ goal: { figure: "loss", direction: "down" } }, 'sweep: goal: direction must be one of "minimize", "maximize"'],
    [{ trial: undefined }, "needs either trial, a function, or file, a module"],
    [{ file: "trial.mjs" }, "needs either trial, a function, or file, a module"],
    [{ trial: undefined, file: "missing.mjs" }, "trial: cannot read"],
    [{ workers: 0 }, "workers must be a whole number from 1"],
    [{ search: {} }, "search must be a search, such as random()"],
    [{ trial: () => ({ accuracy: 1 }) }, "goal: figure must be one that trials return, accuracy; given loss"],
    [{ unknown: 1 }, "unknown option unknown"],
  ])("refuses options that do not fit, %#", async (more, message) => {
    await expect(sweep(basic(more as Partial<SweepOptions>))).rejects.toThrow(message);
  });

  it.each<[Sweeps.Trial, string]>([
    [() => 3 as never, "must return figures by name, got 3"],
    [() => ({ loss: "x" }) as never, 'figure loss must be a number, got "x"'],
    [() => ({ figures: { loss: 1 }, value: 1n }), "cannot be written as JSON"],
    [
      async (_, { report }) => {
        await report(1, { loss: 1 });
        await report(1, { loss: 1 });
        return undefined;
      },
      "report needs a step above 1, got 1",
    ],
    [(_, { checkpoint }) => checkpoint("x" as never) as Promise<undefined>, 'checkpoint needs a Uint8Array, got "x"'],
  ])("has trials fail that give what they must not, %#", async (trial, message) => {
    const { trials } = await sweep(basic({ trial, trials: 1, attempts: 1 }));
    expect(trials[0]!.outcome).toMatchObject({ status: "failed", error: expect.stringContaining(message) });
  });
});

describe("the journal", () => {
  const written = async () => {
    const given = basic({ trials: 4, trial: jittery(0) });
    const { trials } = await sweep(given);
    return { given, trials, path: join(given.folder, "journal.jsonl") };
  };

  it("is cut off anywhere, and the sweep goes on to the same figures", async () => {
    const { given, trials, path } = await written();
    const text = readFileSync(path);
    const same = (result: SweepResult) => expect(bits(result)).toEqual(bits({ ...result, trials }));
    for (let length = text.length; length >= 0; length -= 171) {
      writeFileSync(path, text.subarray(0, length));
      same(await sweep({ ...given, resume: true }));
      // What is appended after the cut is whole.
      expect(bits(await sweep({ ...given, resume: true })).trials).toHaveLength(4);
    }
  });

  it("names the line that is damaged, missing, or in another place", async () => {
    const { given, path } = await written();
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    expect(lines).toHaveLength(9);
    const spoiled: [string[], number][] = [
      [lines.with(2, lines[2]!.replace("finished", "finisheD")), 3],
      [
        lines.with(
          3,
          lines[3]!.replace(/[0-9]/, (digit) => String((Number(digit) + 1) % 10)),
        ),
        4,
      ],
      [lines.toSpliced(4, 1), 5],
      [lines.with(4, lines[5]!).with(5, lines[4]!), 5],
      [lines.with(2, ""), 3],
      [lines.with(2, "{}"), 3],
      [lines.toSpliced(0, 1), 1],
    ];
    for (const [content, line] of spoiled) {
      writeFileSync(path, `${content.join("\n")}\n`);
      await expect(sweep({ ...given, resume: true })).rejects.toThrow(`journal.jsonl, line ${line}`);
      await expect(sweepState(given.folder)).rejects.toThrow(`line ${line}`);
    }
  });

  it("is read while it is written, and is not there elsewhere", async () => {
    await expect(sweepState(join(folder, "nothing"))).rejects.toThrow("holds no sweep");
  });
});

describe("the digest of a trial's file", () => {
  it("follows what it imports by relative paths, in a circle, too", () => {
    const at = (name: string) => join(folder, "code", name);
    mkdirSync(join(folder, "code"));
    writeFileSync(at("a.mjs"), 'import { b } from "./b.mjs";\nexport default () => ({ b });');
    writeFileSync(at("b.mjs"), 'import "./a.mjs"; export const b = 1;');
    const before = codeDigest(at("a.mjs"));
    expect(codeDigest(at("a.mjs"))).toBe(before);
    writeFileSync(at("b.mjs"), 'import "./a.mjs"; export const b = 2;');
    expect(codeDigest(at("a.mjs"))).not.toBe(before);
  });
});

describe("worker processes", () => {
  const file = resolve("test/sweeps/trial.mjs");
  let built: typeof Sweeps;
  beforeAll(async () => {
    build();
    built = await import(pathToFileURL(resolve("dist/sweeps.js")).href);
  }, 600_000);
  const options = (more: Partial<SweepOptions> = {}): SweepOptions => {
    const { trial: _, ...rest } = basic({ trials: 8, workers: 2, file, ...more });
    return rest;
  };
  const entries = (log: string) =>
    readFileSync(log, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { number: number; from: number; pid: number });

  it("come to the figures of this process, one after the other", async () => {
    const log = join(folder, "plain.log");
    const space = { x: uniform(0, 1), log: choice([log]) };
    const here = await built.sweep(options({ space, shareDevice: true, workers: 1 }));
    const there = await built.sweep(options({ space }));
    expect(bits(there)).toEqual(bits(here));
    expect(there.trials[0]!.outcome).toMatchObject({ worker: "process 1", value: { steps: 3, missing: null } });
    const pids = entries(log).map(({ pid }) => pid);
    expect(pids.slice(0, 8).every((pid) => pid === process.pid)).toBe(true);
    expect(pids.slice(8).includes(process.pid)).toBe(false);
    // They ended with the sweep.
    for (const pid of new Set(pids.slice(8))) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  it("are replaced where they are killed, and every trial goes on from its checkpoint and counts once", async () => {
    const log = join(folder, "killed.log");
    const space = { x: uniform(0, 1), log: choice([log]), kills: choice(["once"]) };
    const killed = await built.sweep(options({ space }));
    const { trials } = bits(await built.sweep(options({ space: { ...space, kills: choice([null]) } })));
    const plain = ({ config: _, ...rest }: (typeof trials)[number]) => rest;
    // Reports before the kill are of an attempt that did not count.
    const withoutSeries = (all: typeof trials) => all.map(plain).map(({ series: _, ...rest }) => rest);
    expect(withoutSeries(bits(killed).trials)).toEqual(withoutSeries(trials));
    expect(killed.trials.every(({ outcome }) => outcome!.attempts === 2)).toBe(true);
    const begun = entries(log).slice(0, 16);
    for (let number = 0; number < 8; number++) {
      expect(begun.filter((entry) => entry.number === number).map(({ from }) => from)).toEqual([0, 2]);
    }
    expect(readdirSync(join(killed.folder, "checkpoints"))).toEqual([]);
  });

  it("have a trial fail that always kills its worker, and others go on", async () => {
    const space = { x: uniform(0, 1), log: choice([join(folder, "poison.log")]), kills: choice(["always"]) };
    const { trials } = await built.sweep(options({ space, attempts: 2 }));
    expect(trials[1]!.outcome).toEqual({
      ...{ status: "failed", number: 1, attempts: 2 },
      error: "KilogradError: the worker process was ended by SIGKILL",
    });
    expect(trials.filter(({ outcome }) => outcome!.status === "finished")).toHaveLength(7);
  });

  it("tell a trial's error in one line", async () => {
    const { trials } = await built.sweep(options({ space: { fails: choice([2]) }, attempts: 1 }));
    expect(trials[2]!.outcome).toMatchObject({
      status: "failed",
      error: "Error: this trial always fails in two lines",
    });
  });

  it("are ended within two seconds, also where a trial does not listen", async () => {
    const abort = new AbortController();
    const space = { x: uniform(0, 1), blocks: choice([1]) };
    let begun = 0;
    const run = built.sweep({ ...options({ space, signal: abort.signal }), onReport: () => void begun++ });
    while (begun < 12) await new Promise((resolve) => setTimeout(resolve, 20));
    const asked = performance.now();
    abort.abort(new Error("enough"));
    await expect(run).rejects.toThrow("enough");
    expect(performance.now() - asked).toBeLessThan(60_000);
  });

  it("refuse a file that is no trial", async () => {
    const none = join(folder, "none.mjs");
    writeFileSync(none, "export const trial = 1;");
    await expect(built.sweep(options({ file: none }))).rejects.toThrow(
      "must export a function (config, { seed, report }) as default",
    );
  });
});
