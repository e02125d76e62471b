// What a report tells of a training: cards, curves, confusion matrix, digits right and wrong, and remarks that follow
// from the figures of the run.
import type { LabelledImages } from "../../../data/dataset.js";
import { confusionMatrix, lineChart } from "../../../io/charts.js";
import type { GridCell } from "../../../io/grid.js";
import type { KeyFigure, Report, TableCell } from "../../../io/report.js";
import type { WebGpuDevice } from "../../../webgpu/device.js";
import { describeAdapter } from "../frame/run.js";
import type { Classification } from "../training/classify.js";
import type { ZooModel } from "../training/models.js";
import { optimizerText, type TrainRun } from "../training/train-run.js";
import { type Grid, gridFiles } from "./grids.js";
import { counted, duration, listed, lossText, mebibytes, milliseconds, percent, points } from "./text.js";

const DIGITS = Array.from({ length: 10 }, (_, digit) => String(digit));
const GRID_COLUMNS = 12;
const DIGITS_SHOWN = 24;
const MISTAKES_SHOWN = 36;
/** Accuracies this near to each other count as the same. */
const CLOSE = 0.005;
/** A wrong answer with more than this is called sure. */
const SURE = 0.9;

/** The cards at the top. */
export function trainingCards(run: TrainRun) {
  const { test, zoo, config, dataset, validation, train, history, peakBytes, seconds, sets } = run;
  const reference = dataset.name === "mnist" ? zoo.reference?.testAccuracy : undefined;
  const { stepMsMedian, firstStepMs } = history.timing;
  const cards: KeyFigure[] = [
    {
      label: "Test accuracy",
      value: percent(test.accuracy),
      note: [
        ...(config.ema === undefined ? [] : ["averaged weights"]),
        reference === undefined ? counted(test.count, "image") : `reference ${percent(reference)}`,
      ].join("; "),
      ...(reference !== undefined && { tone: test.accuracy >= reference - standardError(test) ? "good" : "bad" }),
    },
    {
      label: "Training accuracy",
      value: percent(train.accuracy),
      note: `${counted(train.count, "training image")}, after training`,
    },
    ...(validation === undefined
      ? []
      : [{ label: "Validation accuracy", value: percent(validation.accuracy), note: sets.watchedText }]),
    {
      label: "Training step",
      value: stepMsMedian === undefined ? "–" : milliseconds(stepMsMedian),
      note: `median; the first, with compilation, ${firstStepMs === undefined ? "–" : milliseconds(firstStepMs)}`,
    },
    { label: "Time", value: duration(seconds), note: counted(history.steps, "step") },
    { label: "Memory on the adapter", value: mebibytes(peakBytes), note: "at most" },
  ];
  return cards;
}

/** Of the share of right answers, for a sample of this size. */
export function standardError({ accuracy, count }: Pick<Classification, "accuracy" | "count">): number {
  return Math.sqrt((accuracy * (1 - accuracy)) / count);
}

/** The pictures of a training by file name. */
export function trainingPictures({ test }: TrainRun): Map<string, Uint8Array | string> {
  const { digits, mistakes } = answerGrids(test);
  return gridFiles({ "digits.svg": digits, ...(test.mistakes.length > 0 && { "mistakes.svg": mistakes }) });
}

/** The first test images, and the surest mistakes. */
function answerGrids(test: Classification): { readonly digits: Grid; readonly mistakes: Grid } {
  const first = Array.from({ length: Math.min(DIGITS_SHOWN, test.count) }, (_, i) => i);
  return { digits: answersGrid(test, first), mistakes: answersGrid(test, test.mistakes.slice(0, MISTAKES_SHOWN)) };
}

