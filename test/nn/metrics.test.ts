// Metrics against Keras's (training.json, which training.py writes), batch after batch; a user's own; and in fit,
// evaluate, callbacks and checkpoints: one read of many steps, and the same figures wherever a training is cut.

import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import "../../src/autograd/methods.js";
import { abs, sub } from "../../src/autograd/ops/elementwise.js";
import { max, mean } from "../../src/autograd/ops/reduce.js";
import { storeRowKernel } from "../../src/kernels/copy.js";
import { countKernel } from "../../src/kernels/count.js";
import { sequential } from "../../src/nn/architecture.js";
import { earlyStopping } from "../../src/nn/callbacks/index.js";
import { confusionMatrix } from "../../src/nn/confusion-matrix.js";
import { FigureTable } from "../../src/nn/figures.js";
import { dense } from "../../src/nn/layers/dense.js";
import * as loss from "../../src/nn/losses.js";
import * as metric from "../../src/nn/metrics/index.js";
import { type Metric, type MetricOption, MetricSet } from "../../src/nn/metrics/metric.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import type { FitOptions } from "../../src/nn/training/options.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type NestedArray, runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";
import { describeDevices, plain, stripes, weightsOf } from "./small.js";

interface GoldenMetric {
  readonly metric: string;
  readonly options: object;
  readonly batches: readonly { prediction: NestedArray; target: NestedArray; ids: boolean }[];
  /** After each batch. */
  readonly after: readonly number[];
}
const golden = JSON.parse(readFileSync(new URL("training.json", import.meta.url), "utf8")) as {
  readonly metrics: readonly GoldenMetric[];
};
const makers = metric as unknown as Readonly<Record<string, (options: object) => Metric>>;
const titled = golden.metrics.map((each) => [`${each.metric} ${JSON.stringify(each.options)}`, each] as const);

test("every metric is compared with Keras's, with each of its options", () => {
  expect(new Set(golden.metrics.map((each) => each.metric))).toEqual(new Set(Object.keys(metric)));
  for (const name of Object.keys(metric)) {
    const used = new Set(golden.metrics.flatMap((each) => (each.metric === name ? Object.keys(each.options) : [])));
    let message = "";
    try {
      makers[name]!({ never: 1 });
    } catch (error) {
      message = (error as Error).message;
    }
    const [, known] = /options are ([\w, ]+)/.exec(message)!;
    expect(["name", ...used].sort(), name).toEqual(known!.split(", ").sort());
  }
});

/** The figure of batches, as the table of figures comes to it. */
async function figureOf(device: Device, given: MetricOption, batches: readonly (readonly [Tensor, Tensor])[]) {
  const set = new MetricSet([given], undefined);
  const [totals, figures]: [Record<string, number[]>, number[]] = [{}, []];
  let samples = 0;
  for (const [prediction, target] of batches) {
    const [values] = set.statistics(prediction, target);
    set.update(totals, [Array.from(await values!.data())]);
    samples += prediction.shape[0]!;
    figures.push(set.results(totals, samples)[set.names[0]!]!);
  }
  expect(device).toBeDefined();
  return figures;
}

const onEachDevice = (body: (device: () => Device) => void) => {
  describe("reference", () => body(() => cpu));
  describeProfiles(body);
};

