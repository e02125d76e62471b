// The frame that all experiments run in: settings, parts that survive an interruption, folders that are not mixed up,
// and running all of them.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { limitImages } from "../../src/data/dataset.js";
import {
  defineExperiment,
  type Experiment,
  type ExperimentRun,
  runExperiment,
} from "../../src/experiments/lib/frame/experiment.js";
import {
  measureStep,
  type TrainingPlan,
  trainingSeconds,
  trainPart,
} from "../../src/experiments/lib/training/experiment-training.js";
import { zooArchitecture, zooModel } from "../../src/experiments/lib/training/models.js";
import { runAll } from "../../src/experiments/run.js";
import { Report } from "../../src/io/report.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();

const settings = { parts: 3, data: "digits", sizes: [1, 2] as readonly number[] };

/** Counts which parts were computed, and lets a test interfere with one of them. */
function counting(interfere: (part: number) => void = () => {}) {
  const computed: number[] = [];
  const experiment = defineExperiment<typeof settings>({
    presets: { quick: settings, reference: { ...settings, parts: 5 } },
    async run(run) {
      run.plan({ "part 0": 1, "part 1": 60 }, "steps of 1 ms");
      const values: unknown[] = [];
      for (let part = 0; part < run.settings.parts; part++) {
        values.push(
          await run.part(`part ${part}`, async (progress) => {
            progress(0.5, "half");
            interfere(part);
            run.signal.throwIfAborted();
            computed.push(part);
            return {
              part,
              losses: [1, Number.NaN, Number.NEGATIVE_INFINITY],
              pixels: Float32Array.of(0.5, 1 / 3),
              none: null,
            };
          }),
        );
      }
      const report = new Report({ title: "Counting", footer: run.footer });
      return {
        report,
        figures: [{ label: "Parts", value: values.length }],
        metrics: { count: values.length },
        summary: "done",
        values,
      };
    },
  });
  return { experiment, computed };
}

describe("settings", () => {
  test("come from the preset, and --set changes them", async () => {
    const { experiment, computed } = counting();
    const { metrics, said, report } = await runs.run(experiment, { out: runs.at("set"), set: ["parts=2"], seed: 7 });
    expect(computed).toEqual([0, 1]);
    expect(metrics).toMatchObject({ experiment: "tiny", preset: "quick", seed: 7, config: { ...settings, parts: 2 } });
    expect(said).toMatch(/tiny: about 1 min 01 s on .+, by a measured step: steps of 1 ms\./);
    expect(report).toContain("kilograd run tiny --preset quick --seed 7 --set parts=2<");
    const reference = await runs.run(counting().experiment, { out: runs.at("reference"), preset: "reference" });
    expect(reference.metrics.count).toBe(5);
  });

  test("the precision is part of the command that does the same again", async () => {
    const { context } = runs.context({});
    const device: WebGpuDevice = Object.create(await context.openDevice(), { precision: { value: "mixed" } });
    const { folder } = await runExperiment(
      "tiny",
      counting().experiment as unknown as Experiment,
      { out: runs.at("mixed"), precision: "mixed" },
      { ...context, openDevice: async () => device },
    );
    const report = readFileSync(join(folder, "report.html"), "utf8");
    expect(report).toContain("kilograd run tiny --preset quick --seed 0 --precision mixed<");
    const metrics = JSON.parse(readFileSync(join(folder, "metrics.json"), "utf8"));
    expect(metrics.adapter.precision).toBe("mixed");
    expect(JSON.parse(readFileSync(join(folder, "run.json"), "utf8")).precision).toBe("mixed");
  });

  test.each([
    [["sizes=3"], /sizes must be a list as \[1,2\], given "3"/],
    [["parts=many"], /parts must be a number as 3, given "many"/],
    [["speed=1"], /needs NAME=VALUE with a setting of tiny \(parts, data, sizes\), given "speed=1"/],
  ])("%s is refused", async (set, message) => {
    await expect(runs.run(counting().experiment, { out: runs.at("none"), set })).rejects.toThrow(message);
    expect(existsSync(runs.at("none"))).toBe(false);
  });

  test("an unknown preset is refused", async () => {
    await expect(runs.run(counting().experiment, { preset: "fast" })).rejects.toThrow(
      /must be quick or reference, given "fast"/,
    );
  });
});

