// PGD (Madry et al., ICLR 2018), untargeted, in the L-infinity and the L2 ball. The images' losses are added, not
// averaged, so an image's way does not depend on the others of its batch. The classifier is in inference mode; nothing
// is computed for its weights.

import { grad } from "../../autograd/differentiate.js";
import {
  abs,
  add,
  cast,
  clip,
  div,
  equal,
  maximum,
  minimum,
  mul,
  pow,
  sign,
  sqrt,
  sub,
} from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { max, sum, sumSquares } from "../../autograd/ops/reduce.js";
import type { Changing } from "../../tensor/device.js";
import { boolean, checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { sizeOf } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Model } from "../model.js";
import { normal, type StartStream, uniform } from "../random.js";
import {
  epsilonRule,
  type Norm,
  normRule,
  type Perturbed,
  type PerturbedOptions,
  radiusOf,
  type StepAttack,
  stepAttack,
} from "./attack.js";
import { oddsAgainst } from "./classifier.js";

/** Options of {@link pgd}. */
export interface PgdOptions {
  readonly norm: Norm;
  /** Radius of the ball, for values in [0, 1]. */
  readonly epsilon: number;
  /** Default: Foolbox's, 40 in the L-infinity ball and 50 in the L2 ball. */
  readonly steps?: number;
  /** Length of a step as a share of epsilon; default: Foolbox's, 1/30 (L-infinity) and 1/40 (L2). */
  readonly relativeStep?: number;
  /** Whether to begin anywhere in the ball, each point equally likely, instead of at the image; default true. */
  readonly randomStart?: boolean;
}

const pgdRules: Rules<PgdOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  steps: integer({ from: 1 }),
  relativeStep: number({ from: 0 }),
  randomStart: boolean,
};

/** Those of Foolbox 3.3.4. */
const defaults = {
  linf: { steps: 40, relativeStep: 0.01 / 0.3 },
  l2: { steps: 50, relativeStep: 0.025 },
} as const;

/**
 * Projected gradient descent. Each step takes the gradient, its sign (L-infinity) or direction (L2), and goes along it.
 * Then it projects to the ball around the image, and then to [0, 1].
 * @throws UsageError naming the option that is out of range
 */
export function pgd(options: PgdOptions): StepAttack {
  const given = checkOptions("pgd", options, pgdRules, ["norm", "epsilon"]);
  return gradientAttack("PGD", { randomStart: true, ...defaults[given.norm], ...given });
}

/** An attack by steps along the gradient; all of its options are given. */
export function gradientAttack(name: string, options: Required<PgdOptions>): StepAttack {
  const { norm, epsilon, steps } = options;
  return stepAttack({
    ...{ name, norm, epsilon, passes: steps },
    perturb: (model, x, y, given) => perturbed(model, x, y, options, given),
  });
}

function perturbed(
  model: Model,
  x: Tensor,
  y: Tensor,
  attack: Required<PgdOptions>,
  options: PerturbedOptions,
): Perturbed {
  const { norm, steps, relativeStep, randomStart } = attack;
  const made = scope(() => {
    const hot = oneHot(y, sizeOf(model.outputShape));
    const lossGradient = grad((images: Tensor) => sum(oddsAgainst(model.logits(images), hot, hot)));
    const epsilon = radiusOf(model.device, options.epsilon ?? attack.epsilon);
    const ball = balls[norm](x, epsilon);
    const stepLength = mul(epsilon, relativeStep);
    let images = randomStart
      ? scope(() => ball.project(add(x, mul(ball.anywhere(options.start), epsilon))))
      : x.alias();
    let strength: Tensor | undefined;
    for (let step = 0; step < steps; step++) {
      const before = images;
      const [moved, largest] = scope(() => {
        const gradient = lossGradient(before);
        const largest = largestValues(gradient);
        const direction = ball.direction(gradient, largest);
        return [
          ball.project(add(before, mul(direction, stepLength))),
          strength === undefined ? largest : maximum(strength, largest),
        ];
      }) as [Tensor, Tensor];
      images = moved;
      before.dispose();
      strength?.dispose();
      strength = largest;
    }
    return [images, strength!];
  }) as [Tensor, Tensor];
  return { images: made[0], strength: made[1] };
}

/** The geometry of a norm, around images x. */
interface Ball {
  /** The step of length 1 that raises the loss most where it is linear, [N, ...]; 0 where the gradient is. */
  direction(gradient: Tensor, largest: Tensor): Tensor;
  /** The nearest point of the ball, and of [0, 1]. */
  project(images: Tensor): Tensor;
  /** Points evenly from the ball of radius 1 around 0. */
  anywhere(start: Changing<StartStream>): Tensor;
}

const balls: Record<Norm, (x: Tensor, epsilon: Tensor) => Ball> = {
  linf: (x, epsilon) => {
    // Both projections are limits of single values, so they are one.
    const least = maximum(sub(x, epsilon), 0);
    const most = minimum(add(x, epsilon), 1);
    return {
      direction: sign,
      project: (images) => minimum(maximum(images, least), most),
      anywhere: (start) => uniform(x, x.shape, start, [-1, 1]),
    };
  },
  l2: (x, epsilon) => ({
    // By its largest value first: squares of what is below 1e-19 or above 1e19 are no float32 numbers.
    direction(gradient, largest) {
      const scaled = div(gradient, add(largest, cast(equal(largest, 0), "f32")));
      return div(scaled, maximum(lengths(scaled), 1));
    },
    project(images) {
      const change = sub(images, x);
      return clip(add(x, mul(change, minimum(div(epsilon, lengths(change)), 1))), 0, 1);
    },
    /** A direction by normal numbers; of a ball in n dimensions the share u^(1/n) of the radius holds the share u. */
    anywhere(start) {
      const direction = normal(x, x.shape, start);
      const shares = uniform(x, [x.shape[0]!, ...x.shape.slice(1).map(() => 1)], start, [0, 1]);
      return mul(div(direction, lengths(direction)), pow(shares, 1 / sizeOf(x.shape.slice(1))));
    },
  }),
};

/** What a change's length of 0 is taken for, where something is divided by it. */
const LEAST_LENGTH = 1e-12;

const valuesOf = (images: Tensor) => ({ axes: images.shape.map((_, axis) => axis).slice(1), keepDims: true });

/** Euclidean lengths of the images, [N, 1, ...]. */
function lengths(images: Tensor): Tensor {
  return maximum(sqrt(sumSquares(images, valuesOf(images))), LEAST_LENGTH);
}

/** Largest absolute values of the images, [N, 1, ...]. */
const largestValues = (images: Tensor) => max(abs(images), valuesOf(images));
