// Training and optimising through the command line, end to end on few built-in digits: files, figures, exit codes,
// interruption and resuming.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/io/safetensors-file.js";
import { build, kilograd, type Outcome } from "./run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-train-"));
const at = (name: string) => join(folder, name);
/** Enough to learn something, and just enough to train at all. */
const learning = ["--data", "digits", "--limit-train", "1600", "--limit-test", "60", "--batch", "32"];
const small = ["--data", "digits", "--limit-train", "300", "--limit-test", "60", "--batch", "32"];

beforeAll(() => build());
afterAll(() => rmSync(folder, { recursive: true }));

const json = (path: string) => JSON.parse(readFileSync(path, "utf8"));

/** Fails with what the command said unless it ended well. */
function expectSuccess({ code, stderr }: Outcome): void {
  if (code !== 0) expect.fail(`exit code ${code}:\n${stderr}`);
}

const anyFigures = { loss: expect.any(Number), accuracy: expect.any(Number) };
const anyAdapter = { description: expect.any(String), backend: expect.any(String), profile: expect.any(String) };
const anyVersions = { kilograd: expect.any(String), node: process.versions.node, webgpu: expect.any(String) };

describe("train, then optimize", () => {
  beforeAll(async () => {
    expectSuccess(
      await kilograd(["train", "small-cnn", ...learning, "--epochs", "3", "--seed", "5", "--out", at("model")]),
    );
  });

  test("train leaves model, checkpoint, figures, pictures and a report", async () => {
    expect(readdirSync(at("model")).sort()).toEqual([
      "checkpoint.safetensors",
      "digits.svg",
      "metrics.json",
      "mistakes.svg",
      "model.safetensors",
      "report.html",
    ]);
    const metrics = json(at("model/metrics.json"));
    expect(metrics).toMatchObject({
      config: { model: "small-cnn", data: "digits", epochs: 3, batch: 32, lr: 1e-3, trainImages: 1600, testImages: 60 },
      seed: 5,
      adapter: anyAdapter,
      versions: anyVersions,
      train: anyFigures,
      // All images are trained on: there is no validation, and the test part is not called so.
      validation: null,
      test: anyFigures,
      timing: { firstStepMs: expect.any(Number), stepMsMedian: expect.any(Number) },
      memory: { peakBytes: expect.any(Number) },
      steps: 150,
    });
    for (const name of ["epoch", "loss", "accuracy", "test_loss", "test_accuracy"]) {
      expect(metrics.history[name], name).toHaveLength(3);
    }
    expect(metrics.history.stepLoss).toHaveLength(150);
    expect(metrics.history.loss[2]).toBeLessThan(metrics.history.loss[0]);
    expect(metrics.confusion.flat().reduce((a: number, b: number) => a + b)).toBe(60);
    // The trained model on all it was trained on: not the mean over an epoch in which it was another at every step.
    expect(metrics.train.count).toBe(1600);
    expect(metrics.train.accuracy).not.toBe(metrics.history.accuracy[2]);
    expect((1600 * metrics.train.accuracy) % 1).toBeCloseTo(0, 6);
    const report = readFileSync(at("model/report.html"), "utf8");
    expect(report).toContain(
      "kilograd train small-cnn --data digits --epochs 3 --batch 32 --limit-train 1600 --limit-test 60 --lr 0.001 --seed 5",
    );
    expect(report).not.toContain("Validation accuracy");
    for (const part of [
      "small-cnn on the built-in digits",
      "Total params: 66,430",
      "Misclassified",
      "<svg",
      "data:image/png",
    ]) {
      expect(report).toContain(part);
    }
    const { metadata } = await readSafetensors(at("model/model.safetensors"));
    expect(JSON.parse(metadata["notes"]!)).toMatchObject({ config: { data: "digits" }, test: metrics.test });
  });

  test("optimize with --json prints figures only, and writes every image as 28 x 28 PNG", async () => {
    const outcome = await kilograd([
      "optimize",
      "--model",
      at("model/model.safetensors"),
      "--target",
      "all",
      "--count",
      "2",
      "--steps",
      "150",
      "--json",
      "--out",
      at("all"),
    ]);
    expectSuccess(outcome);
    const printed = JSON.parse(outcome.stdout);
    const metrics = json(at("all/metrics.json"));
    expect(printed).toEqual({ ...metrics, folder: at("all") });
    expect(metrics).toMatchObject({
      config: { target: "all", start: "noise", count: 2, steps: 150, learningRate: 0.05, l2: 1e-4 },
      seed: 0,
      adapter: anyAdapter,
      versions: anyVersions,
      ...{ train: anyFigures, validation: null, test: json(at("model/metrics.json")).test },
      timing: { firstStepMs: expect.any(Number), stepMsMedian: expect.any(Number) },
      memory: { peakBytes: expect.any(Number) },
      targetsMet: 20,
    });
    expect(metrics.history.loss).toHaveLength(150);
    const names = Array.from({ length: 20 }, (_, i) => `${Math.floor(i / 2)}-noise${i % 2}.png`);
    expect(metrics.images.map(({ file }: { file: string }) => file)).toEqual(names);
    expect(readdirSync(at("all")).sort()).toEqual([...names, "metrics.json", "report.html"].sort());
    for (const [i, image] of metrics.images.entries()) {
      const { width, height } = PNG.sync.read(readFileSync(join(at("all"), image.file)));
      expect([width, height]).toEqual([28, 28]);
      expect(image.probabilities).toHaveLength(10);
      expect(image.probabilities.reduce((a: number, b: number) => a + b)).toBeCloseTo(1, 5);
      expect(image).toMatchObject({ predicted: Math.floor(i / 2), met: true });
      expect(image.confidence).toBeGreaterThanOrEqual(0.99);
    }
  });

  test("optimize meets mixed targets from real digits, and turns one digit into another", async () => {
    const model = ["optimize", "--model", at("model/model.safetensors"), "--steps", "200", "--out", at("mixed")];
    const mixed = await kilograd([...model, "--target", "2:0.5,3:0.5", "--start", "real"]);
    expectSuccess(mixed);
    const [image] = json(at("mixed/metrics.json")).images;
    expect(image).toMatchObject({ file: "2+3-real0.png", target: "2+3", met: true });
    expect(Math.abs(image.probabilities[2] - 0.5)).toBeLessThan(0.01);
    expect(Math.abs(image.probabilities[3] - 0.5)).toBeLessThan(0.01);
    expect(mixed.stdout).toContain("the target is met");
    expect(mixed.stdout).toContain(`Report: ${at("mixed")}/report.html`);

    expectSuccess(
      await kilograd([
        ...model,
        "--target",
        "7",
        "--start",
        "3",
        "--count",
        "2",
        "--tv",
        "0.001",
        "--blur",
        "0.7",
        "--jitter",
        "1",
      ]),
    );
    const metrics = json(at("mixed/metrics.json"));
    expect(metrics.config).toMatchObject({ start: 3, totalVariation: 0.001, blur: 0.7, jitter: 1 });
    // The pictures of the run before are gone.
    expect(readdirSync(at("mixed")).sort()).toEqual(["7-3.png", "7-4.png", "metrics.json", "report.html"]);
  });

  test("a failed run leaves the folder as it was", async () => {
    const before = readFileSync(at("model/metrics.json"), "utf8");
    const outcome = await kilograd(["train", "small-cnn", ...small, "--lr", "1e30", "--out", at("model")]);
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/train: the loss became .* use a smaller --lr than 1e\+30/);
    expect(outcome.stderr).not.toMatch(/^\s+at /m);
    expect(readFileSync(at("model/metrics.json"), "utf8")).toBe(before);
  });
});

