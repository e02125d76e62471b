// The report of the experiment "input-optimisation": its sections, tables and charts. The sentences come from
// input-findings.ts.

import type { LabelledImages } from "../../../data/dataset.js";
import { barChart, lineChart } from "../../../io/charts.js";
import type { Report, Section, TableCell } from "../../../io/report.js";
import type { Model } from "../../../nn/model.js";
import { judgeArchitectures } from "../inputs/judges.js";
import {
  type FoundImage,
  groupedByTarget,
  MIXED_BAR,
  ONE_HOT_BAR,
  type OptimizeRun,
  picturesOf,
} from "../inputs/optimize-run.js";
import {
  type Groups,
  groupNames,
  type InputSettings,
  mixedStarts,
  questionsOf,
  singleNames,
} from "../inputs/questions.js";
import {
  addReadableDigits,
  TRANSFER_BAR,
  type VariantOutcome,
  variantMetrics,
  variantPicture,
  variantTitle,
} from "../inputs/readable-digits.js";
import { placesOf } from "../inputs/starts.js";
import { targetText } from "../inputs/target.js";
import { leastTransfer, transferRate, type Verdicts } from "../inputs/transfer.js";
import type { TrainingNotes } from "../training/experiment-training.js";
import { zooArchitecture, zooModel } from "../training/models.js";
import { gridFiles } from "./grids.js";
import {
  type AnswersToNoise,
  correlation,
  firstStepsRemark,
  largestMiss,
  mean,
  median,
  mixedRemark,
  noiseFigures,
  noiseRemark,
  type RecognisedDigit,
  recognisableRemark,
  seenByOthers,
  structureRemark,
  transferRemark,
} from "./input-findings.js";
import { layerTable } from "./layer-table.js";
import {
  addCourse,
  addFoundImages,
  addSnapshots,
  addSpread,
  addStrip,
  answersRemark,
  changeRemark,
  lateStepsRemark,
  methodText,
  onePerTarget,
} from "./optimize-report.js";
import { type BalanceFigures, type ChangeFigures, inputQuestions } from "./questions/inputs.js";
import { counted, listed, milliseconds, percent } from "./text.js";

/** Name of the classifier of adversarial training. */
export const ROBUST = "robust small-cnn";

/** Test images that are attacked to see how robust a network is. */
export const ATTACKED_IMAGES = 500;

/** A classifier with what it is worth. */
export interface Trained {
  readonly name: string;
  readonly model: Model;
  readonly notes: TrainingNotes;
  readonly accuracy: number;
  /** Accuracy on attacked test images. */
  readonly underAttack: number;
}

/** All that a run came to. */
export interface InputOutcome {
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
const chosen = ({ images }: OptimizeRun, indices: readonly number[]) => indices.map((index) => images[index]!);

/** Appends all sections. */
export function addInputReport(report: Report, outcome: InputOutcome): void {
  const { groups, long, short, settled, seen } = outcome;
  report.section("Digits from noise", (section) => {
    section.text(firstStepsText(outcome));
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
      `${answersRemark(long, groups.real)} ${changeRemark(long, groups.real)} ${structureText(outcome)} ${transferText(long, seen.long, groups.real)}`,
    );
    addSnapshots(section, long, onePerTarget(long, groups.real));
    addFoundImages(section, long, groups.real);
    addCourse(section, long, groups.real);
    addSpread(section, long, groups.real);
  });
  report.section("Recognisable?", (section) => addRecognisable(section, outcome));
  report.section("Two digits at once", (section) => {
    section.text(mixedText(outcome));
    addBalance(section, outcome);
    addMixed(section, outcome);
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
    const change = shownChange(outcome);
    if (change !== undefined) addStrip(section, short, change.indices[0]!, FIRST_STEPS);
    addChanges(section, outcome);
    addSnapshots(section, long, onePerTarget(long, groups.changes));
    addFoundImages(section, long, groups.changes);
    addCourse(section, long, groups.changes);
  });
  report.section("The best image of each target", (section) => {
    section.text(
      "Of all starts the image with the lowest loss: from noise, from noisy real digits, for two digits, from another digit.",
    );
    for (const name of groupNames) addFoundImages(section, name === "mixed" ? settled : long, bestOf(outcome, name));
  });
  report.section("What the networks say to noise", (section) => addNoise(section, outcome));
  addReadableDigits(report, outcome.readable);
  report.section("How", (section) => {
    for (const run of [long, short, settled]) section.text(methodText(run));
    section.text(
      `All ${counted(long.images.length, "image")} of the first two were one batch each, the ${counted(settled.images.length, "mixed image")} of the third another.`,
    );
    addModels(section, outcome);
    section.row((row) => {
      for (const [name, title, isShare] of [
        ["loss", "Training loss of the networks", false],
        ["accuracy", "Training accuracy of the networks", true],
      ] as const) {
        row.chart(
          lineChart({
            title,
            series: outcome.trained.map(({ name: network, notes }) => ({ name: network, y: notes.history[name]! })),
            x: { label: "epoch" },
            y: isShare ? { percent: true } : { scale: "log" },
          }),
          "Of the robust one on attacked images, of the judges on distorted ones.",
        );
      }
    });
    const { model } = outcome.trained[0]!;
    section.details(`Layers of ${model.name}`, (layers) =>
      layers.table(layerTable(zooArchitecture(zooModel(model.name)))),
    );
  });
}

