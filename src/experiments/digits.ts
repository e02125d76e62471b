// Digit recognition with CNNs: the three reference models and this project's own, each trained, measured on the test
// part and put beside its reference figures. A model too large for the adapter is trained for a stated number of steps.
import { array, object } from "valibot";
import { type ImageDataset, type LabelledImages, limitImages } from "../data/dataset.js";
import { lineChart } from "../io/charts.js";
import { anyNumber, parse } from "../io/json.js";
import { type KeyFigure, Report, type TableCell } from "../io/report.js";
import type { Model } from "../nn/model.js";
import { formatShape } from "../tensor/shape.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import { defaultSettings, findImages, type OptimizeRun, wishesFor } from "./lib/inputs/optimize-run.js";
import { parseTargets } from "./lib/inputs/target.js";
import { layerRows } from "./lib/report/layer-table.js";
import { addCourse, addSnapshots, answersRemark, methodText } from "./lib/report/optimize-report.js";
import { alexNet, type DigitModel, digitQuestions, type VariantFigures } from "./lib/report/questions/digits.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { mean, spread, spreadText } from "./lib/report/spread.js";
import { counted, listed, lossText, milliseconds, percent, points } from "./lib/report/text.js";
import { addTrainingSections, standardError, trainingPictures } from "./lib/report/train-report.js";
import { distort } from "./lib/training/augment.js";
import { classify } from "./lib/training/classify.js";
import {
  measureStep,
  type TrainingNotes,
  type TrainingPlan,
  trainingJob,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";
import { type ZooModel, zooArchitecture, zooLoss, zooModel } from "./lib/training/models.js";
import { historyByName, setsOf, type TrainConfig, type TrainRun, watchedImages } from "./lib/training/train-run.js";
import { type VariantChange, variant, variantChanges } from "./lib/training/variants.js";

// ---- Configuration

const reference = {
  data: "mnist",
  models: ["small-cnn", "sgd-cnn", "best-cnn", "alexnet-plus"] as readonly string[],
  /** Instead of each model's own number of epochs; 0: its own. */
  epochs: 0,
  /** Trainings of each model that has a reference, which is one training's figure. */
  replicates: 3,
  /**
   * Models of whose weights a moving average is measured beside the last step's weights. They are trained at a constant
   * rate, without batch normalisation, whose statistics belong to the last weights. `emaMomentum` is the average's
   * momentum.
   */
  averaged: ["small-cnn", "sgd-cnn"] as readonly string[],
  emaMomentum: 0.999,
  /**
   * Models of whose training images the last tenth is held out for validation, besides those whose reference does so.
   * The other references train on all images.
   */
  heldOut: ["best-cnn"] as readonly string[],
  /** Epochs of `small-cnn` with one thing changed, and of the same unchanged; 0: none. */
  variantEpochs: 5,
  /** Models for which images of the ten digits are found, and in how many steps; fewer for slow models. */
  imagesOf: ["small-cnn", "alexnet-plus"] as readonly string[],
  imageSteps: 300,
  slowImageSteps: 10,
  /** A step that takes longer, in milliseconds, ends a training after `slowSteps` steps; 0: never. */
  slowStepMs: 2000,
  slowSteps: 20,
  trainImages: 60_000,
  testImages: 10_000,
};
type DigitsSettings = typeof reference;

/** What a model is to reach on MNIST with its full settings, by averaged weights where they are measured. */
const targets = new Map([
  ["small-cnn", 0.988],
  ["sgd-cnn", 0.991],
  ["best-cnn", 0.996],
]);
/** Test images for a training that ends after a few slow steps: a forward pass is slow, too. */
const SLOW_TEST_IMAGES = 256;
/** Share of the training images that is held out of those of `heldOut`. */
const HELD_OUT = 0.1;

// ---- Models, as the zoo has them

function configOf(zoo: ZooModel, settings: DigitsSettings, seed: number, slow: boolean): TrainConfig {
  return {
    ...{ model: zoo.name, data: settings.data, epochs: settings.epochs || zoo.epochs, batch: zoo.batchSize },
    ...(slow && { steps: settings.slowSteps }),
    ...{ limitTrain: settings.trainImages, limitTest: slow ? SLOW_TEST_IMAGES : settings.testImages },
    ...{ lr: zoo.learningRate, seed },
  };
}

/** A run and the test accuracies of all its replicates, its own the first. */
interface DigitsRun extends TrainRun {
  readonly slow: boolean;
  /** By the last step's weights. */
  readonly replicates: readonly number[];
  /** By the weights' moving average: as many, or none. */
  readonly averaged: readonly number[];
}

/** What a model is judged by. */
const judgedAccuracy = ({ replicates, averaged }: DigitsRun) => mean(averaged.length > 0 ? averaged : replicates);

/** A model of the zoo with everything that training it takes. */
const storedLosses = object({ stepLosses: array(anyNumber, "a list of numbers") }, "an object");

function trainingOf(zoo: ZooModel, config: TrainConfig, dataset: ImageDataset, settings: DigitsSettings) {
  const average = settings.averaged.includes(zoo.name) && { emaMomentum: settings.emaMomentum };
  const held = settings.heldOut.includes(zoo.name) && { validationSplit: HELD_OUT };
  const sets = setsOf({ ...zoo, ...held }, config, dataset);
  const stepLosses: number[] = [];
  const plan: TrainingPlan<{ stepLosses: readonly number[] }> = {
    ...{ architecture: zooArchitecture(zoo), data: sets.train, validation: watchedImages(sets) },
    ...(sets.validation && { test: sets.test }),
    optimizer: (steps) => zoo.optimizer({ learningRate: config.lr, ...average }, steps),
    ...{ loss: zooLoss(zoo), epochs: config.epochs, batchSize: config.batch },
    ...(config.steps !== undefined && { maxSteps: config.steps }),
    ...(zoo.augmented && { augment: distort }),
    callbacks: [
      {
        name: "stepLosses",
        onStepEnd: ({ loss }) => void stepLosses.push(loss),
        exportState: () => ({ values: { stepLosses } }),
        importState(values) {
          for (const loss of parse(storedLosses, values, "stepLosses").stepLosses) stepLosses.push(loss);
        },
      },
    ],
    checkpointSteps: 500,
    keep: () => ({ stepLosses }),
  };
  return { zoo, config, sets, plan };
}

/** A training of the run, with the names of its replicates. */
interface Training extends ReturnType<typeof trainingOf> {
  readonly name: string;
  readonly slow: boolean;
  readonly more: readonly string[];
}

// ---- Run

export const experiment = defineExperiment<DigitsSettings>({
  presets: {
    reference,
    // A step of alexnet-plus takes seconds on a software adapter.
    quick: {
      ...reference,
      models: ["small-cnn", "sgd-cnn", "best-cnn"],
      epochs: 2,
      replicates: 1,
      // An average over the last fifty steps of some hundred.
      emaMomentum: 0.98,
      heldOut: ["small-cnn", "sgd-cnn", "best-cnn"],
      variantEpochs: 1,
      imageSteps: 100,
      trainImages: 20_000,
      testImages: 5_000,
    },
  },

  async run(run) {
    const { settings, device } = run;
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    const trainings: Training[] = [];
    const seconds: Record<string, number> = {};
    const basis: string[] = [];
    for (const zoo of settings.models.map(zooModel)) {
      const whole = trainingOf(zoo, configOf(zoo, settings, run.seed, false), dataset, settings);
      const step = await run.part(`${zoo.name}, a measured step`, () => measureStep(run, whole.plan));
      const slow = settings.slowStepMs > 0 && 1000 * step > settings.slowStepMs;
      const training = slow ? trainingOf(zoo, configOf(zoo, settings, run.seed, true), dataset, settings) : whole;
      const name = slow ? `${zoo.name}, ${settings.slowSteps} steps` : zoo.name;
      const more = zoo.reference === undefined || slow ? [] : replicateParts(name, settings.replicates);
      trainings.push({ ...training, name, slow, more });
      seconds[name] = trainingSeconds(training.plan, step);
      const forward = step / zoo.batchSize / 2;
      seconds[`${name}, test`] = forward * training.sets.test.count;
      seconds[`${name}, training images`] = forward * (slow ? SLOW_TEST_IMAGES : training.sets.train.count);
      if (zoo.labelSmoothing !== undefined && training.sets.validation !== undefined) {
        seconds[`${name}, validation`] = forward * training.sets.validation.count;
      }
      for (const part of more) seconds[part] = trainingSeconds(training.plan, step);
      if (settings.imagesOf.includes(zoo.name)) {
        seconds[`${name}, images`] = (imageSteps(settings, slow) * 10 * step) / zoo.batchSize;
      }
      basis.push(
        `${zoo.name} ${milliseconds(1000 * step)} a step${slow ? `, so only ${settings.slowSteps} of them` : ""}`,
      );
    }
    Object.assign(seconds, await variantSeconds(run, dataset));
    run.plan(seconds, basis.join("; "));

    /** Of another training of the same model, whose test images are looked at after every epoch. */
    const replicatePlan = ({ sets, plan }: Training, index: number): TrainingPlan => {
      const { architecture, data, optimizer, epochs, batchSize, loss, augment } = plan;
      return {
        ...{ architecture, data, validation: sets.test, optimizer, epochs, batchSize, seed: run.seed + index + 1 },
        ...(loss && { loss }),
        ...(augment && { augment }),
      };
    };
    await run.ahead(
      trainings.flatMap((training) => [
        trainingJob(run, training.name, () => training.plan),
        ...training.more.map((part, index) => trainingJob(run, part, () => replicatePlan(training, index))),
      ]),
    );

    const runs: DigitsRun[] = [];
    const found: FoundForModel[] = [];
    for (const training of trainings) {
      const { name, zoo, config, sets, plan, slow, more } = training;
      const replicates: number[] = [];
      const averaged: number[] = [];
      const { model, notes } = await trainPart(run, name, plan);
      try {
        const answers = await run.part(`${name}, test`, async (progress) => {
          const { images: _, ...found } = await classify(model, sets.test, {
            signal: run.signal,
            onProgress: (done) => progress(done / sets.test.count),
          });
          return found;
        });
        // Of a slow model as many training images as test images.
        const trained = slow ? limitImages(sets.train, SLOW_TEST_IMAGES) : sets.train;
        const onTraining = await run.part(`${name}, training images`, async (progress) => {
          const { loss, accuracy } = await classify(model, trained, {
            signal: run.signal,
            onProgress: (done) => progress(done / trained.count),
          });
          return { loss, accuracy, count: trained.count };
        });
        if (settings.imagesOf.includes(zoo.name)) {
          found.push({ model: zoo.name, run: await imagesFor(run, `${name}, images`, model, slow) });
        }
        replicates.push(answers.accuracy);
        averaged.push(...averagedAccuracy(notes));
        const last = (name: string) => notes.history[name]?.at(-1) ?? Number.NaN;
        const watched = { loss: last("val_loss"), accuracy: last("val_accuracy") };
        // What is watched in training by smoothed targets has another loss than the figures beside it.
        const validation =
          sets.validation === undefined || zoo.labelSmoothing === undefined
            ? sets.validation && watched
            : await run.part(`${name}, validation`, async () => {
                const { loss, accuracy } = await classify(model, sets.validation!, { signal: run.signal });
                return { loss, accuracy };
              });
        runs.push({
          ...{ config, zoo, architecture: plan.architecture, dataset, sets, model, slow },
          ...{ replicates, averaged },
          history: {
            ...notes,
            epoch: notes.history["loss"]!.map((_, i) => i),
            interrupted: false,
          },
          stepLosses: notes.kept.stepLosses,
          train: onTraining,
          watched,
          ...(validation && { validation }),
          test: { ...answers, images: sets.test },
          ...{ seconds: notes.seconds, peakBytes: device.memory().peakBytes },
        });
      } finally {
        model.dispose();
        device.trim();
      }
      for (const [index, part] of more.entries()) {
        const { model, notes } = await trainPart(run, part, replicatePlan(training, index));
        model.dispose();
        replicates.push(notes.history["val_accuracy"]!.at(-1)!);
        averaged.push(...averagedAccuracy(notes));
      }
    }

    const variants = await trainedVariants(run, dataset);

    // ---- Report

    const real = settings.data === "mnist";
    const report = new Report({
      title: real ? "Handwritten digits with CNNs" : "Built-in digits with CNNs",
      subtitle: `${listed(runs.map(({ zoo }) => zoo.name))} on ${counted(Math.min(settings.trainImages, dataset.train.count), "image")} of ${dataset.source}`,
      footer: run.footer,
    });
    report.section("Beside the references", (section) => {
      section.text(comparisonRemark(runs, real));
      section.table({
        columns: [
          ...["model", "parameters", "epochs", "training", "validation", "test", "averaged"],
          { label: real ? "reference" : "on MNIST", reference: true },
          "step",
        ],
        rows: runs.map((trained): TableCell[] => {
          const { zoo, architecture, history, train, validation, replicates, averaged, slow, config } = trained;
          const judgement = real && !slow && judgedBy(trained, run);
          return [
            zoo.name,
            architecture.countParameters().total,
            slow ? figure(`${config.steps} steps`) : figure(String(history.epoch.length)),
            figure(percent(train.accuracy)),
            validation === undefined || Number.isNaN(validation.accuracy) ? null : figure(percent(validation.accuracy)),
            { ...figure(spreadText(spread(replicates))), ...(averaged.length === 0 && judgement) },
            averaged.length === 0 ? null : { ...figure(spreadText(spread(averaged))), ...judgement },
            zoo.reference === undefined ? null : figure(percent(zoo.reference.testAccuracy)),
            history.timing.stepMsMedian === undefined ? null : figure(milliseconds(history.timing.stepMsMedian)),
          ];
        }),
        caption:
          "Accuracies of the trained model on its training images, on those held out for validation where some are, and on the test part; test accuracy of the reference. " +
          (settings.replicates > 1
            ? `Test accuracy, where it has a standard deviation, is the mean over ${settings.replicates} trainings from other weights; all else is of the first. `
            : "") +
          `Averaged: test accuracy of the same trainings by the moving average of the weights over the steps (momentum ${settings.emaMomentum}) instead of the last step's.`,
      });
      const whole = runs.filter(({ slow }) => !slow);
      if (whole.length === 0) return;
      const series = whole.map(({ zoo, history }) => ({ name: zoo.name, y: history.history["val_accuracy"]! }));
      const title = "Accuracy on the test part, or the held-out part, by epoch";
      section.chart(lineChart({ title, width: 900, series, x: { label: "epoch" }, y: { percent: true } }));
    });
    const pictures = new Map<string, Uint8Array | string>();
    for (const trained of runs) {
      for (const [file, svg] of trainingPictures(trained)) pictures.set(`${trained.zoo.name}-${file}`, svg);
      report.section(trained.zoo.name, (section) => {
        if (trained.slow) section.note(slowRemark(trained));
        const open = ["Result", "Training"];
        const into = {
          section: (title: string, build: Parameters<Report["section"]>[1]) => {
            if (open.includes(title)) build(section);
            else section.details(title, build);
            return report;
          },
        };
        addTrainingSections(into, trained, device);
      });
    }
    addVariants(report, variants);
    report.section("Beside AlexNet, layer by layer", (section) => {
      section.text(alexNetRemark).table(alexNetTable());
    });
    addImages(report, found);
    const figures = variants.map(({ figures: of }) => of);
    return {
      report,
      pictures,
      questions: digitQuestions({
        ...{ models: runs.map(modelFigures), variants: figures },
        images: found.map(({ model, run: { images, settings: of } }) => ({
          ...{ model, count: images.length, met: images.filter(({ met }) => met).length, steps: of.steps },
        })),
      }),
      recipe: recipes.digits,
      figures: runs.map((trained): KeyFigure => {
        const { zoo, replicates, averaged, slow, stepLosses } = trained;
        if (slow) return { label: zoo.name, value: `${stepLosses.length} steps`, note: lossFall(stepLosses).text };
        return {
          label: `${zoo.name}, test`,
          value: percent(judgedAccuracy(trained)),
          note: [
            ...(replicates.length > 1 ? [`mean of ${replicates.length}`] : []),
            ...(averaged.length > 0 ? [`averaged weights; the last step's ${percent(mean(replicates))}`] : []),
            zoo.reference === undefined ? "no reference" : `reference ${percent(zoo.reference.testAccuracy)}`,
          ].join("; "),
          ...(real && judgedBy(trained, run)),
        };
      }),
      metrics: {
        dataSource: dataset.source,
        variants: figures,
        models: runs.map(
          ({
            zoo,
            architecture,
            history,
            stepLosses,
            train,
            validation,
            test,
            replicates,
            averaged,
            sets,
            seconds: took,
            slow,
          }) => ({
            ...{ model: zoo.name, parameters: architecture.countParameters(), cutShort: slow, replicates, averaged },
            ...{
              trainImages: sets.train.count,
              testImages: test.count,
              validation: sets.validation === undefined ? null : sets.watchedText,
            },
            ...{ train, validationFigures: validation ?? null, test: { loss: test.loss, accuracy: test.accuracy } },
            ...{
              confusion: test.confusion,
              history: historyByName(history.history, sets),
              steps: history.steps,
              seconds: took,
            },
            ...{ timing: history.timing, stepLoss: stepLosses.map((loss) => Number(loss.toPrecision(6))) },
            ...(zoo.reference && { reference: zoo.reference }),
          }),
        ),
      },
      summary: runs
        .map(({ zoo, test, replicates, averaged, slow, stepLosses, history }) =>
          [
            zoo.name.padEnd(13),
            slow ? lossFall(stepLosses).text : `test ${testText(replicates)}, loss ${lossText(test.loss)}`,
            averaged.length > 0 ? `averaged weights ${testText(averaged)}` : "",
            zoo.reference && !slow ? `(reference ${percent(zoo.reference.testAccuracy)})` : "",
            history.timing.stepMsMedian === undefined ? "" : `${milliseconds(history.timing.stepMsMedian)} a step`,
          ]
            .filter(Boolean)
            .join("  "),
        )
        .join("\n"),
    };
  },
});

const figure = (text: string) => ({ text, numeric: true });

// ---- One thing changed

/** What `small-cnn` came to with one thing changed. */
interface TrainedVariant {
  readonly figures: VariantFigures;
  readonly notes: TrainingNotes;
}

type VariantPlan = TrainingPlan & { readonly data: LabelledImages };

function variantPlan({ settings }: DigitsExperimentRun, dataset: ImageDataset, change: VariantChange): VariantPlan {
  const zoo = zooModel("small-cnn");
  return {
    ...{ architecture: variant(change), data: limitImages(dataset.train, settings.trainImages) },
    test: limitImages(dataset.test, settings.testImages),
    optimizer: (steps) => zoo.optimizer({ learningRate: zoo.learningRate }, steps),
    ...{ epochs: settings.variantEpochs, batchSize: zoo.batchSize },
  };
}

const variantName = (change: string) => `small-cnn, ${change || "unchanged"}`;
/** Training images that a variant is measured on, at most. */
const VARIANT_TRAINING_IMAGES = 10_000;
const trainedOn = ({ data }: VariantPlan) => limitImages(data, Math.min(data.count, VARIANT_TRAINING_IMAGES));

async function variantSeconds(run: DigitsExperimentRun, dataset: ImageDataset): Promise<Record<string, number>> {
  if (run.settings.variantEpochs === 0) return {};
  const plans = variantChanges.map((change) => [variantName(change), variantPlan(run, dataset, change)] as const);
  const step = await measureStep(run, plans[0]![1]);
  return Object.fromEntries(
    plans.flatMap(([name, plan]) => [
      [name, trainingSeconds(plan, step)],
      [`${name}, training images`, (step * trainedOn(plan).count) / plan.batchSize / 2],
    ]),
  );
}

async function trainedVariants(run: DigitsExperimentRun, dataset: ImageDataset): Promise<TrainedVariant[]> {
  if (run.settings.variantEpochs === 0) return [];
  const trained: TrainedVariant[] = [];
  for (const change of variantChanges) {
    const plan = variantPlan(run, dataset, change);
    const { model, notes } = await trainPart(run, variantName(change), plan);
    const { accuracy: trainAccuracy } = await run
      .part(`${variantName(change)}, training images`, async () => {
        const { accuracy } = await classify(model, trainedOn(plan), { signal: run.signal });
        return { accuracy };
      })
      .finally(() => model.dispose());
    const testAccuracy = notes.test!.accuracy!;
    trained.push({
      figures: {
        ...{ change, parameters: plan.architecture.countParameters().total, trainAccuracy, testAccuracy },
        standardError: standardError({ accuracy: testAccuracy, count: plan.test!.count }),
      },
      notes,
    });
  }
  return trained;
}

function addVariants(report: Report, variants: readonly TrainedVariant[]): void {
  if (variants.length === 0) return;
  report.section("One thing changed", (section) => {
    section.table({
      columns: ["small-cnn", "parameters", "training", "test", "training − test"],
      rows: variants.map(({ figures: { change, parameters, trainAccuracy, testAccuracy } }): TableCell[] => [
        change || "as it is",
        parameters,
        ...[trainAccuracy, testAccuracy].map((value) => figure(percent(value))),
        figure(points(trainAccuracy - testAccuracy)),
      ]),
      caption: `After ${counted(variants[0]!.notes.history["loss"]!.length, "epoch")}, one training each from the same seed; training accuracy on at most ${counted(VARIANT_TRAINING_IMAGES, "image")}.`,
    });
    section.chart(
      lineChart({
        title: "Training loss of small-cnn with one thing changed",
        width: 900,
        series: variants.map(({ figures: { change }, notes }) => ({
          name: change || "as it is",
          y: notes.history["loss"]!,
        })),
        x: { label: "epoch" },
        y: { scale: "log" },
      }),
    );
  });
}

// ---- Beside AlexNet

const alexNetRemark =
  "AlexNet as it was published in 2012, and alexnet-plus: the same order of layers and nearly as many parameters, for images of 28 x 28 pixels. It has no large strides and no groups, more but smaller convolutions, and batch normalisation instead of response normalisation. Before the first dense layer both have 6 x 6 x 256 values.";

function alexNetTable() {
  const ours = layerRows(zooArchitecture(zooModel("alexnet-plus"))).filter(({ kind }) => /Conv2D|Dense/.test(kind));
  const rows = Math.max(ours.length, alexNet.length);
  const total = ours.reduce((sum, { parameters }) => sum + parameters, 0);
  return {
    columns: ["AlexNet", "parameters", "alexnet-plus", "gives", "parameters"],
    rows: Array.from({ length: rows }, (_, i): TableCell[] => {
      // Aligned at the end, where the dense layers are.
      const theirs = alexNet[i - (rows - alexNet.length)];
      const { name, outputShape, parameters } = ours[i]!;
      return [theirs?.layer ?? null, theirs?.parameters ?? null, name, formatShape(outputShape), parameters];
    }),
    caption: `Layers with weights; in all ${counted(
      alexNet.reduce((sum, { parameters }) => sum + parameters, 0),
      "parameter",
    )} and ${total.toLocaleString("en-US")}, batch normalisation not counted.`,
  };
}

// ---- Images

/** Images of the ten digits that were found for a model. */
interface FoundForModel {
  readonly model: string;
  readonly run: OptimizeRun;
}

const imageSteps = (settings: DigitsSettings, slow: boolean) => (slow ? settings.slowImageSteps : settings.imageSteps);

/** An image of each digit from noise, at the second reference's rate. */
function imagesFor(run: DigitsExperimentRun, part: string, model: Model, slow: boolean): Promise<OptimizeRun> {
  const { settings, seed, signal } = run;
  const steps = imageSteps(settings, slow);
  const wishes = wishesFor(parseTargets("all"), "noise", { count: 1, seed, images: undefined });
  return run.part(part, (progress) =>
    findImages(
      ...([model, wishes] as const),
      { ...defaultSettings, steps, learningRate: 0.1, seed },
      { signal, onProgress: ({ step, loss }) => progress(step / steps, `step ${step}, loss ${lossText(loss)}`) },
    ),
  );
}

function addImages(report: Report, found: readonly FoundForModel[]): void {
  if (found.length === 0) return;
  report.section("Images for these networks", (section) => {
    for (const { model, run } of found) {
      const all = run.images.map((_, index) => index);
      section.heading(model).text(`${methodText(run)} ${answersRemark(run, all)}`);
      addSnapshots(section, run, all);
      addCourse(section, run, all, `for ${model}`);
    }
  });
}

// ---- What the questions are about

type DigitsExperimentRun = ExperimentRun<DigitsSettings>;

function modelFigures({
  zoo,
  architecture,
  slow,
  history,
  train,
  validation,
  test,
  replicates,
}: DigitsRun): DigitModel {
  return {
    ...{ name: zoo.name, parameters: architecture.countParameters().total, slow, steps: history.steps },
    weighted: layerRows(architecture).filter(({ kind }) => /Conv2D|Dense/.test(kind)).length,
    trainAccuracy: train.accuracy,
    ...(validation && Number.isFinite(validation.accuracy) && { validationAccuracy: validation.accuracy }),
    ...{ testAccuracies: replicates, standardError: standardError(test) },
    ...{ mistakes: test.mistakes, confusion: test.confusion },
  };
}

/** Names of the further trainings of a model. */
const replicateParts = (name: string, replicates: number) =>
  Array.from({ length: Math.max(0, replicates - 1) }, (_, index) => `${name}, replicate ${index + 2}`);

const testText = (replicates: readonly number[]) =>
  `${spreadText(spread(replicates))}${replicates.length > 1 ? ` (${replicates.length})` : ""}`;

/** Test accuracy by the averaged weights, if there are any. */
const averagedAccuracy = ({ averaged }: TrainingNotes<unknown>) => (averaged === undefined ? [] : [averaged.accuracy!]);

function judgedBy(run: DigitsRun, { judged }: Pick<ExperimentRun, "judged">) {
  const target = targets.get(run.zoo.name);
  return target === undefined ? {} : judged(judgedAccuracy(run) >= target);
}

/** Losses of the first and the last quarter of the steps. */
function lossFall(losses: readonly number[]) {
  const quarter = Math.max(1, Math.floor(losses.length / 4));
  const mean = (part: readonly number[]) => part.reduce((a, b) => a + b, 0) / part.length;
  const [first, last] = [mean(losses.slice(0, quarter)), mean(losses.slice(-quarter))];
  return { falls: last < first, text: `loss ${lossText(first)} to ${lossText(last)}` };
}

function slowRemark({ zoo, stepLosses, history, sets }: TrainRun): string {
  const { falls, text } = lossFall(stepLosses);
  const step = (history.timing.stepMsMedian ?? history.timing.firstStepMs!) / 1000;
  const hours = (step * zoo.epochs * Math.ceil(sets.train.count / zoo.batchSize)) / 3600;
  return `A step of this model takes ${step.toFixed(1)} s on this adapter, all of its ${counted(zoo.epochs, "epoch")} would take ${hours.toFixed(1)} hours. It was trained for ${counted(history.steps, "step")}: ${text} (means of the first and the last quarter of the steps), ${falls ? "it falls" : "it does not fall yet"}. Its accuracy below is that of a model hardly trained.`;
}

function comparisonRemark(runs: readonly DigitsRun[], real: boolean): string {
  if (!real) return "The reference figures are those of MNIST, which these digits are not; they cannot be compared.";
  const judged = runs.filter(({ slow }) => !slow);
  const shorter = judged.filter(
    ({ zoo, history, sets }) => history.epoch.length < zoo.epochs || sets.train.count < 54_000,
  );
  const sentences = judged.flatMap(({ zoo, test, replicates, averaged }) => {
    if (zoo.reference === undefined) return [];
    const difference = mean(replicates) - zoo.reference.testAccuracy;
    const chance =
      Math.abs(difference) <= 2 * standardError(test)
        ? "the same within chance, two standard errors,"
        : difference > 0
          ? "better"
          : "worse";
    const each = replicates.length > 1 ? `, single trainings ${listed(replicates.map((value) => percent(value)))}` : "";
    const better = mean(averaged) > mean(replicates) ? "better" : "no better";
    const average =
      averaged.length > 0
        ? `, and ${better} by averaged weights, ${percent(mean(averaged))} (${listed(averaged.map((value) => percent(value)))})`
        : "";
    return [
      `${zoo.name} is ${chance} (${percent(mean(replicates))} against ${percent(zoo.reference.testAccuracy)}${each})${average}`,
    ];
  });
  const best = judged.reduce<DigitsRun | undefined>(
    (a, b) => (a === undefined || judgedAccuracy(b) > judgedAccuracy(a) ? b : a),
    undefined,
  );
  return [
    sentences.length > 0 ? `Beside its reference ${listed(sentences)}.` : "",
    best === undefined
      ? ""
      : `Best is ${best.zoo.name} with ${percent(judgedAccuracy(best))} (standard error ${(100 * standardError(best.test)).toFixed(2)} points).`,
    shorter.length > 0
      ? `${listed(shorter.map(({ zoo }) => zoo.name))} trained for fewer epochs or on fewer images here than in the references; what is missing is training.`
      : "",
  ]
    .filter(Boolean)
    .join(" ");
}