test("--steps ends within an epoch, and resuming from there ends with the same bits", async () => {
  const weights = async (name: string) => (await readSafetensors(at(name))).tensors;
  const model = ["train", "small-cnn", ...small, "--epochs", "2"];
  expectSuccess(await kilograd([...model, "--steps", "14", "--out", at("whole")]));
  expectSuccess(await kilograd([...model, "--steps", "3", "--out", at("parts")]));
  expect(json(at("parts/metrics.json"))).toMatchObject({ steps: 3, history: { epoch: [1] } });
  const stored = JSON.parse((await readSafetensors(at("parts/checkpoint.safetensors"))).metadata["training"]!);
  const first = stored.callbacks.trainingClock.seconds;
  expect(first).toBeGreaterThan(0);
  const resume = ["train", "small-cnn", "--resume", at("parts/checkpoint.safetensors")];
  expectSuccess(await kilograd([...resume, "--steps", "14", "--out", at("parts")]));
  expect(json(at("parts/metrics.json"))).toMatchObject({ steps: 14, config: { batch: 32, data: "digits", epochs: 2 } });
  expect(await weights("parts/model.safetensors")).toEqual(await weights("whole/model.safetensors"));
  // The time is that of both sessions.
  const { metadata } = await readSafetensors(at("parts/checkpoint.safetensors"));
  expect(metadata["callbacks"] ?? JSON.stringify(metadata)).toContain("trainingClock");
  expect(json(at("parts/metrics.json")).timing.totalSeconds).toBeGreaterThan(first);
});

test("a second process does not write into the same folder; the lock of one that is gone is taken over", async () => {
  const training = ["train", "mlp-64", ...small, "--epochs", "100000", "--out", at("shared")];
  let second: Promise<Outcome> | undefined;
  const outcome = await kilograd(training, {
    onStderr(text, child) {
      if (second !== undefined || !text.includes("Epoch 2/")) return;
      second = kilograd(training).finally(() => child.kill("SIGKILL"));
    },
  });
  const refused = await second!;
  expect([refused.code, refused.stdout]).toEqual([2, ""]);
  expect(refused.stderr).toMatch(/^kilograd: out folder: .*shared is being written by process \d+; wait for it/m);
  expect(outcome.signal).toBe("SIGKILL");
  expect(readdirSync(at("shared"))).toContain(".kilograd.lock");
  const resume = ["train", "mlp-64", "--resume", at("shared/checkpoint.safetensors"), "--out", at("shared")];
  const { metadata } = await readSafetensors(at("shared/checkpoint.safetensors"));
  const { iterations } = JSON.parse(metadata["training"]!);
  const tooFew = await kilograd([...resume, "--steps", "1"]);
  expect([tooFew.code, tooFew.stderr]).toEqual([
    2,
    expect.stringMatching(/steps: must be at least the \d+ steps that .*checkpoint.safetensors has behind it, given 1/),
  ]);
  expectSuccess(await kilograd([...resume, "--steps", String(iterations + 1)]));
  expect(readdirSync(at("shared"))).not.toContain(".kilograd.lock");
});

