// Which image does a frozen classifier take for a 3? Gradient descent on the input: from noise and from real digits, for one
// digit, for shares of two, and from one digit to another; what the classifiers say of noise that nobody changed.
import { type LabelledImages, limitImages } from "../data/dataset.js";
import { attackImages } from "../inputs/attacks/attack-images.js";
import { pgd } from "../inputs/attacks/pgd.js";
import { noiseImages } from "../inputs/images.js";
import { barChart } from "../io/charts.js";
import { Report, type Section, type TableCell } from "../io/report.js";
import type { Model } from "../nn/model.js";
import { adam } from "../nn/optimizers.js";
import { cosineDecay } from "../nn/schedules.js";
import { UsageError } from "../tensor/errors.js";
import { adversarialPlan } from "./lib/adversarial/adversarial-training.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import {
  type FoundImage,
  findImages,
  groupedByTarget,
  MIXED_BAR,
  ONE_HOT_BAR,
  type OptimizeRun,
  type OptimizeSettings,
  picturesOf,
  type Wish,
  wishesFor,
} from "./lib/inputs/optimize-run.js";
import {
  addReadableDigits,
  TRANSFER_BAR,
  type Variant,
  type VariantOutcome,
  variantMetrics,
  variantPicture,
  variants,
  variantTitle,
} from "./lib/inputs/readable-digits.js";
import { imageStart, placesOf, recognisedPlaces } from "./lib/inputs/starts.js";
import { oneHot, parseTargets, targetText } from "./lib/inputs/target.js";
import { type Judge, leastTransfer, transferRate, type Verdicts, verdictsOn } from "./lib/inputs/transfer.js";
import {
  addCourse,
  addFoundImages,
  addSnapshots,
  addSpread,
  answersRemark,
  changeRemark,
  lateStepsRemark,
  methodText,
  onePerTarget,
} from "./lib/report/optimize-report.js";
import { counted, listed, lossText, milliseconds, percent } from "./lib/report/text.js";
import { type Answers, answersFor, classify } from "./lib/training/classify.js";
import {
  measureStep,
  type TrainingNotes,
  type TrainingPlan,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";
import { zooArchitecture, zooModel } from "./lib/training/models.js";

// ---- Configuration

const reference = {
  data: "mnist",
  trainImages: 60_000,
  testImages: 10_000,
  /** Of the attacked classifier and its sibling of another seed. */
  epochs: 5,
  /** Of the judges. */
  mlpEpochs: 10,
  cnnEpochs: 40,
  /** Per digit. */
  starts: 5,
  mixed: ["2:0.5,3:0.5", "1:0.5,7:0.5"] as readonly string[],
  changes: ["5 to 7", "5 to 9", "2 to 5", "7 to 2"] as readonly string[],
  l2: 1e-4,
  steps: 500,
  learningRate: 0.05,
  /** The second reference's: few steps, not clipped. */
  shortSteps: 10,
  shortLearningRate: 0.1,
  /** Uniform random images that are only classified. */
  noiseImages: 1000,
  /** The robust classifier: PGD in the L2 ball on every batch. */
  robustEpochs: 6,
  robustLearningRate: 2e-3,
  robustBatch: 128,
  attackRadius: 2.5,
  attackSteps: 4,
  /** Readable digits: starts per digit. */
  readableStarts: 10,
  readableSteps: 300,
};
type InputSettings = typeof reference;

const quick: InputSettings = {
  ...reference,
  trainImages: 20_000,
  epochs: 2,
  mlpEpochs: 5,
  cnnEpochs: 5,
  robustEpochs: 3,
  readableSteps: 200,
};

/** What others saw. */
const seenByOthers = {
  /** B1: steps to 99 % at rate 0.1. */
  stepsTo99: [2, 4],
  /** B3: digits that are mostly recognisable when the start is a noisy real one. */
  recognisable: [1, 2, 6, 8],
  /** B4: after 10 steps, instead of 0.5 each. */
  mixed: "0.29 and 0.71",
  /** B5: 7 is classified 2. */
  change: {
    text: "7 to 2",
    after: new Map([
      [2, 0.93],
      [3, 0.99],
    ]),
  },
  /** B6: almost all noise. */
  noise: { digit: 8, confidence: 0.49 },
} as const;
/** What "almost all" means. */
const ALMOST_ALL = 0.9;

// ---- What is asked for

const groupNames = ["noise", "real", "mixed", "changes"] as const;
/** Those of one digit each. */
const singleNames = ["noise", "real", "changes"] as const;
/** Indices into one batch by what they are to show. */
type Groups = Readonly<Record<(typeof groupNames)[number], readonly number[]>>;

/** @throws UsageError for targets that are not shares of ten digits, and changes that are not "5 to 7" */
function questionsOf({ mixed, changes }: InputSettings) {
  return {
    mixed: mixed.flatMap((text) => parseTargets(text)),
    changes: changes.map((text) => {
      const [, from, to] = /^(\d) to (\d)$/.exec(text) ?? [];
      if (from !== undefined && from !== to) return { text, from: Number(from), to: Number(to) };
      throw new UsageError(`input-optimisation: changes must be of two digits such as "5 to 7", given "${text}"`);
    }),
  };
}

/** Everything in the order of one batch. Starts that are real digits as they are come from those that are recognised. */
function wishesOf(settings: InputSettings, test: LabelledImages, predicted: Int32Array, seed: number) {
  const { mixed, changes } = questionsOf(settings);
  const { starts: count } = settings;
  const options = { count, seed, images: test };
  const recognised = (digit: number) => {
    const places = recognisedPlaces({ images: test, predicted }, digit);
    if (places.length >= count) return places.slice(0, count).map((place) => imageStart(test, place));
    throw new UsageError(
      `input-optimisation: needs ${count} test images of a ${digit} that the classifier recognises, there are ${places.length}; use more testImages, more training or fewer starts`,
    );
  };
  const digits = parseTargets("all");
  const parts: Record<keyof Groups, readonly Wish[]> = {
    noise: wishesFor(digits, "noise", options),
    real: wishesFor(digits, "real", options),
    mixed: mixed.flatMap((target) => [
      ...wishesFor([target], "noise", options),
      ...recognised(8).map((start) => ({ target, start })),
    ]),
    changes: changes.flatMap(({ from, to }) => recognised(from).map((start) => ({ target: oneHot(to), start }))),
  };
  let first = 0;
  const groups = Object.fromEntries(
    groupNames.map((name) => {
      const indices = parts[name].map((_, index) => first + index);
      first += indices.length;
      return [name, indices];
    }),
  ) as unknown as Groups;
  return { wishes: groupNames.flatMap((name) => parts[name]), groups };
}

// ---- Run

/** A gradient for the images takes two of the three matrix products of a training step. */
const INPUT_SHARE = 2 / 3;

/** A classifier with what it is worth. */
interface Trained {
  readonly name: string;
  readonly model: Model;
  readonly notes: TrainingNotes;
  readonly accuracy: number;
  /** Accuracy on attacked test images. */
  readonly underAttack: number;
}

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
    // The first is the one that images are found for; judges are of other architectures and have no part in it.
    const plans = {
      "small-cnn": planOf("small-cnn", settings.epochs, 0),
      "second small-cnn": planOf("small-cnn", settings.epochs, 1),
      "mlp-64": planOf("mlp-64", settings.mlpEpochs, 2),
      "sgd-cnn": planOf("sgd-cnn", settings.cnnEpochs, 3),
      [ROBUST]: robustPlanOf(settings, train, run.seed + 4),
    };
    const judgeNames = ["mlp-64", "sgd-cnn"] as const;

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
      const judges = trained.filter(({ name }) => (judgeNames as readonly string[]).includes(name));

      const { wishes, groups } = wishesOf(settings, test, known.predicted, run.seed);
      const common: OptimizeSettings = {
        ...{ steps: settings.steps, learningRate: settings.learningRate, settling: false, seed: run.seed },
        regularizers: { l2: settings.l2, totalVariation: 0, blur: 0, jitter: 0 },
      };
      const long = await findPart(run, "many steps", { model, wishes, settings: common });
      const short = await findPart(run, "few steps", {
        ...{ model, wishes, snapshotEvery: 1 },
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
          ...(await findReadable(run, variant, { classifier: variant.robust ? robust.model : model, judges })),
        });
      }

      // ---- Report

      const findings: Findings = { settings, test, groups, trained, long, short, settled, seen, onNoise, readable };
      const report = new Report({
        title: "Images for a frozen network",
        subtitle: `Gradient descent on the input of small-cnn, trained on ${counted(train.count, "image")} (${dataset.name}): ${counted(wishes.length, "image")} in one batch`,
        footer: run.footer,
      });
      addReport(report, findings);
      return { report, ...resultsOf(findings) };
    } finally {
      for (const { model } of parts) model.dispose();
    }
  },
});

