// docs/training.md names every loss, metric and optimizer with each of its options, and its examples run.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fromFolder } from "../../src/data/from-folder.js";
import { type Device, data, grad, loss, metric, nn, openDevice, optim, type Tensor, tensor } from "../../src/index.js";
import { lbfgs } from "../../src/inputs.js";
import { encodeRgbPng } from "../../src/io/png.js";

const page = readFileSync("docs/training.md", "utf8");

/** Rows of the table after a heading: names in the first column, options in the last. */
function rowsOf(heading: string): [names: string[], options: string[]][] {
  const section = page.split(`## ${heading}\n`)[1]!.split("\n## ")[0]!;
  const rows = section.split("\n").filter((line) => line.startsWith("| ") && line.includes("`"));
  const words = (cell: string) =>
    [...cell.matchAll(/`(?:metric\.)?([a-zA-Z0-9]+)(?:\(\))?`/g)].map(([, word]) => word!);
  return rows.slice(1).map((row) => {
    const cells = row.split("|").slice(1, -1);
    return [words(cells[0]!), words(cells.at(-1)!)];
  });
}

/** Options that a maker knows, as its refusal lists them. */
function optionsOf(make: (options: object) => unknown): string[] {
  try {
    make({ never: 1 });
  } catch (error) {
    return /options are ([\w, ]+)/.exec((error as Error).message)![1]!.split(", ");
  }
  throw new Error("nothing was refused");
}

type Makers = Readonly<Record<string, (options: object) => unknown>>;

test("losses", () => {
  const rows = rowsOf("Losses");
  expect(rows.flatMap(([names]) => names).sort()).toEqual(Object.keys(loss).sort());
  for (const [names, options] of rows) {
    for (const name of names) {
      const value = loss[name as keyof typeof loss];
      expect([...options].sort(), name).toEqual("with" in value ? optionsOf(value.with as never).sort() : []);
    }
  }
});

test("metrics", () => {
  const rows = rowsOf("Metrics").filter(([names]) => names.length > 0 && names[0]! in metric);
  expect(rows.flatMap(([names]) => names).sort()).toEqual(Object.keys(metric).sort());
  for (const [names, options] of rows) {
    for (const name of names) {
      expect([...options, "name"].sort(), name).toEqual(optionsOf((metric as unknown as Makers)[name]!).sort());
    }
  }
});

test("optimizers and schedules", () => {
  const rows = rowsOf("Optimizers");
  const section = page.split("## Optimizers\n")[1]!;
  const schedules = Object.keys(optim).filter((name) => /Rate$|Decay$/.test(name));
  for (const name of schedules) expect(section).toContain(`\`${name}\``);
  const makers = Object.keys(optim).filter((name) => !schedules.includes(name));
  expect(rows.flatMap(([names]) => names).sort()).toEqual(makers.sort());
  const common = [
    "learningRate",
    "emaMomentum",
    "clipNorm",
    "globalClipNorm",
    "clipValue",
    "gradientAccumulationSteps",
  ];
  for (const name of common) expect(section).toContain(`\`${name}\``);
  for (const [names, options] of rows) {
    for (const name of names) {
      const own = optionsOf((optim as unknown as Makers)[name]!).filter((option) => !common.includes(option));
      expect([...options].sort(), name).toEqual(own.sort());
    }
  }
});

const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
const examples = [...page.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code!.replace(/^import .*$/gm, ""));
const exported = { data, grad, lbfgs, loss, metric, nn, openDevice, optim, tensor };

/** Runs the example that says something, with names given to it; `gives` is what comes of it. */
function runExample(saying: string, given: Readonly<Record<string, unknown>>, gives: string): Promise<unknown> {
  const found = examples.filter((code) => code.includes(saying));
  expect(found, saying).toHaveLength(1);
  const names = { ...exported, ...given };
  return AsyncFunction(...Object.keys(names), `${found[0]}\nreturn ${gives};`)(...Object.values(names));
}

