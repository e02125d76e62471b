// Limits: every setting of every experiment has a rule that its presets keep, batches must fit into memory, and one
// process at a time writes into a folder.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { checkMemory, stepBytes } from "../../src/experiments/lib/frame/memory-limit.js";
import { experiments } from "../../src/experiments/lib/frame/registry.js";
import { writeResults } from "../../src/experiments/lib/frame/run.js";
import { checkSteps, settingRule } from "../../src/experiments/lib/frame/setting-rules.js";
import { WorkFolder } from "../../src/experiments/lib/frame/work-folder.js";
import { commandText, twoDigits } from "../../src/experiments/lib/report/text.js";
import { trainingClock } from "../../src/experiments/lib/training/experiment-training.js";
import { zooArchitecture, zooModel } from "../../src/experiments/lib/training/models.js";
import { temporaryFor } from "../../src/io/files.js";
import { lockFolder, refuseLocked, withOutputFolder } from "../../src/io/folder-lock.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-limits-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("settings", () => {
  test.each(experiments.map(({ name }) => name))(
    "every one of %s has a rule, which refuses the absurd",
    async (name) => {
      const { experiment } = await experiments.find((entry) => entry.name === name)!.load();
      for (const preset of Object.values(experiment.presets)) {
        for (const [setting, value] of Object.entries(preset)) {
          const rule = settingRule(setting, value);
          expect(rule, setting).toBeDefined();
          expect(rule!.accepts(value), `${setting} ${value}`).toBe(true);
          if (typeof value === "number") expect(rule!.accepts(1e31), setting).toBe(false);
          if (Array.isArray(value)) expect(rule!.accepts(new Array(1e4).fill(value[0])), setting).toBe(false);
        }
      }
    },
  );

  test("a training has an end", () => {
    checkSteps(10_000_000);
    expect(() => checkSteps(10_000_001)).toThrow(/up to 10,000,000 steps/);
  });
});

describe("memory", () => {
  const network = zooArchitecture(zooModel("small-cnn"));
  test("is what weights and outputs of all layers take", () => {
    const outputs = 26 * 26 * 24 + 13 * 13 * 24 + 11 * 11 * 36 + 5 * 5 * 36 + 3 * 3 * 64 + 576 + 64 + 10;
    expect(stepBytes(network, 32)).toBe(4 * (4 * 66_430 + 2 * 32 * (784 + outputs)));
  });

  test("that is not there is refused, with what would fit", () => {
    const memory = stepBytes(network, 1000);
    checkMemory("batch", { network, images: 1000 }, memory);
    expect(() => checkMemory("batch", { network, images: 2000 }, memory)).toThrow(UsageError);
    expect(() => checkMemory("batch", { network, images: 2000 }, memory)).toThrow(
      /batch: 2,000 images in one batch of small-cnn need about .* use at most about 1,0\d\d/,
    );
    // What is kept of the images of every step counts, too.
    expect(() => checkMemory("count", { network, images: 1000, steps: 100_000 }, memory)).toThrow(/over 100,000 steps/);
  });
});

