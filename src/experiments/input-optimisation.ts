// Which image does a frozen classifier take for a 3? Gradient descent on the input: from noise and from real digits,
// for one digit, for shares of two, and from one digit to another; what the classifiers say of noise that nobody
// changed.
import { type LabelledImages, limitImages } from "../data/dataset.js";
import { attackImages } from "../inputs/attacks/attack-images.js";
import { noiseImages } from "../inputs/images.js";
import { Report } from "../io/report.js";
import type { Model } from "../nn/model.js";
import { adam } from "../nn/optimizers.js";
import { cosineDecay } from "../nn/schedules.js";
import { adversarialPlan } from "./lib/adversarial/adversarial-training.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import { judgeArchitectures } from "./lib/inputs/judges.js";
import {
  findImages,
  joined,
  type OptimizeRun,
  type OptimizeSettings,
  type Wish,
  wishesFor,
} from "./lib/inputs/optimize-run.js";
import { type InputSettings, questionsOf, quick, reference, wishesOf } from "./lib/inputs/questions.js";
import { type Variant, type VariantOutcome, variants, variantTitle } from "./lib/inputs/readable-digits.js";
import { parseTargets } from "./lib/inputs/target.js";
import { type Judge, verdictsOn } from "./lib/inputs/transfer.js";
import type { AnswersToNoise } from "./lib/report/input-findings.js";
import {
  ATTACKED_IMAGES,
  addInputReport,
  type InputOutcome,
  inputResults,
  ROBUST,
  type Trained,
} from "./lib/report/input-report.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { counted, listed, lossText, milliseconds } from "./lib/report/text.js";
import { distort } from "./lib/training/augment.js";
import { answersFor, classify } from "./lib/training/classify.js";
import { measureStep, type TrainingPlan, trainingSeconds, trainPart } from "./lib/training/experiment-training.js";
import { warmCosineAdam, zooArchitecture, zooModel } from "./lib/training/models.js";
import { l2Attack } from "./lib/training/train-run.js";

/** A gradient for the images takes two of the three matrix products of a training step. */
const INPUT_SHARE = 2 / 3;

