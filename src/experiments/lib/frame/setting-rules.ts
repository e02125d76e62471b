// What the settings of experiments may be. Every number has an upper bound, for what is kept of each epoch, step or
// image lies in memory. A typing error of three digits must not end in a run out of memory hours later.
import { UsageError } from "../../../tensor/errors.js";
import { boolean, integer, listOf, number, oneOf, type Rule, string } from "../../../tensor/options.js";

/** Steps of one training or optimisation: the loss of each is kept, 8 bytes. */
export const MOST_STEPS = 10_000_000;
/** @throws UsageError for a training of more steps */
export function checkSteps(steps: number): void {
  if (steps <= MOST_STEPS) return;
  throw new UsageError(
    `epochs: a training may have up to ${MOST_STEPS.toLocaleString("en-US")} steps, whose losses are kept; asked for are ${steps.toLocaleString("en-US")}; use fewer epochs or a larger batch`,
  );
}

/** Passes over the training images: curves have a point for each. */
export const MOST_EPOCHS = 100_000;
/** Images: of 32 x 32 in colour a million take 12 GB, more than any data set here has. */
export const MOST_IMAGES = 1_000_000;
/** Images in one batch. What they take is checked against this machine's memory, see `checkMemory`. */
export const MOST_BATCH = 100_000;
/** Pixels that a Gaussian may reach: an image has 28, and the kernel grows with the square. */
export const MOST_BLUR = 28;
/** Factors and rates: beyond, float32 has no room for a product with them. */
export const MOST_RATE = 1e30;

const count = (to: number, from = 0): Rule => integer({ from, to });
const SHARE = number({ from: 0, to: 1 });
const RADII = listOf(number({ from: 0, to: 1e4 }), { to: 100 });
const CLASSES = listOf(count(9), { to: 10 });
const FILTERS = listOf(count(4096, 1), { from: 1, to: 8 });
const REPEATS = listOf(count(100, 1), { from: 1, to: 8 });
const WORDS = listOf(string, { to: 100 });

/** By name of the setting; the same name means the same in every experiment. */
const settingRules = {
  data: oneOf("mnist", "digits"),
  ...{ trainImages: count(MOST_IMAGES, 1), testImages: count(MOST_IMAGES, 1), attackImages: count(MOST_IMAGES, 1) },
  ...{ photographImages: count(MOST_IMAGES, 1), noiseImages: count(MOST_IMAGES, 1), codes: count(MOST_IMAGES, 1) },
  ...{ finderWindows: count(MOST_IMAGES, 1), finderScenes: count(MOST_IMAGES, 1), timedFaces: count(MOST_IMAGES, 1) },
  ...{ batch: count(MOST_BATCH, 1), robustBatch: count(MOST_BATCH, 1) },
  // 0 epochs of `digits`: each model's own number.
  ...{
    epochs: count(MOST_EPOCHS),
    plainEpochs: count(MOST_EPOCHS, 1),
    warmupEpochs: number({ from: 0, to: MOST_EPOCHS }),
  },
  ...{ smallEpochs: count(MOST_EPOCHS, 1), mlpEpochs: count(MOST_EPOCHS, 1), cnnEpochs: count(MOST_EPOCHS, 1) },
  ...{
    robustEpochs: count(MOST_EPOCHS, 1),
    judgeEpochs: count(MOST_EPOCHS, 1),
    classifierEpochs: count(MOST_EPOCHS, 1),
    finderEpochs: count(MOST_EPOCHS, 1),
    convolutionalEpochs: count(MOST_EPOCHS, 1),
    // 0: none.
    variantEpochs: count(MOST_EPOCHS),
    defenceEpochs: count(MOST_EPOCHS, 1),
  },
  ...{ photographPlainEpochs: count(MOST_EPOCHS, 1), photographEpochs: count(MOST_EPOCHS, 1) },
  ...{ photographWarmupEpochs: number({ from: 0, to: MOST_EPOCHS }), gradientEpoch: count(MOST_EPOCHS, 1) },
  ...{ learningRate: number({ above: 0, to: MOST_RATE }), shortLearningRate: number({ above: 0, to: MOST_RATE }) },
  judgeRate: number({ above: 0, to: MOST_RATE }),
  ...{ robustLearningRate: number({ above: 0, to: MOST_RATE }), photographRate: number({ above: 0, to: MOST_RATE }) },
  ...{
    generatorRate: number({ above: 0, to: MOST_RATE }),
    photographGeneratorRate: number({ above: 0, to: MOST_RATE }),
  },
  ...{
    weightDecay: number({ from: 0, to: MOST_RATE }),
    factors: listOf(number({ from: 0, to: MOST_RATE }), { from: 1, to: 100 }),
  },
  ...{ emaMomentum: number({ from: 0, below: 1 }), smallEmaMomentum: number({ from: 0, below: 1 }) },
  ...{ dropout: number({ from: 0, below: 1 }), level: SHARE, confidence: SHARE },
  // Steps of an optimisation: a snapshot of all images every hundred.
  ...{ steps: count(100_000, 1), shortSteps: count(100_000, 1), readableSteps: count(100_000, 1) },
  ...{ imageSteps: count(100_000, 1), slowImageSteps: count(100_000, 1) },
  ...{
    attackSteps: count(1000, 1),
    photographSteps: count(1000, 1),
    startSteps: count(100_000),
    fitSteps: count(10_000),
    foolSteps: count(10_000),
  },
  ...{ rounds: count(100_000, 1), slowSteps: count(MOST_STEPS, 1), slowStepMs: number({ from: 0, to: 1e9 }) },
  ...{ starts: count(1000, 1), readableStarts: count(1000, 1), replicates: count(100, 1) },
  ...{
    epsilon: number({ from: 0, to: 1e4 }),
    ...{ relativeEpsilon: number({ from: 0, to: 1e4 }), relativeStep: number({ from: 0, to: 1e4 }) },
    photographRelativeStep: number({ from: 0, to: 1e4 }),
    attackRadius: number({ from: 0, to: 1e4 }),
    defenceRadius: number({ from: 0, to: 1e4 }),
    noiseDeviation: number({ from: 0, to: 1e4 }),
  },
  ...{ photographEpsilon: number({ from: 0, to: 255 }), linf: RADII, photographLinf: RADII, photographL2: RADII },
  ...{ shift: count(31), photographShift: count(31), photograph: count(9), photographs: boolean },
  ...{ cutout: count(32), labelSmoothing: number({ from: 0, below: 1 }) },
  ...{ digits: CLASSES, photographClasses: CLASSES, filters: FILTERS, photographFilters: FILTERS },
  ...{ convolutions: REPEATS, photographConvolutions: REPEATS, digitFilters: FILTERS, digitUnits: count(16_384, 1) },
  ...{ depths: listOf(count(1000, 1), { from: 1, to: 20 }), units: count(16_384, 1) },
  ...{
    models: WORDS,
    averaged: WORDS,
    heldOut: WORDS,
    defences: WORDS,
    imagesOf: WORDS,
    noise: WORDS,
    mixed: WORDS,
    changes: WORDS,
  },
} as const satisfies Readonly<Record<string, Rule>>;

/** `l2` is a list of radii where attacks are meant, and a factor where it is a penalty. */
const l2Rules = { list: RADII, number: number({ from: 0, to: MOST_RATE }) };

/** What a setting may be. @param preset its value in a preset */
export function settingRule(name: string, preset: unknown): Rule | undefined {
  if (name === "l2") return Array.isArray(preset) ? l2Rules.list : l2Rules.number;
  return Object.hasOwn(settingRules, name) ? settingRules[name as keyof typeof settingRules] : undefined;
}