/** Images with what the model took them for. */
function answersGrid(test: Classification, indices: readonly number[]): Grid {
  const cells = indices.map((index): GridCell => {
    const label = test.images.labels[index]!;
    const right = test.predicted[index] === label;
    return {
      ...imageAt(test.images, index),
      caption: [`${test.predicted[index]}  ${percent(test.confidence[index]!, 0)}`, ...(right ? [] : [`is ${label}`])],
      highlight: right ? "good" : "bad",
      figures: {
        ...{ answer: String(test.predicted[index]), is: String(label) },
        ...{ confidence: test.confidence[index]!, "test image": index },
      },
    };
  });
  return { cells: rowsOf(cells, GRID_COLUMNS), options: { scale: 2 } };
}

/** Image `index` as a cell of a grid. */
export function imageAt({ images, imageShape: [height, width] }: LabelledImages, index: number) {
  return { pixels: images.subarray(index * height * width, (index + 1) * height * width), width, height };
}

/** Cells in rows of `columns`. */
export function rowsOf<T>(cells: readonly T[], columns: number): T[][] {
  return Array.from({ length: Math.ceil(cells.length / columns) }, (_, row) =>
    cells.slice(row * columns, (row + 1) * columns),
  );
}

/** Appends everything that is to be told of a training, to a report or to what takes sections like one. */
export function addTrainingSections(report: Pick<Report, "section">, run: TrainRun, device: WebGpuDevice): void {
  const { zoo, test, history, config, dataset, architecture, sets } = run;
  const grids = answerGrids(test);
  report.section("Result", (section) => {
    section.text(resultRemark(run)).table(comparison(run));
  });
  report.section("Training", (section) => {
    section.text(curvesRemark(run)).row((row) => {
      for (const [name, title, percentage] of [
        ["loss", `Loss of ${zoo.name}`, false],
        ["accuracy", `Accuracy of ${zoo.name}`, true],
      ] as const) {
        const watchedName = sets.validation === undefined ? "test part" : "validation";
        const x = history.epoch.map((epoch) => epoch + 1);
        const reference = name === "accuracy" && dataset.name === "mnist" ? zoo.reference?.testAccuracy : undefined;
        row.chart(
          lineChart({
            title,
            series: [
              { name: "training", x, y: history.history[name] ?? [] },
              { name: watchedName, x, y: history.history[`val_${name}`] ?? [] },
            ],
            x: { label: "epoch" },
            y: { percent: percentage },
            ...(reference && {
              referenceLines: [{ value: reference, label: `reference, test ${percent(reference)}` }],
            }),
          }),
        );
      }
    });
    if (run.stepLosses.length > 1) section.chart(stepLossChart(run));
    section.text(
      "Training curves are means over an epoch's steps, during which the weights change; those of the " +
        `${sets.watchedText} are taken at the epoch's end${config.ema === undefined ? "" : ", before any averaging of weights"}.` +
        (sets.validation === undefined
          ? " No image was held out for validation: the test part is only looked at, nothing was chosen by it."
          : "") +
        (zoo.labelSmoothing === undefined
          ? ""
          : " The loss of these curves is that of smoothed targets, so it does not fall to 0; losses in tables are of the classes themselves."),
    );
  });
  report.section("Test digits", (section) => {
    section
      .text(confusionRemark(test))
      .chart(
        confusionMatrix({ title: `Answers of ${zoo.name}`, labels: DIGITS, counts: test.confusion }),
        "Rows: what a digit is. Columns: what it was taken for.",
      )
      .grid(grids.digits.cells, {
        ...grids.digits.options,
        alt: "Test digits with the model's answers",
        caption: `The first ${Math.min(DIGITS_SHOWN, test.count)} test digits: the model's answer and its probability.`,
      });
  });
  report.section("Misclassified", (section) => {
    section.text(mistakesRemark(test));
    if (test.mistakes.length === 0) return;
    section.grid(grids.mistakes.cells, {
      ...grids.mistakes.options,
      alt: "Misclassified test digits, the surest first",
      caption:
        test.mistakes.length > MISTAKES_SHOWN
          ? `The ${MISTAKES_SHOWN} surest of ${counted(test.mistakes.length, "mistake")}.`
          : "All mistakes, the surest first.",
    });
  });
  report.section("Model and settings", (section) => {
    section.code(architecture.summary()).properties({
      ...{ data: dataset.source, "training images": sets.train.count, "test images": sets.test.count },
      validation:
        sets.validation === undefined
          ? "none; after every epoch the test part is looked at"
          : `${sets.watchedText}, ${counted(sets.validation.count, "image")}`,
      ...{ optimizer: optimizerText(zoo, config), loss: lossName(zoo), batch: config.batch },
      ...{ epochs: config.epochs, "limit of steps": config.steps, distortions: zoo.augmented ? "yes" : "no" },
      ...{ seed: config.seed, adapter: describeAdapter(device) },
    });
  });
}

