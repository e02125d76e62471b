// What an attack is: it makes images that a classifier takes for another class, of images that it knows. One file an
// attack, listed in index.ts; attackImages (attack-images.ts) runs any of them over a set.
import { fillKernel } from "../../kernels/fill.js";
import { type Changing, type Device, valueNow } from "../../tensor/device.js";
import { havingMethod, number, oneOf, type Rule } from "../../tensor/options.js";
import { type HostTensor, StepPlan } from "../../tensor/step-plan.js";
import { empty, runInto, type Tensor } from "../../tensor/tensor.js";
import type { Model } from "../model.js";
import type { StartStream } from "../random.js";

export type { StartStream };

/** The ball of radius epsilon around an image: by the largest change of a value, or by the Euclidean length of all. */
export type Norm = "linf" | "l2";
export const normRule = oneOf("linf", "l2");

export const epsilonRule = number({ from: 0 });

/** What an attack made of a batch. */
export interface AttackedBatch {
  /** [n, ...inputShape] */
  readonly images: Float32Array;
  /** Of how many images no step had a gradient, so that they were not tried; 0 for attacks that use none. */
  readonly withoutGradient: number;
}

/** An attack of one model, which attacks batch after batch. */
export interface PreparedAttack {
  /**
   * @param x images [n, ...inputShape] in [0, 1]
   * @param y their classes, i32 [n]
   * @param first how many images of the set came before: random numbers depend on an image's place, not on batches
   */
  attack(x: HostTensor, y: HostTensor, first: number): Promise<AttackedBatch>;
  /** Frees what it holds on the device. */
  dispose(): void;
}

export const preparedRule: Rule = {
  expected: "{ attack, dispose } of two functions",
  accepts: (value) => {
    const { attack, dispose } = Object(value) as Partial<PreparedAttack>;
    return typeof attack === "function" && typeof dispose === "function";
  },
};

/** A way to attack a classifier. */
export interface Attack {
  /** For tables and messages: "PGD". */
  readonly name: string;
  /** How it measures a change. */
  readonly norm: Norm;
  /**
   * Largest change that it makes, for values in [0, 1]; undefined for one that looks for the smallest that succeeds.
   */
  readonly epsilon: number | undefined;
  /** Passes forward and back to the images that it takes for an image, to tell how long it will take. */
  readonly passes: number;
  /** @param options seed of its random numbers */
  prepare(model: Model, options: { readonly seed: number }): PreparedAttack;
}

export const attackRule = havingMethod("prepare", "an attack, such as attacks.pgd() gives");

/** What an attack in a step is told. */
export interface PerturbedOptions {
  readonly start: Changing<StartStream>;
  /** Instead of the attack's. */
  readonly epsilon?: Changing<number>;
}

/** What an attack in a step makes of images. */
export interface Perturbed {
  /** [N, ...] */
  readonly images: Tensor;
  /** The largest value of the gradients of all steps, [N, 1, ...]: 0 where an image was never moved by one. */
  readonly strength: Tensor;
}

/**
 * An attack of a fixed number of steps without a look at what came of them. It may be part of a recorded step, so a
 * network can be trained on what it makes (see `adversary`).
 */
export interface StepAttack extends Attack {
  readonly epsilon: number;
  /**
   * Adversarial examples [N, ...] for images x [N, ...inputShape] in [0, 1] of classes y (i32 [N]). What changes from
   * one run of a recorded step to the next is given as a function.
   */
  perturb(model: Model, x: Tensor, y: Tensor, options: PerturbedOptions): Perturbed;
}

export const stepAttackRule: Rule = {
  expected: "an attack that can be part of a training step, such as attacks.pgd() gives",
  accepts: (value) => attackRule.accepts(value) && typeof (value as Partial<StepAttack>).perturb === "function",
};

/** A radius that may change from one run of a recorded step to the next, as a tensor [1]. */
export function radiusOf(device: Device, radius: Changing<number>): Tensor {
  const made = empty(device, [1]);
  runInto(fillKernel, [], [made], () => ({ value: valueNow(radius) }));
  return made;
}

/** An attack of what it does in a step. */
export function stepAttack(definition: Omit<StepAttack, "prepare">): StepAttack {
  return {
    ...definition,
    prepare(model, { seed }) {
      let image = 0;
      const plan = new StepPlan(model.device, (x, y) => {
        const made = definition.perturb(model, x!, y!, { start: () => ({ seed, stream: "attack", image }) });
        return [made.images, made.strength];
      });
      return {
        async attack(x, y, first) {
          image = first;
          const [changed, strength] = plan.run(x, y);
          const images = Float32Array.from(await changed!.data());
          const without = (await strength!.data()).filter((largest) => largest === 0);
          return { images, withoutGradient: without.length };
        },
        dispose: () => plan.dispose(),
      };
    },
  };
}
