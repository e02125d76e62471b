// Adversarial examples by the gradient of the loss (untargeted): FGSM (Goodfellow, Shlens, Szegedy, ICLR 2015) and PGD
// (Madry et al., ICLR 2018) in the L-infinity and the L2 ball. The images' losses are added, not averaged, so an image's way
// does not depend on the others of its batch. The classifier is in inference mode; nothing is computed for its weights.
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
} from "../../../autograd/ops/elementwise.js";
import { oneHot } from "../../../autograd/ops/gather.js";
import { randomCounters } from "../../../autograd/ops/random.js";
import { logSumExp, max, sum, sumSquares } from "../../../autograd/ops/reduce.js";
import { grad } from "../../../autograd/tape.js";
import { type LabelledImages, sliceImages } from "../../../data/dataset.js";
import { fillKernel } from "../../../kernels/fill.js";
import { randomNormalKernel, randomUniformKernel } from "../../../kernels/random.js";
import type { Model } from "../../../nn/model.js";
import { type Changing, valueNow } from "../../../tensor/device.js";
import { UsageError } from "../../../tensor/errors.js";
import { randomKey } from "../../../tensor/random.js";
import { scope } from "../../../tensor/scope.js";
import { type Shape, sizeOf } from "../../../tensor/shape.js";
import { StepPlan } from "../../../tensor/step-plan.js";
import { empty, runInto, type Tensor } from "../../../tensor/tensor.js";
import { type Classification, classify } from "../training/classify.js";

/** The ball of radius epsilon around an image: by the largest change of a value, or by the Euclidean length of all. */
export type Norm = "linf" | "l2";
export const normTitles = { linf: "L∞", l2: "L2" } as const;

export interface Attack {
  readonly norm: Norm;
  /** Radius of the ball, for values in [0, 1]. */
  readonly epsilon: number;
  readonly steps: number;
  /** Length of a step as a share of epsilon. */
  readonly relativeStep: number;
  /** Whether to begin anywhere in the ball, each point equally likely, instead of at the image. */
  readonly randomStart: boolean;
}

/** The defaults of Foolbox 3.3.4 for its attacks of these names. */
export const foolboxDefaults = {
  fgsm: {
    linf: { steps: 1, relativeStep: 1, randomStart: false },
    l2: { steps: 1, relativeStep: 1, randomStart: false },
  },
  pgd: {
    linf: { steps: 40, relativeStep: 0.01 / 0.3, randomStart: true },
    l2: { steps: 50, relativeStep: 0.025, randomStart: true },
  },
} as const;

/** FGSM or PGD as Foolbox does it by default. */
export function foolboxAttack(name: keyof typeof foolboxDefaults, norm: Norm, epsilon: number): Attack {
  return { norm, epsilon, ...foolboxDefaults[name][norm] };
}

/** @throws UsageError naming the setting that is out of range */
export function checkAttack(owner: string, { norm, epsilon, steps, relativeStep }: Attack): void {
  if (!Object.hasOwn(normTitles, norm)) throw new UsageError(`${owner}: norm must be linf or l2, got "${norm}"`);
  for (const [name, value] of Object.entries({ epsilon, relativeStep })) {
    if (Number.isFinite(value) && value >= 0) continue;
    throw new UsageError(`${owner}: ${name} must be a number from 0, got ${value}`);
  }
  if (!(Number.isSafeInteger(steps) && steps >= 1)) {
    throw new UsageError(`${owner}: steps must be a whole number from 1, got ${steps}`);
  }
}

/** Where the numbers of a random start come from: a stream of a seed, and how many images took theirs from it before. */
export interface StartStream {
  readonly seed: number;
  readonly stream: string;
  readonly image: number;
}

export interface PerturbedOptions {
  readonly start: Changing<StartStream>;
  /** Instead of the attack's. */
  readonly epsilon?: Changing<number>;
}

/** What an attack makes of images. */
export interface Perturbed {
  /** [N, ...] */
  readonly images: Tensor;
  /** The largest value of the gradients of all steps, [N, 1, ...]: 0 where an image was never moved by one. */
  readonly strength: Tensor;
}

/**
 * Adversarial examples [N, ...] for images x [N, ...] in [0, 1] of classes y (i32 [N]). Each step takes the gradient, its
 * sign (L-infinity) or direction (L2), goes along it, projects to the ball around x and then to [0, 1]. To be called within a
 * step that is recorded (`StepPlan`); what changes from one run to the next is given as a function.
 */