/** Most points of the curve over steps. */
const STEP_POINTS = 200;

const lossName = ({ labelSmoothing }: ZooModel) =>
  `categorical cross-entropy${labelSmoothing === undefined ? "" : `, of targets of which ${percent(labelSmoothing, 0)} is spread over all classes`}`;

/** Training loss over the steps of this run, means of groups of steps. */
function stepLossChart({ stepLosses, history, zoo }: TrainRun): string {
  const group = Math.ceil(stepLosses.length / STEP_POINTS);
  const first = history.steps - stepLosses.length;
  const groups = rowsOf(stepLosses, group);
  const average = group > 1 ? `, mean of every ${group} steps` : "";
  return lineChart({
    title: `Training loss of ${zoo.name} by step${average}`,
    width: 900,
    height: 260,
    series: [
      {
        name: "training",
        x: groups.map((_, i) => first + Math.min(stepLosses.length, (i + 1) * group)),
        y: groups.map((losses) => losses.reduce((a, b) => a + b) / losses.length),
      },
    ],
    x: { label: "step", max: history.steps },
    y: { scale: "log" },
  });
}

function comparison({ zoo, test, train, validation, history, dataset }: TrainRun) {
  const { reference } = zoo;
  const share = (value: number | undefined): TableCell =>
    value === undefined ? null : { text: percent(value), numeric: true };
  const loss = (value: number | undefined): TableCell =>
    value === undefined ? null : { text: lossText(value), numeric: true };
  const { stepMsMedian } = history.timing;
  const rows: [name: string, ours: TableCell, theirs: TableCell][] = [
    ["Test accuracy", share(test.accuracy), share(reference?.testAccuracy)],
    ["Test loss", loss(test.loss), loss(reference?.testLoss)],
    ...(validation === undefined
      ? []
      : ([
          ["Validation accuracy", share(validation.accuracy), share(reference?.validationAccuracy)],
          ["Validation loss", loss(validation.loss), null],
        ] satisfies typeof rows)),
    ["Training accuracy", share(train.accuracy), share(reference?.trainAccuracy)],
    ["Training loss", loss(train.loss), null],
    [
      "Training step, median",
      stepMsMedian === undefined ? null : { text: milliseconds(stepMsMedian), numeric: true },
      reference === undefined ? null : { text: reference.step, numeric: true },
    ],
  ];
  if (reference === undefined) {
    return { columns: ["", "this run"], rows: rows.map(([name, ours]) => [name, ours]) };
  }
  return {
    columns: [
      "",
      "this run",
      { label: dataset.name === "mnist" ? "reference" : "reference, on MNIST", reference: true },
    ],
    rows,
  };
}

