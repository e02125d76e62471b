// The parts of an input optimisation, besides the optimizer: what each has to offer. Those that the library has are in
// objective.ts, parametrisation.ts, transforms.ts and regularisers.ts; a user's own are objects of these types.
import { UsageError } from "../tensor/errors.js";
import { havingMethod, type Rule } from "../tensor/options.js";
import type { RandomStream } from "../tensor/random.js";
import type { Shape } from "../tensor/shape.js";
import type { HostTensor } from "../tensor/step-plan.js";
import type { Tensor } from "../tensor/tensor.js";
import type { Model } from "./model.js";

/** What a model makes of the images of a step. Each is computed when it is first asked for. */
export class Activations {
  private foundLogits: Tensor | undefined;
  private foundOutputs: Tensor | undefined;
  private foundLayers: ReturnType<Model["layerOutputs"]> | undefined;

  constructor(
    readonly model: Model,
    /** [N, ...inputShape], as the model sees them: transformed. */
    readonly images: Tensor,
  ) {}

  /** What goes into the last activation, [N, ...outputShape]; see `Model.logits`. */
  logits(): Tensor {
    return (this.foundLogits ??= this.model.logits(this.images));
  }

  /** [N, ...outputShape] */
  outputs(): Tensor {
    return (this.foundOutputs ??= this.model.call(this.images));
  }

  /** Output [N, ...] of a layer. @throws UsageError for an unknown name */
  layer(name: string): Tensor {
    this.foundLayers ??= this.model.layerOutputs(this.images);
    const found = this.foundLayers.find((layer) => layer.name === name);
    if (found !== undefined) return found.output;
    throw new UsageError(
      `${this.model.name}: has no layer "${name}"; it has ${this.foundLayers.map((layer) => layer.name).join(", ")}`,
    );
  }
}

/** What an objective is told when an optimisation begins. */
export interface ObjectiveContext {
  readonly model: Model;
  /** Images in the batch. */
  readonly count: number;
  /** A tensor of these values that lives as long as the optimisation. */
  readonly constant: (values: Float32Array | Int32Array, shape: Shape) => Tensor;
}

/** Something to optimise inputs for. */
export interface Objective {
  /** For messages: "logit 3". */
  readonly name: string;
  /**
   * Called once for an optimisation, to check and to upload what it needs. What it gives is called for every step, and
   * gives the value [N] that is to fall, one for each image; it must be differentiable and is recorded (see
   * `StepPlan`).
   */
  prepare(context: ObjectiveContext): (seen: Activations) => Tensor;
}

export const objectiveRule = havingMethod("prepare", "an objective, such as objectives.logit(3)");

/** What a parametrisation is told when an optimisation begins. */
export interface ParametrizationContext {
  /** Of the images, [N, ...inputShape]. */
  readonly shape: Shape;
  /** Images to begin with, one after the other. */
  readonly starts: Float32Array;
  /** A tensor of these values that the optimizer changes. It lives as long as the optimisation. */
  readonly parameter: (values: Float32Array, shape: Shape) => Tensor;
  /** A tensor of these values that lives as long as the optimisation. */
  readonly constant: (values: Float32Array, shape: Shape) => Tensor;
}

/** The parameters of the images of one optimisation. */
export interface Parameters {
  /** Those made by `parameter`. */
  readonly tensors: readonly Tensor[];
  /** The images that they make, [N, ...inputShape]; differentiable, and recorded with the step (see `StepPlan`). */
  images(): Tensor;
  /** Called after each step of the optimizer, without gradients: keeps the parameters within limits. */
  limit?(): void;
}

/** A way to make images of parameters. */
export interface Parametrization {
  /** For messages: "pixels". */
  readonly name: string;
  /** Called once for an optimisation. */
  prepare(context: ParametrizationContext): Parameters;
}

export const parametrizationRule = havingMethod("prepare", "a parametrisation, such as parametrizations.pixels()");

/** What a transform draws for a step. */
export interface TransformContext {
  /** Of the images that the model takes, [N, ...inputShape]. */
  readonly shape: Shape;
  /** Depends on the seed, the step and the transform's place alone: an image's way does not depend on others'. */
  readonly random: RandomStream;
}

/** A change of the images, another one at every step. */
export interface Transform {
  /** Names its random numbers, too: "jitter". */
  readonly name: string;
  /** The values of a step; always equally many, of the same shapes. */
  draw(context: TransformContext): readonly HostTensor[];
  /** The changed images, for x [N, ...]; differentiable, and recorded with the step (see `StepPlan`). */
  apply(x: Tensor, drawn: readonly Tensor[]): Tensor;
}

export const transformRule: Rule = {
  expected: "a transform, such as transforms.jitter(2)",
  accepts: (value) => {
    const { draw, apply, name } = Object(value) as Partial<Transform>;
    return typeof draw === "function" && typeof apply === "function" && typeof name === "string";
  },
};

/**
 * Penalties of images x [N, ...inputShape] before they are transformed: one [N], or several that are added one after
 * the other. Differentiable, and recorded with the step (see `StepPlan`).
 */
export type Regularizer = (x: Tensor) => Tensor | readonly Tensor[];