// ---- The pictures that the questions ask for

/** Steps at which a digit that becomes another is shown, and one that becomes two. */
const FIRST_STEPS = 4;
const BALANCE_STEPS = 9;

/** The change that others saw, or the first one asked for: its images in the batch. */
function shownChange({ settings, groups }: InputOutcome) {
  const changes = questionsOf(settings).changes;
  const place = Math.max(
    0,
    changes.findIndex(({ text }) => text === seenByOthers.change.text),
  );
  const change = changes[place];
  if (change === undefined) return undefined;
  const { starts } = settings;
  return { ...change, indices: groups.changes.slice(place * starts, (place + 1) * starts) };
}

/** The first image from a real 8 for the first mixed target. */
function shownBalance({ groups, short }: InputOutcome): number | undefined {
  return groups.mixed.find((index) => short.images[index]!.start.shortText === mixedStarts[1]);
}

/** Probabilities of an image after every step that was kept. */
const probabilitiesOf = ({ course }: OptimizeRun, index: number) =>
  course.snapshots.map(({ step, probabilities }) => ({
    step,
    probabilities: Array.from(probabilities.subarray(10 * index, 10 * (index + 1))),
  }));

/** B4: a real 8 on its way to two digits, step by step, with the whole vector of each step. */
function addBalance(section: Section, outcome: InputOutcome): void {
  const index = shownBalance(outcome);
  if (index === undefined) return;
  addStrip(section, outcome.short, index, BALANCE_STEPS);
  const settled = outcome.settled.images[outcome.groups.mixed.indexOf(index)]!;
  const row = (name: string, probabilities: readonly number[]): TableCell[] => [
    name,
    ...probabilities.map((p) => figure(p.toFixed(3))),
  ];
  section.table({
    columns: ["after", ...Array.from({ length: 10 }, (_, digit) => String(digit))],
    rows: [
      ...probabilitiesOf(outcome.short, index).map(({ step, probabilities }) =>
        row(counted(step, "step"), probabilities),
      ),
      row(`${counted(outcome.settings.steps, "step")}, falling rate`, settled.probabilities),
    ],
    caption: `The probabilities of all digits for ${targetText(settled.target)} from a real 8, at rate ${outcome.settings.shortLearningRate}, and in the end with a rate that falls.`,
  });
}

/** What questions/inputs.ts asks for. */
function questionFigures(outcome: InputOutcome): Parameters<typeof inputQuestions>[0] {
  const { groups, long, short, settled, trained, onNoise, readable, settings } = outcome;
  const change = shownChange(outcome);
  const balance = shownBalance(outcome);
  return {
    course: long.course.snapshots.map(({ step, loss, probabilities }) => ({
      step,
      loss: mean(groups.noise.map((index) => loss[index]!)),
      probability: mean(groups.noise.map((index) => probabilities[10 * index + long.images[index]!.target.likeliest]!)),
    })),
    likeness: likenessOf(chosen(long, groups.noise)),
    recognised: recognisedDigits(outcome),
    priors: readable.map(({ variant: { name, robust }, run, verdicts }) => ({
      ...{ name, robust, transfer: leastTransfer(run.images, verdicts) },
    })),
    ...(balance !== undefined && { balance: balanceOf(short, balance, settled) }),
    ...(change && { change: changeOf(short, change) }),
    noise: onNoise.map((answers, i) => ({ name: trained[i]!.name, ...noiseFigures(answers) })),
    noiseImages: settings.noiseImages,
  };
}

/** Mean correlation of images of one target, and of their starts, over all pairs. */
function likenessOf(images: readonly FoundImage[]) {
  const pairs = groupedByTarget(images).flatMap((group) =>
    group.flatMap((a, i) => group.slice(i + 1).map((b) => [a, b] as const)),
  );
  const of = (pixels: (image: FoundImage) => Float32Array) =>
    pairs.length === 0 ? 1 : mean(pairs.map(([a, b]) => correlation(pixels(a), pixels(b))));
  return { starts: of(({ start }) => start.image), found: of(({ pixels }) => pixels) };
}

