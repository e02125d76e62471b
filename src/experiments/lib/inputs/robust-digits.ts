// Digits from pure noise that a person can read, as the main job ends. The same network is trained on adversarial
// examples. Shown are the images that it asks for, and what either network says of the other's.
import { join } from "node:path";
import type { ImageDataset } from "../../../data/dataset.js";
import { saveModel } from "../../../nn/checkpoint.js";
import type { Model } from "../../../nn/model.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import type { RunContext } from "../frame/run.js";
import type { CommandOptions } from "../report/text.js";
import { type Answers, answersFor } from "../training/classify.js";
import { zooArchitecture, zooModel } from "../training/models.js";
import { modelNotes, runTraining, setsOf, type TrainConfig, type TrainRun } from "../training/train-run.js";
import {
  type FoundImage,
  joined,
  type OptimizeRun,
  readableSettings,
  runOptimization,
  wishesFor,
} from "./optimize-run.js";
import { parseTargets } from "./target.js";

/** Steps that adversarial training takes at least: of a small data set, more epochs. */
const LEAST_STEPS = 400;

export interface RobustDigitsOptions {
  readonly device: WebGpuDevice;
  readonly dataset: ImageDataset;
  /** Where the model is written, as robust.safetensors. */
  readonly folder: string;
  readonly seed: number;
  /** Starts for each digit. */
  readonly starts: number;
  /** The network that was trained as usual, and its images from noise, one digit each. */
  readonly plain: Model;
  readonly plainImages: readonly FoundImage[];
  /** Options of the command besides these. */
  readonly goOnWith: CommandOptions;
}

/** What a network says of each image. */
export type Opinion = Pick<Answers, "predicted" | "confidence">;

export interface RobustDigits {
  readonly training: Omit<TrainRun, "model">;
  readonly run: OptimizeRun;
  /** What the plain network says of the robust one's images; it had no part in finding them. */
  readonly plainOnReadable: Opinion;
  /** What the robust network says of the plain one's images from noise. */
  readonly robustOnPlain: Opinion;
  readonly plainImages: readonly FoundImage[];
}

/** Trains, finds and asks. */
export async function robustDigits(options: RobustDigitsOptions, context: RunContext): Promise<RobustDigits> {
  const { device, dataset, folder, seed, starts, plain, plainImages, goOnWith } = options;
  const { signal } = context;
  const zoo = zooModel("robust-cnn");
  const { name, batchSize: batch, learningRate: lr } = zoo;
  const epochs = Math.max(zoo.epochs, Math.ceil(LEAST_STEPS / Math.ceil(dataset.train.count / batch)));
  const config: TrainConfig = { model: name, data: dataset.name, epochs, batch, lr, seed };
  const model = zooArchitecture(zoo).build({ device, seed });
  try {
    const { model: _, ...training } = await runTraining(
      {
        ...{ model, zoo, config, dataset, sets: setsOf(zoo, config, dataset), folder, goOnWith },
        checkpointName: "robust-checkpoint.safetensors",
      },
      context,
    );
    await saveModel(join(folder, "robust.safetensors"), model, { notes: modelNotes({ ...training, model }) });
    const wishes = wishesFor(parseTargets("all"), "noise", { count: starts, seed, images: undefined });
    const found = await runOptimization(model, wishes, { ...readableSettings, seed }, context);
    const run = { ...found, images: found.images.map((image) => ({ ...image, file: `readable-${image.file}` })) };
    return {
      ...{ training, run, plainImages },
      plainOnReadable: await answersFor(plain, pixelsOf(run.images), { signal }),
      robustOnPlain: await answersFor(model, pixelsOf(plainImages), { signal }),
    };
  } finally {
    model.dispose();
  }
}

const pixelsOf = (images: readonly FoundImage[]) => joined(images.map(({ pixels }) => pixels));

/** How many of some images a network takes for the digit they were found for. */
export function takenFor(images: readonly FoundImage[], { predicted }: Opinion): number {
  return images.filter(({ target }, index) => predicted[index] === target.likeliest).length;
}

/** For metrics.json. */
export function robustMetrics({ training, run, plainOnReadable, robustOnPlain, plainImages }: RobustDigits) {
  const { test, seconds, config, zoo } = training;
  const { loss, accuracy } = test;
  return {
    ...{ model: config.model, adversary: zoo.adversary, epochs: config.epochs, test: { loss, accuracy }, seconds },
    images: run.images.length,
    targetsMet: run.images.filter(({ met }) => met).length,
    takenForByPlain: takenFor(run.images, plainOnReadable),
    ofPlain: { images: plainImages.length, takenForByRobust: takenFor(plainImages, robustOnPlain) },
  };
}