/** The classifier of adversarial training: the same architecture, attacked on every batch by PGD in the L2 ball. */
const ROBUST = "robust small-cnn";

function robustPlanOf(settings: InputSettings, train: LabelledImages, seed: number): TrainingPlan {
  const { robustEpochs: epochs, robustBatch: batchSize, robustLearningRate: learningRate } = settings;
  const plan: TrainingPlan = {
    ...{ architecture: zooArchitecture(zooModel("small-cnn")), data: train, epochs, batchSize, seed },
    optimizer: (decaySteps) => adam({ learningRate: cosineDecay({ learningRate, decaySteps }) }),
  };
  // With the whole radius from the first step on it learns nothing: the loss stays at log 10.
  return adversarialPlan(plan, { attack: attackOf(settings), warmupEpochs: epochs / 2 });
}

/** Steps that are twice the radius in all: enough for the other side of the ball. */
const attackOf = ({ attackRadius: epsilon, attackSteps: steps }: InputSettings) =>
  pgd({ norm: "l2", epsilon, steps, relativeStep: 2 / steps, randomStart: true });

/** Test images that are attacked to see how robust a network is. */
const ATTACKED_IMAGES = 500;

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
      { steps, learningRate, seed, regularizers: variant.regularizers },
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
    readonly snapshotEvery?: number;
  },
): Promise<OptimizeRun> {
  const { model, wishes, settings, snapshotEvery } = options;
  return run.part(name, (progress) =>
    findImages(model, wishes, settings, {
      ...(snapshotEvery !== undefined && { snapshotEvery }),
      signal: run.signal,
      onProgress: ({ step, loss }) => progress(step / settings.steps, `step ${step}, loss ${lossText(loss)}`),
    }),
  );
}