function balanceOf(short: OptimizeRun, index: number, settled: OptimizeRun): BalanceFigures {
  const image = short.images[index]!;
  const asked = image.target.probabilities.flatMap((p, digit) => (p > 0 ? [digit] : []));
  const shares = probabilitiesOf(short, index).map(({ probabilities }) => probabilities[asked[0]!]!);
  const late = shares.slice(Math.floor(shares.length / 2));
  return {
    ...{ target: targetText(image.target), final: image.probabilities, asked, steps: short.settings.steps },
    swing: late.length < 2 ? 0 : mean(late.slice(1).map((share, i) => Math.abs(share - late[i]!))),
    miss: largestMiss(image),
    settled: {
      ...{ met: settled.images.filter(({ met }) => met).length, count: settled.images.length, bar: MIXED_BAR },
    },
  };
}

function changeOf(
  short: OptimizeRun,
  { text, to, indices }: { readonly text: string; readonly to: number; readonly indices: readonly number[] },
): ChangeFigures {
  const size = 28 * 28;
  const answerOf = (probabilities: readonly number[]) => {
    const confidence = Math.max(...probabilities);
    return { answer: probabilities.indexOf(confidence), confidence };
  };
  const reached = indices.flatMap((index) => {
    const at = probabilitiesOf(short, index).findIndex(({ probabilities }) => answerOf(probabilities).answer === to);
    if (at < 0) return [];
    const { step, images } = short.course.snapshots[at]!;
    const { image: start } = short.images[index]!.start;
    const differences = Array.from(start, (pixel, i) => Math.abs(images[index * size + i]! - pixel));
    return [{ step, l2: Math.hypot(...differences), pixels: differences.filter((value) => value > 0.1).length }];
  });
  const smallest = reached.toSorted((a, b) => a.l2 - b.l2)[0];
  return {
    text,
    course: probabilitiesOf(short, indices[0]!)
      .filter(({ step }) => step <= FIRST_STEPS)
      .map(({ step, probabilities }) => ({ step, ...answerOf(probabilities) })),
    ...(smallest && { smallest }),
  };
}

/** B1: how soon 99 % is reached at the higher rate, beside what others saw. */
function firstStepsText({ groups, short, seen, settings }: InputOutcome): string {
  const { shortSteps: steps, shortLearningRate: learningRate } = settings;
  const stepsTo99 = chosen(short, groups.noise).map((image) => image.stepsTo99 ?? null);
  return `${firstStepsRemark({ stepsTo99, steps, learningRate })} ${transferText(short, seen.short, groups.noise)}`;
}

/** What the judges make of images, in one sentence. */
function transferText(run: OptimizeRun, verdicts: Verdicts, indices: readonly number[]): string {
  return transferRemark(transferRates(run, verdicts, indices));
}

/** Share of images that each judge takes for what they were found for. */
function transferRates(run: OptimizeRun, verdicts: Verdicts, indices: readonly number[]): Record<string, number> {
  return Object.fromEntries(
    Object.entries(verdicts).map(([name, predicted]) => [name, transferRate(run.images, predicted, indices)]),
  );
}

/** B2: whether the found images are nearer to the digit than their noisy starts were. */
function structureText({ settings, groups, long, test }: InputOutcome): string {
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
    mean(indices.map((index) => Math.exp(-long.course.crossEntropy![step]![index]!)));
  return structureRemark({
    probability: { before: probability(0), after: probability(settings.steps - 1) },
    likeness: { before: mean(likeness.map((of) => of.before)), after: mean(likeness.map((of) => of.after)) },
  });
}

/** B3: how often each judge sees each digit. */
function recognisedDigits({ groups, long, seen }: InputOutcome): RecognisedDigit[] {
  const judges = Object.keys(seen.long);
  const digits = Array.from({ length: 10 }, (_, digit) => digit);
  const of = (indices: readonly number[], digit: number) =>
    indices.filter((index) => long.images[index]!.target.likeliest === digit);
  const rates = (verdicts: Verdicts, indices: readonly number[]) =>
    judges.map((name) => transferRate(long.images, verdicts[name]!, indices));
  return digits.map(
    (digit): RecognisedDigit => ({
      digit,
      noise: rates(seen.long, of(groups.noise, digit)),
      before: rates(seen.starts, of(groups.real, digit)),
      real: rates(seen.long, of(groups.real, digit)),
    }),
  );
}

