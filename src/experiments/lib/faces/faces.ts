// Faces for the classifier of emotions: how their pixels are prepared, the network, and answers for one face at a time.

import { noGrad } from "../../../autograd/tape.js";
import type { LabelledImages } from "../../../data/dataset.js";
import { fer2013Classes } from "../../../data/fer2013-format.js";
import { type Architecture, architecture } from "../../../nn/architecture.js";
import type { Layer } from "../../../nn/layer.js";
import { batchNorm } from "../../../nn/layers/batch-norm.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { activation, flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { dropout } from "../../../nn/layers/dropout.js";
import { groupNorm } from "../../../nn/layers/group-norm.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";
import { rescaling } from "../../../nn/layers/preprocessing.js";
import type { Model } from "../../../nn/model.js";
import type { Device } from "../../../tensor/device.js";
import { StepPlan } from "../../../tensor/step-plan.js";
import { distortion } from "../training/augment.js";

/** Height and width of a face. */
export const FACE_SIDE = 48;
const FACE_PIXELS = FACE_SIDE * FACE_SIDE;

/** Twice chance for seven emotions: below it a guess is hardly better than none. */
export const LEAST_CONFIDENCE = 0.3;

/** What a model file's notes say of the pixels that the model takes: bytes, which it prepares itself. */
export const PIXELS = "0-255";
/**
 * What notes of earlier files say, whose models take prepared pixels. Models without notes take them in [0, 1]. The
 * face finder's windows are still prepared so.
 */
export const STANDARDIZED = "each face less its mean, divided by its standard deviation + 0.02";
const LEAST_DEVIATION = 0.02;

/** Each image of `pixels` [N, size] less its own mean, divided by its own standard deviation: light and contrast go. */
export function standardized(pixels: Float32Array, size = FACE_PIXELS): Float32Array {
  const result = new Float32Array(pixels.length);
  for (let start = 0; start < pixels.length; start += size) {
    let [sum, squares] = [0, 0];
    for (let i = start; i < start + size; i++) {
      sum += pixels[i]!;
      squares += pixels[i]! ** 2;
    }
    const mean = sum / size;
    const deviation = Math.sqrt(Math.max(0, squares / size - mean * mean)) + LEAST_DEVIATION;
    for (let i = start; i < start + size; i++) result[i] = (pixels[i]! - mean) / deviation;
  }
  return result;
}

/**
 * What the model does to bytes before it looks at a face: numbers from 0 to 1, then each face less its own mean,
 * divided by sqrt(variance + epsilon). Light and contrast go. Keras has both layers. It is group normalisation of one
 * group: of a layer normalisation along several axes Keras 3 forgets the axes when it reads an .h5 file.
 */
const preparation = (): readonly Layer[] => [
  rescaling({ scale: 1 / 255, name: "bytes" }),
  groupNorm({ groups: 1, center: false, scale: false, epsilon: LEAST_DEVIATION ** 2, name: "light_and_contrast" }),
];

/** Faces in [0, 1] as bytes: what FER2013 and cameras have. */
export const bytesOf = (faces: LabelledImages): LabelledImages => ({
  ...faces,
  images: faces.images.map((pixel) => Math.round(255 * pixel)),
});

/** Faces in [0, 1] as the network takes them behind the preparation, by the layers of the preparation. */
export async function preparedFaces(device: Device, faces: LabelledImages): Promise<LabelledImages> {
  const network = architecture({ name: "preparation", inputShape: [FACE_SIDE, FACE_SIDE, 1] }, preparation());
  const model = network.build({ device });
  try {
    return { ...faces, images: Float32Array.from((await model.predict(bytesOf(faces).images)).data) };
  } finally {
    model.dispose();
  }
}

/** The preparation and a trained network as one model, which takes bytes. The caller disposes it. */
export async function withPreparation(network: Architecture, trained: Model): Promise<Model> {
  const whole = architecture({ name: network.name, inputShape: network.inputShape }, [
    ...preparation(),
    ...network.layers.map(({ layer }) => layer),
  ]).build({ device: trained.device, seed: trained.seed });
  const weights = whole.weights();
  for (const [i, { tensor }] of trained.weights().entries()) weights[i]!.tensor.assign(await tensor.data());
  return whole;
}

/** Mirroring, and what a face finder leaves open: place, size and tilt. Standardised faces are 0 outside. */
export const distortFaces = distortion({
  rotation: 0.1,
  scale: 0.08,
  shear: 0,
  shift: 2,
  elastic: 0,
  mirrored: true,
});

/** Convolution without bias, normalised, then rectified. */
const normalized = (filters: number, options: { kernelSize?: number; strides?: number } = {}) => [
  conv2d({ filters, kernelSize: 3, padding: "same", useBias: false, kernelInitializer: "heNormal", ...options }),
  batchNorm({ momentum: 0.9 }),
  activation("relu"),
];

/**
 * A network for faces [48, 48, 1]. Its first convolution takes every second pixel only, because on small adapters whole
 * pictures of many channels cost more than anything after them.
 * @param filters of the four convolutions
 */
export function faceArchitecture(filters: readonly number[], dropoutRate: number): Architecture {
  const [first = 0, ...rest] = filters;
  return architecture({ name: "emotion", inputShape: [FACE_SIDE, FACE_SIDE, 1] }, [
    ...normalized(first, { kernelSize: 5, strides: 2 }),
    ...rest.flatMap((count) => [...normalized(count), maxPool2d(2)]),
    flatten(),
    dropout(dropoutRate),
    dense({ units: fer2013Classes.length, activation: "softmax" }),
  ]);
}

/** What a model says of one face. */
export interface FaceAnswer {
  readonly predicted: number;
  /** Its probability. */
  readonly confidence: number;
  readonly probabilities: readonly number[];
}

/** Answers for one face at a time, as fast as they come: the step is recorded once and replayed. */
export class FaceClassifier {
  private readonly plan: StepPlan;

  /** @param prepare from pixels in [0, 1] to what the model was trained on */
  constructor(
    private readonly model: Model,
    private readonly prepare: (pixels: Float32Array) => Float32Array,
  ) {
    this.plan = new StepPlan(model.device, (x) => noGrad(() => [model.call(x!)]));
  }

  /** @param pixels [48, 48] in [0, 1] */
  async answer(pixels: Float32Array): Promise<FaceAnswer> {
    const [output] = this.plan.run({ values: this.prepare(pixels), shape: [1, ...this.model.inputShape] });
    const probabilities = Array.from(await output!.data());
    const confidence = Math.max(...probabilities);
    return { predicted: probabilities.indexOf(confidence), confidence, probabilities };
  }

  dispose(): void {
    this.plan.dispose();
  }
}
