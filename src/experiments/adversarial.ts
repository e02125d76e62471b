// Adversarial examples from generator networks, beside FGSM and PGD. They are of five handwritten digits, each made to
// be answered as each of the ten classes, and of a photograph of CIFAR-10. Two rows of one experiment, which is the
// same for both.
import { loadCifar10 } from "../data/cifar10.js";
import { type ImageDataset, limitImages } from "../data/dataset.js";
import { Report } from "../io/report.js";
import { crossEntropy } from "../nn/losses.js";
import { digitClassifier, photographClassifier } from "./lib/adversarial/adversarial-models.js";
import {
  attackSweep,
  type GeneratorSettings,
  generatedExamples,
  generatorDefaults,
  generatorSeconds,
  knownSamples,
  smallestEpsilons,
  sweepSeconds,
} from "./lib/adversarial/generated-examples.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import {
  addClassifier,
  addExampleSections,
  type ExampleFindings,
  exampleCards,
  exampleMetrics,
  examplePictures,
  exampleQuestionFigures,
  exampleSummary,
} from "./lib/report/example-report.js";
import { exampleQuestions } from "./lib/report/questions/adversarial.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { counted, milliseconds, percent } from "./lib/report/text.js";
import { shiftedAndMirrored } from "./lib/training/augment.js";
import { classify } from "./lib/training/classify.js";
import { measureStep, type TrainingPlan, trainingSeconds, trainPart } from "./lib/training/experiment-training.js";
import { warmCosineAdam } from "./lib/training/models.js";

// ---- Configuration

const digitReference = {
  data: "mnist",
  trainImages: 60_000,
  testImages: 10_000,
  epochs: 8,
  batch: 128,
  learningRate: 4e-3,
  weightDecay: 0,
  labelSmoothing: 0,
  /** The first test image of each that the classifier knows is made to be answered as every class. */
  digits: [0, 2, 4, 7, 9] as readonly number[],
  ...generatorDefaults,
  /** For FGSM and PGD. */
  attackImages: 1000,
  linf: [0.05, 0.1, 0.15, 0.2, 0.25, 0.3] as readonly number[],
  l2: [0.5, 1, 1.5, 2, 2.5, 3] as readonly number[],
};
type DigitSettings = typeof digitReference;

const photographReference = {
  trainImages: 50_000,
  testImages: 10_000,
  /** Of each stage's convolutions, and how many it has; see `photographClassifier`. */
  filters: [32, 64, 128, 256] as readonly number[],
  convolutions: [1, 2, 2, 1] as readonly number[],
  epochs: 30,
  batch: 128,
  learningRate: 3e-3,
  weightDecay: 0.05,
  labelSmoothing: 0.1,
  /** Training images are shifted by so many pixels each way, mirrored, and lose a square of so many pixels. */
  shift: 4,
  cutout: 8,
  /** Of which class the photograph is: the first test image that the classifier knows. */
  photograph: 3,
  ...generatorDefaults,
  generatorRate: 0.002,
  /** For FGSM and PGD. */
  attackImages: 1000,
  /** In levels of 255. */
  linf: [1, 2, 4, 8] as readonly number[],
  l2: [0.1, 0.2, 0.4, 0.6, 0.8] as readonly number[],
};
type PhotographSettings = typeof photographReference;

const ATTACKS = ["fgsm", "pgd"] as const;

/** What both have. */
interface Settings extends GeneratorSettings {
  readonly epochs: number;
  readonly batch: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly labelSmoothing: number;
  readonly trainImages: number;
  readonly testImages: number;
  readonly attackImages: number;
  readonly l2: readonly number[];
}

/** What a row is about. */
interface Subject {
  readonly dataset: ImageDataset;
  readonly classNames: readonly string[];
  readonly network: Pick<TrainingPlan, "architecture" | "augment">;
  /** Classes of the samples, each the first test image of it that the classifier knows. */
  readonly classes: readonly number[];
  readonly linf: readonly number[];
  readonly title: string;
  /** For a classifier of this accuracy, trained on so many images. */
  readonly subtitle: (accuracy: string, images: string) => string;
}

/** The network for photographs, and how they are changed in training. */
export const photographNetwork = (settings: PhotographSettings) => ({
  architecture: photographClassifier(settings),
  augment: shiftedAndMirrored(settings),
});

/** How a classifier is trained. */
export function classifierPlan(settings: Settings) {
  const { learningRate, weightDecay, labelSmoothing, epochs, batch } = settings;
  return {
    optimizer: warmCosineAdam(learningRate, { weightDecay }),
    loss: crossEntropy.with({ labelSmoothing }),
    ...{ epochs, batchSize: batch },
  };
}