describe("an interrupted run", () => {
  test("keeps what is finished, goes on with --resume, and is not lost", async () => {
    const out = runs.at("interrupted");
    const abort = new AbortController();
    const first = counting((part) => part === 1 && abort.abort(new Error("stopped")));
    const said: string[] = [];
    await expect(
      runs.run(first.experiment, { out, signal: abort.signal, onSay: (text) => said.push(text) }),
    ).rejects.toThrow("stopped");
    expect(first.computed).toEqual([0]);
    expect(said.join("\n")).toContain(`kilograd run tiny --preset quick --seed 0 --out ${out} --resume`);

    // Nothing overwrites it, and no other run takes it over.
    const again = counting();
    await expect(runs.run(again.experiment, { out })).rejects.toThrow(
      /holds an unfinished run of tiny; go on with --resume/,
    );
    await expect(runs.run(again.experiment, { out, resume: true, seed: 1 })).rejects.toThrow(
      /resume: seed must be as in .*, 0, given 1/,
    );
    await expect(runs.run(again.experiment, { out, resume: true, precision: "mixed" })).rejects.toThrow(
      /resume: precision must be as in .*, "float32", given "mixed"/,
    );
    await expect(runs.run(again.experiment, { out, resume: true, set: ["parts=2"] })).rejects.toThrow(
      /parts must be as in .*, 3, given 2/,
    );
    expect(again.computed).toEqual([]);

    const { seconds } = JSON.parse(readFileSync(join(out, "run.json"), "utf8"));
    expect(seconds).toBeGreaterThan(0);
    const second = counting();
    const resumed = await runs.run(second.experiment, { out, resume: true });
    expect(second.computed).toEqual([1, 2]);
    // The time is that of both sessions, and no more where one only reports anew.
    const { totalSeconds } = resumed.metrics.timing;
    expect(totalSeconds).toBeGreaterThan(seconds);
    // A finished run is reported anew from its parts with --resume, and replaced without.
    const third = counting();
    const { metrics } = await runs.run(third.experiment, { out, resume: true });
    expect(third.computed).toEqual([]);
    expect(metrics.timing.totalSeconds).toBe(JSON.parse(readFileSync(join(out, "run.json"), "utf8")).seconds);
    expect(metrics.timing.totalSeconds).toBeGreaterThanOrEqual(totalSeconds);
    await runs.run(third.experiment, { out });
    expect(third.computed).toEqual([0, 1, 2]);
  });

  test("reads parts back as they were", async () => {
    const out = runs.at("values");
    const seen: unknown[] = [];
    const experiment = defineExperiment<{ size: number }>({
      presets: { quick: { size: 1 }, reference: { size: 1 } },
      async run(run) {
        const pixels = Float32Array.of(1 / 3, Number.NaN);
        seen.push(
          await run.part("a/b: c", async () => ({ pixels, of: [{ ids: Int32Array.of(-1) }], loss: Number.NaN })),
        );
        return { report: new Report({ title: "" }), figures: [], metrics: {}, summary: "" };
      },
    });
    await runs.run(experiment, { out });
    await runs.run(experiment, { out, resume: true });
    expect(seen[1]).toEqual(seen[0]);
    // A number that was changed meanwhile is not taken for a result.
    const part = join(out, "parts", "a_b_c.safetensors");
    const bytes = readFileSync(part);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(part, bytes);
    await expect(runs.run(experiment, { out, resume: true })).rejects.toThrow(/is not as it was written; delete it/);
  });

  test("does not go on with another version", async () => {
    const out = runs.at("version");
    await runs.run(counting().experiment, { out });
    const path = join(out, "run.json");
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), version: "0.0.1" }));
    await expect(runs.run(counting().experiment, { out, resume: true })).rejects.toThrow(
      /resume: version must be as in .*, "0.0.1", given "\d/,
    );
  });

  test("has nothing to resume in an empty place", async () => {
    await expect(runs.run(counting().experiment, { out: runs.at("empty"), resume: true })).rejects.toThrow(
      /empty holds no run to go on with; leave out --resume/,
    );
  });
});