type AnswersToNoise = Pick<Answers, "predicted" | "confidence">;

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

function joined(images: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(images.length * images[0]!.length);
  for (const [index, image] of images.entries()) all.set(image, index * image.length);
  return all;
}

// ---- What the report tells

interface Findings {
  readonly settings: InputSettings;
  readonly test: LabelledImages;
  readonly groups: Groups;
  readonly trained: readonly Trained[];
  readonly long: OptimizeRun;
  readonly short: OptimizeRun;
  /** The mixed group alone. */
  readonly settled: OptimizeRun;
  readonly seen: { readonly long: Verdicts; readonly short: Verdicts; readonly starts: Verdicts };
  readonly onNoise: readonly AnswersToNoise[];
  readonly readable: readonly VariantOutcome[];
}

const figure = (text: string): TableCell => ({ text, numeric: true });
/** A name that stays on one line of a table. */
const unbroken = (text: string) => text.replaceAll(" ", "\u00a0").replaceAll("-", "\u2011");
const others = (label: string) => ({ label, reference: true });
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const chosen = ({ images }: OptimizeRun, indices: readonly number[]) => indices.map((index) => images[index]!);

function addReport(report: Report, findings: Findings): void {
  const { groups, long, short, settled, seen } = findings;
  report.section("Digits from noise", (section) => {
    section.text(firstStepsText(findings));
    addSnapshots(section, short, onePerTarget(short, groups.noise));
    section.text(
      `${answersRemark(long, groups.noise)} ${changeRemark(long, groups.noise)} ${lateStepsRemark(long, groups.noise)} ${transferText(long, seen.long, groups.noise)}`,
    );
    section.row((row) => {
      addCourse(row, short, groups.noise);
      addCourse(row, long, groups.noise);
    });
    addSnapshots(section, long, onePerTarget(long, groups.noise));
    addFoundImages(section, long, groups.noise);
    addSpread(section, long, groups.noise);
  });
  report.section("Digits from noisy real digits", (section) => {
    section.text(
      `${answersRemark(long, groups.real)} ${changeRemark(long, groups.real)} ${structureText(findings)} ${transferText(long, seen.long, groups.real)}`,
    );
    addSnapshots(section, long, onePerTarget(long, groups.real));
    addFoundImages(section, long, groups.real);
    addCourse(section, long, groups.real);
    addSpread(section, long, groups.real);
  });
  report.section("Recognisable?", (section) => addRecognisable(section, findings));
  report.section("Two digits at once", (section) => {
    section.text(mixedText(findings));
    addMixed(section, findings);
    addSnapshots(section, settled, firstOfEach(settled));
    section.row((row) => {
      for (const start of mixedStarts) addFoundImages(row, settled, startingFrom(settled, start));
    });
    addCourse(
      section,
      settled,
      settled.images.map((_, index) => index),
    );
  });
  report.section("One digit taken for another", (section) => {
    section.text(
      `${answersRemark(long, groups.changes)} ${changeRemark(long, groups.changes)} ${transferText(long, seen.long, groups.changes)}`,
    );
    addChanges(section, findings);
    addSnapshots(section, long, onePerTarget(long, groups.changes));
    addFoundImages(section, long, groups.changes);
    addCourse(section, long, groups.changes);
  });
  report.section("The best image of each target", (section) => {
    section.text(
      "Of all starts the image with the lowest loss: from noise, from noisy real digits, for two digits, from another digit.",
    );
    for (const name of groupNames) addFoundImages(section, name === "mixed" ? settled : long, bestOf(findings, name));
  });
  report.section("What the networks say to noise", (section) => addNoise(section, findings));
  addReadableDigits(report, findings.readable);
  report.section("How", (section) => {
    for (const run of [long, short, settled]) section.text(methodText(run));
    section.text(
      `All ${counted(long.images.length, "image")} of the first two were one batch each, the ${counted(settled.images.length, "mixed image")} of the third another.`,
    );
    addModels(section, findings);
  });
}

