// An input optimisation as a run of its own. It has wishes (target and start of every image), finds the images in one
// batch, and tells what came out, as figures, pictures and text.
import type { LabelledImages } from "../../../data/dataset.js";
import { encodeGrayPng } from "../../../io/png.js";
import type { Model } from "../../../nn/model.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import { checkMemory } from "../frame/memory-limit.js";
import { showProgress } from "../frame/progress.js";
import type { RunContext } from "../frame/run.js";
import { counted, listed, lossText, milliseconds, percent } from "../report/text.js";
import { measureCeilings, profiledSteps, profileSteps } from "../training/profile.js";
import { imageStart, noiseStarts, noisyRealStart, type Start, type StartKind } from "./starts.js";
import { isSingle, type Target, targetText } from "./target.js";
import { optimizeForTargets, type TargetCourse, type TargetProblem } from "./target-problem.js";

/** An image to be found: what the model should say of it, and what it begins with. */
export interface Wish {
  readonly target: Target;
  readonly start: Start;
}

/** Settings of a run. */
export type OptimizeSettings = Pick<
  TargetProblem,
  "steps" | "learningRate" | "regularizers" | "objective" | "seed" | "clipped" | "settling"
>;

/** The settings that the experiments' description gives. */
export const defaultSettings: OptimizeSettings = {
  steps: 500,
  learningRate: 0.05,
  regularizers: { l1: 0, l2: 1e-4, totalVariation: 0, blur: 0, jitter: 0 },
  seed: 0,
};

/** Settings by which a robust classifier gives digits that a person can read. */
export const readableSettings: OptimizeSettings = {
  steps: 300,
  learningRate: 0.05,
  objective: "log-odds",
  regularizers: { l1: 0.006, l2: 0.01, totalVariation: 0.006, blur: 0.7, jitter: 2 },
  seed: 0,
};

/** A found image with the model's answer. */
export interface FoundImage extends Wish {
  /** Name of its picture. */
  readonly file: string;
  /** [H, W, C] */
  readonly pixels: Float32Array;
  /** One per class. */
  readonly probabilities: readonly number[];
  readonly predicted: number;
  /** Probability of the predicted class. */
  readonly confidence: number;
  /** Cross-entropy and penalties. */
  readonly loss: number;
  /** Whether the answer is what was asked for, see `barsOf`. */
  readonly met: boolean;
  /** Steps after which the model first gave a single digit 99 %; null where it never did. Absent for several digits. */
  readonly stepsTo99?: number | null;
}

/** What a run came to. */
export interface OptimizeRun {
  readonly settings: OptimizeSettings;
  readonly images: readonly FoundImage[];
  readonly course: TargetCourse;
  readonly seconds: number;
  readonly peakBytes: number;
}

/** Probability that a target of one digit must reach. */
export const ONE_HOT_BAR = 0.99;
/** How near to each share of a target of several digits an answer must come. */
export const MIXED_BAR = 0.01;
/** The same of images that are to be readable: priors take some of the model's certainty, and are to. */
const READABLE_BARS = { single: 0.5, mixed: 0.1 };

/** When images count as what was asked for. */
export const barsOf = ({ objective }: OptimizeSettings) =>
  objective === "log-odds" ? READABLE_BARS : { single: ONE_HOT_BAR, mixed: MIXED_BAR };

/** "99 %, or within 0.01 of each share" */
export function barsText(settings: OptimizeSettings): string {
  const { single, mixed } = barsOf(settings);
  return `${percent(single, 0)}, or within ${mixed} of each share`;
}

export interface WishOptions {
  /** Starts per target. */
  readonly count: number;
  readonly seed: number;
  /** Needed for every start but noise. */
  readonly images: LabelledImages | undefined;
}

/** Every target from `count` starts. A target of several digits takes the real digits of its likeliest. */
export function wishesFor(targets: readonly Target[], start: StartKind, options: WishOptions): Wish[] {
  const { count, seed, images } = options;
  if (start === "noise") {
    const starts = noiseStarts(count, { seed, shape: [28, 28, 1] });
    return targets.flatMap((target) => starts.map((each): Wish => ({ target, start: each })));
  }
  const places = Array.from({ length: count }, (_, index) => index);
  return targets.flatMap((target) =>
    places.map((index): Wish => {
      if (start === "real") {
        return { target, start: noisyRealStart(index, { images: images!, digit: target.likeliest, seed }) };
      }
      return { target, start: imageStart(images!, start + index) };
    }),
  );
}