describe("folders of something else are left as they are", () => {
  test.each([
    ["run.json", { experiment: "digits", finished: true }, /holds the results of digits, not of tiny/],
    ["metrics.json", { command: "train" }, /holds the results of `kilograd train`, not of tiny/],
  ])("%s", async (file, content, message) => {
    const out = runs.at(`other-${file}`);
    await mkdir(out);
    writeFileSync(join(out, file), JSON.stringify(content));
    await expect(runs.run(counting().experiment, { out })).rejects.toThrow(message);
    expect(readdirSync(out)).toEqual([file]);
    expect(JSON.parse(readFileSync(join(out, file), "utf8"))).toEqual(content);
  });
});

test("a training that was interrupted ends with the bits of one that was not", { timeout: 60_000 }, async () => {
  const weights: Float32Array[] = [];
  const training = (interfere: (step: number) => void) =>
    defineExperiment<{ images: number }>({
      presets: { quick: { images: 320 }, reference: { images: 320 } },
      async run(run) {
        const { train, test: unseen } = await run.images("digits", { train: 320, test: 32 });
        const plan: TrainingPlan = {
          architecture: zooArchitecture(zooModel("mlp-64")),
          data: limitImages(train, run.settings.images),
          validation: unseen,
          optimizer: () => sgd({ learningRate: 0.1, momentum: 0.9 }),
          ...{ epochs: 3, batchSize: 32 },
          callbacks: [{ name: "interfere", onStepEnd: ({ step }) => interfere(step) }],
        };
        const step = await measureStep(run as ExperimentRun, { ...plan, callbacks: [] });
        run.plan({ mlp: trainingSeconds(plan, step) }, "a step");
        const { model, notes } = await trainPart(run, "mlp", plan);
        weights.push(Float32Array.from(await model.parameters()[0]!.data()));
        model.dispose();
        expect(notes.steps).toBe(30);
        expect(notes.history["val_accuracy"]).toHaveLength(3);
        return { report: new Report({ title: "" }), figures: [], metrics: {}, summary: "" };
      },
    });
  await runs.run(
    training(() => {}),
    { out: runs.at("whole") },
  );
  const abort = new AbortController();
  const out = runs.at("cut");
  const cut = runs.run(
    training((step) => step === 15 && abort.abort(new Error("stopped"))),
    { out, signal: abort.signal },
  );
  await expect(cut).rejects.toThrow("stopped");
  expect(readdirSync(join(out, "parts"))).toEqual(["mlp.checkpoint"]);
  await runs.run(
    training(() => {}),
    { out, resume: true },
  );
  expect(readdirSync(join(out, "parts"))).toEqual(["mlp.safetensors"]);
  expect(weights).toHaveLength(2);
  expect(Buffer.from(weights[1]!.buffer).equals(Buffer.from(weights[0]!.buffer))).toBe(true);
});

test("run all goes past an experiment that fails, says so, and links the reports of the others", async () => {
  const entries = [
    {
      name: "broken",
      description: "fails",
      load: async () => ({
        experiment: counting(() => {
          throw new Error("it broke");
        }).experiment as never,
      }),
    },
    { name: "whole", description: "works", load: async () => ({ experiment: counting().experiment as never }) },
  ];
  const said: string[] = [];
  const { context } = runs.context({ onSay: (text) => said.push(text) });
  const { folder, failed, summary } = await runAll({ out: runs.at("all") }, context, entries);
  expect(failed).toEqual(["broken"]);
  expect(summary).toMatch(/^1 experiment of 2 ran to the end in .* Failed: broken\./);
  const page = readFileSync(join(folder, "index.html"), "utf8");
  expect(page).toContain('<a href="whole/report.html">whole</a>');
  expect(page).toContain("failed: Error: it broke");
  expect(page).not.toContain('href="broken');
  expect(existsSync(join(folder, "whole", "report.html"))).toBe(true);
  // With resume, what was begun goes on and what was finished is only reported anew.
  const again = await runAll({ out: runs.at("all"), resume: true }, context, [entries[1]!]);
  expect(again.failed).toEqual([]);
});
