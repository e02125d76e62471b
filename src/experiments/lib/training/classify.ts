// A classifier's answers for a whole set of images, with what reports tell of them: loss, accuracy, confusion,
// mistakes.

import { noGrad } from "../../../autograd/tape.js";
import type { LabelledImages } from "../../../data/dataset.js";
import type { Model } from "../../../nn/model.js";
import { KilogradError } from "../../../tensor/errors.js";
import { scope } from "../../../tensor/scope.js";
import { sizeOf } from "../../../tensor/shape.js";
import { tensor } from "../../../tensor/tensor.js";
import type { Figures } from "../frame/run.js";

/** Answers for `count` images. */
export interface Answers {
  readonly count: number;
  readonly classCount: number;
  /** [count, classes] */
  readonly probabilities: Float64Array;
  /** [count], the most probable class. */
  readonly predicted: Int32Array;
  /** [count], its probability. */
  readonly confidence: Float64Array;
}

/** Answers with the truth beside them. */
export interface Classification extends Answers, Figures {
  readonly images: LabelledImages;
  /** counts[t][p]: how many of class t were taken for class p. */
  readonly confusion: readonly number[][];
  /** Indices of wrong answers, the surest first. */
  readonly mistakes: readonly number[];
}

export interface ClassifyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number) => void;
}

const BATCH = 128;

/**
 * The softmax of the model's logits for images [count, H, W, C], computed in float64 from float32 logits.
 * @throws KilogradError `NON_FINITE` naming the first image for which the model has no answer
 */
export async function answersFor(
  model: Model,
  images: Float32Array,
  { signal, onProgress }: ClassifyOptions = {},
): Promise<Answers> {
  const imageSize = sizeOf(model.inputShape);
  const classCount = sizeOf(model.outputShape);
  const count = images.length / imageSize;
  const answers = {
    count,
    classCount,
    probabilities: new Float64Array(count * classCount),
    predicted: new Int32Array(count),
    confidence: new Float64Array(count),
  };
  for (let start = 0; start < count; start += BATCH) {
    signal?.throwIfAborted();
    const end = Math.min(start + BATCH, count);
    const values = images.subarray(start * imageSize, end * imageSize);
    const shape = [end - start, ...model.inputShape];
    const logits = noGrad(() => scope(() => model.logits(tensor(model.device, values, { shape }))));
    try {
      const rows = await logits.data();
      for (let i = start; i < end; i++) {
        const at = (i - start) * classCount;
        const row = softmaxRow(rows.subarray(at, at + classCount));
        answers.probabilities.set(row, i * classCount);
        const best = row.indexOf(Math.max(...row));
        if (best < 0) {
          const found = Array.from(rows.subarray(at, at + classCount)).join(", ");
          throw new KilogradError(
            "NON_FINITE",
            `${model.name}: the logits of image ${i} must be finite, got ${found}; its pixels or the weights are not`,
          );
        }
        answers.predicted[i] = best;
        answers.confidence[i] = row[best]!;
      }
    } finally {
      logits.dispose();
    }
    onProgress?.(end);
  }
  return answers;
}

/** The softmax of one row of logits, in float64. */
export function softmaxRow(logits: ArrayLike<number>): number[] {
  const values = Array.from(logits);
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** Classifies labelled images and counts what came out. */
export async function classify(
  model: Model,
  images: LabelledImages,
  options: ClassifyOptions = {},
): Promise<Classification> {
  const answers = await answersFor(model, images.images, options);
  const { classCount, count, predicted, confidence, probabilities } = answers;
  const confusion = Array.from({ length: classCount }, () => new Array<number>(classCount).fill(0));
  const mistakes: number[] = [];
  let loss = 0;
  for (let i = 0; i < count; i++) {
    const label = images.labels[i]!;
    confusion[label]![predicted[i]!]!++;
    if (predicted[i] !== label) mistakes.push(i);
    // A float64 softmax of float32 logits reaches 0 at differences beyond 745, where the loss is that difference.
    loss -= Math.log(Math.max(probabilities[i * classCount + label]!, Number.MIN_VALUE));
  }
  mistakes.sort((a, b) => confidence[b]! - confidence[a]!);
  return { ...answers, images, confusion, mistakes, loss: loss / count, accuracy: 1 - mistakes.length / count };
}