export const experiment = defineExperiment<InputSettings>({
  presets: { reference, quick },

  async run(run) {
    const { settings } = run;
    questionsOf(settings);
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    const train = limitImages(dataset.train, settings.trainImages);
    const test = limitImages(dataset.test, settings.testImages);
    const planOf = (name: string, epochs: number, seed: number): TrainingPlan => {
      const zoo = zooModel(name);
      return {
        ...{ architecture: zooArchitecture(zoo), data: train, epochs, batchSize: zoo.batchSize, seed: run.seed + seed },
        optimizer: (steps) => zoo.optimizer({ learningRate: zoo.learningRate }, steps),
      };
    };
    const judgeOf = (name: keyof typeof judgeArchitectures, seed: number): TrainingPlan => ({
      ...{ architecture: judgeArchitectures[name](), data: train, epochs: settings.judgeEpochs, batchSize: 128 },
      ...{ optimizer: warmCosineAdam(settings.judgeRate), augment: distort, seed: run.seed + seed },
    });
    // The first is the one that images are found for; judges are of other architectures and have no part in it.
    const plans = {
      "small-cnn": planOf("small-cnn", settings.epochs, 0),
      "second small-cnn": planOf("small-cnn", settings.epochs, 1),
      "mlp-64": planOf("mlp-64", settings.mlpEpochs, 2),
      "sgd-cnn": planOf("sgd-cnn", settings.cnnEpochs, 3),
      [ROBUST]: robustPlanOf(settings, train, run.seed + 4),
      "judge CNN": judgeOf("judge CNN", 105),
      "judge MLP": judgeOf("judge MLP", 106),
    };

    await tellTime(run, plans);
    const parts: Omit<Trained, "accuracy" | "underAttack">[] = [];
    try {
      for (const [name, plan] of Object.entries(plans)) parts.push({ name, ...(await trainPart(run, name, plan)) });
      const known = await run.part("test images", (progress) => answersToTest(run, parts, test, progress));
      const trained = parts.map(
        (part, place): Trained => ({
          ...part,
          ...{ accuracy: known.accuracy[place]!, underAttack: known.underAttack[place]! },
        }),
      );
      const { model } = trained[0]!;
      const robust = trained.find(({ name }) => name === ROBUST)!;
      const named = (...names: readonly string[]) => trained.filter(({ name }) => names.includes(name));
      const judges = named("mlp-64", "sgd-cnn");
      const judgesOfReadable = named(...Object.keys(judgeArchitectures));

      const { wishes, groups } = wishesOf(settings, test, known.predicted, run.seed);
      const common: OptimizeSettings = {
        ...{ steps: settings.steps, learningRate: settings.learningRate, settling: false, seed: run.seed },
        regularizers: { l1: 0, l2: settings.l2, totalVariation: 0, blur: 0, jitter: 0 },
      };
      const long = await findPart(run, "many steps", { model, wishes, settings: common });
      const short = await findPart(run, "few steps", {
        ...{ model, wishes, snapshotSteps: Array.from({ length: settings.shortSteps + 1 }, (_, step) => step) },
        settings: {
          ...{ ...common, clipped: false },
          ...{ steps: settings.shortSteps, learningRate: settings.shortLearningRate },
        },
      });
      const settled = await findPart(run, "mixed digits, falling rate", {
        ...{ model, wishes: groups.mixed.map((index) => wishes[index]!) },
        settings: { ...common, settling: true },
      });
      const seen = await run.part("judges", async () => ({
        long: await verdictsOn(pixelsOf(long), judges, run),
        short: await verdictsOn(pixelsOf(short), judges, run),
        starts: await verdictsOn(joined(wishes.map(({ start }) => start.image)), judges, run),
      }));
      const onNoise = await run.part("noise", () => answersToNoise(run, trained));
      const readable: VariantOutcome[] = [];
      for (const variant of variants) {
        readable.push({
          variant,
          ...(await findReadable(run, variant, {
            ...{ classifier: variant.robust ? robust.model : model, judges: judgesOfReadable },
          })),
        });
      }

      // ---- Report

      const outcome: InputOutcome = { settings, test, groups, trained, long, short, settled, seen, onNoise, readable };
      const report = new Report({
        title: "Images for a frozen network",
        subtitle: `Gradient descent on the input of small-cnn, trained on ${counted(train.count, "image")} (${dataset.name}): ${counted(wishes.length, "image")} in one batch`,
        footer: run.footer,
      });
      addInputReport(report, outcome);
      return { report, ...inputResults(outcome), recipe: recipes.inputs };
    } finally {
      for (const { model } of parts) model.dispose();
    }
  },
});

/** The classifier of adversarial training: the same architecture, attacked on every batch by PGD in the L2 ball. */
function robustPlanOf(settings: InputSettings, train: LabelledImages, seed: number): TrainingPlan {
  const { robustEpochs: epochs, robustBatch: batchSize, robustLearningRate: learningRate } = settings;
  const plan: TrainingPlan = {
    ...{ architecture: zooArchitecture(zooModel("small-cnn")), data: train, epochs, batchSize, seed },
    optimizer: (decaySteps) => adam({ learningRate: cosineDecay({ learningRate, decaySteps }) }),
  };
  // With the whole radius from the first step on it learns nothing: the loss stays at log 10.
  return adversarialPlan(plan, { attack: attackOf(settings), warmupEpochs: epochs / 2 });
}

const attackOf = ({ attackRadius: epsilon, attackSteps: steps }: InputSettings) => l2Attack({ epsilon, steps });

/** Accuracy of every network, with and without an attack, and what the first one says of each image. */
async function answersToTest(
  run: ExperimentRun<InputSettings>,
  models: readonly Pick<Trained, "model">[],
  test: LabelledImages,
  progress: (share: number) => void,
) {
  const { signal, seed } = run;
  const [accuracy, underAttack]: [number[], number[]] = [[], []];
  let predicted: Int32Array = new Int32Array(0);
  for (const [place, { model }] of models.entries()) {
    const answers = await classify(model, test, { signal });
    if (place === 0) predicted = answers.predicted;
    accuracy.push(answers.accuracy);
    const few = limitImages(test, ATTACKED_IMAGES);
    underAttack.push((await attackImages(model, few, attackOf(run.settings), { seed, signal })).accuracy);
    progress((place + 1) / models.length);
  }
  return { accuracy, underAttack, predicted };
}

