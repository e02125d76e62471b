// Adversarial examples of a photograph from generator networks: one picture of CIFAR-10, made to be answered as each of the
// ten classes; FGSM and PGD for comparison.
import { loadCifar10 } from "../data/cifar10.js";
import { limitImages } from "../data/dataset.js";
import { Report } from "../io/report.js";
import { photographClassifier, warmCosineAdam } from "./lib/adversarial/adversarial-models.js";
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
import { shiftedAndMirrored } from "./lib/training/augment.js";
import { classify } from "./lib/training/classify.js";
import { measureStep, type TrainingPlan, trainingSeconds, trainPart } from "./lib/training/experiment-training.js";

// ---- Configuration

const reference = {
  trainImages: 50_000,
  testImages: 10_000,
  filters: [32, 64, 128] as readonly number[],
  epochs: 15,
  batch: 128,
  learningRate: 3e-3,
  /** Training images are shifted by so many pixels each way, and mirrored. */
  shift: 3,
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
type AdversarialCifarSettings = typeof reference;

const ATTACKS = ["fgsm", "pgd"] as const;

// ---- Run

export const experiment = defineExperiment<AdversarialCifarSettings>({
  presets: {
    reference,
    quick: { ...reference, epochs: 6, rounds: 40, attackImages: 100 },
  },

  async run(run) {
    const { settings } = run;
    const dataset = await loadCifar10({ dataDir: run.loading.dataDir, onMessage: run.loading.say });
    const test = limitImages(dataset.test, settings.testImages);
    const plan: TrainingPlan = {
      architecture: photographClassifier(settings.filters),
      data: limitImages(dataset.train, settings.trainImages),
      validation: test,
      optimizer: warmCosineAdam(settings.learningRate),
      epochs: settings.epochs,
      batchSize: settings.batch,
      augment: shiftedAndMirrored(settings.shift),
    };
    const attacked = limitImages(test, settings.attackImages);
    const epsilons = { linf: settings.linf.map((levels) => levels / 255), l2: settings.l2 };
    const step = await measureStep(run, plan);
    const perImage = step / settings.batch;
    run.plan(
      {
        classifier: trainingSeconds(plan, step),
        generators: generatorSeconds(settings, 10 * perImage),
        ...sweepSeconds("all", { attacks: ATTACKS, epsilons }, attacked.count * perImage),
      },
      `a training step of ${milliseconds(1000 * step)} for ${counted(settings.batch, "image")}`,
    );

    const { model, notes } = await trainPart(run, "classifier", plan);
    try {
      const classification = await classify(model, test, { signal: run.signal });
      const samples = await knownSamples([model], test, [settings.photograph]);
      const found = await generatedExamples(run, "generators", model, { samples, settings });
      const figures = await attackSweep(run, "all", model, { set: attacked, attacks: ATTACKS, epsilons });
      const smallest = await smallestEpsilons(run, "samples under FGSM and PGD", model, {
        ...{ samples, attacks: ATTACKS, epsilons },
      });
      const { accuracy: clean } = await classify(model, attacked, { signal: run.signal });

      // ---- Report

      const classNames = dataset.classNames!;
      const findings: ExampleFindings = {
        ...{ samples, found, settings, smallest },
        shape: { imageShape: test.imageShape, classNames, scale: 2 },
        sweep: { name: "", clean, figures },
        sweepImages: attacked.count,
      };
      const pictures = examplePictures(findings);
      const report = new Report({
        title: "Adversarial photographs from generator networks",
        subtitle: `One photograph (${classNames[settings.photograph]}) as every class, for a classifier of ${percent(classification.accuracy)} trained on ${counted(plan.data.count, "image")} of CIFAR-10`,
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
