// The models that `train` knows: layers and training settings of each, with the published figures to compare with. The
// settings are those of the experiments' description; `best-cnn` is this project's own.
import { type Architecture, architecture } from "../../../nn/architecture.js";
import type { Layer } from "../../../nn/layer.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { type Conv2dOptions, conv2d } from "../../../nn/layers/conv2d.js";
import { activation, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { dropout } from "../../../nn/layers/dropout.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";
import type { LossFunction } from "../../../nn/loss.js";
import { crossEntropy } from "../../../nn/losses.js";
import { adam, adamW, type Optimizer, type OptimizerOptions, sgd } from "../../../nn/optimizers.js";
import { cosineDecay, type Schedule } from "../../../nn/schedules.js";
import { UsageError } from "../../../tensor/errors.js";
import { meantHint } from "../../../tensor/options.js";
import { percent } from "../report/text.js";

/** Figures that others reported for the same model and settings. */
export interface ReferenceFigures {
  readonly testAccuracy: number;
  readonly testLoss?: number;
  readonly trainAccuracy?: number;
  readonly validationAccuracy?: number;
  /** Time of a training step and the machine that needed it. */
  readonly step: string;
}

/** What a training may choose about a model's optimizer. */
export interface ZooOptimizerOptions extends OptimizerOptions {
  readonly learningRate: number;
}

/** A model by name, with what training it takes. */
export interface ZooModel {
  readonly name: string;
  /** One line for `kilograd list`. */
  readonly description: string;
  readonly layers: () => readonly Layer[];
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** For lists and reports: "Adam, learning rate 0.001". */
  readonly optimizerText: (learningRate: number) => string;
  /** @param steps optimizer steps of the whole training, for schedules */
  readonly optimizer: (options: ZooOptimizerOptions, steps: number) => Optimizer;
  /**
   * Share of the training part, its end, held out for validation; without it all is trained on and the test part
   * validates.
   */
  readonly validationSplit?: number;
  /** Whether batches are distorted at random, see augment.ts. */
  readonly augmented?: boolean;
  /** Share of the targets of training that is spread evenly over all classes; default 0. */
  readonly labelSmoothing?: number;
  /** Whom every batch is handed to before it is trained on: adversarial training. */
  readonly adversary?: ZooAdversary;
  readonly reference?: ReferenceFigures;
}

/** PGD in the L2 ball from a random start, in steps that are twice the radius in all. */
export interface ZooAdversary {
  /** Radius, for pixels in [0, 1]. */
  readonly epsilon: number;
  readonly steps: number;
  /** Share of the training over which the radius grows from 0: at once, a network learns nothing. */
  readonly warmup: number;
}

const withAdam = {
  optimizer: (options: ZooOptimizerOptions) => adam(options),
  optimizerText: (learningRate: number) => `Adam, learning rate ${learningRate}`,
};
const withSgd = {
  optimizer: (options: ZooOptimizerOptions) => sgd(options),
  optimizerText: (learningRate: number) => `SGD, learning rate ${learningRate}`,
};

/** A rate that grows over a twentieth of the steps, then falls to 0 as a cosine. */
export function warmCosine(learningRate: number, steps: number): Schedule {
  const warmupSteps = Math.floor(steps / 20);
  return cosineDecay({ learningRate, warmupSteps, decaySteps: Math.max(1, steps - warmupSteps) });
}

/** Adam with {@link warmCosine}; AdamW where weights decay. */
export function warmCosineAdam(
  learningRate: number,
  { weightDecay = 0, ...options }: OptimizerOptions & { readonly weightDecay?: number } = {},
): (steps: number) => Optimizer {
  return (steps) => {
    const given = { ...options, learningRate: warmCosine(learningRate, steps) };
    return weightDecay === 0 ? adam(given) : adamW({ ...given, weightDecay });
  };
}

const withWarmCosine = (weightDecay = 0) => ({
  optimizer: ({ learningRate, ...options }: ZooOptimizerOptions, steps: number) =>
    warmCosineAdam(learningRate, { ...options, weightDecay })(steps),
  optimizerText: (learningRate: number) =>
    weightDecay === 0
      ? `Adam, learning rate ${learningRate} after a warm-up, then falling as a cosine`
      : `AdamW, learning rate ${learningRate} after a warm-up, then falling as a cosine, weight decay ${weightDecay}`,
});

const relu = { activation: "relu" } as const;
const conv = (filters: number, options: Partial<Conv2dOptions> = relu) =>
  conv2d({ filters, kernelSize: 3, ...options });
const sameConv = (filters: number) => conv(filters, { ...relu, padding: "same" });
const output = () => dense({ units: 10, activation: "softmax" });

/** Convolution without bias, normalised, then rectified: the shift that a bias would give is batch normalisation's. */
const normalizedConv = (filters: number, options: Partial<Conv2dOptions> = {}) => [
  conv(filters, { useBias: false, kernelInitializer: "heNormal", ...options }),
  batchNorm({ momentum: 0.9 }),
  activation("relu"),
];

const smallCnn = () => [
  ...[conv(24), maxPool2d(2), conv(36), maxPool2d(2), conv(64)],
  ...[flatten(), dense({ units: 64, ...relu }), output()],
];

/** In the order of `kilograd list`. */
export const zoo: readonly ZooModel[] = [
  {
    name: "small-cnn",
    description: "three convolutions, the model of `npm start`",
    layers: smallCnn,
    epochs: 5,
    batchSize: 32,
    learningRate: 1e-3,
    ...withAdam,
    reference: { testAccuracy: 0.9879, step: "4 ms, Keras on a CPU" },
  },
  {
    name: "sgd-cnn",
    description: "two convolutions, plain SGD with a high rate, dropout",
    layers: () => [
      conv(32),
      maxPool2d(2),
      conv(64),
      maxPool2d(2),
      flatten(),
      dense({ units: 200, ...relu }),
      dense({ units: 128, ...relu }),
      dropout(0.5),
      output(),
    ],
    epochs: 40,
    batchSize: 128,
    learningRate: 0.1,
    ...withSgd,
    reference: { testAccuracy: 0.9912, testLoss: 0.0302, step: "59-60 ms, Keras on a CPU" },
  },
  {
    name: "mlp-64",
    description: "two hidden layers of 64",
    layers: () => [flatten(), dense({ units: 64, ...relu }), dense({ units: 64, ...relu }), output()],
    epochs: 10,
    batchSize: 128,
    learningRate: 0.1,
    ...withSgd,
    reference: { testAccuracy: 0.9702, testLoss: 0.0961, step: "3-4 ms, Keras on a CPU" },
  },
  {
    name: "alexnet-plus",
    description: "AlexNet widened by batch normalisation and another dense layer, 62.7 million parameters",
    layers: () => [
      ...[96, 256].flatMap((filters) => [sameConv(filters), batchNorm(), sameConv(filters), batchNorm(), maxPool2d(2)]),
      sameConv(384),
      sameConv(384),
      sameConv(256),
      maxPool2d({ poolSize: 2, strides: 1 }),
      flatten(),
      ...[4096, 4096, 1024].flatMap((units) => [dense({ units, ...relu }), dropout(0.5)]),
      output(),
    ],
    epochs: 5,
    batchSize: 128,
    learningRate: 1e-3,
    ...withAdam,
    validationSplit: 0.1,
    reference: {
      testAccuracy: 0.9857,
      trainAccuracy: 0.9834,
      validationAccuracy: 0.9862,
      step: "11 ms, Keras on a data-centre GPU",
    },
  },
  {
    name: "best-cnn",
    description: "normalised convolutions on distorted digits with a cosine schedule: 99.6 % and more",
    // The first convolution is one pass with its pooling, so what is normalised is a quarter of it.
    layers: () => [
      conv(32, { ...relu, kernelSize: 5 }),
      ...[maxPool2d(2), batchNorm({ momentum: 0.9 })],
      ...[...normalizedConv(64, { padding: "same" }), ...normalizedConv(64), maxPool2d(2)],
      ...[...normalizedConv(128), ...normalizedConv(128)],
      ...[flatten(), dropout(0.3), output()],
    ],
    epochs: 19,
    batchSize: 128,
    learningRate: 3e-3,
    ...withWarmCosine(0.02),
    augmented: true,
    labelSmoothing: 0.1,
  },
  {
    name: "robust-cnn",
    description: "small-cnn, trained on adversarial examples: its images from noise can be read",
    layers: smallCnn,
    epochs: 2,
    batchSize: 128,
    learningRate: 2e-3,
    ...withWarmCosine(),
    adversary: { epsilon: 2.5, steps: 3, warmup: 0.5 },
  },
];

/**
 * Takes the noise out of digits: images in, images [784] out, by binary cross-entropy. No classifier, so not in the
 * zoo.
 */
export const autoencoder: ZooModel = {
  name: "autoencoder",
  description: "denoising autoencoder of dense layers",
  layers: () => [
    flatten(),
    ...[128, 96, 128].map((units) => dense({ units, ...relu })),
    dense({ units: 784, activation: "sigmoid" }),
  ],
  epochs: 32,
  batchSize: 64,
  learningRate: 1e-3,
  ...withAdam,
};

/** @throws UsageError for an unknown name */
export function zooModel(name: string): ZooModel {
  const found = zoo.find((model) => model.name === name);
  if (found !== undefined) return found;
  const names = zoo.map((model) => model.name);
  throw new UsageError(`model: must be one of ${names.join(", ")}, given "${name}"${meantHint(name, names)}`);
}

/** What a model is trained by: cross-entropy, of smoothed targets where it says so. */
export const zooLoss = ({ labelSmoothing }: ZooModel): LossFunction =>
  labelSmoothing === undefined ? crossEntropy : crossEntropy.with({ labelSmoothing });

/** The shape of a model for images [28, 28, 1], without weights. */
export function zooArchitecture({ name, layers }: ZooModel): Architecture {
  return architecture({ name, inputShape: [28, 28, 1] }, layers());
}

/** What `kilograd list --json` prints. */
export function zooListing() {
  return zoo.map((model) => ({
    name: model.name,
    description: model.description,
    parameters: zooArchitecture(model).countParameters().total,
    epochs: model.epochs,
    batchSize: model.batchSize,
    optimizer: model.optimizerText(model.learningRate),
    ...(model.reference && { reference: model.reference }),
  }));
}

/** What `kilograd list` prints. */
export function zooListingText(): string {
  return zooListing()
    .map(({ name, description, parameters, epochs, batchSize, optimizer, reference }) =>
      [
        `${name.padEnd(13)} ${description}`,
        `${parameters.toLocaleString("en-US")} parameters; ${epochs} epochs, batch ${batchSize}; ${optimizer}`,
        ...(reference ? [`reference: test ${percent(reference.testAccuracy)}, a step ${reference.step}`] : []),
      ].join(`\n${" ".repeat(14)}`),
    )
    .join("\n");
}