test("--ema tests and writes averaged weights; a resumed training averages on", async () => {
  const weights = async (name: string) => (await readSafetensors(at(name))).tensors;
  const model = ["train", "mlp-64", ...small, "--steps"];
  expectSuccess(await kilograd([...model, "12", "--out", at("last")]));
  expectSuccess(await kilograd([...model, "12", "--ema", "0.9", "--out", at("averaged")]));
  const metrics = json(at("averaged/metrics.json"));
  expect(metrics.config).toMatchObject({
    ema: 0.9,
    optimizer: "SGD, learning rate 0.1, weights averaged with momentum 0.9",
  });
  // The same training, measured by other weights.
  expect(metrics.history.stepLoss).toEqual(json(at("last/metrics.json")).history.stepLoss);
  expect(metrics.test.loss).not.toBe(json(at("last/metrics.json")).test.loss);
  expect(readFileSync(at("averaged/report.html"), "utf8")).toContain(
    "These are averaged weights; those of the last step",
  );
  expectSuccess(await kilograd([...model, "5", "--ema", "0.9", "--out", at("resumed")]));
  const resume = ["train", "mlp-64", "--resume", at("resumed/checkpoint.safetensors")];
  expectSuccess(await kilograd([...resume, "--steps", "12", "--out", at("resumed")]));
  expect(await weights("resumed/model.safetensors")).toEqual(await weights("averaged/model.safetensors"));
  expect(await weights("averaged/model.safetensors")).not.toEqual(await weights("last/model.safetensors"));
});

test("Ctrl-C keeps a checkpoint and exits with 130; the training can be resumed", async () => {
  let interrupted = false;
  const outcome = await kilograd(["train", "mlp-64", ...small, "--epochs", "100000", "--out", at("stopped")], {
    onStderr(text, child) {
      if (interrupted || !text.includes("Epoch 3/")) return;
      interrupted = true;
      child.kill("SIGINT");
    },
  });
  expect(outcome.code).toBe(130);
  expect(outcome.stderr).toMatch(/Interrupted after step \d+\. The checkpoint is kept; go on with\n/);
  const checkpoint = at("stopped/checkpoint.safetensors");
  expect(outcome.stderr).toContain(`\n  kilograd train mlp-64 --resume ${checkpoint} --out ${at("stopped")}\n`);
  expect(outcome.stderr).not.toMatch(/^\s+at /m);
  expect(readdirSync(at("stopped"))).toEqual(["checkpoint.safetensors"]);
  const { metadata } = await readSafetensors(at("stopped/checkpoint.safetensors"));
  const { iterations } = JSON.parse(metadata["training"]!);
  expect(iterations).toBeGreaterThanOrEqual(20);
  const resumed = await kilograd([
    "train",
    "mlp-64",
    "--resume",
    at("stopped/checkpoint.safetensors"),
    "--steps",
    String(iterations + 5),
    "--out",
    at("resumed"),
  ]);
  expectSuccess(resumed);
  expect(json(at("resumed/metrics.json")).steps).toBe(iterations + 5);
});

test("start tells from which data, and meets all its targets", { timeout: 600_000 }, async () => {
  const outcome = await kilograd(["start", "--data", "digits", "--out", at("start")], { timeout: 600_000 });
  expectSuccess(outcome);
  const metrics = json(at("start/metrics.json"));
  expect(metrics).toMatchObject({ config: { preset: "quick", data: "digits" }, optimization: { targetsMet: 26 } });
  expect(metrics.test.accuracy).toBeGreaterThan(0.97);
  // Ten more are from the network of adversarial training, and another that had no part sees the digits.
  expect(metrics.images).toHaveLength(36);
  const { readable } = metrics;
  expect(readable).toMatchObject({ model: "robust-cnn", adversary: { epsilon: 2.5, steps: 3 }, images: 10 });
  expect(readable.test.accuracy).toBeGreaterThan(0.9);
  expect(readable.takenForByPlain).toBeGreaterThanOrEqual(8);
  const { metadata } = await readSafetensors(at("start/robust.safetensors"));
  expect(JSON.parse(metadata["notes"]!).robust).toMatchObject({ norm: "l2", epsilon: 2.5 });
  for (const { file } of metrics.images) expect(existsSync(join(at("start"), file))).toBe(true);
  const lines = outcome.stdout.trim().split("\n");
  expect(lines.at(-1)).toBe(`Report: ${at("start")}/report.html`);
  expect(outcome.stdout).toMatch(/all 26 targets are met/);
});
