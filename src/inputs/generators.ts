// Adversarial examples from generator networks. A generator f has one input neuron, always 1, and an image as output: a
// dense layer without bias, whose weights [1, pixels] are the image. It is trained in turn (a) to give a sample back
// and (b), composed with a frozen classifier C, to have C(f(1)) answer a class of our choice.
import { cast, clip, less, mul } from "../autograd/ops/elementwise.js";
import { sum } from "../autograd/ops/reduce.js";
import { softmax } from "../autograd/ops/softmax.js";
import { reshape } from "../autograd/ops/transform.js";
import { backward, noGrad } from "../autograd/tape.js";
import { copyKernel } from "../kernels/copy.js";
import { initialize } from "../nn/initializers.js";
import { meanSquaredError } from "../nn/losses.js";
import { requireModel } from "../nn/model.js";
import { adam, type Optimizer } from "../nn/optimizers.js";
import { ShapeError } from "../tensor/errors.js";
import { callable, checkOptions, instanceOf, integer, number, type Rules } from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { keep, refusePromise } from "../tensor/scope.js";
import { sizeOf } from "../tensor/shape.js";
import { StepPlan } from "../tensor/step-plan.js";
import { runInto, type Tensor, tensor } from "../tensor/tensor.js";
import { type Distances, distancesBetween } from "./attacks/distances.js";
import { freeze, type Model } from "./model.js";
import { settlingRate } from "./optimise.js";

/** Options of {@link trainGenerators}. */
export interface GeneratorOptions {
  /** What the images are to stay close to, one per generator: [N, ...] in a row, in [0, 1]. */
  readonly samples: Float32Array;
  /** What the classifier is to answer, [N]. */
  readonly targets: Int32Array;
  /** Of the generators' first weights; default 0. */
  readonly seed?: number;
  /** Steps of (a) before the first round, from the first weights to the sample; default 200. */
  readonly startSteps?: number;
  /** Default 60. */
  readonly rounds?: number;
  /** Steps of (a) and of (b) in a round; default 5 and 10. */
  readonly fitSteps?: number;
  readonly foolSteps?: number;
  /** Of (a) and (b) in the rounds, see `settlingRate`; default 0.02. */
  readonly learningRate?: number;
  /** From which probability of the target on a generator counts as successful; default 0.9. */
  readonly confidence?: number;
  /** Ends the training with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told after every round. */
  readonly onProgress?: (progress: GeneratorRound & { readonly round: number }) => void;
}

const generatorRules: Rules<GeneratorOptions> = {
  samples: instanceOf(Float32Array, "a Float32Array"),
  targets: instanceOf(Int32Array, "an Int32Array"),
  seed: integer(),
  startSteps: integer({ from: 0 }),
  rounds: integer({ from: 1 }),
  fitSteps: integer({ from: 1 }),
  foolSteps: integer({ from: 1 }),
  learningRate: number({ from: 0 }),
  confidence: number({ from: 0, to: 1 }),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  onProgress: callable,
};

/** Those of {@link GeneratorOptions}. */
export const generatorDefaults = {
  ...{ startSteps: 200, rounds: 60, fitSteps: 5, foolSteps: 10 },
  ...{ learningRate: 0.02, confidence: 0.9 },
} as const;

/** How far the generators are after a round. */
export interface GeneratorRound {
  /** How many have succeeded, in this round or before. */
  readonly fooled: number;
  /** Mean L2 distance of their closest images; NaN while there are none. */
  readonly meanL2: number;
}

/** What came of the generators. */
export interface GeneratedImages {
  /** [N, ...], of the rounds' images that are answered with the target, the closest; where there are none, the last. */
  readonly images: Float32Array;
  /** [N], the target's probability for it. */
  readonly confidence: Float32Array;
  /** [N], in which round, from 1, the target was first answered; 0: in none. */
  readonly firstRound: Int32Array;
  readonly distances: Distances;
  readonly course: readonly GeneratorRound[];
}

/**
 * Adam for `steps` steps. Squared error behind a softmax that is sure of its answer has a gradient near 0, many powers
 * of ten below that on the border of two classes. So epsilon is far below any gradient, and beta2 is 0.9. With 0.999,
 * Adam would remember the large gradients of a border for a thousand steps, and stand still on the plateau behind it.
 */
export function generatorAdam(rate: number, steps: number): Optimizer {
  return adam({ learningRate: settlingRate(rate, steps), beta2: 0.9, epsilon: 1e-12 });
}

/**
 * In the first half of the rounds, (b) takes the classifier's logits divided by this. Where a classifier is sure of a
 * third class, squared error leads to the border of that class and the next, and stays there. The target's share of the
 * gradient is as small as its probability. With a softer softmax every class has its share.
 */
export const TEMPERATURE = 10;

/** Learning rate of the steps from the first weights to the sample; it falls, so that they end there. */
const START_RATE = 0.05;

/**
 * Trains N generators side by side. With one input neuron that is 1, the weights of all are one tensor [N, pixels],
 * whose rows are the outputs. The losses are added, so a row's gradient is that of its own generator, and Adam works on
 * every element for itself. This is exactly N networks, each trained alone, in one batch for the classifier. After
 * every step weights are limited to [0, 1], as pixels are.
 *
 * In (b) a generator whose image the classifier answers with the target, surely enough, rests; in (a) one whose is not.
 * @throws ShapeError where samples and targets do not fit the classifier, UsageError for options out of range, the
 * signal's reason when it is aborted
 */
