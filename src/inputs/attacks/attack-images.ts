// An attack over a whole set of images, and what the classifier says then: its accuracy under attack.
import { noGrad } from "../../autograd/tape.js";
import { requireModel } from "../../nn/model.js";
import { type LabelledData, SampleSet } from "../../nn/samples.js";
import { KilogradError, UsageError } from "../../tensor/errors.js";
import { callable, check, checkOptions, instanceOf, integer, object, type Rules } from "../../tensor/options.js";
import { refusePromise } from "../../tensor/scope.js";
import { sizeOf } from "../../tensor/shape.js";
import { StepPlan } from "../../tensor/step-plan.js";
import type { Model } from "../model.js";
import { type Attack, type AttackedBatch, attackRule, preparedRule } from "./attack.js";
import { type Distances, distancesBetween } from "./distances.js";

/** Options of {@link attackImages}. */
export interface AttackOptions {
  /** Of the attack's random numbers; default 0. */
  readonly seed?: number;
  /** Default 250; a matter of memory and speed only. */
  readonly batchSize?: number;
  /** Ends the attack with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Told after every batch how many images are done. */
  readonly onProgress?: (done: number) => void;
}

const attackOptionRules: Rules<AttackOptions> = {
  seed: integer(),
  batchSize: integer({ from: 1 }),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
  onProgress: callable,
};

/** A set of images after an attack. */
export interface Attacked {
  /** The changed images, [N, ...inputShape] in a row. */
  readonly images: Float32Array;
  /** The class that the model gives each of them, [N]. */
  readonly predicted: Int32Array;
  /** Share of them that the model still gives their own class: its accuracy under this attack. */
  readonly accuracy: number;
  /** How far each image was moved, [N] each. */
  readonly distances: Distances;
  /** Of how many images no step had a gradient: what is said of these is not said of an attack. */
  readonly withoutGradient: number;
}

/**
 * Attacks a set of images in [0, 1] with their class ids. The same seed gives the same bits.
 * @throws UsageError for options out of range, for values outside [0, 1] and for targets that are no class ids;
 * KilogradError `NON_FINITE` where the model's answer for a changed image is NaN; the signal's reason when it is
 * aborted
 * @example
 * const { accuracy } = await attackImages(model, test, attacks.pgd({ norm: "linf", epsilon: 0.1 }));
 */
export async function attackImages(
  model: Model,
  data: LabelledData,
  attack: Attack,
  options: AttackOptions = {},
): Promise<Attacked> {
  requireModel("attackImages", model);
  check("attackImages", "attack", attack, attackRule);
  const { seed = 0, batchSize = 250, signal, onProgress } = checkOptions("attackImages", options, attackOptionRules);
  const set = new SampleSet(model, data);
  const { count } = set;
  const [from, labels] = [set.inputRange(0, count).values as Float32Array, set.targetRange(0, count).values];
  if (!(labels instanceof Int32Array)) {
    throw new UsageError("attackImages: needs class ids as targets, an Int32Array, got values of the model's outputs");
  }
  const outside = from.findIndex((value) => value < 0 || value > 1);
  if (outside >= 0) {
    throw new UsageError(
      `attackImages: values must be from 0 to 1, got ${from[outside]} in image ${Math.floor((outside * count) / from.length)}; scale them, and let the model begin with what it needs besides`,
    );
  }
  const images = new Float32Array(from.length);
  let withoutGradient = 0;
  const prepared = attack.prepare(model, { seed });
  check("attackImages", "what attack.prepare() gives", prepared, preparedRule);
  try {
    for (let start = 0; start < count; start += batchSize) {
      signal?.throwIfAborted();
      const end = Math.min(start + batchSize, count);
      const batch = await prepared.attack(set.inputRange(start, end), set.targetRange(start, end), start);
      checkBatch(batch, (end - start) * sizeOf(model.inputShape));
      images.set(batch.images, start * sizeOf(model.inputShape));
      withoutGradient += batch.withoutGradient;
      refusePromise("attackImages", onProgress?.(end), "onProgress", "await after the attack");
    }
  } finally {
    prepared.dispose();
  }
  const predicted = await predictedClasses(model, new SampleSet(model, { inputs: images, targets: labels }), signal);
  const accuracy = 1 - predicted.filter((found, i) => found !== labels[i]).length / count;
  return { images, predicted, accuracy, distances: distancesBetween(from, images, count), withoutGradient };
}

/** @throws UsageError for what is no batch of `size` values */
function checkBatch(batch: AttackedBatch, size: number): void {
  check("attackImages", "what attack() gives", batch, object);
  const { images, withoutGradient } = batch;
  check("attackImages", "images that attack() gives", images, {
    expected: `a Float32Array of ${size} values`,
    accepts: (value) => value instanceof Float32Array && value.length === size,
  });
  check("attackImages", "withoutGradient that attack() gives", withoutGradient, integer({ from: 0 }));
}

/** As nn's `predict`. */
const PREDICTION_BATCH = 128;

/** The classes of the largest logits, [N]: outputs of a sure softmax are equal where logits are not. */
async function predictedClasses(model: Model, set: SampleSet, signal: AbortSignal | undefined): Promise<Int32Array> {
  const predicted = new Int32Array(set.count);
  const classes = sizeOf(model.outputShape);
  const plan = new StepPlan(model.device, (x) => noGrad(() => [model.logits(x!)]));
  try {
    for (let start = 0; start < set.count; start += PREDICTION_BATCH) {
      signal?.throwIfAborted();
      const end = Math.min(start + PREDICTION_BATCH, set.count);
      const logits = await plan.run(set.inputRange(start, end))[0]!.data();
      for (let image = start; image < end; image++) {
        const row = Array.from(logits.subarray((image - start) * classes, (image - start + 1) * classes));
        predicted[image] = row.indexOf(Math.max(...row));
        if (predicted[image] !== -1) continue;
        throw new KilogradError(
          "NON_FINITE",
          `attackImages: the logits of image ${image} must be finite, got ${row.join(", ")}; its values or the model's weights are not`,
        );
      }
    }
  } finally {
    plan.dispose();
  }
  return predicted;
}