/** Ten digits from noise, found in one way and judged. */
function findReadable(
  run: ExperimentRun<InputSettings>,
  variant: Variant,
  { classifier, judges }: { readonly classifier: Model; readonly judges: readonly Judge[] },
) {
  const { readableStarts: count, readableSteps: steps, learningRate } = run.settings;
  const { seed, signal } = run;
  const wishes = wishesFor(parseTargets("all"), "noise", { count, seed, images: undefined });
  return run.part(variantTitle(variant), async (progress) => {
    const found = await findImages(
      ...([classifier, wishes] as const),
      { steps, learningRate, seed, regularizers: variant.regularizers, objective: variant.objective },
      { signal, onProgress: ({ step, loss }) => progress(step / steps, `step ${step}, loss ${lossText(loss)}`) },
    );
    return { run: found, verdicts: await verdictsOn(pixelsOf(found), judges, run) };
  });
}

/** Says how long everything takes, by a measured step of each network. */
async function tellTime(run: ExperimentRun<InputSettings>, plans: Readonly<Record<string, TrainingPlan>>) {
  const { settings } = run;
  const seconds: Record<string, number> = {};
  const basis: string[] = [];
  let perImage = 0;
  const measured = new Map<string, number>();
  for (const [name, plan] of Object.entries(plans)) {
    const kind = `${plan.architecture.name} ${plan.perturb === undefined}`;
    const step = measured.get(kind) ?? (await measureStep(run, plan));
    if (!measured.has(kind)) basis.push(`${name} ${milliseconds(1000 * step)} a step`);
    measured.set(kind, step);
    seconds[name] = trainingSeconds(plan, step);
    if (perImage === 0) perImage = (INPUT_SHARE * step) / plan.batchSize;
  }
  const mixed = 2 * settings.mixed.length * settings.starts;
  const networks = Object.keys(plans).length;
  const images = (20 + settings.changes.length) * settings.starts + mixed;
  run.plan(
    {
      ...seconds,
      "test images": networks * (settings.testImages + ATTACKED_IMAGES * (settings.attackSteps + 1)) * perImage,
      "many steps": settings.steps * images * perImage,
      "few steps": settings.shortSteps * images * perImage,
      "mixed digits, falling rate": settings.steps * mixed * perImage,
      judges: 3 * 2 * images * perImage,
      noise: networks * settings.noiseImages * perImage,
      ...Object.fromEntries(
        variants.map((variant) => [
          variantTitle(variant),
          settings.readableSteps * 10 * settings.readableStarts * perImage,
        ]),
      ),
    },
    listed(basis),
  );
}

function findPart(
  run: ExperimentRun<InputSettings>,
  name: string,
  options: {
    readonly model: Model;
    readonly wishes: readonly Wish[];
    readonly settings: OptimizeSettings;
    readonly snapshotSteps?: readonly number[];
  },
): Promise<OptimizeRun> {
  const { model, wishes, settings, snapshotSteps } = options;
  return run.part(name, (progress) =>
    findImages(model, wishes, settings, {
      ...(snapshotSteps !== undefined && { snapshotSteps }),
      signal: run.signal,
      onProgress: ({ step, loss }) => progress(step / settings.steps, `step ${step}, loss ${lossText(loss)}`),
    }),
  );
}

async function answersToNoise(run: ExperimentRun<InputSettings>, models: readonly Trained[]) {
  const images = noiseImages({ count: run.settings.noiseImages, shape: [28, 28, 1], seed: run.seed });
  const answers: AnswersToNoise[] = [];
  for (const { model } of models) {
    const { predicted, confidence } = await answersFor(model, images, { signal: run.signal });
    answers.push({ predicted, confidence });
  }
  return answers;
}

const pixelsOf = ({ images }: OptimizeRun) => joined(images.map(({ pixels }) => pixels));