describe("an output folder", () => {
  const at = (name: string) => join(folder, name);
  const lock = (name: string) => join(at(name), ".kilograd.lock");

  test("is one process's until it is released", async () => {
    await withOutputFolder(at("a"), async (path) => {
      await expect(lockFolder(path)).rejects.toThrow(`a is being written by process ${process.pid}; wait for it`);
      await expect(refuseLocked(path)).rejects.toBeInstanceOf(UsageError);
    });
    expect(readdirSync(at("a"))).toEqual([]);
    const failed = withOutputFolder(at("a"), async () => {
      throw new Error("broken");
    });
    await expect(failed).rejects.toThrow("broken");
    expect(readdirSync(at("a"))).toEqual([]);
  });

  test.each([
    ["of a process that is gone", async () => JSON.stringify({ pid: await deadProcess(), host: hostname() })],
    [
      "of a process whose number another one has now",
      async () => JSON.stringify({ pid: process.pid, host: hostname(), begun: "1" }),
    ],
    ["that says nothing", async () => "{"],
    ["of no process", async () => JSON.stringify({ pid: -1, host: hostname() })],
  ])("whose lock is one %s is taken over", async (_, content) => {
    await withOutputFolder(at("b"), async () => {});
    writeFileSync(lock("b"), await content());
    // What a process killed while it took or took away a lock leaves.
    const left = temporaryFor(lock("b")).replace(`.${process.pid}.`, `.${await deadProcess()}.`);
    writeFileSync(left, "");
    await refuseLocked(at("b"));
    await withOutputFolder(at("b"), async () => {
      expect(JSON.parse(readFileSync(lock("b"), "utf8"))).toMatchObject({ pid: process.pid, host: hostname() });
      expect(readdirSync(at("b"))).toEqual([".kilograd.lock"]);
    });
  });

  test.skipIf(process.platform === "win32")("with a pipe in place of a file is refused, not waited for", async () => {
    for (const name of ["run.json", "metrics.json", ".kilograd.lock"]) {
      const out = at(`pipe-${name}`);
      mkdirSync(out);
      execFileSync("mkfifo", [join(out, name)]);
      const identity = {
        experiment: "tiny",
        preset: "quick",
        seed: 0,
        precision: "float32",
        version: "",
        settings: {},
      };
      const opened = WorkFolder.open(out, identity, { resume: name === "run.json" });
      await expect(opened).rejects.toThrow(`cannot read ${join(out, name)}: it is no regular file`);
      if (name !== "metrics.json") continue;
      const results = { pictures: new Map(), report: "", metrics: {} };
      await expect(writeResults(out, results)).rejects.toThrow("it is no regular file");
    }
  });

  test("of another machine is left to the user", async () => {
    await withOutputFolder(at("c"), async () => {});
    writeFileSync(lock("c"), JSON.stringify({ pid: 1, host: "elsewhere.example" }));
    await expect(withOutputFolder(at("c"), async () => {})).rejects.toThrow(
      /process 1 of elsewhere.example; .* delete .*\.kilograd\.lock/,
    );
  });

  test("has one owner when many want it at once, also where a lock of one that is gone lies there", async () => {
    await withOutputFolder(at("d"), async () => {});
    const gone = JSON.stringify({ pid: await deadProcess(), host: hostname() });
    for (let round = 0; round < 20; round++) {
      if (round % 2 === 1) writeFileSync(lock("d"), gone);
      const attempts = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(at("d"))));
      const won = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
      expect(won).toHaveLength(1);
      await won[0]!();
    }
  });
});

/** The number of a process that has ended. */
function deadProcess(): Promise<number> {
  const child = spawn(process.execPath, ["-e", ""]);
  return new Promise((done) => child.on("close", () => done(child.pid!)));
}

test("a training's clock goes on from what a checkpoint says, if that is a time", () => {
  const { callback, seconds } = trainingClock();
  callback.importState!({ seconds: 1000 }, new Map());
  expect(seconds()).toBeGreaterThanOrEqual(1000);
  for (const value of ["x", -1, Number.NaN, null, undefined]) {
    expect(() => callback.importState!({ seconds: value }, new Map())).toThrow(DataError);
  }
  expect(() => callback.importState!({ seconds: "x" }, new Map())).toThrow(
    'trainingClock: seconds must be a finite number from 0, is "x"',
  );
});

test("commands as a shell takes them", () => {
  expect(
    commandText(["run", "digits"], { seed: 1, out: undefined, resume: true, json: false, set: ["a=1", 'b=["x"]'] }),
  ).toBe(`kilograd run digits --seed 1 --resume --set a=1 --set 'b=["x"]'`);
  expect(commandText(["x"], { out: "it's" })).toBe("kilograd x --out 'it'\\''s'");
});

test("numbers of two digits have no exponent that says nothing", () => {
  expect([1.2, 0, 123, 0.0123, 1.24e-7, 3.4e15, 99_999, -1.2].map(twoDigits)).toEqual([
    "1.2",
    "0",
    "120",
    "0.012",
    "1.2e-7",
    "3.4e15",
    "100000",
    "-1.2",
  ]);
});