/** B1: how soon 99 % is reached at the higher rate, beside what others saw. */
function firstStepsText({ groups, short, seen, settings }: Findings): string {
  const images = chosen(short, groups.noise);
  const [, most] = seenByOthers.stepsTo99;
  const steps = images.flatMap(({ stepsTo99 }) => stepsTo99 ?? []);
  const soon = steps.filter((count) => count <= most).length;
  const middle = median(steps);
  const reached =
    middle === undefined
      ? `None of ${images.length} images reaches ${percent(ONE_HOT_BAR, 0)} within ${counted(settings.shortSteps, "step")}`
      : `${percent(ONE_HOT_BAR, 0)} is reached by ${steps.length} of ${images.length} images within ${counted(settings.shortSteps, "step")}, in the median after ${middle}, by ${soon} of them within ${most}`;
  return `At learning rate ${settings.shortLearningRate} and without clipping: ${reached}. The reference took ${seenByOthers.stepsTo99.join(" to ")} steps and saw curves and lines, no digits. ${transferText(short, seen.short, groups.noise)}`;
}

/** What the judges make of images, in one sentence. */
function transferText(run: OptimizeRun, verdicts: Verdicts, indices: readonly number[]): string {
  const rates = Object.entries(verdicts).map(
    ([name, predicted]) => `${name} in ${percent(transferRate(run.images, predicted, indices), 0)}`,
  );
  return `Networks of other architectures see what was asked for: ${listed(rates)} of the images.`;
}

/** B2: whether the found images are nearer to the digit than their noisy starts were. */
function structureText({ settings, groups, long, test }: Findings): string {
  const indices = groups.real;
  const size = 28 * 28;
  const likeness = indices.map((index) => {
    const { target, start, pixels } = long.images[index]!;
    const nth = indices.filter((other) => other < index && long.images[other]!.target.label === target.label).length;
    const place = placesOf(test, target.likeliest)[nth]!;
    const clean = test.images.subarray(place * size, (place + 1) * size);
    return { before: correlation(start.image, clean), after: correlation(pixels, clean) };
  });
  const probability = (step: number) =>
    percent(mean(indices.map((index) => Math.exp(-long.course.crossEntropy[step]![index]!))));
  const [before, after] = [mean(likeness.map((of) => of.before)), mean(likeness.map((of) => of.after))];
  const word = after > before + 0.01 ? "nearer to" : after < before - 0.01 ? "further from" : "as near to";
  return `The network gives the digit ${probability(0)} at the start on average and ${probability(settings.steps - 1)} before the last step. The correlation with the digit before the noise was ${before.toFixed(2)} at the start and is ${after.toFixed(2)} in the end: the images end ${word} the real digit (up to 0.01 counts as the same)${word === "as near to" ? " as they began" : " than they began"}. The reference saw the digit's structure kept and the features of its class strengthened.`;
}