onEachDevice((device) => {
  const on = (values: NestedArray, ids = false) => tensor(device(), values, ids ? { dtype: "i32" } : {});

  test.each(titled)("%s is Keras's", async (_, { metric: name, options, batches, after }) => {
    const figures = await figureOf(
      device(),
      makers[name]!(options),
      batches.map(({ prediction, target, ids }) => [on(prediction), on(target, ids)] as const),
    );
    // Keras's F1 adds 1e-7 as float32.
    const digits = device() === cpu && name !== "f1Score" ? 12 : 6;
    for (const [i, figure] of figures.entries()) expect(figure).toBeCloseTo(after[i]!, digits);
  });

  test.each(titled)("%s does not hide a NaN", async (_, { metric: name, options, batches }) => {
    const [{ prediction, target, ids }] = batches as [GoldenMetric["batches"][0]];
    const rows = prediction as number[][];
    const bad = [rows[0]!.map(() => Number.NaN), ...rows.slice(1)];
    const [figure] = await figureOf(device(), makers[name]!(options), [[on(bad), on(target, ids)]]);
    if (name !== "topK") return expect(figure).toBeNaN();
    // As for accuracy, the sample is wrong.
    const without = [[on(rows.slice(1)), on((target as number[]).slice(1), ids)]] as const;
    const [others] = await figureOf(device(), makers[name]!(options), without);
    expect(figure).toBeCloseTo((others! * (rows.length - 1)) / rows.length, 6);
  });

  test("ids that are no classes are wrong for top k, and make counts NaN", async () => {
    const prediction = on([
      [0.1, 0.9],
      [0.8, 0.2],
      [0.5, 0.5],
    ]);
    const target = tensor(device(), Int32Array.of(1, 2, -1));
    expect((await figureOf(device(), metric.topK({ k: 2 }), [[prediction, target]]))[0]).toBeCloseTo(1 / 3, 6);
    for (const make of [metric.precision, metric.recall, metric.f1Score, metric.auc]) {
      expect((await figureOf(device(), make(), [[prediction, target]]))[0]).toBeNaN();
    }
  });

  test("without anything to count they are 0, as Keras's; without samples NaN", async () => {
    const [none, nowhere] = [on([[0.1, 0.2]]), on([[0, 0]])];
    for (const make of [metric.precision, metric.recall]) {
      expect(await figureOf(device(), make(), [[none, nowhere]])).toEqual([0]);
    }
    const set = new MetricSet([loss.meanAbsoluteError], undefined);
    expect(set.results({}, 0)).toEqual({ meanAbsoluteError: Number.NaN });
  });

  test("counts integers, those outside left out, in slices too", async () => {
    const random = new RandomStream(4, "count");
    for (const size of [1, 3, 64, 1001]) {
      const values = Int32Array.from({ length: size }, () => random.integer(14) - 2);
      const expected = Array.from({ length: 10 }, (_, bin) => values.filter((value) => value === bin).length);
      const small = device() === cpu ? cpu : withSmallBindings(device() as never, 1024);
      for (const each of [device(), small]) {
        const counts = tensor(each, new Uint32Array(10).fill(7));
        runInto(countKernel, [tensor(each, values)], [counts], {});
        expect(Array.from(await counts.data())).toEqual(expected);
      }
    }
  });

  test("rows of a table are stored from any column on", async () => {
    const table = tensor(device(), new Float32Array(15).fill(7), { shape: [3, 5] });
    runInto(storeRowKernel, [tensor(device(), [1, Number.NaN])], [table], { row: 1, columns: 5, first: 2 });
    expect(Array.from(await table.data())).toEqual([7, 7, 7, 7, 7, 7, 7, 1, Number.NaN, 7, 7, 7, 7, 7, 7]);
  });
});

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-metrics-"));
});
afterAll(() => rm(folder, { recursive: true }));

const largest: Metric = {
  name: "largest",
  statistics: (prediction) => max(prediction),
  init: () => [0],
  update: (totals, [value]) => {
    totals[0] = Math.max(totals[0]!, value!);
  },
  result: ([value]) => value!,
};
/** As a class, whose methods have a state of their own. */
class Certainty implements Metric {
  readonly name = "certainty";
  private readonly scale = 100;
  statistics(prediction: Tensor): Tensor {
    return mean(max(prediction, { axes: -1 })).mul(prediction.shape[0]!);
  }
  result([total]: readonly number[], samples: number): number {
    return (this.scale * total!) / samples;
  }
}
function smallest(prediction: Tensor): Tensor {
  return prediction.min({ axes: -1 });
}