export async function trainGenerators(classifier: Model, options: GeneratorOptions): Promise<GeneratedImages> {
  requireModel("trainGenerators", classifier);
  const given = {
    ...generatorDefaults,
    ...checkOptions("trainGenerators", options, generatorRules, ["samples", "targets"]),
  };
  const { samples, targets, seed = 0, startSteps, rounds, fitSteps, foolSteps, learningRate, confidence } = given;
  const { signal, onProgress } = given;
  const size = sizeOf(classifier.inputShape);
  const classes = sizeOf(classifier.outputShape);
  const count = targets.length;
  if (samples.length !== count * size || targets.some((target) => target < 0 || target >= classes)) {
    throw new ShapeError(
      `trainGenerators: needs one sample of ${size} values for each target from 0 to ${classes - 1}, got ${samples.length} values and targets ${targets.join(", ")}`,
    );
  }
  const { device } = classifier;
  const thaw = freeze(classifier);

  const owned: Tensor[] = [];
  const own = (t: Tensor): Tensor => {
    owned.push(keep(t));
    return t;
  };
  const weights = own(initialize(device, [count, size], generatorWeights, randomKey(seed, "generators")));
  weights.requiresGrad = true;
  const sample = own(tensor(device, samples, { shape: [count, size] }));
  const wanted = new Float32Array(count * classes);
  for (const [i, target] of targets.entries()) wanted[i * classes + target] = 1;
  const answer = own(tensor(device, wanted, { shape: [count, classes] }));
  const starting = generatorAdam(START_RATE, startSteps);
  const fitting = generatorAdam(learningRate, rounds * fitSteps);
  const fooling = generatorAdam(learningRate, rounds * foolSteps);

  const logits = () => classifier.logits(reshape(weights, [count, ...classifier.inputShape]));
  const limit = () => noGrad(() => runInto(copyKernel, [clip(weights, 0, 1)], [weights], {}));
  /** (a), for the generators whose `active` is 1. */
  const fitWith = (optimizer: Optimizer) =>
    new StepPlan(device, (active) => {
      backward(sum(mul(meanSquaredError.perSample(weights, sample), active!)));
      optimizer.step([weights]);
      limit();
      return [];
    });
  const [start, fit] = [fitWith(starting), fitWith(fitting)];
  /** (b), for those whose target is not probable enough yet; `sharpness` is 1 / temperature. */
  const fool = new StepPlan(device, (sharpness) => {
    const found = logits();
    const active = noGrad(() => cast(less(sum(mul(softmax(found), answer), { axes: 1 }), confidence), "f32"));
    const probabilities = softmax(mul(found, sharpness!));
    backward(sum(mul(meanSquaredError.perSample(probabilities, answer), active)));
    fooling.step([weights]);
    limit();
    return [];
  });
  const look = new StepPlan(device, () => noGrad(() => [softmax(logits())]));

  const best = { images: new Float32Array(count * size), confidence: new Float32Array(count) };
  const closest = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  const firstRound = new Int32Array(count);
  const course: GeneratorRound[] = [];
  try {
    const active = new Float32Array(count).fill(1);
    const temperedRounds = Math.floor(rounds / 2);
    for (let step = 0; step < startSteps; step++) start.run({ values: active, shape: [count] });
    for (let round = 1; round <= rounds; round++) {
      signal?.throwIfAborted();
      if (round > 1) for (let step = 0; step < fitSteps; step++) fit.run({ values: active, shape: [count] });
      const sharpness = Float32Array.of(round <= temperedRounds ? 1 / TEMPERATURE : 1);
      for (let step = 0; step < foolSteps; step++) fool.run({ values: sharpness, shape: [1] });
      const probabilities = Float32Array.from(await look.run()[0]!.data());
      const images = Float32Array.from(await weights.data());
      const { l2 } = distancesBetween(samples, images, count);
      for (const [i, target] of targets.entries()) {
        const row = probabilities.subarray(i * classes, (i + 1) * classes);
        const fooled = row[target]! >= confidence;
        active[i] = fooled ? 1 : 0;
        if (fooled && firstRound[i] === 0) firstRound[i] = round;
        if (fooled ? l2[i]! >= closest[i]! : firstRound[i] !== 0) continue;
        if (fooled) closest[i] = l2[i]!;
        best.images.set(images.subarray(i * size, (i + 1) * size), i * size);
        best.confidence[i] = row[target]!;
      }
      const successful = closest.filter(Number.isFinite);
      course.push({
        fooled: successful.length,
        meanL2: successful.reduce((a, b) => a + b, 0) / successful.length,
      });
      const told = onProgress?.({ round, ...course.at(-1)! });
      refusePromise("trainGenerators", told, "onProgress", "await after the training");
    }
  } finally {
    for (const plan of [start, fit, fool, look]) plan.dispose();
    for (const t of owned) t.dispose();
    for (const optimizer of [starting, fitting, fooling]) optimizer.dispose();
    thaw();
  }
  return { ...best, firstRound, course, distances: distancesBetween(samples, best.images, count) };
}

/** Keras's first weights of a dense layer [1, 784]: Glorot's, limited as always. */
const generatorWeights = { name: "uniform", minimum: 0, maximum: Math.sqrt(6 / 785) } as const;