function correlation(a: Float32Array, b: Float32Array): number {
  const [meanA, meanB] = [a, b].map((values) => values.reduce((x, y) => x + y) / values.length) as [number, number];
  let [ab, aa, bb] = [0, 0, 0];
  for (const [i, value] of a.entries()) {
    ab += (value - meanA) * (b[i]! - meanB);
    aa += (value - meanA) ** 2;
    bb += (b[i]! - meanB) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

/** B3: which digits other networks recognise. */
function addRecognisable(section: Section, { groups, long, seen }: Findings): void {
  const judges = Object.keys(seen.long);
  const digits = Array.from({ length: 10 }, (_, digit) => digit);
  const of = (indices: readonly number[], digit: number) =>
    indices.filter((index) => long.images[index]!.target.likeliest === digit);
  const rates = (verdicts: Verdicts, indices: readonly number[]) =>
    judges.map((name) => transferRate(long.images, verdicts[name]!, indices));
  const rows = digits.map((digit) => ({
    digit,
    noise: rates(seen.long, of(groups.noise, digit)),
    before: rates(seen.starts, of(groups.real, digit)),
    real: rates(seen.long, of(groups.real, digit)),
  }));
  const all = (values: readonly number[]) => values.every((value) => value > 0.5);
  const named = (list: readonly { readonly digit: number }[]) =>
    list.length === 0 ? "none" : listed(list.map(({ digit }) => String(digit)));
  section.text(
    `A digit counts as recognisable here where every judge sees it in more than half of its images. From noise: ${named(rows.filter(({ noise }) => all(noise)))}. From noisy real digits: ${named(rows.filter(({ real }) => all(real)))}; before a single step: ${named(rows.filter(({ before }) => all(before)))}. A person found ${listed(seenByOthers.recognisable.map(String))} recognisable from noisy real digits in the reference, and hardly any from noise.`,
  );
  const cell = (values: readonly number[]): TableCell => figure(values.map((value) => percent(value, 0)).join(", "));
  section.table({
    columns: [...["digit", "from noise", "noisy real digit", "from it"], others("reference, from noisy real digits")],
    rows: rows.map(({ digit, noise, before, real }) => [
      String(digit),
      ...[noise, before, real].map(cell),
      (seenByOthers.recognisable as readonly number[]).includes(digit) ? "recognisable" : "hardly",
    ]),
    caption: `Share of the images that ${listed(judges)} take for the digit they were found for.`,
  });
}

const largestMiss = ({ target, probabilities }: FoundImage) =>
  Math.max(...probabilities.map((p, digit) => Math.abs(p - target.probabilities[digit]!)));

/** B4: how near to the shares each way of going about it comes. */
function mixedText({ groups, long, short, settled, settings }: Findings): string {
  const miss = (images: readonly FoundImage[]) => Math.max(...images.map(largestMiss)).toPrecision(2);
  const met = settled.images.filter((image) => image.met).length;
  return (
    `The largest miss of a share is ${miss(chosen(short, groups.mixed))} after ${counted(settings.shortSteps, "step")} at rate ${settings.shortLearningRate}, ` +
    `${miss(chosen(long, groups.mixed))} after ${settings.steps} at ${settings.learningRate}, and ${miss(settled.images)} after as many whose rate falls in the end: ` +
    `${met} of ${settled.images.length} images are within ${MIXED_BAR} of both shares then. The reference ended at ${seenByOthers.mixed} after 10 steps.`
  );
}

function addMixed(section: Section, { groups, long, short, settled, settings }: Findings): void {
  const ways = [
    { title: `${settings.shortSteps} steps at ${settings.shortLearningRate}`, images: chosen(short, groups.mixed) },
    { title: `${settings.steps} steps at ${settings.learningRate}`, images: chosen(long, groups.mixed) },
    { title: `${settings.steps} steps, falling rate`, images: settled.images },
  ];
  section.table({
    columns: ["target", "start", "", "shares", "largest miss", `within ${MIXED_BAR}`, others("reference")],
    rows: groupedByTarget(settled.images).flatMap(([{ target } = settled.images[0]!]) =>
      mixedStarts.flatMap((start) =>
        ways.map(({ title, images }): TableCell[] => {
          const of = images.filter((image) => image.target.label === target.label && image.start.shortText === start);
          const met = of.filter((image) => image.met).length;
          const shares = target.probabilities.flatMap((p, digit) => (p > 0 ? [digit] : []));
          return [
            unbroken(targetText(target)),
            unbroken(start),
            title,
            figure(
              shares
                .map((digit) => `${digit}: ${rangeText(of.map(({ probabilities }) => probabilities[digit]!))}`)
                .join(", "),
            ),
            figure(Math.max(...of.map(largestMiss)).toPrecision(2)),
            { text: `${met} of ${of.length}`, numeric: true, tone: met === of.length ? "good" : "bad" },
            title === ways[0]!.title ? seenByOthers.mixed : null,
          ];
        }),
      ),
    ),
    caption: "Lowest and highest share over the starts.",
  });
}

function rangeText(values: readonly number[]): string {
  const [low, high] = [Math.min(...values).toFixed(3), Math.max(...values).toFixed(3)];
  return low === high ? low : `${low}–${high}`;
}

/** What mixed digits begin with. */
const mixedStarts = ["noise", "a real 8"] as const;

const startingFrom = ({ images }: OptimizeRun, start: string) =>
  images.flatMap((image, index) => (image.start.shortText === start ? [index] : []));

/** The first image of each target and kind of start. */
function firstOfEach({ images }: OptimizeRun): number[] {
  const kinds = images.map(({ target, start }) => `${target.label} ${start.shortText}`);
  return kinds.flatMap((kind, index) => (kinds.indexOf(kind) === index ? [index] : []));
}

/** B5: how fast one digit becomes another for the network, beside what others saw. */
function addChanges(section: Section, { settings, groups, long, short, seen }: Findings): void {
  const { starts } = settings;
  const after = [...seenByOthers.change.after].filter(([step]) => step <= settings.shortSteps);
  const judges = Object.keys(seen.long);
  section.table({
    columns: [
      "",
      ...after.map(([step]) => `${counted(step, "step")} at ${settings.shortLearningRate}`),
      others("reference"),
      `steps to ${percent(ONE_HOT_BAR, 0)}`,
      `${settings.steps} steps at ${settings.learningRate}`,
      "judges who see it",
    ],
    rows: questionsOf(settings).changes.map(({ text, to }, place): TableCell[] => {
      const indices = groups.changes.slice(place * starts, (place + 1) * starts);
      const at = (run: OptimizeRun, step: number) => {
        const snapshot = run.course.snapshots.find((one) => one.step === step)!;
        return indices.map((index) => snapshot.probabilities[10 * index + to]!);
      };
      const steps = chosen(short, indices).flatMap(({ stepsTo99 }) => stepsTo99 ?? []);
      return [
        unbroken(text),
        ...after.map(([step]) => figure(shareText(at(short, step)))),
        text === seenByOthers.change.text ? figure(after.map(([, theirs]) => percent(theirs, 0)).join(", ")) : null,
        figure(
          steps.length < starts
            ? `${steps.length} of ${starts} do`
            : `${median(steps)} (${Math.min(...steps)}–${Math.max(...steps)})`,
        ),
        figure(shareText(at(long, settings.steps))),
        figure(judges.map((name) => percent(transferRate(long.images, seen.long[name]!, indices), 0)).join(", ")),
      ];
    }),
    caption: `Probability of the new digit: median over ${counted(starts, "real digit")} that the network recognised, lowest and highest in brackets. ${listed(judges)} look at the images after ${settings.steps} steps; a reference found 5 to 9 readable as a 9 then.`,
  });
}

function shareText(values: readonly number[]): string {
  const [low, high] = [percent(Math.min(...values), 0), percent(Math.max(...values), 0)];
  return `${percent(median(values)!, 1)}${low === high ? "" : ` (${low.replace(" %", "")}–${high})`}`;
}

/** Of each target of a group, the index of the image with the lowest loss. */
function bestOf({ groups, long, settled }: Findings, name: keyof Groups): number[] {
  const [run, indices] = name === "mixed" ? [settled, settled.images.map((_, i) => i)] : [long, groups[name]];
  return groupedByTarget(chosen(run, indices)).map((group) =>
    run.images.indexOf(group.reduce((a, b) => (b.loss < a.loss ? b : a))),
  );
}

/** B6: a network's answers to noise, summed up. */
function noiseFigures({ predicted, confidence }: AnswersToNoise) {
  const counts = Array.from({ length: 10 }, (_, digit) => predicted.reduce((n, p) => n + (p === digit ? 1 : 0), 0));
  const favourite = counts.indexOf(Math.max(...counts));
  const sorted = Float64Array.from(confidence).sort();
  const quantile = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return {
    shares: counts.map((count) => count / predicted.length),
    favourite,
    favouriteShare: counts[favourite]! / predicted.length,
    favouriteConfidence: mean(Array.from(confidence).filter((_, i) => predicted[i] === favourite)),
    confidence: { mean: mean(Array.from(confidence)), low: quantile(0.1), median: quantile(0.5), high: quantile(0.9) },
  };
}

function addNoise(section: Section, { trained, onNoise, settings }: Findings): void {
  const figures = onNoise.map(noiseFigures);
  const { digit, confidence } = seenByOthers.noise;
  const so = trained.filter((_, i) => figures[i]!.favourite === digit && figures[i]!.favouriteShare >= ALMOST_ALL);
  section.text(
    `${counted(settings.noiseImages, "uniform random image")}, only classified. A reference network called almost all noise ${digit}, with about ${percent(confidence, 0)}. ` +
      `Of the ${trained.length} networks here ${so.length === 0 ? "none does" : so.length === trained.length ? "all do" : `${listed(so.map(({ name }) => name))} ${so.length === 1 ? "does" : "do"}`} (at least ${percent(ALMOST_ALL, 0)} of the images): ` +
      `${listed(trained.map(({ name }, i) => `${name} says ${figures[i]!.favourite} to ${percent(figures[i]!.favouriteShare, 1)}`))}. ` +
      (new Set(figures.map(({ favourite }) => favourite)).size === 1
        ? "They agree on the digit."
        : "Which digit it is depends on the network, not on the noise."),
  );
  section.table({
    columns: [
      "",
      "commonest",
      "share",
      "mean confidence in it",
      others("reference"),
      "median confidence",
      "10 % to 90 %",
    ],
    rows: figures.map((of, i) => [
      unbroken(trained[i]!.name),
      figure(String(of.favourite)),
      figure(percent(of.favouriteShare, 1)),
      figure(percent(of.favouriteConfidence, 0)),
      figure(`${digit}, almost all, ${percent(confidence, 0)}`),
      figure(percent(of.confidence.median, 0)),
      figure(`${Math.round(100 * of.confidence.low)}–${percent(of.confidence.high, 0)}`),
    ]),
    caption: "Confidence: the probability of the answer given; its median and quantiles over all images.",
  });
  section.chart(
    barChart({
      title: "Answers to noise",
      width: 900,
      categories: figures[0]!.shares.map((_, digitOf) => String(digitOf)),
      categoryLabel: "answer",
      series: figures.map(({ shares }, i) => ({ name: trained[i]!.name, values: shares })),
      values: { percent: true },
    }),
  );
  const bins = Array.from({ length: 10 }, (_, bin) => bin / 10);
  section.chart(
    barChart({
      title: "Confidence on noise",
      width: 900,
      categories: bins.map((low) => `${Math.round(100 * low)}–${percent(low + 0.1, 0)}`),
      categoryLabel: "probability of the answer given",
      series: onNoise.map((answers, i) => ({
        name: trained[i]!.name,
        values: bins.map((_, bin) =>
          mean(Array.from(answers.confidence, (p) => (Math.min(9, Math.floor(10 * p)) === bin ? 1 : 0))),
        ),
      })),
      values: { percent: true },
    }),
  );
}

function addModels(section: Section, { settings, trained, test }: Findings): void {
  section.table({
    columns: [
      "Network",
      "parameters",
      "epochs",
      "test accuracy",
      others("reference, in full"),
      "under attack",
      "training step, median",
    ],
    rows: trained.map(({ name, model, notes, accuracy, underAttack }) => {
      const known = name === ROBUST ? undefined : zooModel(model.name).reference;
      return [
        unbroken(name),
        model.countParameters().total,
        notes.history["loss"]!.length,
        figure(percent(accuracy)),
        known === undefined ? null : figure(percent(known.testAccuracy)),
        figure(percent(underAttack, 0)),
        notes.timing.stepMsMedian === undefined ? null : figure(milliseconds(notes.timing.stepMsMedian)),
      ];
    }),
    caption: `On ${counted(test.count, "test image")}; under attack: PGD of ${counted(settings.attackSteps, "step")} in the L2 ball of radius ${settings.attackRadius}, on the first ${counted(Math.min(ATTACKED_IMAGES, test.count), "image")}.`,
  });
}

function resultsOf(findings: Findings) {
  const { groups, long, short, settled, seen, trained, onNoise, readable } = findings;
  const best = readable.at(-1)!;
  const [baselineRate, bestRate] = [readable[0]!, best].map(({ run, verdicts }) => leastTransfer(run.images, verdicts));
  const single = singleNames.flatMap((name) => groups[name]);
  const met = chosen(long, single).filter((image) => image.met).length;
  const mixedMet = settled.images.filter((image) => image.met).length;
  const steps = chosen(short, groups.noise).flatMap(({ stepsTo99 }) => stepsTo99 ?? []);
  const noise = onNoise.map(noiseFigures);
  const transfer = (run: OptimizeRun, verdicts: Verdicts, indices: readonly number[]) =>
    Object.fromEntries(
      Object.entries(verdicts).map(([name, predicted]) => [name, transferRate(run.images, predicted, indices)]),
    );
  const imageMetrics = (run: OptimizeRun, indices: readonly number[]) =>
    chosen(run, indices).map(({ target, start, pixels: _, file: _file, ...answer }) => ({
      ...{ target: target.label, start: start.label, startText: start.text, ...answer },
    }));
  return {
    figures: [
      {
        label: "Readable from noise",
        value: percent(bestRate!, 0),
        note: `transfer to the harder judge; gradient descent alone ${percent(baselineRate!, 0)}`,
        tone: bestRate! >= TRANSFER_BAR ? ("good" as const) : ("bad" as const),
      },
      {
        label: "Single digits met",
        value: `${met} of ${single.length}`,
        note: "99 % for the target",
        tone: met === single.length ? ("good" as const) : ("bad" as const),
      },
      {
        label: "Mixed digits met",
        value: `${mixedMet} of ${settled.images.length}`,
        note: `within ${MIXED_BAR}; reference ${seenByOthers.mixed}`,
        tone: mixedMet === settled.images.length ? ("good" as const) : ("bad" as const),
      },
      {
        label: "Steps to 99 % from noise",
        value: median(steps) ?? "–",
        note: `median at rate ${findings.settings.shortLearningRate}; reference ${seenByOthers.stepsTo99.join(" to ")}`,
      },
      {
        label: "Noise called 8",
        value: percent(noise[0]!.shares[seenByOthers.noise.digit]!, 0),
        note: "by small-cnn; reference almost all",
      },
    ],
    pictures: new Map([
      ["readable-digits.png", variantPicture(best)],
      ...picturesOf({ images: [...chosen(long, single), ...settled.images] }),
    ]),
    metrics: {
      models: trained.map(({ notes: { history, seconds }, model: _, ...rest }) => ({ ...rest, history, seconds })),
      readable: readable.map(variantMetrics),
      transfer: {
        ...Object.fromEntries(singleNames.map((name) => [name, transfer(long, seen.long, groups[name])])),
        noiseFewSteps: transfer(short, seen.short, groups.noise),
      },
      ...{
        single: imageMetrics(long, single),
        mixed: imageMetrics(
          settled,
          settled.images.map((_, i) => i),
        ),
      },
      ...{ fewSteps: imageMetrics(short, single), onNoise: noise },
    },
    summary: [
      `readable from noise: ${percent(bestRate!, 0)} transfer to the harder judge (${variantTitle(best.variant)}), ${percent(baselineRate!, 0)} by gradient descent alone`,
      `single digits: ${met} of ${single.length} at 99 %; mixed: ${mixedMet} of ${settled.images.length} within ${MIXED_BAR}`,
      ...singleNames.map((name) => `${name}: ${transferText(long, seen.long, groups[name])}`),
      ...noise.map(
        (of, i) => `${trained[i]!.name}: ${percent(of.favouriteShare, 1)} of noise is called ${of.favourite}`,
      ),
    ].join("\n"),
  };
}