describeDevices((device, kind) => {
  const data = stripes(100);
  const metrics = [
    ...(["accuracy", metric.topK({ k: 2 }), metric.auc(), metric.f1Score()] as const),
    ...[largest, new Certainty(), smallest],
  ];
  const names = ["accuracy", "topKAccuracy", "auc", "f1Score", "largest", "certainty", "smallest"];

  const run = async (options: Partial<FitOptions> = {}) => {
    const model = plain().build({ device: device(), seed: 5 });
    try {
      const { history, interrupted } = await model.fit(data, {
        ...{ optimizer: adam({ learningRate: 0.02 }), loss: loss.crossEntropy, epochs: 3, batchSize: 16 },
        ...{ validationSplit: 0.2, metrics, ...options },
      });
      return { history, interrupted, weights: await weightsOf(model) };
    } finally {
      model.dispose();
    }
  };
  let whole: Awaited<ReturnType<typeof run>>;
  beforeAll(async () => {
    whole = await run();
  });

  test("fit gives each figure of training and validation, and trains as without", async () => {
    const expected = ["loss", ...names, ...["loss", ...names].map((name) => `val_${name}`), "learning_rate"];
    expect(Object.keys(whole.history).sort()).toEqual(expected.sort());
    for (const values of Object.values(whole.history)) {
      expect(values).toHaveLength(3);
      expect(values.every(Number.isFinite)).toBe(true);
    }
    const without = await run({ metrics: ["accuracy"] });
    expect(without.weights).toEqual(whole.weights);
    expect(without.history["val_accuracy"]).toEqual(whole.history["val_accuracy"]);
    expect(await run({ runEagerly: true })).toEqual(whole);
  });

  test("a figure of an epoch is that of all its samples, whatever the batches", async () => {
    const model = plain().build({ device: device(), seed: 5 });
    const at = async (batchSize: number) =>
      model.evaluate(data, { ...{ loss: loss.crossEntropy, metrics, batchSize } });
    const [one, several] = [await at(100), await at(7)];
    expect(Object.keys(one).sort()).toEqual(["loss", ...names].sort());
    for (const [name, figure] of Object.entries(one)) expect(several[name], name).toBeCloseTo(figure!, 5);
    // What the model says of the samples, counted here.
    const { data: probabilities } = await model.predict(data.inputs);
    let found = 0;
    for (const [n, target] of data.targets.entries()) {
      const row = probabilities.slice(4 * n, 4 * n + 4);
      if (row.filter((p) => p > row[target]!).length < 2) found++;
    }
    expect(one["topKAccuracy"]).toBeCloseTo(found / 100, 6);
    expect(one["largest"]).toBeCloseTo(Math.max(...probabilities), 6);
    model.dispose();
  });

  test.each([1, 3, 5, 7])("interrupted after step %i and resumed, it ends with the same figures", async (step) => {
    const path = join(folder, `${kind}-${step}.safetensors`);
    const controller = new AbortController();
    const stop = {
      name: "stop",
      onStepEnd: (logs: { step: number }) => void (logs.step === step && controller.abort()),
    };
    const options = { checkpoint: { path, everySteps: 1 }, signal: controller.signal, callbacks: [stop] };
    expect((await run(options)).interrupted).toBe(true);
    const resumed = await run({ resume: path });
    expect({ ...resumed, interrupted: false }).toEqual(whole);
    if (step % 5 === 0) return;
    const others = run({ resume: path, metrics: ["accuracy"] });
    await expect(others).rejects.toThrow(UsageError);
    await expect(others).rejects.toThrow("to resume it within an epoch, metrics must be as before, topKAccuracy, auc");
  });

  test("callbacks see them", async () => {
    const seen: object[] = [];
    const watch = {
      name: "watch",
      onStepEnd: ({ step, metrics: running }: { step: number; metrics: object }) => {
        if (step === 1) seen.push(running);
      },
    };
    const stopping = earlyStopping({ monitor: "val_topKAccuracy", minDelta: 1, patience: 1 });
    const { history } = await run({ callbacks: [watch, stopping], epochs: 9 });
    expect(history["loss"]!.length).toBeLessThan(9);
    expect(Object.keys(seen[0]!)).toEqual(names.slice(1));
    expect(() => earlyStopping({ monitor: "val_certainty" })).toThrow(
      'cannot tell whether "val_certainty" should rise',
    );
  });

  test("a loss of logits: metrics see probabilities", async () => {
    const model = sequential({ device: device(), inputShape: [3], seed: 1 }, [dense({ units: 1 })]);
    const [inputs, targets] = [
      new Float32Array(30).map((_, i) => Math.sin(i)),
      new Float32Array(10).map((_, i) => i % 2),
    ];
    const options = { loss: loss.binaryCrossEntropyFromLogits, metrics: [metric.auc(), largest] };
    const { data: logits } = await model.predict(inputs);
    const figures = await model.evaluate({ inputs, targets }, options);
    expect(figures["largest"]).toBeCloseTo(1 / (1 + Math.exp(-Math.max(...logits))), 5);
    model.dispose();
  });

  test("a confusion matrix counts which class is taken for which", async () => {
    const model = plain().build({ device: device(), seed: 5 });
    const { data: probabilities } = await model.predict(data.inputs);
    const expected = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
    for (const [n, target] of data.targets.entries()) {
      const row = Array.from(probabilities.slice(4 * n, 4 * n + 4));
      expected[target]![row.indexOf(Math.max(...row))]! += 1;
    }
    expect(await confusionMatrix(model, data, { batchSize: 7 })).toEqual(expected);
    const soft = Float32Array.from({ length: 400 }, (_, i) => (data.targets[i >> 2] === i % 4 ? 0.7 : 0.1));
    expect(await confusionMatrix(model, { inputs: data.inputs, targets: soft })).toEqual(expected);
    const bad = { inputs: data.inputs.with(0, Number.NaN), targets: data.targets };
    await expect(confusionMatrix(model, bad)).rejects.toThrow("confusionMatrix: 4 outputs and targets are NaN");
    model.dispose();
    const binary = sequential({ device: device(), inputShape: [1], seed: 1 }, [dense({ units: 1 })]);
    binary.layers[0]!.weights["kernel"]!.assign([1]);
    const points = { inputs: [-1, 0.2, 0.7, 2], targets: [0, 1, 0, 1] };
    expect(await confusionMatrix(binary, points)).toEqual([
      [1, 1],
      [1, 1],
    ]);
    expect(await confusionMatrix(binary, points, { threshold: 0 })).toEqual([
      [1, 1],
      [0, 2],
    ]);
    binary.dispose();
    const images = sequential({ device: device(), inputShape: [2, 2], seed: 1 }, [dense({ units: 3 })]);
    await expect(confusionMatrix(images, data)).rejects.toThrow(
      "needs a model of one row of classes, got outputs of [2, 3]",
    );
    images.dispose();
  });

  test("wide statistics are read more often", async () => {
    const model = plain().build({ device: device(), seed: 5 });
    const table = new FigureTable(model.device, model.outputShape, loss.crossEntropy, [
      { name: "wide", statistics: () => tensor(device(), new Float32Array(400_000)), result: () => 1 },
    ]);
    table.record(tensor(device(), 1), tensor(device(), [[1, 0, 0, 0]]), tensor(device(), Int32Array.of(1)));
    expect(table.mostUnread).toBe(2);
    expect((await table.read())[0]).toMatchObject({ loss: 1 });
    table.dispose();
    model.dispose();
  });

  test("what is no metric is refused in words", async () => {
    const model = plain().build({ device: device(), seed: 5 });
    const named = (name: string): Metric => ({ ...largest, name });
    let sizes = 0;
    const wrong: [unknown, string][] = [
      ["mse", 'metrics must be a list of values, each "accuracy", a metric such as metric.topK()'],
      [{ name: "a", statistics: () => {} }, "metrics must be a list of values"],
      [named("loss"), "metrics: a metric's name must be a name other than loss, accuracy, learning_rate"],
      [named("val_a"), "metrics: a metric's name must be"],
      [named("auc"), 'metrics: two have the name "auc"; give one of them another'],
      [() => tensor(device(), 1), "metrics: a function needs a name for its figure"],
      [loss.crossEntropy, "metrics: loss.crossEntropy applies softmax, which the predictions"],
      [{ ...largest, statistics: async () => tensor(device(), 1) }, "it returned a promise"],
      [
        { ...largest, statistics: () => tensor(device(), Int32Array.of(1)) },
        "must give an f32 tensor that is not empty",
      ],
      [
        { ...largest, statistics: () => tensor(device(), new Float32Array(++sizes)) },
        "as many elements for every batch",
      ],
      [{ ...largest, result: () => "much" }, 'largest: result must give a number, got "much"'],
      [{ ...largest, init: () => 3 }, "largest: init must give a list of values, each a number, got 3"],
      [{ ...largest, update: async () => {} }, "largest: update must be synchronous"],
      [
        function wide(x: Tensor, t: Tensor) {
          return abs(sub(x, t.reshape([-1, 1]).cast("f32")));
        },
        "wide: a metric must be f32, a scalar or one for each of 50 samples",
      ],
      [metric.precision({ classId: 4, name: "p" }), "precision: classId must be below 4, the number of classes, got 4"],
    ];
    for (const [value, message] of wrong) {
      const options = { loss: loss.crossEntropy, batchSize: 50, metrics: [metric.auc(), value as Metric] };
      await expect(model.evaluate(data, options), message).rejects.toThrow(message);
      await expect(model.fit(data, { ...options, optimizer: sgd() }), message).rejects.toThrow(message);
    }
    expect(() => metric.topK({ k: 0 })).toThrow("topK: k must be a whole number from 1, got 0");
    const single = metric.f1Score().statistics;
    expect(() => single(tensor(cpu, [[1]]), tensor(cpu, [[1]]))).toThrow("give a threshold, such as 0.5");
    const scalar = tensor(cpu, 1);
    for (const make of [metric.topK, metric.auc]) {
      expect(() => make().statistics(scalar, scalar)).toThrow(ShapeError);
    }
    model.dispose();
  });
});
