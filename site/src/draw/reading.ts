// What the page "Draw" computes of a digit: probabilities, what speaks for the answer, the least change to another one,
// adversarial noise.
import { mul, type nn, sub, sum, tensor } from "../../../src/index.js";
import { attackImages, attacks, attributions, objectives, optimizeInputs } from "../../../src/inputs.js";

export interface Reading {
  /** [10] */
  readonly probabilities: Float32Array;
  readonly digit: number;
}

const largest = (row: Float32Array) => row.indexOf(row.reduce((a, b) => Math.max(a, b)));

/** What a network says of an image [28, 28]. */
export async function read(model: nn.Model, image: Float32Array): Promise<Reading> {
  const { data } = await model.predict(image);
  const probabilities = Float32Array.from(data);
  return { probabilities, digit: largest(probabilities) };
}

/** Integrated gradients [28, 28] of the logit of the network's answer. */
export async function attribute(model: nn.Model, image: Float32Array, digit: number): Promise<Float32Array> {
  const { values } = await attributions.integratedGradients(model, image, { target: digit, steps: 16 });
  return values;
}

export interface Changed extends Reading {
  /** [28, 28] */
  readonly image: Float32Array;
  /** Euclidean length of the change. */
  readonly distance: number;
}

/** Weight of the squared change beside the cross-entropy. */
const STAY = 0.05;

/** The image, changed a little, so that the network says `target`. */
export async function leastChange(model: nn.Model, image: Float32Array, target: number): Promise<Changed> {
  const shares = Float32Array.from({ length: 10 }, (_, digit) => Number(digit === target));
  const before = tensor(model.device, image, { shape: [1, 28, 28, 1] });
  try {
    const { images } = await optimizeInputs(model, {
      objective: objectives.targetProbabilities(shares),
      starts: image,
      steps: 80,
      regularizers: [
        (x) => {
          const change = sub(x, before);
          return mul(sum(mul(change, change), { axes: [1, 2, 3] }), STAY);
        },
      ],
    });
    const distance = Math.sqrt(images.reduce((total, value, i) => total + (value - image[i]!) ** 2, 0));
    return { image: images, distance, ...(await read(model, images)) };
  } finally {
    before.dispose();
  }
}

/** PGD in the L-infinity ball around the image, away from the network's answer. */
export async function attacked(model: nn.Model, image: Float32Array, epsilon: number): Promise<Changed> {
  const { digit } = await read(model, image);
  const attack = attacks.pgd({ norm: "linf", epsilon, steps: 20 });
  const { images, distances } = await attackImages(model, { inputs: image, targets: Int32Array.of(digit) }, attack);
  return { image: images, distance: distances.l2[0]!, ...(await read(model, images)) };
}