/** B3: which digits other networks recognise. */
function addRecognisable(section: Section, outcome: InputOutcome): void {
  const judges = Object.keys(outcome.seen.long);
  const rows = recognisedDigits(outcome);
  section.text(recognisableRemark(rows));
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

/** B4: how near to the shares each way of going about it comes. */
function mixedText({ groups, long, short, settled, settings }: InputOutcome): string {
  const miss = (images: readonly FoundImage[]) => Math.max(...images.map(largestMiss));
  return mixedRemark({
    few: {
      ...{ steps: settings.shortSteps, learningRate: settings.shortLearningRate },
      miss: miss(chosen(short, groups.mixed)),
    },
    many: { steps: settings.steps, learningRate: settings.learningRate, miss: miss(chosen(long, groups.mixed)) },
    settled: {
      ...{ miss: miss(settled.images), count: settled.images.length },
      met: settled.images.filter((image) => image.met).length,
    },
  });
}

function addMixed(section: Section, { groups, long, short, settled, settings }: InputOutcome): void {
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

const startingFrom = ({ images }: OptimizeRun, start: string) =>
  images.flatMap((image, index) => (image.start.shortText === start ? [index] : []));

/** The first image of each target and kind of start. */
function firstOfEach({ images }: OptimizeRun): number[] {
  const kinds = images.map(({ target, start }) => `${target.label} ${start.shortText}`);
  return kinds.flatMap((kind, index) => (kinds.indexOf(kind) === index ? [index] : []));
}

/** B5: how fast one digit becomes another for the network, beside what others saw. */
function addChanges(section: Section, { settings, groups, long, short, seen }: InputOutcome): void {
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
function bestOf({ groups, long, settled }: InputOutcome, name: keyof Groups): number[] {
  const [run, indices] = name === "mixed" ? [settled, settled.images.map((_, i) => i)] : [long, groups[name]];
  return groupedByTarget(chosen(run, indices)).map((group) =>
    run.images.indexOf(group.reduce((a, b) => (b.loss < a.loss ? b : a))),
  );
}

function addNoise(section: Section, { trained, onNoise, settings }: InputOutcome): void {
  const figures = onNoise.map(noiseFigures);
  const { digit, confidence } = seenByOthers.noise;
  section.text(
    noiseRemark(
      figures.map((of, i) => ({ name: trained[i]!.name, ...of })),
      { count: settings.noiseImages },
    ),
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

function addModels(section: Section, { settings, trained, test }: InputOutcome): void {
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
      const known =
        name === ROBUST || Object.hasOwn(judgeArchitectures, name) ? undefined : zooModel(model.name).reference;
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

/** Figures, pictures, metrics and the last lines in the terminal. */
export function inputResults(outcome: InputOutcome) {
  const { groups, long, short, settled, seen, trained, onNoise, readable } = outcome;
  const best = readable.at(-1)!;
  const [baselineRate, bestRate] = [readable[0]!, best].map(({ run, verdicts }) => leastTransfer(run.images, verdicts));
  const single = singleNames.flatMap((name) => groups[name]);
  const met = chosen(long, single).filter((image) => image.met).length;
  const mixedMet = settled.images.filter((image) => image.met).length;
  const steps = chosen(short, groups.noise).flatMap(({ stepsTo99 }) => stepsTo99 ?? []);
  const noise = onNoise.map(noiseFigures);
  const imageMetrics = (run: OptimizeRun, indices: readonly number[]) =>
    chosen(run, indices).map(({ target, start, pixels: _, file: _file, ...answer }) => ({
      ...{ target: target.label, start: start.label, startText: start.text, ...answer },
    }));
  return {
    questions: inputQuestions(questionFigures(outcome)),
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
        note: `median at rate ${outcome.settings.shortLearningRate}; reference ${seenByOthers.stepsTo99.join(" to ")}`,
      },
      {
        label: "Noise called 8",
        value: percent(noise[0]!.shares[seenByOthers.noise.digit]!, 0),
        note: "by small-cnn; reference almost all",
      },
    ],
    pictures: new Map<string, Uint8Array | string>([
      ...gridFiles({ "readable-digits.svg": variantPicture(best) }),
      ...picturesOf({ images: [...chosen(long, single), ...settled.images] }),
    ]),
    metrics: {
      models: trained.map(({ notes: { history, seconds }, model: _, ...rest }) => ({ ...rest, history, seconds })),
      readable: readable.map(variantMetrics),
      transfer: {
        ...Object.fromEntries(singleNames.map((name) => [name, transferRates(long, seen.long, groups[name])])),
        noiseFewSteps: transferRates(short, seen.short, groups.noise),
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