function resultRemark({ test, zoo, dataset, config, history, watched, sets }: TrainRun): string {
  const error = standardError(test);
  const averaged =
    config.ema === undefined
      ? ""
      : ` These are averaged weights; those of the last step recognise ${percent(watched.accuracy)} of the ${sets.watchedText}.`;
  const base = `${percent(test.accuracy)} of ${counted(test.count, "test image")} are recognised (standard error ${(100 * error).toFixed(2)} points).${averaged}`;
  const { reference } = zoo;
  if (reference === undefined) return base;
  if (dataset.name !== "mnist") {
    return `${base} The reference figures are those of MNIST, which these digits are not; they cannot be compared.`;
  }
  const difference = test.accuracy - reference.testAccuracy;
  const size =
    Math.abs(difference) <= 2 * error
      ? "no more than chance in drawing the test images would make (two standard errors)"
      : difference > 0
        ? "more than chance would make (two standard errors)"
        : "less than the reference by more than chance would make (two standard errors)";
  const shorter =
    sets.train.count < 54_000 || history.epoch.length < zoo.epochs
      ? ` The reference trained on all images for ${counted(zoo.epochs, "epoch")}; here it was ${counted(sets.train.count, "image")} and ${counted(history.epoch.length, "epoch")}${config.steps === undefined ? "" : `, cut short after ${counted(history.steps, "step")}`}.`
      : "";
  return `${base} Against the reference that is ${points(difference)}: ${size}.${shorter}`;
}

function curvesRemark({ history, train, validation, test, sets }: TrainRun): string {
  const losses = history.history["val_loss"] ?? [];
  const trainLosses = history.history["loss"] ?? [];
  const best = losses.indexOf(Math.min(...losses));
  const fall =
    trainLosses.length > 1
      ? `Over ${counted(trainLosses.length, "epoch")} the training loss went from ${lossText(trainLosses[0]!)} to ${lossText(trainLosses.at(-1)!)}. `
      : "";
  const lowest =
    losses.length > 1
      ? best === losses.length - 1
        ? `The loss on the ${sets.watchedText} was lowest at the end: more epochs may still help. `
        : `The loss on the ${sets.watchedText} was lowest after epoch ${history.epoch[best]! + 1} (${lossText(losses[best]!)}, at the end ${lossText(losses.at(-1)!)}): what came later fitted the training images only. `
      : "";
  // Of the trained model, with the weights that are kept.
  const unseen = validation ?? test;
  const where = validation === undefined ? "test part" : sets.watchedText;
  const gap = train.accuracy - unseen.accuracy;
  const size = `${Math.abs(100 * gap).toFixed(2)} points`;
  const fit =
    Math.abs(gap) <= CLOSE
      ? `After training, accuracy on the training images and on the ${where} lie within half a point of each other: no overfitting to speak of.`
      : gap > 0
        ? `After training, accuracy on the training images is ${size} higher than on the ${where}: the model knows its training images better than new ones.`
        : `After training, accuracy on the training images is ${size} lower than on the ${where}: these images are the harder ones.`;
  return fall + lowest + fit;
}

/** Weakest class and commonest mistakes. */
function confusionRemark({ confusion, accuracy, mistakes }: Classification): string {
  if (mistakes.length === 0) return "Every test digit is recognised.";
  const recall = confusion.map(
    (row, digit) =>
      row[digit]! /
      Math.max(
        1,
        row.reduce((a, b) => a + b),
      ),
  );
  const present = DIGITS.map(Number).filter((digit) => confusion[digit]!.some((count) => count > 0));
  const weakest = present.reduce((a, b) => (recall[b]! < recall[a]! ? b : a));
  const pairs = confusion
    .flatMap((row, t) => row.map((count, p) => ({ t, p, count: t === p ? 0 : count })))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, 3)
    .map(({ t, p, count }) => `${t} taken for ${p} (${count} times)`);
  return `Hardest is the ${weakest}, with ${percent(recall[weakest]!, 1)} recognised against ${percent(accuracy, 1)} of all. Commonest: ${listed(pairs)}.`;
}

function mistakesRemark({ mistakes, confidence, count }: Classification): string {
  if (mistakes.length === 0) return "None.";
  const sure = mistakes.filter((index) => confidence[index]! > SURE).length;
  const share = sure / mistakes.length;
  return (
    `${counted(mistakes.length, "mistake")} in ${counted(count, "image")}. In ${sure} of them the model was surer than ${percent(SURE, 0)}: ` +
    (share > 0.5 ? "its confidence says little about whether it is right." : "mostly it hesitates where it is wrong.")
  );
}
