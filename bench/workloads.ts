// What bench:steps and bench:peers run: models with their batches, and input optimisation. All of it is plain data that
// every contender can be given: layers, weights, inputs and targets in files. Nothing here computes.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digits } from "../src/data/digits.js";
import { autoencoder, type ZooModel, zooArchitecture, zooModel } from "../src/experiments/lib/training/models.js";
import type { Architecture, ModelConfig } from "../src/nn/architecture.js";
import { architectureFromConfig } from "../src/nn/from-config.js";
import type { LayerConfig } from "../src/nn/layer.js";
import { CpuDevice } from "../src/tensor/cpu.js";
import { RandomStream } from "../src/tensor/random.js";
import type { Shape } from "../src/tensor/shape.js";
import { packed, TASK_FILES, taskOf } from "./packed.js";

/** One row of the tables. */
export interface Workload {
  readonly name: string;
  readonly kind: "train" | "optimize" | "predict";
  readonly zoo: ZooModel;
  /** Images of a step. */
  readonly batch: number;
  /** Steps of a timed run of ours; in training each on another batch. */
  readonly steps: number;
}

const training = (zoo: ZooModel, batch: number, steps: number): Workload => ({
  ...{ name: `${zoo.name} b${batch}`, kind: "train", zoo, batch, steps },
});
const optimising = (images: number, steps: number): Workload => ({
  ...{ name: `optimise ${images}`, kind: "optimize", zoo: zooModel("small-cnn"), batch: images, steps },
});

export const workloads: readonly Workload[] = [
  training(zooModel("mlp-64"), 128, 128),
  training(zooModel("small-cnn"), 32, 128),
  training(zooModel("small-cnn"), 128, 32),
  training(zooModel("sgd-cnn"), 128, 24),
  training(autoencoder, 64, 96),
  optimising(1, 100),
  optimising(10, 50),
  optimising(100, 25),
  training(zooModel("alexnet-plus"), 16, 1),
  training(zooModel("alexnet-plus"), 128, 16),
];

/** Penalty on squared pixels, and learning rate of Adam, in input optimisation: those of `kilograd optimize`. */
const OPTIMIZE = { l2: 1e-4, learningRate: 0.05 };

/** A workload in words that do not depend on an engine. Images are [N, H, W, C], kernels [kh, kw, in, out]. */
export interface TaskSpec {
  readonly name: string;
  readonly kind: Workload["kind"];
  readonly batch: number;
  /** Batches in `inputs` and `targets`, taken in order and over again; 1 for input optimisation. */
  readonly batches: number;
  /** Steps of a timed run of ours. */
  readonly timedSteps: number;
  readonly model: ModelConfig;
  readonly layers: readonly {
    readonly className: string;
    readonly name: string;
    readonly config: LayerConfig;
    readonly inputShape: Shape;
  }[];
  /** In the order of the file of weights. */
  readonly weights: readonly { readonly name: string; readonly shape: Shape; readonly trainable: boolean }[];
  /** Adam as Keras has it: epsilon 1e-7 beside the uncorrected root. */
  readonly optimizer: { readonly name: string; readonly learningRate: number };
  /**
   * Softmax: of class ids (i32 [N]), or of distributions (f32 [N, 10]) in input optimisation. Sigmoid: of f32 [N, 784].
   */
  readonly loss: "softmax" | "sigmoid";
  readonly l2: number;
}

export interface Task {
  readonly spec: TaskSpec;
  readonly inputs: Float32Array;
  readonly targets: Int32Array | Float32Array;
  /** By name; absent where the model may begin with weights of its own. */
  readonly weights?: ReadonlyMap<string, Float32Array>;
}

/** The workload's model; `dropout: false` leaves out what is random in a step. */
function architectureOf({ zoo }: Workload, dropout: boolean): Architecture {
  const full = zooArchitecture(zoo).config();
  if (dropout) return architectureFromConfig(full);
  return architectureFromConfig({ ...full, layers: full.layers.filter(({ className }) => className !== "Dropout") });
}

