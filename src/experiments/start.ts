// `kilograd start`, the main job: trains small-cnn, measures it, freezes it, and finds images for it. The images make
// it answer each digit, mixtures of digits, and other digits than real ones show. Then the same network is trained on
// adversarial examples, and gives digits from noise that a person can read. One report tells all of it.

import { join } from "node:path";
import type { LabelledImages } from "../data/dataset.js";
import { noiseImages } from "../inputs/images.js";
import { withOutputFolder } from "../io/folder-lock.js";
import { type KeyFigure, Report } from "../io/report.js";
import { saveModel } from "../nn/checkpoint.js";
import { checkDataName, loadData, loadMnistOrBuiltIn } from "./lib/frame/data.js";
import { machineText, precisionOption, type RunContext, writeResults } from "./lib/frame/run.js";
import {
  defaultSettings,
  optimizationConfig,
  optimizationMetrics,
  optimizationSummary,
  picturesOf,
  runOptimization,
  type Wish,
  wishesFor,
} from "./lib/inputs/optimize-run.js";
import { robustDigits, robustMetrics } from "./lib/inputs/robust-digits.js";
import { imageStart, recognisedPlaces } from "./lib/inputs/starts.js";
import { oneHot, parseTargets } from "./lib/inputs/target.js";
import { optimizationCards } from "./lib/report/optimize-report.js";
import {
  addStartSections,
  noiseFigures,
  readableCards,
  readableSummary,
  type WishGroups,
} from "./lib/report/start-report.js";
import { commandText, counted, duration } from "./lib/report/text.js";
import { addTrainingSections, trainingCards, trainingPictures } from "./lib/report/train-report.js";
import { answersFor, type Classification } from "./lib/training/classify.js";
import { zooArchitecture, zooModel } from "./lib/training/models.js";
import {
  modelNotes,
  runTraining,
  setsOf,
  type TrainConfig,
  trainingMetrics,
  trainingSummary,
} from "./lib/training/train-run.js";

/** As the command line gives them; what is absent has its default. */
export interface StartOptions {
  readonly preset?: "quick" | "reference";
  readonly data?: string;
  readonly dataDir?: string;
  readonly seed?: number;
  readonly out?: string;
}

/** What the presets differ in. `reference` is the experiments' description. */
const presets = {
  quick: { epochs: 2, batch: 64, starts: 1, steps: 500 },
  reference: { starts: 3, steps: 1000 },
} as const;

const mixedTargets = ["2:0.5,3:0.5", "1:0.5,7:0.5"].flatMap((text) => parseTargets(text));
/** A real digit of the first class is to become one of the second. */
const conversions = [
  [5, 7],
  [7, 2],
  [5, 9],
  [2, 5],
] as const;
const CONVERSIONS_OF_QUICK = 2;
/** Random images that are only classified. */
const NOISE_COUNT = 1000;

