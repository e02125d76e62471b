// What bench:models runs: published networks at the size that they were published for, as plain data that every
// contender can be given: a graph of layers, weights, pictures and classes in files. Nothing here computes.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { mobileNetV2, resNet18 } from "../src/applications.js";
import type { Architecture, FunctionalConfig } from "../src/nn/architecture.js";
import { architectureFromConfig } from "../src/nn/from-config.js";
import { RandomStream } from "../src/tensor/random.js";
import { type Shape, sizeOf } from "../src/tensor/shape.js";
import { packed } from "./packed.js";

/** Prediction; the gradient of the loss for the pictures, of frozen weights; a step of SGD. */
export type ModelKind = "predict" | "inputGradient" | "train";

export interface ModelWorkload {
  readonly name: string;
  readonly kind: ModelKind;
  readonly batch: number;
  readonly architecture: () => Architecture;
}

const of = (network: string, kind: ModelKind, batch: number, architecture: () => Architecture): ModelWorkload => ({
  ...{ name: `${network} ${kind} b${batch}`, kind, batch, architecture },
});

/** Pictures of `size` pixels along both sides: 224 as published, smaller ones for a trial. */
export const modelWorkloads = (size: number): readonly ModelWorkload[] => {
  const inputShape = [size, size, 3] as const;
  const mobile = () => mobileNetV2({ inputShape });
  return [
    of("MobileNetV2", "predict", 1, mobile),
    of("MobileNetV2", "predict", 8, mobile),
    of("MobileNetV2", "inputGradient", 1, mobile),
    of("MobileNetV2", "inputGradient", 8, mobile),
    of("ResNet-18", "train", 8, () => resNet18({ inputShape })),
  ];
};

export const LEARNING_RATE = 0.01;

/** A workload in words that do not depend on an engine. Pictures are [N, H, W, C], kernels [kh, kw, in, out]. */
export interface ModelSpec {
  readonly name: string;
  readonly kind: ModelKind;
  readonly batch: number;
  readonly learningRate: number;
  /** The last layer is dense with a softmax; gradients are of the cross-entropy of what is before that. */
  readonly model: FunctionalConfig;
  /** In the order of the file of weights, which is that of the layers. */
  readonly weights: readonly { readonly name: string; readonly shape: Shape; readonly trainable: boolean }[];
}

export interface ModelTask {
  readonly spec: ModelSpec;
  readonly inputs: Float32Array;
  readonly targets: Int32Array;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Weights with which numbers neither vanish nor grow, and normalisations that do something. */
function weightValues(name: string, shape: Shape): Float32Array {
  const random = new RandomStream(1, name);
  const kind = name.split("/").at(-1)!;
  const depthwise = shape.length === 4 && shape[3] === 1;
  const fanIn = sizeOf(depthwise ? shape.slice(0, 2) : shape.slice(0, -1));
  const [centre, range] = {
    kernel: [0, Math.sqrt(4.5 / fanIn)],
    gamma: [1, 0.1],
    movingVariance: [1, 0.25],
  }[kind] ?? [0, 0.1];
  return Float32Array.from({ length: sizeOf(shape) }, () => centre! + range! * (2 * random.uniform() - 1));
}

export function makeModelTask({ name, kind, batch, architecture }: ModelWorkload): ModelTask {
  const { layers, inputShape, ...rest } = architecture();
  const model = architecture().config();
  if (model.className !== "Functional") throw new Error(`${rest.name}: bench:models is for graphs`);
  const weights = layers.flatMap((layer) =>
    layer.weights.map(({ name, shape, trainable }) => ({ name: `${layer.name}/${name}`, shape, trainable })),
  );
  const random = new RandomStream(1, "pictures");
  return {
    spec: { name, kind, batch, learningRate: LEARNING_RATE, model, weights },
    inputs: Float32Array.from({ length: batch * sizeOf(inputShape) }, () => 2 * random.uniform() - 1),
    targets: Int32Array.from({ length: batch }, (_, i) => (i * 37) % 1000),
    weights: new Map(weights.map(({ name, shape }) => [name, weightValues(name, shape)])),
  };
}

/** Where a training begins: weights that are trained, one after the other. */
export const trainedWeights = ({ spec, weights }: ModelTask): Float32Array =>
  packed(spec.weights.flatMap(({ name, trainable }) => (trainable ? [weights.get(name)!] : [])));

export async function writeModelTask(folder: string, { spec, inputs, targets, weights }: ModelTask): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "task.json"), JSON.stringify(spec));
  await writeFile(join(folder, "inputs"), inputs);
  await writeFile(join(folder, "targets"), targets);
  await writeFile(join(folder, "weights.f32"), packed(spec.weights.map(({ name }) => weights.get(name)!)));
}

export async function readModelTask(folder: string): Promise<ModelTask> {
  const spec = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as ModelSpec;
  const [inputs, targets, flat] = await Promise.all(
    ["inputs", "targets", "weights.f32"].map((name) => readFile(join(folder, name))),
  );
  const floats = (bytes: Buffer) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const all = floats(flat!);
  let at = 0;
  const weights = new Map(
    spec.weights.map(({ name, shape }) => [name, all.subarray(at, (at += sizeOf(shape)))] as const),
  );
  return {
    ...{ spec, weights, inputs: floats(inputs!) },
    targets: new Int32Array(targets!.buffer, targets!.byteOffset, targets!.byteLength / 4),
  };
}

export const architectureOfTask = ({ model }: ModelSpec): Architecture => architectureFromConfig(model);