export function makeTask(workload: Workload, { dropout }: { readonly dropout: boolean }): Task {
  const { name, kind, zoo, batch, steps } = workload;
  const architecture = architectureOf(workload, dropout);
  const optimizer = zoo.optimizer({ learningRate: zoo.learningRate }, 1);
  const batches = kind === "optimize" ? 1 : steps;
  const spec: TaskSpec = {
    ...{ name, kind, batch, batches, timedSteps: steps },
    model: architecture.config(),
    layers: architecture.layers.map(({ name, layer: { className, config }, inputShape }) => ({
      ...{ className, name, config, inputShape },
    })),
    weights: architecture.layers.flatMap((layer) =>
      layer.weights.map(({ name, shape, trainable }) => ({ name: `${layer.name}/${name}`, shape, trainable })),
    ),
    optimizer:
      kind === "optimize"
        ? { name: "adam", learningRate: OPTIMIZE.learningRate }
        : { name: optimizer.name, learningRate: zoo.learningRate },
    loss: architecture.layers.at(-1)!.layer.activation === "sigmoid" ? "sigmoid" : "softmax",
    l2: OPTIMIZE.l2,
  };
  return { spec, ...(kind === "optimize" ? startsAndTargets(batch) : batchesOf(spec, batch * batches)) };
}

/** Whether a task is so little work a step that a device opened for that is faster, as the commands decide it, too. */
export function hasTinyDispatches({ model, batch }: TaskSpec): boolean {
  return architectureFromConfig(model).hasTinyDispatches(batch);
}

/** Digits; where the model gives images, noisy ones with the clean ones as targets. */
function batchesOf({ loss }: TaskSpec, count: number): Pick<Task, "inputs" | "targets"> {
  const { images, labels } = digits({ seed: 1, trainCount: Math.min(count, 2048), testCount: 1 }).train;
  const inputs = Float32Array.from({ length: count * 784 }, (_, i) => images[i % images.length]!);
  if (loss === "softmax")
    return { inputs, targets: Int32Array.from({ length: count }, (_, i) => labels[i % labels.length]!) };
  const random = new RandomStream(1, "noise");
  const noisy = inputs.map((pixel) => (random.uniform() < 0.6 ? pixel : Math.round(random.uniform())));
  return { inputs: noisy, targets: inputs };
}

/** Uniform noise; the digits in turn. */
function startsAndTargets(count: number): Pick<Task, "inputs" | "targets"> {
  const random = new RandomStream(1, "starts");
  return {
    inputs: Float32Array.from({ length: count * 784 }, () => random.uniform()),
    targets: Float32Array.from({ length: count * 10 }, (_, i) => (Math.floor(i / 10) % 10 === i % 10 ? 1 : 0)),
  };
}

/** The task with the weights that a model of seed 1 has. */
export async function withWeights(task: Task): Promise<Task> {
  await using device = new CpuDevice();
  const model = architectureFromConfig(task.spec.model).build({ device, seed: 1 });
  const weights = new Map<string, Float32Array>();
  for (const [name, tensor] of model.namedTensors()) weights.set(name, Float32Array.from(await tensor.data()));
  return { ...task, weights };
}

/** Writes a task with weights for another process: task.json, inputs, targets and weights one after the other. */
export async function writeTask(folder: string, { spec, inputs, targets, weights }: Task): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "task.json"), JSON.stringify(spec));
  await writeFile(join(folder, TASK_FILES[0]), inputs);
  await writeFile(join(folder, TASK_FILES[1]), targets);
  await writeFile(join(folder, TASK_FILES[2]), packed(spec.weights.map(({ name }) => weights!.get(name)!)));
}

export async function readTask(folder: string): Promise<Task> {
  const spec = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as TaskSpec;
  const [inputs, targets, weights] = await Promise.all(TASK_FILES.map((name) => readFile(join(folder, name))));
  return taskOf(spec, [inputs!, targets!, weights!]);
}