export function perturbed(model: Model, x: Tensor, y: Tensor, attack: Attack, options: PerturbedOptions): Perturbed {
  const { norm, steps, relativeStep, randomStart } = attack;
  const made = scope(() => {
    const hot = oneHot(y, sizeOf(model.outputShape));
    const lossGradient = grad((images: Tensor) => sum(margins(model.logits(images), hot)));
    const epsilon = empty(model.device, [1]);
    const radius = options.epsilon ?? attack.epsilon;
    runInto(fillKernel, [], [epsilon], () => ({ value: valueNow(radius) }));
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

/** Beyond any logit; a logit less this is one that no exponential is left of. */
const OUT_OF_REACH = 1e30;

/**
 * log((1 - p) / p) of the probability p of each image's class, [N]: the largest of the other logits, softly, less its own. It
 * rises with the cross-entropy -log p, and its gradient is that of the cross-entropy over 1 - p, the same direction, so that
 * it is still there where a classifier is so sure that 1 - p is 0 in float32.
 * @param logits [N, C]
 * @param hot 1 at each image's class, [N, C]
 */
function margins(logits: Tensor, hot: Tensor): Tensor {
  return sub(logSumExp(sub(logits, mul(hot, OUT_OF_REACH)), { axes: [1] }), sum(mul(logits, hot), { axes: [1] }));
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
      const normal = empty(x.device, x.shape);
      runInto(randomNormalKernel, [], [normal], () => ({ ...draw(start, "", x.shape), mean: 0, standardDeviation: 1 }));
      const shares = uniform(x, [x.shape[0]!, ...x.shape.slice(1).map(() => 1)], start, [0, 1]);
      return mul(div(normal, lengths(normal)), pow(shares, 1 / sizeOf(x.shape.slice(1))));
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

function uniform(
  { device }: Tensor,
  shape: Shape,
  start: Changing<StartStream>,
  [low, high]: readonly [number, number],
) {
  const values = empty(device, shape);
  runInto(randomUniformKernel, [], [values], () => ({ ...draw(start, "/uniform", shape), low, high }));
  return values;
}

/** Where the numbers for a batch begin. Images of an even number of values get the same ones in batches of any size. */
function draw(start: Changing<StartStream>, suffix: string, shape: Shape) {
  const { seed, stream, image } = valueNow(start);
  return { key: randomKey(seed, stream + suffix), offset: randomCounters(image * sizeOf(shape.slice(1))) };
}

export interface AttackOptions {
  /** Of the random start. */
  readonly seed: number;
  /** Default 250; a matter of memory and speed only. */
  readonly batchSize?: number;
  readonly signal?: AbortSignal;
  /** Told after every batch. */
  readonly onProgress?: (done: number) => void;
}

/** A set of images after an attack. */
export interface Attacked {
  /** The classifier's answers for the changed images, which `classification.images` holds: its accuracy under attack. */
  readonly classification: Classification;
  /** How far each image was moved, [count] each. */
  readonly distances: Distances;
  /** Of how many images no step had a gradient: what is said of these is not said of an attack. */
  readonly withoutGradient: number;
}

/** Attacks a whole set of images. The same seed gives the same bits. @throws UsageError for settings out of range */
export async function attackImages(
  model: Model,
  set: LabelledImages,
  attack: Attack,
  { seed, batchSize = 250, signal, onProgress }: AttackOptions,
): Promise<Attacked> {
  checkAttack("attackImages", attack);
  const images = new Float32Array(set.images.length);
  let withoutGradient = 0;
  let start = 0;
  const plan = new StepPlan(model.device, (x, y) => {
    const made = perturbed(model, x!, y!, attack, { start: () => ({ seed, stream: "attack", image: start }) });
    return [made.images, made.strength];
  });
  try {
    for (; start < set.count; start += batchSize) {
      signal?.throwIfAborted();
      const batch = sliceImages(set, start, Math.min(start + batchSize, set.count));
      const [changed, strength] = plan.run(
        { values: batch.images, shape: [batch.count, ...set.imageShape] },
        { values: batch.labels, shape: [batch.count] },
      );
      images.set(await changed!.data(), start * sizeOf(set.imageShape));
      withoutGradient += (await strength!.data()).filter((largest) => largest === 0).length;
      onProgress?.(start + batch.count);
    }
  } finally {
    plan.dispose();
  }
  const classification = await classify(model, { ...set, images }, { signal });
  return { classification, distances: distancesBetween(set.images, images, set.count), withoutGradient };
}

/** How far images lie from others: the Euclidean length of the change, and its largest value. */
export interface Distances {
  readonly l2: Float64Array;
  readonly linf: Float64Array;
}

/** Of `count` images each, in a row. */
export function distancesBetween(from: Float32Array, to: Float32Array, count: number): Distances {
  const size = from.length / count;
  const [l2, linf] = [new Float64Array(count), new Float64Array(count)];
  for (let i = 0; i < from.length; i++) {
    const image = Math.floor(i / size);
    const change = Math.abs(to[i]! - from[i]!);
    l2[image]! += change * change;
    linf[image] = Math.max(linf[image]!, change);
  }
  return { l2: l2.map(Math.sqrt), linf };
}
