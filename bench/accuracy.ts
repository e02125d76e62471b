// The accuracies of the recipes, as docs/experiments.md tells them: each is trained anew for every seed and measured
// once, on the test part.
//
// npm run bench:accuracy -- ROW [SEED ...]    rows: see `rows` below; default seeds: 0 1 2
//
// A training that is interrupted goes on from its checkpoint. What a seed came to is kept in
// out/accuracy/ROW-SEED.json, and not computed again. Data are looked for where the commands look for them: in
// KILOGRAD_DATA_DIR.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadCifar10 } from "../src/data/cifar10.js";
import { type LabelledImages, limitImages } from "../src/data/dataset.js";
import { loadFer2013 } from "../src/data/fer2013.js";
import { loadMnist } from "../src/data/mnist.js";
import { classifierPlan, photographNetwork, photographs } from "../src/experiments/adversarial.js";
import { experiment as emotion, facePlan, onlyHere } from "../src/experiments/emotion.js";
import { adversarialPlan } from "../src/experiments/lib/adversarial/adversarial-training.js";
import { preparedFaces } from "../src/experiments/lib/faces/faces.js";
import { describeAdapter, versions } from "../src/experiments/lib/frame/run.js";
import { distort } from "../src/experiments/lib/training/augment.js";
import { classify } from "../src/experiments/lib/training/classify.js";
import { fitOptions, type TrainingPlan } from "../src/experiments/lib/training/experiment-training.js";
import { zooArchitecture, zooLoss, zooModel } from "../src/experiments/lib/training/models.js";
import {
  digitDefence,
  digitTraining,
  photographDefence,
  photographTraining,
  experiment as robust,
} from "../src/experiments/robust.js";
import { attackImages, attacks } from "../src/inputs.js";
import { prepareOutputFolder, writeJson } from "../src/io/node.js";
import type { Callback } from "../src/nn/callbacks/index.js";
import type { Model } from "../src/nn/model.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { openDevice } from "../src/webgpu/open-device.js";

/** Images of the test part that AutoAttack takes, which asks thousands of times for each. */
const THOROUGHLY_ATTACKED = 500;

type Figures = Readonly<Record<string, number>>;

/** A training, and what is measured of the trained model. */
interface Recipe {
  readonly plan: TrainingPlan;
  readonly measure: (model: Model) => Promise<Figures>;
}

const accuracyOn = async (model: Model, images: LabelledImages) => (await classify(model, images)).accuracy;

/** Images, each mirrored left for right. */
function mirrored(set: LabelledImages): LabelledImages {
  const [height, width, channels] = set.imageShape;
  const images = new Float32Array(set.images.length);
  for (let row = 0; row < set.count * height; row++) {
    for (let column = 0; column < width; column++) {
      const from = (row * width + width - 1 - column) * channels;
      images.set(set.images.subarray(from, from + channels), (row * width + column) * channels);
    }
  }
  return { ...set, images };
}

/** Answers for images, and the means of those for an image and its mirror image. */
async function answers(model: Model, images: LabelledImages) {
  const straight = await classify(model, images);
  const { probabilities } = await classify(model, mirrored(images));
  const mistakes = Array.from(images.labels.keys()).filter((i) => {
    const row = Array.from({ length: straight.classCount }, (_, k) => {
      const at = i * straight.classCount + k;
      return straight.probabilities[at]! + probabilities[at]!;
    });
    return row.indexOf(Math.max(...row)) !== images.labels[i];
  });
  return { straight, mirrored: { count: images.count, mistakes, accuracy: 1 - mistakes.length / images.count } };
}

async function underAttack(model: Model, test: LabelledImages, epsilon: number, steps: number): Promise<Figures> {
  const options = { norm: "linf", epsilon } as const;
  const pgd = attacks.pgd({ ...options, steps, ...(steps === 20 && { relativeStep: 0.1 }) });
  const part = limitImages(test, THOROUGHLY_ATTACKED);
  return {
    accuracy: await accuracyOn(model, test),
    [`PGD-${steps}`]: (await attackImages(model, test, pgd)).accuracy,
    [`AutoAttack, ${part.count} images`]: (await attackImages(model, part, attacks.autoAttack(options))).accuracy,
  };
}

