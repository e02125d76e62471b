// What `fit` is told: the data's order, changes of batches, callbacks, checkpoints, limits.
import {
  anyOf,
  array,
  boolean,
  callable,
  instanceOf,
  integer,
  listOf,
  number,
  object,
  oneOf,
  type Rule,
  type Rules,
  text,
} from "../../tensor/options.js";
import type { RandomStream } from "../../tensor/random.js";
import type { Shape } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Batches } from "../batches.js";
import { type Callback, callbackRule } from "../callbacks/callback.js";
import type { LossScalingOptions } from "../loss-scaling.js";
import type { Model } from "../model.js";
import type { ModelFile } from "../model-file.js";
import { type ObjectiveOptions, objectiveRules } from "../objective.js";
import { type Optimizer, optimizerRule } from "../optimizers.js";
import { batchSizeRule, type LabelledBatch, type LabelledData } from "../samples.js";

/** Where and how often a training is saved. */
export interface CheckpointOptions {
  readonly path: string;
  /** Default 1. */
  readonly everyEpochs?: number;
  /** Also after every so many steps; by default not. */
  readonly everySteps?: number;
  /** JSON to keep in the file, see `ModelFile.notes`. */
  readonly notes?: Readonly<Record<string, unknown>>;
}

/** What an augmentation is told about a batch. */
export interface AugmentContext {
  readonly count: number;
  /** Of one sample. */
  readonly shape: Shape;
  /** Depends on (seed, step) alone. */
  readonly random: RandomStream;
}

/** What a change of a batch on the device is told. */
export interface PerturbContext {
  readonly model: Model;
  /** Of order and augmentation. */
  readonly seed: number;
  /** Optimizer steps done before this one. It changes: ask for it in a kernel's params given as a function. */
  readonly step: () => number;
}

/**
 * Makes of a batch the inputs to train on. Part of the step, which is recorded and replayed (see `StepPlan`); no
 * gradient flows through it.
 */
export type Perturb = (x: Tensor, y: Tensor, context: PerturbContext) => Tensor;

export interface FitOptions extends ObjectiveOptions {
  readonly optimizer: Optimizer;
  /** Epochs in all, those before a resumed run included; default 1. */
  readonly epochs?: number;
  /** Of data in memory. Default 32; fewer samples are one batch, and so is what is left at the end. */
  readonly batchSize?: number;
  /** Batches of an iterable that are an epoch; by default an epoch ends with the iterable. */
  readonly stepsPerEpoch?: number;
  /** Share of data in memory, its last part, that is held out for validation. */
  readonly validationSplit?: number;
  /** In memory or in batches. An iterable of them begins anew with every epoch, a function is told epoch 0. */
  readonly validationData?: LabelledData | Batches<LabelledBatch> | undefined;
  /** Takes no more than so many batches of an iterable of validation data. */
  readonly validationSteps?: number;
  /** A new order of data in memory in every epoch; default true. */
  readonly shuffle?: boolean;
  /**
   * Factors of the losses of samples by their class, as `{ 0: 1, 1: 5 }`, or a list; those that are not named count
   * once. As in Keras not together with sampleWeight, and not for validation data.
   */
  readonly classWeight?: Readonly<Record<number, number>> | readonly number[];
  /** Of the order and the augmentation; by default the model's. */
  readonly seed?: number;
  readonly callbacks?: readonly Callback[];
  /** Number of the first epoch, from 0; default 0. */
  readonly initialEpoch?: number;
  /** Ends training after this many optimizer steps in all, those before a resumed run included. */
  readonly maxSteps?: number;
  /** Changes a batch of inputs in place before it is uploaded. */
  readonly augment?: (inputs: Float32Array, context: AugmentContext) => void;
  /** Changes a batch of inputs on the device, such as into adversarial examples for the weights as they are. */
  readonly perturb?: Perturb;
  /**
   * Where the device is of mixed precision, gradients are scaled, by default as PyTorch's GradScaler does; false: not.
   */
  readonly lossScaling?: LossScalingOptions | false;
  readonly checkpoint?: CheckpointOptions;
  /**
   * Checkpoint to go on from: a path, or the file as read. In the middle of an epoch of batches from an iterable, those
   * that are done are taken from it again and left out.
   */
  readonly resume?: string | ModelFile;
  /** Ends training after the steps on their way, with a checkpoint, when it is aborted. */
  readonly signal?: AbortSignal;
  /**
   * Runs the JavaScript of every step instead of recording a step and replaying it. For debugging: results have the
   * same bits, only slower. Default false.
   */
  readonly runEagerly?: boolean;
}

const map = instanceOf(Map, "a Map");
const modelFileRule: Rule = {
  expected: "a model file, as readModelFile gives it",
  accepts: (value) => {
    const { path, config, weights, slots, callbackTensors, notes } = Object(value) as Partial<ModelFile>;
    const maps = [weights, slots, callbackTensors];
    return text.accepts(path) && [config, notes].every(object.accepts) && maps.every(map.accepts);
  },
};

export const fitRules: Rules<FitOptions> = {
  ...objectiveRules,
  optimizer: optimizerRule,
  epochs: integer({ from: 0 }),
  batchSize: batchSizeRule,
  stepsPerEpoch: integer({ from: 1 }),
  validationSplit: number({ above: 0, below: 1 }),
  validationData: anyOf(object, array, callable),
  validationSteps: integer({ from: 1 }),
  classWeight: anyOf(object, listOf(number())),
  shuffle: boolean,
  seed: number(),
  callbacks: listOf(callbackRule),
  initialEpoch: integer({ from: 0 }),
  maxSteps: integer({ from: 0 }),
  augment: callable,
  perturb: callable,
  lossScaling: anyOf(oneOf(false), object),
  checkpoint: object,
  resume: anyOf(text, modelFileRule),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  runEagerly: boolean,
};

export const checkpointRules: Rules<CheckpointOptions> = {
  path: text,
  everyEpochs: integer({ from: 1 }),
  everySteps: integer({ from: 1 }),
  notes: object,
};
