// Adversarial examples of handwritten digits from generator networks: five digits, each made to be answered as each of the
// ten classes; FGSM and PGD for comparison.
import { limitImages } from "../data/dataset.js";
import { Report } from "../io/report.js";
import { digitClassifier, warmCosineAdam } from "./lib/adversarial/adversarial-models.js";
import {
  attackSweep,
  generatedExamples,
  generatorDefaults,
  generatorSeconds,
  knownSamples,
  smallestEpsilons,
  sweepSeconds,
} from "./lib/adversarial/generated-examples.js";
import { defineExperiment } from "./lib/frame/experiment.js";
import {
  addExampleSections,
  type ExampleFindings,
  exampleCards,
  exampleMetrics,
  examplePictures,
  exampleSummary,
} from "./lib/report/example-report.js";
import { counted, milliseconds, percent } from "./lib/report/text.js";
import { classify } from "./lib/training/classify.js";
import { measureStep, type TrainingPlan, trainingSeconds, trainPart } from "./lib/training/experiment-training.js";

// ---- Configuration

const reference = {
  data: "mnist",
  trainImages: 60_000,
  testImages: 10_000,
  epochs: 8,
  batch: 128,
  learningRate: 4e-3,
  /** The first test image of each that the classifier knows is made to be answered as every class. */
  digits: [0, 2, 4, 7, 9] as readonly number[],
  ...generatorDefaults,
  /** For FGSM and PGD. */
  attackImages: 1000,
  linf: [0.05, 0.1, 0.15, 0.2, 0.25, 0.3] as readonly number[],
  l2: [0.5, 1, 1.5, 2, 2.5, 3] as readonly number[],
};
type AdversarialMnistSettings = typeof reference;

const ATTACKS = ["fgsm", "pgd"] as const;

// ---- Run

export const experiment = defineExperiment<AdversarialMnistSettings>({
  presets: {
    reference,
    quick: { ...reference, trainImages: 20_000, epochs: 3, rounds: 40, attackImages: 250 },
  },

  async run(run) {
    const { settings } = run;
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    const test = limitImages(dataset.test, settings.testImages);
    const plan: TrainingPlan = {
      architecture: digitClassifier(),
      data: limitImages(dataset.train, settings.trainImages),
      validation: test,
      optimizer: warmCosineAdam(settings.learningRate),
      epochs: settings.epochs,
      batchSize: settings.batch,
    };
    const attacked = limitImages(test, settings.attackImages);
    const epsilons = { linf: settings.linf, l2: settings.l2 };
    const step = await measureStep(run, plan);
    const perImage = step / settings.batch;
    run.plan(
      {
        classifier: trainingSeconds(plan, step),
        generators: generatorSeconds(settings, settings.digits.length * 10 * perImage),
        ...sweepSeconds("all", { attacks: ATTACKS, epsilons }, attacked.count * perImage),
      },
      `a training step of ${milliseconds(1000 * step)} for ${counted(settings.batch, "image")}`,
    );

    const { model, notes } = await trainPart(run, "classifier", plan);
    try {
      const classification = await classify(model, test, { signal: run.signal });
      const samples = await knownSamples([model], test, settings.digits);
      const found = await generatedExamples(run, "generators", model, { samples, settings });
      const figures = await attackSweep(run, "all", model, { set: attacked, attacks: ATTACKS, epsilons });
      const smallest = await smallestEpsilons(run, "samples under FGSM and PGD", model, {
        ...{ samples, attacks: ATTACKS, epsilons },
      });
      const { accuracy: clean } = await classify(model, attacked, { signal: run.signal });

      // ---- Report

      const classNames = Array.from({ length: 10 }, (_, digit) => String(digit));
      const findings: ExampleFindings = {
        ...{ samples, found, settings, smallest },
        shape: { imageShape: test.imageShape, classNames, scale: 2 },
        sweep: { name: "", clean, figures },
        sweepImages: attacked.count,
      };
      const pictures = examplePictures(findings);
      const report = new Report({
        title: "Adversarial digits from generator networks",
        subtitle: `${counted(samples.length, "digit")} (${dataset.name}), each as every class, for a classifier of ${percent(classification.accuracy)}`,
        footer: run.footer,
      });
      addExampleSections(report, findings, pictures);
      return {
        ...{ report, pictures },
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
  },
});