const rows: Readonly<Record<string, (device: WebGpuDevice) => Promise<Recipe>>> = {
  /** `kilograd train best-cnn`, on all training images. */
  async "best-cnn"() {
    const { train, test } = await loadMnist();
    const zoo = zooModel("best-cnn");
    const { epochs, batchSize, learningRate } = zoo;
    return {
      plan: {
        ...{ architecture: zooArchitecture(zoo), data: train, augment: distort, loss: zooLoss(zoo), epochs, batchSize },
        optimizer: (steps) => zoo.optimizer({ learningRate }, steps),
      },
      measure: async (model) => ({ accuracy: await accuracyOn(model, test) }),
    };
  },

  /** The classifier of `adversarial-cifar10`. */
  async photographs() {
    const { train, test } = await loadCifar10();
    const { reference } = photographs.presets;
    return {
      plan: { ...photographNetwork(reference), ...classifierPlan(reference), data: train },
      measure: async (model) => {
        const { straight, mirrored } = await answers(model, test);
        return { accuracy: straight.accuracy, "with mirror images": mirrored.accuracy };
      },
    };
  },

  /** The digits of `robust`. */
  async "robust-digits"() {
    const { train, test } = await loadMnist();
    const { reference } = robust.presets;
    const { epsilon, attack, warmupEpochs } = digitDefence(reference);
    return {
      plan: adversarialPlan(
        { ...digitTraining(reference), data: train },
        { attack: attacks.pgd(attack), warmupEpochs },
      ),
      measure: (model) => underAttack(model, test, epsilon, 40),
    };
  },

  /** The photographs of `robust`. */
  async "robust-photographs"() {
    const { train, test } = await loadCifar10();
    const { reference } = robust.presets;
    const { epsilon, attack, warmupEpochs } = photographDefence(reference);
    return {
      plan: adversarialPlan(
        { ...photographTraining(reference), data: train },
        { attack: attacks.pgd(attack), warmupEpochs },
      ),
      measure: (model) => underAttack(model, test, epsilon, 20),
    };
  },

  /** The classifier of `emotion`. */
  async emotion(device) {
    const faces = await loadFer2013();
    const validation = await preparedFaces(device, faces.validation);
    const test = await preparedFaces(device, faces.test);
    return {
      plan: facePlan(emotion.presets.reference, { train: await preparedFaces(device, faces.train), validation }),
      measure: async (model) => {
        const { straight, mirrored } = await answers(model, test);
        return {
          "accuracy on PublicTest": await accuracyOn(model, validation),
          accuracy: straight.accuracy,
          "without repeated faces": onlyHere(straight, faces.repeated).accuracy ?? Number.NaN,
          "with mirror images": mirrored.accuracy,
          "with mirror images, without repeated faces": onlyHere(mirrored, faces.repeated).accuracy ?? Number.NaN,
        };
      },
    };
  },
};

const [name = "", ...given] = process.argv.slice(2);
const row = rows[name];
if (row === undefined) throw new Error(`needs one of ${Object.keys(rows).join(", ")}, given "${name}"`);
const seeds = (given.length === 0 ? ["0", "1", "2"] : given).map(Number);
const folder = await prepareOutputFolder(join("out", "accuracy"));
const device = (await openDevice("webgpu")) as WebGpuDevice;
const { plan, measure } = await row(device);
const all: Figures[] = [];
for (const seed of seeds) {
  const path = join(folder, `${name}-${seed}.json`);
  if (!existsSync(path)) await writeJson(path, await trainedAndMeasured(seed));
  const { figures } = JSON.parse(readFileSync(path, "utf8")) as { figures: Figures };
  console.log(`${name}, seed ${seed}: ${figuresText(figures)}`);
  all.push(figures);
}
const means = Object.keys(all[0]!).map((key) => {
  return [key, all.reduce((sum, figures) => sum + figures[key]!, 0) / all.length] as const;
});
console.log(`${name}, mean of ${all.length}: ${figuresText(Object.fromEntries(means))}`);
device.destroy();

async function trainedAndMeasured(seed: number) {
  const checkpoint = join(folder, `${name}-${seed}.safetensors`);
  const model = plan.architecture.build({ device, seed });
  const steps = plan.epochs * Math.ceil(plan.data.count / plan.batchSize);
  const optimizer = plan.optimizer(steps);
  const begun = performance.now();
  const told: Callback = {
    name: "told",
    onEpochEnd(epoch, logs) {
      const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
      console.log(`${name}, seed ${seed}: epoch ${epoch + 1} of ${plan.epochs}, ${minutes} min, ${figuresText(logs)}`);
    },
  };
  const { timing, history } = await model.fit(plan.data, {
    ...fitOptions(plan, optimizer),
    callbacks: [told],
    checkpoint: { path: checkpoint, everySteps: 200 },
    ...(existsSync(checkpoint) && { resume: checkpoint }),
  });
  const trainingMinutes = (performance.now() - begun) / 60_000;
  optimizer.dispose();
  const figures = await measure(model);
  const parameters = plan.architecture.countParameters().total;
  model.dispose();
  return {
    ...{ row: name, seed, figures, parameters, epochs: plan.epochs, trainingMinutes, timing, history },
    ...{ adapter: describeAdapter(device), versions: versions() },
  };
}

function figuresText(figures: Figures): string {
  return Object.entries(figures)
    .map(([key, value]) => `${key} ${/loss|rate/.test(key) ? value.toPrecision(4) : `${(100 * value).toFixed(2)} %`}`)
    .join(", ");
}