export interface FindOptions {
  /** Steps of which snapshots are kept; default {@link snapshotSteps}. */
  readonly snapshotSteps?: readonly number[];
  readonly signal: AbortSignal;
  readonly onProgress: Required<TargetProblem>["onProgress"];
}

/** The first five, 10, 20 and 50, a hundred and its multiples, the last. Most happens early. */
export function snapshotSteps(steps: number): number[] {
  const hundred = Math.max(100, Math.ceil(steps / 1000) * 100);
  const late = Array.from({ length: Math.floor(steps / hundred) }, (_, i) => (i + 1) * hundred);
  return [0, 1, 2, 3, 4, 10, 20, 50, ...late].filter((step) => step < steps).concat(steps);
}

/** Finds the images of all wishes in one batch. */
export async function findImages(
  model: Model,
  wishes: readonly Wish[],
  settings: OptimizeSettings,
  { snapshotSteps: kept = snapshotSteps(settings.steps), signal, onProgress }: FindOptions,
): Promise<OptimizeRun> {
  checkMemory("count", { network: model, images: wishes.length, steps: settings.steps });
  const begun = performance.now();
  const course = await optimizeForTargets(model, {
    ...problemOf(wishes, settings),
    ...{ signal, onProgress, snapshotSteps: kept },
  });
  return {
    ...{ settings, course },
    images: wishes.map((wish, index) => foundImage(wish, index, { course, settings })),
    seconds: (performance.now() - begun) / 1000,
    peakBytes: model.device.memory().peakBytes,
  };
}

/** As {@link findImages}, and tells the user. */
export async function runOptimization(
  model: Model,
  wishes: readonly Wish[],
  settings: OptimizeSettings,
  { signal, say, live }: RunContext,
): Promise<OptimizeRun> {
  const { steps } = settings;
  say(`${counted(wishes.length, "image")} for ${targetsText(wishes)}: ${counted(steps, "step")} in one batch`);
  const progress = showProgress("Images", steps);
  try {
    const run = await findImages(model, wishes, settings, {
      signal,
      onProgress: ({ step, loss }) => {
        progress.update(step, `loss ${lossText(loss)}`);
        live?.point("Loss of the images", "loss", step, loss);
        live?.progress("images", step / steps, `loss ${lossText(loss)}`);
      },
    });
    progress.end(`${counted(steps, "step")}, ${metText(run)}`);
    live?.finished("images", run.seconds);
    return run;
  } finally {
    progress.end();
  }
}

/** Arrays of one length, one behind the other. */
export function joined(arrays: readonly ArrayLike<number>[]): Float32Array {
  const size = arrays[0]!.length;
  const all = new Float32Array(arrays.length * size);
  for (const [index, values] of arrays.entries()) all.set(values, index * size);
  return all;
}

/** What `optimizeForTargets` is asked. */
const problemOf = (wishes: readonly Wish[], settings: OptimizeSettings) => ({
  starts: joined(wishes.map(({ start }) => start.image)),
  targets: joined(wishes.map(({ target }) => target.probabilities)),
  ...settings,
});

/** Profiles steps of the same optimisation. */
export async function profileOptimization(
  model: Model,
  { images, settings, course }: OptimizeRun,
  device: WebGpuDevice,
) {
  const problem = problemOf(images, settings);
  const run = async (steps: number) => {
    await optimizeForTargets(model, { ...problem, steps, snapshotSteps: [steps] });
  };
  const ceilings = await measureCeilings(device);
  return profileSteps(device, { steps: profiledSteps(course.timing.stepMsMedian), run, ceilings });
}

