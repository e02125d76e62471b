// What the experiment "input-optimisation" asks of its networks: settings, and the wishes of one batch by what they
// show.
import type { LabelledImages } from "../../../data/dataset.js";
import { UsageError } from "../../../tensor/errors.js";
import { type Wish, wishesFor } from "./optimize-run.js";
import { imageStart, recognisedPlaces } from "./starts.js";
import { oneHot, parseTargets } from "./target.js";

export const reference = {
  data: "mnist",
  trainImages: 60_000,
  testImages: 10_000,
  /** Of the attacked classifier and its sibling of another seed. */
  epochs: 5,
  /** Of the judges. */
  mlpEpochs: 10,
  cnnEpochs: 40,
  /** Per digit. */
  starts: 5,
  mixed: ["2:0.5,3:0.5", "1:0.5,7:0.5"] as readonly string[],
  changes: ["5 to 7", "5 to 9", "2 to 5", "7 to 2"] as readonly string[],
  l2: 1e-4,
  steps: 500,
  learningRate: 0.05,
  /** The second reference's: few steps, not clipped. */
  shortSteps: 10,
  shortLearningRate: 0.1,
  /** Uniform random images that are only classified. */
  noiseImages: 1000,
  /** The robust classifier: PGD in the L2 ball on every batch. */
  robustEpochs: 6,
  robustLearningRate: 2e-3,
  robustBatch: 128,
  attackRadius: 2.5,
  attackSteps: 4,
  /** Of the judges of readable digits, which learn from distorted ones. */
  judgeEpochs: 12,
  judgeRate: 3e-3,
  /** Readable digits: starts per digit. */
  readableStarts: 10,
  readableSteps: 300,
};
export type InputSettings = typeof reference;

export const quick: InputSettings = {
  ...reference,
  trainImages: 20_000,
  epochs: 2,
  mlpEpochs: 5,
  cnnEpochs: 5,
  robustEpochs: 3,
  judgeEpochs: 3,
  readableSteps: 200,
};

export const groupNames = ["noise", "real", "mixed", "changes"] as const;
/** Those of one digit each. */
export const singleNames = ["noise", "real", "changes"] as const;
/** Indices into one batch by what they are to show. */
export type Groups = Readonly<Record<(typeof groupNames)[number], readonly number[]>>;

/** @throws UsageError for targets that are not shares of ten digits, and changes that are not "5 to 7" */
export function questionsOf({ mixed, changes }: InputSettings) {
  return {
    mixed: mixed.flatMap((text) => parseTargets(text)),
    changes: changes.map((text) => {
      const [, from, to] = /^(\d) to (\d)$/.exec(text) ?? [];
      if (from !== undefined && from !== to) return { text, from: Number(from), to: Number(to) };
      throw new UsageError(`input-optimisation: changes must be of two digits such as "5 to 7", given "${text}"`);
    }),
  };
}

/**
 * Everything in the order of one batch. Starts that are real digits as they are come from those that are recognised.
 */
export function wishesOf(settings: InputSettings, test: LabelledImages, predicted: Int32Array, seed: number) {
  const { mixed, changes } = questionsOf(settings);
  const { starts: count } = settings;
  const options = { count, seed, images: test };
  const recognised = (digit: number) => {
    const places = recognisedPlaces({ images: test, predicted }, digit);
    if (places.length >= count) return places.slice(0, count).map((place) => imageStart(test, place));
    throw new UsageError(
      `input-optimisation: needs ${count} test images of a ${digit} that the classifier recognises, there are ${places.length}; use more testImages, more training or fewer starts`,
    );
  };
  const digits = parseTargets("all");
  const parts: Record<keyof Groups, readonly Wish[]> = {
    noise: wishesFor(digits, "noise", options),
    real: wishesFor(digits, "real", options),
    mixed: mixed.flatMap((target) => [
      ...wishesFor([target], "noise", options),
      ...recognised(8).map((start) => ({ target, start })),
    ]),
    changes: changes.flatMap(({ from, to }) => recognised(from).map((start) => ({ target: oneHot(to), start }))),
  };
  let first = 0;
  const groups = Object.fromEntries(
    groupNames.map((name) => {
      const indices = parts[name].map((_, index) => first + index);
      first += indices.length;
      return [name, indices];
    }),
  ) as unknown as Groups;
  return { wishes: groupNames.flatMap((name) => parts[name]), groups };
}

/** What mixed digits begin with. */
export const mixedStarts = ["noise", "a real 8"] as const;
