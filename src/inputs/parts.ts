// The parts of an input optimisation, besides the optimizer: what each has to offer. Those that the library has are in
// objective.ts, parametrisation.ts, transforms.ts and regularisers.ts; a user's own are objects of these types.
import { slice } from "../autograd/ops/transform.js";
import { modelRule } from "../nn/model.js";
import { check, havingMethod, integer, type Rule, string } from "../tensor/options.js";
import type { RandomStream } from "../tensor/random.js";
import type { Shape } from "../tensor/shape.js";
import type { HostTensor } from "../tensor/step-plan.js";
import { type Tensor, tensorRule } from "../tensor/tensor.js";
import { GraphValues, valueOfLayer } from "./graph.js";
import type { Model } from "./model.js";

/** What a model makes of the images of a step. Each is computed when it is first asked for. */
export class Activations {
  private foundLogits: Tensor | undefined;
  private foundOutputs: Tensor | undefined;
  private foundLayers: GraphValues | undefined;

  constructor(
    readonly model: Model,
    /** [N, ...inputShape], as the model sees them: transformed. */
    readonly images: Tensor,
  ) {
    check("Activations", "model", model, modelRule);
    check("Activations", "images", images, tensorRule);
  }

  /** What goes into the last activation, [N, ...outputShape]; see `Model.logits`. */
  logits(): Tensor {
    return (this.foundLogits ??= this.model.logits(this.images));
  }

  /** [N, ...outputShape] */
  outputs(): Tensor {
    return (this.foundOutputs ??= this.model.call(this.images));
  }

  /**
   * Output [N, ...] of a layer, the first where it is called several times; what comes behind it is not computed.
   * @throws UsageError for an unknown name
   */
  layer(name: string): Tensor {
    check("Activations", "name", name, string);
    const value = valueOfLayer("Activations", this.model, name);
    this.foundLayers ??= new GraphValues(this.model, [[0, this.images]]);
    return this.foundLayers.of(value);
  }

  /** What it makes of `count` of the images, from the one at `first` on. */
  rows(first: number, count: number): Activations {
    check("Activations", "first", first, integer({ from: 0 }));
    check("Activations", "count", count, integer({ from: 1 }));
    return new ActivationsOfRows(this, first, count);
  }
}

/** Those of some of the images: what the model makes of all of them, cut out. */
class ActivationsOfRows extends Activations {
  constructor(
    private readonly all: Activations,
    private readonly first: number,
    private readonly count: number,
  ) {
    super(all.model, cut(all.images, first, count));
  }

  override logits(): Tensor {
    return cut(this.all.logits(), this.first, this.count);
  }

  override outputs(): Tensor {
    return cut(this.all.outputs(), this.first, this.count);
  }

  override layer(name: string): Tensor {
    return cut(this.all.layer(name), this.first, this.count);
  }
}

/** Rows [first, first + count) of x [N, ...]. */
function cut(x: Tensor, first: number, count: number): Tensor {
  return slice(x, [first, ...x.shape.slice(1).map(() => 0)], [count, ...x.shape.slice(1)]);
}

/** What an objective is told when an optimisation begins. */
export interface ObjectiveContext {
  readonly model: Model;
  /** Images in the batch. */
  readonly count: number;
  /** A tensor of these values that lives as long as the optimisation. */
  readonly constant: (values: Float32Array | Int32Array, shape: Shape) => Tensor;
  /** The tensor that it is given, which then lives as long as the optimisation: what is computed once for all steps. */
  readonly hold: (t: Tensor) => Tensor;
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
  /**
   * Whether the starts are the user's; else they are uniform noise, which a parametrisation may take in its own way.
   */
  readonly given: boolean;
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

export const parametersRule: Rule = {
  expected: "{ tensors, images } of a list of tensors and a function",
  accepts: (value) => {
    const { tensors, images, limit } = Object(value) as Partial<Parameters>;
    return (
      Array.isArray(tensors) &&
      tensors.length > 0 &&
      tensors.every(tensorRule.accepts) &&
      typeof images === "function" &&
      (limit === undefined || typeof limit === "function")
    );
  },
};

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
 * the other. Differentiable, and recorded with the step (see `StepPlan`). `step` tells how many steps are done; what
 * depends on it is asked for anew in every step, see `scheduled`.
 */
export type Regularizer = (x: Tensor, step: () => number) => Tensor | readonly Tensor[];