// ---- Rows

/** `adversarial-mnist`. */
export const digits = defineExperiment<DigitSettings>({
  presets: {
    reference: digitReference,
    quick: { ...digitReference, trainImages: 20_000, epochs: 3, rounds: 40, attackImages: 250 },
  },
  async run(run) {
    const { settings } = run;
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    return examplesOf(run, settings, {
      dataset,
      classNames: Array.from({ length: 10 }, (_, digit) => String(digit)),
      network: { architecture: digitClassifier() },
      ...{ classes: settings.digits, linf: settings.linf },
      title: "Adversarial digits from generator networks",
      subtitle: (accuracy) =>
        `${counted(settings.digits.length, "digit")} (${dataset.name}), each as every class, for a classifier of ${accuracy}`,
    });
  },
});

/** `adversarial-cifar10`. */
export const photographs = defineExperiment<PhotographSettings>({
  presets: {
    reference: photographReference,
    quick: {
      ...photographReference,
      ...{ filters: [32, 64, 128], convolutions: [1, 1, 1], shift: 3, cutout: 0, weightDecay: 0, labelSmoothing: 0 },
      ...{ epochs: 6, rounds: 40, attackImages: 100 },
    },
  },
  async run(run) {
    const { settings } = run;
    const dataset = await loadCifar10({ dataDir: run.loading.dataDir, onMessage: run.loading.say });
    const classNames = dataset.classNames!;
    return examplesOf(run, settings, {
      ...{ dataset, classNames },
      network: photographNetwork(settings),
      classes: [settings.photograph],
      linf: settings.linf.map((levels) => levels / 255),
      title: "Adversarial photographs from generator networks",
      subtitle: (accuracy, images) =>
        `One photograph (${classNames[settings.photograph]}) as every class, for a classifier of ${accuracy} trained on ${images} of CIFAR-10`,
    });
  },
});

// ---- Run

async function examplesOf(run: ExperimentRun, settings: Settings, subject: Subject) {
  const { dataset, classNames, network, classes } = subject;
  const test = limitImages(dataset.test, settings.testImages);
  const data = limitImages(dataset.train, settings.trainImages);
  const plan: TrainingPlan = { ...network, ...classifierPlan(settings), data, validation: test };
  const attacked = limitImages(test, settings.attackImages);
  const epsilons = { linf: subject.linf, l2: settings.l2 };
  const step = await measureStep(run, plan);
  const perImage = step / settings.batch;
  run.plan(
    {
      classifier: trainingSeconds(plan, step),
      generators: generatorSeconds(settings, classes.length * 10 * perImage),
      ...sweepSeconds("all", { attacks: ATTACKS, epsilons }, attacked.count * perImage),
    },
    `a training step of ${milliseconds(1000 * step)} for ${counted(settings.batch, "image")}`,
  );

  const { model, notes } = await trainPart(run, "classifier", plan);
  try {
    const classification = await classify(model, test, { signal: run.signal });
    const samples = await knownSamples([model], test, classes);
    const found = await generatedExamples(run, "generators", model, { samples, settings });
    const figures = await attackSweep(run, "all", model, { set: attacked, attacks: ATTACKS, epsilons });
    const smallest = await smallestEpsilons(run, "samples under FGSM and PGD", model, {
      ...{ samples, attacks: ATTACKS, epsilons },
    });
    const { accuracy: clean } = await classify(model, attacked, { signal: run.signal });

    // ---- Report

    const findings: ExampleFindings = {
      ...{ samples, found, settings, smallest },
      shape: { imageShape: test.imageShape, classNames, scale: 2 },
      sweep: { name: "", clean, figures },
      sweepImages: attacked.count,
    };
    const pictures = examplePictures(findings);
    const report = new Report({
      title: subject.title,
      subtitle: subject.subtitle(percent(classification.accuracy), counted(plan.data.count, "image")),
      footer: run.footer,
    });
    addExampleSections(report, findings);
    addClassifier(report, plan.architecture, notes);
    return {
      ...{ report, pictures },
      ...{ questions: exampleQuestions(exampleQuestionFigures(findings, test)), recipe: recipes.examples },
      figures: [
        ...exampleCards(findings),
        { label: "Test accuracy", value: percent(classification.accuracy), note: counted(test.count, "image") },
      ],
      metrics: {
        ...{ trainImages: plan.data.count, testImages: test.count, testAccuracy: classification.accuracy },
        ...{ training: notes, ...exampleMetrics(findings) },
      },
      summary: `test accuracy ${percent(classification.accuracy)}\n${exampleSummary(findings)}`,
    };
  } finally {
    model.dispose();
  }
}
