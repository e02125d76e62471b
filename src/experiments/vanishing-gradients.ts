// Depth against activation: fully connected networks of narrow layers, trained with plain SGD. How much of the gradient
// reaches the first layers, before and after training, and what it means for learning.

import { array, object } from "valibot";
import { grad } from "../autograd/differentiate.js";
import { abs } from "../autograd/ops/elementwise.js";
import { unary } from "../autograd/ops/elementwise-rows.js";
import { max, sum } from "../autograd/ops/reduce.js";
import { concat, reshape } from "../autograd/ops/transform.js";
import { backward } from "../autograd/tape.js";
import { type LabelledImages, limitImages, sliceImages } from "../data/dataset.js";
import { lineChart } from "../io/charts.js";
import { anyNumber, count, parse } from "../io/json.js";
import { Report, type TableCell } from "../io/report.js";
import { type Architecture, architecture } from "../nn/architecture.js";
import type { Callback } from "../nn/callbacks/index.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { crossEntropy } from "../nn/losses.js";
import type { Model } from "../nn/model.js";
import { objectiveOf } from "../nn/objective.js";
import { sgd } from "../nn/optimizers.js";
import { lossOf } from "../nn/train-step.js";
import { scope } from "../tensor/scope.js";
import { tensor } from "../tensor/tensor.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import { checkedDerivatives, equations } from "./lib/report/backpropagation.js";
import { layerTable } from "./lib/report/layer-table.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { vanishingQuestions } from "./lib/report/questions/vanishing.js";
import { counted, listed, milliseconds, percent, twoDigits } from "./lib/report/text.js";
import {
  type Activation,
  accuracyRemark,
  activations,
  CURVE_STEPS,
  curveRemark,
  gradientRemark,
  LEARNED,
  ratio,
  titles,
} from "./lib/report/vanishing-findings.js";
import {
  measureStep,
  type TrainingPlan,
  trainingJob,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";

// ---- Configuration

const reference = {
  data: "mnist",
  depths: [5, 20, 40] as readonly number[],
  units: 32,
  epochs: 5,
  /** The epoch after which gradients are measured. */
  gradientEpoch: 3,
  batch: 32,
  learningRate: 0.01,
  trainImages: 60_000,
  testImages: 10_000,
};
type VanishingSettings = typeof reference;

/** Derivatives are checked at so many points from -LIMIT to LIMIT. */
const LIMIT = 6;
const SAMPLES = 12_001;

// ---- Model

function network(settings: VanishingSettings, depth: number, activation: Activation): Architecture {
  const hidden = Array.from({ length: depth }, () => dense({ units: settings.units, activation }));
  const name = `${activation}-${depth}`;
  return architecture({ name, inputShape: [28, 28, 1] }, [
    flatten(),
    ...hidden,
    dense({ units: 10, activation: "softmax" }),
  ]);
}

/** max |dE/dW| of every dense layer, from the first to the output, by one backward pass and one read. */
async function gradientSizes(model: Model, batch: LabelledImages): Promise<number[]> {
  const sizes = scope(() => {
    const x = tensor(model.device, batch.images, { shape: [batch.count, ...batch.imageShape] });
    const y = tensor(model.device, batch.labels);
    const objective = objectiveOf("vanishing-gradients", model, { loss: crossEntropy });
    backward(lossOf(model, objective, { x: [x], y: [y], weights: [] }).loss);
    const kernels = model.weights().filter(({ name }) => name.endsWith("/kernel"));
    const largest = kernels.map(({ tensor: { grad: gradient } }) => reshape(max(abs(gradient!)), [1]));
    for (const weight of model.parameters()) {
      weight.grad!.dispose();
      weight.grad = null;
    }
    return concat(largest, 0);
  });
  try {
    return Array.from(await sizes.data());
  } finally {
    sizes.dispose();
  }
}

/** What is seen of a network while it is trained. */
interface Seen {
  /** max |gradient| by layer, before training and after the epoch asked for. */
  untrained: readonly number[];
  trained: readonly number[];
  /** Mean training loss of every CURVE_STEPS steps. */
  readonly curve: number[];
}

const sizes = array(anyNumber, "a list of numbers");
const observed = object(
  {
    seen: object({ untrained: sizes, trained: sizes, curve: sizes }, "an object"),
    running: object({ sum: anyNumber, count }, "an object"),
  },
  "an object",
);

/** Measures gradients and gathers the learning curve; what it has survives an interruption. */
export function observer(batch: LabelledImages, gradientEpoch: number): { seen: Seen; callback: Callback } {
  const seen: Seen = { untrained: [], trained: [], curve: [] };
  const running = { sum: 0, count: 0 };
  const callback: Callback = {
    name: "observer",
    async onTrainBegin({ model }) {
      seen.untrained = await gradientSizes(model, batch);
    },
    onStepEnd({ loss }) {
      running.sum += loss;
      if (++running.count < CURVE_STEPS) return;
      seen.curve.push(running.sum / running.count);
      Object.assign(running, { sum: 0, count: 0 });
    },
    async onEpochEnd(epoch, _, { model }) {
      if (epoch + 1 === gradientEpoch) seen.trained = await gradientSizes(model, batch);
    },
    exportState: () => ({ values: { seen, running } }),
    importState(values) {
      const stored = parse(observed, values, "observer");
      Object.assign(seen, stored.seen);
      Object.assign(running, stored.running);
    },
  };
  return { seen, callback };
}

/** What one network came to. */
interface Outcome extends Seen {
  readonly depth: number;
  readonly activation: Activation;
  readonly testAccuracy: number;
  readonly testLoss: number;
  readonly stepMs: number | undefined;
}

/** The activation's derivative as the adapter computes it. @param points [SAMPLES] */
async function slopesAt(run: ExperimentRun, activation: Activation, points: Float32Array) {
  const x = tensor(run.device, points);
  const slopes = grad((at) => sum(unary(activation, at)))(x);
  try {
    return await slopes.data();
  } finally {
    x.dispose();
    slopes.dispose();
  }
}

// ---- Run

export const experiment = defineExperiment<VanishingSettings>({
  presets: { reference, quick: { ...reference, epochs: 3, trainImages: 20_000 } },
  tinyDispatches: true,

  async run(run) {
    const { settings } = run;
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    const train = limitImages(dataset.train, settings.trainImages);
    const test = limitImages(dataset.test, settings.testImages);
    const probe = sliceImages(train, 0, settings.batch);
    const { epochs, batch: batchSize, learningRate } = settings;
    const planOf = (depth: number, activation: Activation): TrainingPlan => ({
      architecture: network(settings, depth, activation),
      data: train,
      validation: test,
      optimizer: () => sgd({ learningRate }),
      ...{ epochs, batchSize },
    });
    const pairs = settings.depths.flatMap((depth) => activations.map((activation) => ({ depth, activation })));
    const partOf = ({ depth, activation }: { depth: number; activation: Activation }) =>
      `${titles[activation]}, ${depth} layers`;

    const seconds: Record<string, number> = {};
    const stepMs: number[] = [];
    for (const depth of settings.depths) {
      const step = await measureStep(run, planOf(depth, "tanh"));
      stepMs.push(1000 * step);
      for (const pair of pairs)
        if (pair.depth === depth) seconds[partOf(pair)] = trainingSeconds(planOf(depth, "tanh"), step);
    }
    const steps = pairs.length * epochs * Math.ceil(train.count / batchSize);
    run.plan(
      seconds,
      `${counted(pairs.length, "network")}, ${counted(steps, "step")} of ${listed(stepMs.map(milliseconds))} at ${listed(settings.depths.map(String))} hidden layers`,
    );

    const observed = ({ depth, activation }: (typeof pairs)[number]): TrainingPlan<Seen> => {
      const { seen, callback } = observer(probe, settings.gradientEpoch);
      return { ...planOf(depth, activation), callbacks: [callback], keep: () => seen };
    };
    await run.ahead(pairs.map((pair) => trainingJob(run, partOf(pair), () => observed(pair))));
    const outcomes: Outcome[] = [];
    for (const pair of pairs) {
      const { model, notes } = await trainPart(run, partOf(pair), observed(pair));
      model.dispose();
      const last = (name: string) => notes.history[name]!.at(-1)!;
      outcomes.push({
        ...{ ...pair, ...notes.kept, stepMs: notes.timing.stepMsMedian },
        ...{ testAccuracy: last("val_accuracy"), testLoss: last("val_loss") },
      });
    }
    const points = Float32Array.from({ length: SAMPLES }, (_, i) => LIMIT * ((2 * i) / (SAMPLES - 1) - 1));
    const slopes = await Promise.all(activations.map((activation) => slopesAt(run, activation, points)));
    const checks = checkedDerivatives(points, slopes);

    // ---- Report

    const of = (depth: number, activation: Activation) =>
      outcomes.find((outcome) => outcome.depth === depth && outcome.activation === activation)!;
    const measuredAfter = counted(settings.gradientEpoch, "epoch");
    const report = new Report({
      title: "Depth, activations and vanishing gradients",
      subtitle: `${counted(pairs.length, "network")} of layers of ${settings.units} units on ${counted(train.count, "image")} (${dataset.name}), ${counted(epochs, "epoch")} of SGD ${learningRate}, batch ${batchSize}`,
      footer: run.footer,
    });
    report.section("Test accuracy", (section) => {
      section.text(accuracyRemark(outcomes, settings.depths));
      section.table({
        columns: ["hidden layers", ...activations.map((activation) => titles[activation])],
        rows: settings.depths.map((depth): TableCell[] => [
          depth,
          ...activations.map((activation): TableCell => {
            const { testAccuracy } = of(depth, activation);
            return { text: percent(testAccuracy), numeric: true, tone: testAccuracy > LEARNED ? "good" : "bad" };
          }),
        ]),
        caption: `After ${counted(epochs, "epoch")}, on ${counted(test.count, "test image")}. Always answering the commonest digit gives ${percent(chance(test))}.`,
      });
      section.row((row) => {
        for (const depth of settings.depths) {
          row.chart(learningChart(`Training loss with ${depth} hidden layers`, depth, activations, of));
        }
      });
      section.details(`Layers of the networks of ${settings.depths[0]} hidden layers`, (layers) =>
        layers.table(layerTable(network(settings, settings.depths[0]!, "tanh"), layersCaption(settings))),
      );
    });
    for (const [key, title, when] of [
      ["trained", `Gradients after ${measuredAfter}`, `after ${measuredAfter}`],
      ["untrained", "Gradients before training", "before training"],
    ] as const) {
      report.section(title, (section) => {
        section.text(gradientRemark(outcomes, settings.depths, key, when));
        section.row((row) => {
          for (const depth of settings.depths) {
            row.chart(
              lineChart({
                title: `Gradients ${when}, ${depth} hidden layers`,
                series: activations.map((activation) => ({ name: titles[activation], y: of(depth, activation)[key] })),
                x: { label: "layer, from the image to the output" },
                y: { label: "max |gradient|", scale: "log" },
              }),
            );
          }
        });
        section.table({
          columns: ["hidden layers", "activation", "first layer", "middle", "output layer", "first : output"],
          rows: pairs.map(({ depth, activation }): TableCell[] => {
            const sizes = of(depth, activation)[key];
            const [first, middle, output] = [sizes[0]!, sizes[Math.floor(sizes.length / 2)]!, sizes.at(-1)!];
            return [depth, titles[activation], ...[first, middle, output, first / output].map(power)];
          }),
          caption: `Largest |dE/dW| of a layer on one batch of ${probe.count} images.`,
        });
      });
    }
    report.section("Learning curves: LeCun against tanh", (section) => {
      section.text(curveRemark(of, settings.depths));
      section.row((row) => {
        for (const depth of settings.depths) {
          row.chart(learningChart(`Learning with ${depth} hidden layers`, depth, ["tanh", "lecunTanh"], of));
        }
      });
    });
    report.section("Why: the equations, and the derivatives measured", (section) => {
      section.code(equations);
      section.text(
        `Each layer multiplies the error on its way back by f'(z) and by W^T. A derivative that stays below 1, as the sigmoid's, which is never above 1/4, shrinks it at every layer; 40 sigmoid layers give at most (1/4)^40 = ${twoDigits(0.25 ** 40)} from the derivatives alone.`,
      );
      section.table({
        columns: [
          ...["activation", "derivative", "range", "measured least", "measured largest"],
          ...["largest difference from the formula", "check"],
        ],
        rows: checks.map(({ activation, formula, range, measured, holds, largestError }): TableCell[] => [
          ...[titles[activation], formula, range],
          ...[measured.least, measured.most].map((value) => ({ text: value.toPrecision(6), numeric: true })),
          power(largestError),
          holds ? { text: "holds", tone: "good" } : { text: "does not hold", tone: "bad" },
        ]),
        caption: `Gradients that the adapter computes at ${counted(SAMPLES, "point")} of [-${LIMIT}, ${LIMIT}]. What is open in a range is approached, not reached: for tanh and sigmoid 0, for LeCun 0.01, all far from 0.`,
      });
    });
    const best = outcomes.reduce((a, b) => (b.testAccuracy > a.testAccuracy ? b : a));
    const deepest = settings.depths.at(-1)!;
    const held = checks.filter(({ holds }) => holds).length;
    return {
      report,
      ...{ questions: vanishingQuestions({ outcomes, depths: settings.depths, checks }), recipe: recipes.vanishing },
      figures: [
        {
          label: "Best network",
          value: percent(best.testAccuracy),
          note: `${titles[best.activation]}, ${best.depth} layers`,
        },
        ...activations.map((activation) => ({
          label: `${titles[activation]}, ${deepest} layers`,
          value: percent(of(deepest, activation).testAccuracy),
          note: `first : output gradient ${power(ratio(of(deepest, activation).untrained)).text} before training`,
        })),
        {
          label: "Derivative ranges",
          value: `${held} of ${checks.length}`,
          note: "hold as measured",
          tone: held === checks.length ? "good" : "bad",
        },
      ],
      metrics: { trainImages: train.count, testImages: test.count, outcomes, derivatives: checks },
      summary: settings.depths
        .map(
          (depth) =>
            `${String(depth).padStart(4)} layers: ${activations.map((a) => `${titles[a]} ${percent(of(depth, a).testAccuracy)}`).join("  ")}`,
        )
        .join("\n"),
    };
  },
});

const power = (value: number) => ({ text: twoDigits(value), numeric: true });

/** Training loss over the steps. */
function learningChart(
  title: string,
  depth: number,
  shown: readonly Activation[],
  of: (depth: number, activation: Activation) => Outcome,
): string {
  const series = shown.map((activation) => {
    const y = of(depth, activation).curve;
    return { name: titles[activation], x: y.map((_, i) => (i + 1) * CURVE_STEPS), y };
  });
  return lineChart({ title, series, x: { label: "step" }, y: { label: "training loss" } });
}

const layersCaption = (settings: VanishingSettings) =>
  `Parameters: ${listed(settings.depths.map((depth) => `${network(settings, depth, "tanh").countParameters().total.toLocaleString("en-US")} with ${depth} hidden layers`))}; the activation is what differs.`;

/** Share of the commonest class. */
function chance({ labels, count }: LabelledImages): number {
  const counts = new Array<number>(10).fill(0);
  for (const label of labels) counts[label]!++;
  return Math.max(...counts) / count;
}