/** Runs the command. Gives what `metrics.json` holds, and where. */
export async function start(options: StartOptions, context: RunContext) {
  const begun = performance.now();
  const { say, signal } = context;
  const presetName = options.preset ?? "quick";
  const preset = presets[presetName];
  if (options.data !== undefined) checkDataName(options.data);
  const loading = { dataDir: options.dataDir, signal, say };
  const { dataset, fallbackReason } =
    options.data === undefined
      ? await loadMnistOrBuiltIn(loading)
      : { dataset: await loadData(options.data, loading), fallbackReason: undefined };
  if (fallbackReason !== undefined) {
    say(`MNIST cannot be had: ${fallbackReason}\nUsing the built-in digits instead.`);
  }
  const zoo = zooModel("small-cnn");
  const config: TrainConfig = {
    ...{ model: zoo.name, data: dataset.name, epochs: zoo.epochs, batch: zoo.batchSize, lr: zoo.learningRate },
    ...(presetName === "quick" && { epochs: presets.quick.epochs, batch: presets.quick.batch }),
    seed: options.seed ?? 0,
  };
  const sets = setsOf(zoo, config, dataset);
  const device = await context.openDevice();
  const surroundings = { "data-dir": options.dataDir, ...precisionOption(device) };
  const again = { preset: presetName, data: dataset.name, seed: config.seed, ...surroundings };
  return withOutputFolder(options.out ?? join("out", "start"), async (folder) => {
    const model = zooArchitecture(zoo).build({ device, seed: config.seed });
    try {
      const training = await runTraining(
        { model, zoo, config, dataset, sets, folder, goOnWith: surroundings },
        context,
      );
      await saveModel(join(folder, "model.safetensors"), model, { notes: modelNotes(training) });
      const onNoise = await answersFor(
        model,
        noiseImages({ count: NOISE_COUNT, shape: [28, 28, 1], seed: config.seed }),
        {
          signal,
        },
      );

      const { wishes, groups } = wishesOf(training.test, {
        count: preset.starts,
        seed: config.seed,
        conversions: conversions.slice(0, presetName === "quick" ? CONVERSIONS_OF_QUICK : undefined),
      });
      const settings = { ...defaultSettings, steps: preset.steps, seed: config.seed };
      const optimization = await runOptimization(model, wishes, settings, context);

      const readable = await robustDigits(
        {
          ...{ device, dataset, folder, seed: config.seed, starts: preset.starts, goOnWith: surroundings },
          ...{ plain: model, plainImages: groups.noise.map((index) => optimization.images[index]!) },
        },
        context,
      );

      const seconds = (performance.now() - begun) / 1000;
      const { images, targetsMet, history, timing } = optimizationMetrics(optimization);
      const trained = trainingMetrics(training, device);
      const metrics = {
        ...trained,
        command: "start",
        config: { ...trained.config, preset: presetName, optimization: optimizationConfig(settings) },
        timing: { ...trained.timing, totalSeconds: seconds },
        memory: { peakBytes: optimization.peakBytes },
        ...(fallbackReason !== undefined && { fallbackReason }),
        noise: noiseFigures(onNoise),
        optimization: { targetsMet, history, timing },
        readable: { ...robustMetrics(readable), optimization: optimizationConfig(readable.run.settings) },
        images: [...images, ...optimizationMetrics(readable.run).images],
      };
      const report = new Report({
        title: `A CNN for ${dataset.name === "mnist" ? "handwritten" : "built-in"} digits, and the images it asks for`,
        subtitle: `${zoo.name} trained on ${counted(sets.train.count, "image")}, then frozen; ${counted(wishes.length, "image")} found by gradient descent on its input. Preset ${presetName}, ${duration(seconds)} in all.`,
        footer: `${machineText(device)}. ${commandText(["start"], again)}`,
      });
      report.figures([
        ...readableCards(readable),
        ...pickCards(trainingCards(training), ["Test accuracy", "Training step"]),
        ...pickCards(optimizationCards(optimization), ["Targets met", "Steps to 99 %", "Shares missed by"]),
      ]);
      addStartSections(report, {
        ...{ optimization, groups, onNoise, readable, fallbackReason },
        addTraining: () => addTrainingSections(report, training, device),
      });
      const pictures = new Map([
        ...trainingPictures(training),
        ...picturesOf(optimization),
        ...picturesOf(readable.run),
      ]);
      await writeResults(folder, { pictures, report: report.html(), metrics });
      const summary = [
        `Data: ${dataset.source}${fallbackReason === undefined ? "" : ", because MNIST cannot be had"}`,
        trainingSummary(training),
        optimizationSummary(optimization),
        readableSummary(readable),
        `${duration(seconds)} in all`,
      ].join("\n");
      return { folder, metrics, summary };
    } finally {
      model.dispose();
    }
  });
}

const pickCards = (cards: readonly KeyFigure[], labels: readonly string[]) =>
  cards.filter(({ label }) => labels.includes(label));

/** All wishes of the main job in the order of one batch, and which belong together. */
function wishesOf(
  test: Classification,
  options: {
    readonly count: number;
    readonly seed: number;
    readonly conversions: readonly (readonly [number, number])[];
  },
): { wishes: Wish[]; groups: WishGroups } {
  const { count, seed } = options;
  const digits = parseTargets("all");
  const all = { count, seed, images: test.images };
  const eight = imageStart(test.images, recognisedPlace(test, 8));
  const parts: Record<keyof WishGroups, Wish[]> = {
    noise: wishesFor(digits, "noise", all),
    real: wishesFor(digits, "real", all),
    mixed: [
      ...wishesFor(mixedTargets, "noise", { ...all, count: 1 }),
      ...mixedTargets.map((target) => ({ target, start: eight })),
    ],
    conversions: options.conversions.map(([from, to]) => ({
      target: oneHot(to),
      start: imageStart(test.images, recognisedPlace(test, from)),
    })),
  };
  const wishes = Object.values(parts).flat();
  const indicesOf = (part: readonly Wish[]) => part.map((wish) => wishes.indexOf(wish));
  return {
    wishes,
    groups: {
      noise: indicesOf(parts.noise),
      real: indicesOf(parts.real),
      mixed: indicesOf(parts.mixed),
      conversions: indicesOf(parts.conversions),
    },
  };
}

/** The first test image of a digit that the model recognises; the first of that digit where it recognises none. */
function recognisedPlace(test: Classification, digit: number): number {
  return recognisedPlaces(test, digit)[0] ?? placeOf(test.images, digit);
}

function placeOf({ labels }: LabelledImages, digit: number): number {
  return Math.max(0, labels.indexOf(digit));
}