function foundImage(
  wish: Wish,
  index: number,
  { course, settings }: Pick<OptimizeRun, "course" | "settings">,
): FoundImage {
  const bars = barsOf(settings);
  const { target, start } = wish;
  const { images, probabilities: all, loss } = course.snapshots.at(-1)!;
  const size = start.image.length;
  const probabilities = Array.from(all.subarray(index * 10, (index + 1) * 10));
  const confidence = Math.max(...probabilities);
  const single = isSingle(target);
  const met = single
    ? probabilities[target.likeliest]! >= bars.single
    : probabilities.every((p, digit) => Math.abs(p - target.probabilities[digit]!) <= bars.mixed);
  // For one digit the cross-entropy is -log of its probability.
  const firstStep = course.crossEntropy?.findIndex((entropies) => entropies[index]! <= -Math.log(ONE_HOT_BAR));
  return {
    ...wish,
    file: `${target.label}-${start.label}.png`,
    pixels: images.slice(index * size, (index + 1) * size),
    probabilities,
    predicted: probabilities.indexOf(confidence),
    confidence,
    loss: loss[index]!,
    met,
    ...(single && firstStep !== undefined && { stepsTo99: firstStep < 0 ? null : firstStep }),
  };
}

/** The found images as 28 x 28 PNG, by file name. */
export function picturesOf({ images }: Pick<OptimizeRun, "images">): Map<string, Uint8Array | string> {
  return new Map(images.map(({ file, pixels }) => [file, encodeGrayPng(pixels, { width: 28, height: 28 })]));
}

/** The settings, for `config` in metrics.json. */
export function optimizationConfig({ steps, learningRate, regularizers, objective }: OptimizeSettings) {
  const { l1, l2, totalVariation, blur, jitter } = regularizers;
  return { steps, learningRate, objective: objective ?? "cross-entropy", l1, l2, totalVariation, blur, jitter };
}

/** `images`, `history` and `timing` of metrics.json. */
export function optimizationMetrics({ images, course, seconds }: OptimizeRun) {
  const meanOf = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    targetsMet: images.filter(({ met }) => met).length,
    history: {
      step: course.loss.map((_, step) => step),
      loss: course.loss.map(meanOf),
      ...(course.crossEntropy && { crossEntropy: course.crossEntropy.map(meanOf) }),
    },
    images: images.map(({ target, start, pixels: _, file, ...answer }) => ({
      file,
      target: target.label,
      targetProbabilities: target.probabilities,
      start: start.label,
      startText: start.text,
      ...answer,
    })),
    timing: { ...course.timing, totalSeconds: seconds },
  };
}

/** "all ten digits", "3", "2:0.5, 3:0.5". */
export function targetsText(wishes: readonly Wish[]): string {
  const texts = new Map(wishes.map(({ target }) => [target.label, targetText(target)]));
  return texts.size === 10 && [...texts.keys()].every((label) => label.length === 1)
    ? "all ten digits"
    : listed([...texts.values()]);
}

/** "All 20 targets met", "18 of 20 targets met". */
export function metText({ images }: Pick<OptimizeRun, "images">): string {
  const met = images.filter((image) => image.met).length;
  if (images.length === 1) return met === 1 ? "the target is met" : "the target is not met";
  return met === images.length ? `all ${met} targets are met` : `${met} of ${images.length} targets are met`;
}

/** Last lines in the terminal. */
export function optimizationSummary(run: OptimizeRun): string {
  const { images, course, seconds } = run;
  const lines = groupedByTarget(images).map((group) => {
    const { target } = group[0]!;
    const met = group.filter((image) => image.met).length;
    return `  ${targetText(target).padEnd(12)} ${answerText(group)}   ${met === group.length ? "met" : `${met} of ${group.length} met`}`;
  });
  const { stepMsMedian } = course.timing;
  return [
    `${counted(images.length, "image")} in ${seconds.toFixed(1)} s${stepMsMedian === undefined ? "" : ` (${milliseconds(stepMsMedian)} a step)`}: ${metText(run)}`,
    ...lines,
  ].join("\n");
}

/** Images of the same target together, in the order of their first. */
export function groupedByTarget(images: readonly FoundImage[]): FoundImage[][] {
  const labels = [...new Set(images.map(({ target }) => target.label))];
  return labels.map((label) => images.filter(({ target }) => target.label === label));
}

/** The ranges of the probabilities of the asked digits among images of one target. */
function answerText(group: readonly FoundImage[]): string {
  const { target } = group[0]!;
  const shares = target.probabilities.flatMap((asked, digit) => {
    if (asked === 0) return [];
    const values = group.map(({ probabilities }) => probabilities[digit]!);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const range = percent(low) === percent(high) ? percent(low) : `${percent(low)} to ${percent(high)}`;
    return [`${digit}: ${range}`];
  });
  return shares.join("  ");
}
