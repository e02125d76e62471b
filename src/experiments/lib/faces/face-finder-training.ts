// Training the face finder, in two rounds: on windows of collages, then also on those that it took for faces wrongly.
// And how good it is, on collages of pictures and faces that it has not seen.

import type { LabelledImages } from "../../../data/dataset.js";
import { crossEntropy } from "../../../nn/losses.js";
import type { Model } from "../../../nn/model.js";
import { adam } from "../../../nn/optimizers.js";
import { cosineDecay } from "../../../nn/schedules.js";
import { RandomStream } from "../../../tensor/random.js";
import type { PartProgress } from "../frame/experiment-progress.js";
import { overlap } from "./crop.js";
import { FaceFinder, WINDOW } from "./face-finder.js";
import { finderWindows, layFace, scene } from "./face-scenes.js";

/** What it is trained and tested on. */
export interface FinderData {
  /** [48, 48, 1] in [0, 1] */
  readonly faces: LabelledImages;
  /** Pictures without faces, of any size. */
  readonly backgrounds: LabelledImages;
}

export interface FinderTraining {
  readonly windows: number;
  readonly epochs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
  readonly progress: PartProgress;
}

const BATCH = 128;
/** Scenes that are searched for mistakes, as a share of the windows, and mistakes taken of each. */
const SEARCHED_SHARE = 1 / 50;
const MISTAKES_EACH = 8;
/** Less overlap with the face than this is a mistake; as much or more is a find. */
const MISS = 0.35;
const FIND = 0.5;

/** Shares of the time: making windows, the first round, looking for mistakes, the second round. */
const [MADE, FIRST, SEARCHED] = [0.3, 0.65, 0.8];

/** Trains a model of `finderArchitecture` in place. */
export async function trainFinder(model: Model, data: FinderData, options: FinderTraining): Promise<void> {
  const { windows: count, epochs, seed, signal, progress } = options;
  const windows = finderWindows(data.faces, data.backgrounds, {
    ...{ count, seed },
    onProgress: (share) => progress(MADE * share, "making windows"),
  });
  await round(model, windows, { ...options, learningRate: 3e-3, from: MADE, to: FIRST });
  const mistakes: Float32Array[] = [];
  const finder = new FaceFinder(model);
  try {
    const random = new RandomStream(seed, "face-finder/mistakes");
    const scenes = Math.ceil(count * SEARCHED_SHARE);
    for (let i = 0; i < scenes; i++) {
      signal.throwIfAborted();
      const picture = scene(data.backgrounds, random);
      const face = layFace(picture, data.faces, random.integer(data.faces.count), random);
      const wrong = (await finder.windows(picture))
        .filter(({ box, score }) => score > 0.5 && overlap(box, face) < MISS)
        .sort((a, b) => b.score - a.score);
      mistakes.push(...wrong.slice(0, MISTAKES_EACH).map(({ pixels }) => pixels));
      progress(FIRST + (SEARCHED - FIRST) * (i / scenes), `${mistakes.length} mistakes found`);
    }
  } finally {
    finder.dispose();
  }
  await round(model, withMistakes(windows, mistakes), {
    ...options,
    ...{ epochs: Math.ceil(epochs / 2), learningRate: 1e-3, from: SEARCHED, to: 1 },
  });
}

function withMistakes(
  { images, labels, imageShape }: LabelledImages,
  mistakes: readonly Float32Array[],
): LabelledImages {
  const count = labels.length + mistakes.length;
  const all = new Float32Array(count * WINDOW * WINDOW);
  all.set(images);
  mistakes.forEach((pixels, i) => {
    all.set(pixels, images.length + i * WINDOW * WINDOW);
  });
  const allLabels = new Int32Array(count);
  allLabels.set(labels);
  return { images: all, labels: allLabels, count, imageShape };
}

async function round(
  model: Model,
  windows: LabelledImages,
  {
    epochs,
    learningRate,
    signal,
    progress,
    from,
    to,
  }: FinderTraining & { learningRate: number; from: number; to: number },
): Promise<void> {
  const steps = epochs * Math.ceil(windows.count / BATCH);
  const optimizer = adam({ learningRate: cosineDecay({ learningRate, decaySteps: steps }) });
  await model
    .fit(windows, {
      ...{ optimizer, loss: crossEntropy, epochs, batchSize: Math.min(BATCH, windows.count), signal },
      callbacks: [
        {
          name: "toldProgress",
          onStepEnd: ({ step, meanLoss }) =>
            progress(from + (to - from) * (step / steps), `loss ${meanLoss.toFixed(3)}`),
        },
      ],
    })
    .finally(() => optimizer.dispose());
  signal.throwIfAborted();
}

/** How a finder does on collages. */
export interface FinderFigures {
  readonly scenes: number;
  /** Share of the faces whose box overlaps the one found by at least half (intersection over union). */
  readonly found: number;
  /** Share of the scenes without a face in which one was found. */
  readonly falseAlarms: number;
  readonly meanOverlap: number;
  /** Median time for one scene, pyramid and windows included. */
  readonly milliseconds: number;
}

/** Measures a finder on `scenes` collages with a face and as many without. */
export async function measureFinder(
  model: Model,
  { faces, backgrounds }: FinderData,
  { scenes, seed, signal }: { readonly scenes: number; readonly seed: number; readonly signal: AbortSignal },
): Promise<FinderFigures> {
  const random = new RandomStream(seed, "face-finder/test");
  const finder = new FaceFinder(model);
  const times: number[] = [];
  let [found, falseAlarms, overlaps] = [0, 0, 0];
  try {
    for (let i = 0; i < scenes; i++) {
      signal.throwIfAborted();
      const picture = scene(backgrounds, random);
      if ((await finder.find(picture)) !== undefined) falseAlarms++;
      const face = layFace(picture, faces, i % faces.count, random);
      const begun = performance.now();
      const answer = await finder.find(picture);
      times.push(performance.now() - begun);
      const shared = answer === undefined ? 0 : overlap(answer.box, face);
      overlaps += shared;
      if (shared >= FIND) found++;
    }
  } finally {
    finder.dispose();
  }
  times.sort((a, b) => a - b);
  return {
    ...{ scenes, found: found / scenes, falseAlarms: falseAlarms / scenes, meanOverlap: overlaps / scenes },
    milliseconds: times[Math.floor(times.length / 2)]!,
  };
}