describe("examples run as they stand", { timeout: 120_000 }, () => {
  let folder: string;
  let device: Device;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-training-docs-"));
    device = await openDevice("cpu");
  });
  afterAll(() => {
    device.destroy();
    rmSync(folder, { recursive: true });
  });
  const random = (count: number) => Float32Array.from({ length: count }, (_, i) => ((i * 37) % 100) / 100);
  const values = () => {
    const model = nn.sequential({ device, seed: 1, inputShape: [3] }, [nn.dense({ units: 2 })]);
    return { model, train: { x: random(60), y: random(40) } };
  };

  test("all of them", () => {
    expect(examples).toHaveLength(6);
  });

  test("a first training", async () => {
    const said: unknown[] = [];
    await runExample(
      "await openDevice",
      { console: { log: (value: unknown) => said.push(value) } },
      "device.destroy()",
    );
    const [figures, counts] = said as [Record<string, number>, number[][]];
    expect(Object.keys(figures).sort()).toEqual(["auc", "loss"]);
    expect(figures["auc"]).toBeGreaterThan(0.7);
    expect(counts.flat().reduce((a, b) => a + b)).toBe(200);
  });

  test("a loss of one's own", async () => {
    const { model, train } = values();
    const relativeError = (await runExample("relativeError", { model, train }, "relativeError")) as loss.LossFunction;
    const { data: found } = await model.predict(train.x);
    const expected =
      (found as Float64Array).reduce((sum, value, i) => sum + Math.abs(value - train.y[i]!) / (train.y[i]! + 1), 0) /
      40;
    expect((await model.evaluate(train, { loss: relativeError })).loss).toBeCloseTo(expected, 5);
  });

  test("a metric of one's own", async () => {
    const { model, train } = values();
    const largestError = (await runExample("largestError", {}, "largestError")) as metric.Metric;
    const figures = await model.evaluate(train, { loss: loss.meanSquaredError, metrics: [largestError], batchSize: 7 });
    const { data: found } = await model.predict(train.x);
    expect(figures["largestError"]).toBeCloseTo(Math.max(...found.map((value, i) => Math.abs(value - train.y[i]!))), 5);
  });

  test("several inputs and outputs", async () => {
    const [picture, text] = [nn.input({ shape: [4], name: "picture" }), nn.input({ shape: [3], name: "text" })];
    const joined = nn.concatenate()([picture, text]);
    const price = nn.dense({ units: 1, name: "price" })(joined);
    const kind = nn.dense({ units: 2, activation: "softmax", name: "kind" })(joined);
    const model = nn.model({ device, seed: 1, inputs: [picture, text], outputs: [price, kind] });
    const kinds = Int32Array.from({ length: 10 }, (_, i) => i % 2);
    const given = { model, picture: random(40), text: random(30), prices: random(10), kinds };
    const found = (await runExample("price_loss", given, "{ total, price_loss, kind_accuracy, price, kind }")) as {
      readonly total: number;
      readonly price_loss: number;
      readonly kind_accuracy: number;
      readonly price: nn.Predictions;
      readonly kind: nn.Predictions;
    };
    expect([found.price.shape, found.kind.shape]).toEqual([
      [10, 1],
      [10, 2],
    ]);
    const error =
      (found.price.data as Float64Array).reduce((sum, value, i) => sum + (value - given.prices[i]!) ** 2, 0) / 10;
    expect(found.price_loss).toBeCloseTo(error, 5);
    expect(found.total).toBeGreaterThan(found.price_loss);
    expect(found.kind_accuracy * 10).toBeCloseTo(Math.round(found.kind_accuracy * 10), 9);
  });

  test("data out of a folder, and of a function", async () => {
    for (const name of ["daisy", "rose"]) {
      mkdirSync(join(folder, "flowers", name), { recursive: true });
      for (let i = 0; i < 5; i++) {
        const pixels = random(8 * 8 * 3).map((value) => (name === "rose" ? value : 1 - value));
        writeFileSync(join(folder, "flowers", name, `${i}.png`), encodeRgbPng(pixels, { width: 8, height: 8 }));
      }
    }
    const model = nn.sequential({ device, seed: 1, inputShape: [64, 64, 3] }, [
      ...[nn.avgPool2d(16), nn.flatten(), nn.dense({ units: 2, activation: "softmax" })],
    ]);
    const epochs: number[] = [];
    const readBatches = (epoch: number) => {
      epochs.push(epoch);
      return [{ x: random(2 * 64 * 64 * 3), y: Int32Array.of(0, 1) }];
    };
    // The example's folder is one of this test.
    const inFolder = {
      ...data,
      fromFolder: (name: string, options: object) => fromFolder(join(folder, name), options),
    };
    const sets = (await runExample("fromFolder", { data: inFolder, model, readBatches }, "{ train, validation }")) as {
      readonly train: { readonly files: readonly string[] };
      readonly validation: { readonly files: readonly string[] };
    };
    expect([sets.train.files.length, sets.validation.files.length]).toEqual([8, 2]);
    expect(epochs).toEqual(Array.from({ length: 10 }, (_, i) => i));
  });

  test("an input by L-BFGS", async () => {
    const model = nn.sequential({ device, seed: 1, inputShape: [4] }, [nn.dense({ units: 5, activation: "softmax" })]);
    const start = tensor(device, random(4), { shape: [1, 4] });
    const before = loss.crossEntropy(model.logits(start), tensor(device, Int32Array.of(3)));
    const found = (await runExample("lbfgs", { device, model, start }, "{ image, value }")) as {
      image: Tensor;
      value: number;
    };
    expect(found.value).toBeLessThan(0.1 * (await before.item()));
    expect(found.image.shape).toEqual([1, 4]);
  });
});
