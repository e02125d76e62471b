// A classifier for attacks that decide on the host, image by image, what to do next. They see logits of images, and
// gradients of losses of the logits. What is computed on the device is one recorded step for each loss.

import { valueAndGrad } from "../../autograd/differentiate.js";
import { add, div, mul, sub } from "../../autograd/ops/elementwise.js";
import { oneHot } from "../../autograd/ops/gather.js";
import { argmax, logSumExp, max, sum } from "../../autograd/ops/reduce.js";
import { concat, reshape } from "../../autograd/ops/transform.js";
import { noGrad } from "../../autograd/tape.js";
import { KilogradError } from "../../tensor/errors.js";
import { keep } from "../../tensor/scope.js";
import { sizeOf } from "../../tensor/shape.js";
import { StepPlan } from "../../tensor/step-plan.js";
import type { Tensor } from "../../tensor/tensor.js";
import { type Model, OUT_OF_REACH } from "../model.js";

/**
 * What an attack raises, [n], of logits [n, C]. `hot` has 1 at each image's class, `other` at another class that the
 * attack names, both [n, C].
 */
export type AttackLoss = (logits: Tensor, hot: Tensor, other: Tensor) => Tensor;

const alongClasses = { axes: [1] };
const without = (logits: Tensor, hot: Tensor) => sub(logits, mul(hot, OUT_OF_REACH));
const at = (logits: Tensor, hot: Tensor) => sum(mul(logits, hot), alongClasses);

/**
 * log((1 - p) / p) of the probability p of each image's class: the largest of the other logits, softly, less its own.
 * It rises with the cross-entropy -log p. Its gradient is that of the cross-entropy over 1 - p, the same direction. So
 * it is still there where a classifier is so sure that 1 - p is 0 in float32.
 */
export const oddsAgainst: AttackLoss = (logits, hot) =>
  sub(logSumExp(without(logits, hot), alongClasses), at(logits, hot));

/** The largest of the other logits, less the image's own: above 0 where the classifier is wrong. */
export const marginLoss: AttackLoss = (logits, hot) => sub(max(without(logits, hot), alongClasses), at(logits, hot));

/** The other class's logit, less the image's own. */
export const towardsOther: AttackLoss = (logits, hot, other) => sub(at(logits, other), at(logits, hot));

/** Least difference of logits that something is divided by; AutoAttack's. */
const LEAST_DIFFERENCE = 1e-12;

/**
 * Difference of logits ratio, towards a class (Croce and Hein, ICML 2020): (z_t - z_y) / (z_1 - (z_3 + z_4) / 2) for
 * logits z in descending order. It does not depend on the logits' scale. With fewer than four classes there is no z_4:
 * it is z_t - z_y there.
 */
export const differenceRatio: AttackLoss = (logits, hot, other) => {
  const difference = towardsOther(logits, hot, other);
  const classes = logits.shape[1]!;
  if (classes < 4) return difference;
  const [first, , third, fourth] = descending(logits, 4) as [Tensor, Tensor, Tensor, Tensor];
  return div(difference, add(sub(first, mul(add(third, fourth), 0.5)), LEAST_DIFFERENCE));
};

/** The largest logits of each row, the second, and so on, [n] each. */
function descending(logits: Tensor, count: number): Tensor[] {
  const found: Tensor[] = [];
  for (let rest = logits; ; ) {
    found.push(max(rest, alongClasses));
    if (found.length === count) return found;
    rest = without(rest, oneHot(argmax(rest, 1), logits.shape[1]!));
  }
}

/** A model's logits and gradients for images [n, ...inputShape] of the host. */
export class Classifier {
  readonly classes: number;
  /** Values of an image. */
  readonly size: number;
  private readonly plans = new Map<AttackLoss | "logits", StepPlan>();

  constructor(readonly model: Model) {
    this.classes = sizeOf(model.outputShape);
    this.size = sizeOf(model.inputShape);
  }

  /** [n, classes] @throws KilogradError `NON_FINITE` where one is NaN */
  async logits(images: Float32Array): Promise<Float64Array> {
    const plan = this.planOf("logits", (x) => noGrad(() => [this.rows(x!)]));
    return this.checked(Float64Array.from(await plan.run(this.batch(images))[0]!.data()));
  }

  /** The loss of each image, its gradient, and the logits. */
  async gradients(
    loss: AttackLoss,
    images: Float32Array,
    labels: Int32Array,
    others: Int32Array = labels,
  ): Promise<{ readonly losses: Float32Array; readonly gradients: Float32Array; readonly logits: Float64Array }> {
    const plan = this.planOf(loss, (x, y, t) => {
      const [hot, other] = [oneHot(y!, this.classes), oneHot(t!, this.classes)];
      let answers: Tensor | undefined;
      const { grad } = valueAndGrad((images: Tensor) => {
        const logits = this.rows(images);
        const each = loss(logits, hot, other);
        answers = keep(noGrad(() => concat([reshape(each, [each.size, 1]), logits], 1)));
        return sum(each);
      })(x!);
      // One tensor, so that a step is waited for once.
      const all = concat([answers!, reshape(grad, [grad.shape[0]!, this.size])], 1);
      answers!.dispose();
      return [all];
    });
    const count = labels.length;
    const ids = (values: Int32Array) => ({ values, shape: [count] });
    const found = await plan.run(this.batch(images), ids(labels), ids(others))[0]!.data();
    const { classes, size } = this;
    const [losses, gradients] = [new Float32Array(count), new Float32Array(count * size)];
    const logits = new Float64Array(count * classes);
    for (let i = 0, at = 0; i < count; i++, at += 1 + classes + size) {
      losses[i] = found[at]!;
      logits.set(found.subarray(at + 1, at + 1 + classes), i * classes);
      gradients.set(found.subarray(at + 1 + classes, at + 1 + classes + size), i * size);
    }
    return { losses, gradients, logits: this.checked(logits) };
  }

  /** Whether the model gives each image another class than its own; of equal logits the first counts. */
  wrong(logits: Float64Array, labels: Int32Array): boolean[] {
    return Array.from(labels, (label, image) => this.ranked(logits, image)[0] !== label);
  }

  /** The classes of an image, the most probable first. */
  ranked(logits: Float64Array, image: number): number[] {
    const row = logits.subarray(image * this.classes, (image + 1) * this.classes);
    return Array.from(row.keys()).sort((a, b) => row[b]! - row[a]! || a - b);
  }

  dispose(): void {
    for (const plan of this.plans.values()) plan.dispose();
    this.plans.clear();
  }

  private rows(x: Tensor): Tensor {
    return reshape(this.model.logits(x), [x.shape[0]!, this.classes]);
  }

  private batch(values: Float32Array) {
    return { values, shape: [values.length / this.size, ...this.model.inputShape] };
  }

  private planOf(name: AttackLoss | "logits", fn: (...inputs: Tensor[]) => readonly Tensor[]): StepPlan {
    const plan = this.plans.get(name) ?? new StepPlan(this.model.device, fn);
    this.plans.set(name, plan);
    return plan;
  }

  private checked(logits: Float64Array): Float64Array {
    const wrong = logits.findIndex(Number.isNaN);
    if (wrong < 0) return logits;
    throw new KilogradError(
      "NON_FINITE",
      `attack: the logits of image ${Math.floor(wrong / this.classes)} of a batch must be numbers, got NaN; its values or the model's weights are not`,
    );
  }
}
