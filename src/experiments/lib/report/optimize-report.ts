// What a report tells of an input optimisation:
// - the found images,
// - how they came about,
// - how much the start matters,
// - remarks that follow from the figures of the run.
import { logarithmicSteps } from "../../../inputs/film.js";
import { lineChart } from "../../../io/charts.js";
import type { GridCell } from "../../../io/grid.js";
import type { KeyFigure, Report, Section, TableCell } from "../../../io/report.js";
import {
  barsOf,
  barsText,
  type FoundImage,
  groupedByTarget,
  metText,
  type OptimizeRun,
} from "../inputs/optimize-run.js";
import { isSingle, targetText } from "../inputs/target.js";
import type { TargetSnapshot } from "../inputs/target-problem.js";
import type { Grid } from "./grids.js";
import { counted, duration, listed, lossText, milliseconds, percent } from "./text.js";
import { rowsOf } from "./train-report.js";

/** Most columns of a snapshot grid. */
const MOST_SNAPSHOTS = 13;
/** Most images of a snapshot grid, and how many of them are shown large. */
const MOST_SNAPSHOT_IMAGES = 10;
const FEW = 5;
/** Most columns of a table of targets and starts. */
const MOST_TARGETS = 10;

/** The cards at the top. */
export function optimizationCards(run: OptimizeRun): KeyFigure[] {
  const { images, course, seconds } = run;
  const met = images.filter((image) => image.met).length;
  const singles = images.filter(({ target }) => isSingle(target));
  const mixed = images.filter(({ target }) => !isSingle(target));
  const cards: KeyFigure[] = [
    {
      label: "Targets met",
      value: `${met} of ${images.length}`,
      note: barsText(run.settings),
      tone: met === images.length ? "good" : "bad",
    },
  ];
  if (singles.length > 0) {
    const lowest = Math.min(...singles.map(({ target, probabilities }) => probabilities[target.likeliest]!));
    cards.push({ label: "Least sure of one digit", value: percent(lowest), note: counted(singles.length, "image") });
    const steps = median(stepsTo99(singles));
    if (steps !== undefined) {
      cards.push({ label: "Steps to 99 %", value: steps, note: `median, at rate ${run.settings.learningRate}` });
    }
  }
  if (mixed.length > 0) {
    cards.push({
      label: "Shares missed by",
      value: Math.max(...mixed.map(largestMiss)).toPrecision(2),
      note: `at most, in ${counted(mixed.length, "mixed target")}`,
    });
  }
  const { stepMsMedian } = course.timing;
  cards.push({
    label: "Time for the images",
    value: duration(seconds),
    note: stepMsMedian === undefined ? "" : `${milliseconds(stepMsMedian)} a step for all`,
  });
  return cards;
}

const stepsTo99 = (images: readonly FoundImage[]) => images.flatMap(({ stepsTo99: steps }) => steps ?? []);

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}

/** How far the answer is from the asked share of any digit. */
function largestMiss({ target, probabilities }: FoundImage): number {
  return Math.max(...probabilities.map((p, digit) => Math.abs(p - target.probabilities[digit]!)));
}

/** Appends everything that is to be told of an optimisation. */
export function addOptimizationSections(
  report: Report,
  run: OptimizeRun,
  config: Readonly<Record<string, unknown>>,
): void {
  const everyImage = run.images.map((_, index) => index);
  report.section("Found images", (section) => {
    section.text(
      `${answersRemark(run, everyImage)} ${changeRemark(run, everyImage)} ${lateStepsRemark(run, everyImage)}`,
    );
    addFoundImages(section, run, everyImage);
  });
  report.section("On the way", (section) => addSnapshots(section, run, onePerTarget(run, everyImage)));
  report.section("Course and starts", (section) => {
    addCourse(section, run, everyImage);
    addSpread(section, run, everyImage);
  });
  report.section("Settings", (section) => section.text(methodText(run)).properties(given(config)));
}

const sentence = (text: string) => `${text[0]!.toUpperCase()}${text.slice(1)}.`;

const given = (config: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));

/** How the images were found. */
export function methodText({ settings }: OptimizeRun): string {
  const { clipped = true, settling = true, regularizers, objective } = settings;
  const { l1, l2, totalVariation, blur, jitter } = regularizers;
  const priors = [
    ...(l1 > 0 ? [`${l1} times the sum of the pixels`] : []),
    ...(l2 > 0 ? [`${l2} times the sum of squared pixels`] : []),
    ...(totalVariation > 0 ? [`${totalVariation} times the total variation`] : []),
  ];
  return (
    `The model is frozen. Each pixel follows the gradient of ${objective === "log-odds" ? "minus the log-odds of the target" : "the cross-entropy to the target"}${priors.map((prior) => ` + ${prior}`).join("")}: ` +
    (settling
      ? `Adam, learning rate ${settings.learningRate} over the first 60 % of ${counted(settings.steps, "step")}, then falling to almost 0 so that shares such as 0.5 and 0.5 settle; `
      : `Adam, learning rate ${settings.learningRate} throughout, ${counted(settings.steps, "step")}; `) +
    (clipped
      ? "pixels are clipped to [0, 1] after every step."
      : "pixels are not clipped, pictures show them clipped.") +
    (blur > 0
      ? ` The model sees the image through a Gaussian blur of ${blur} pixels; what is shown is what it sees.`
      : "") +
    (jitter > 0
      ? ` At every step the image is shifted at random by up to ${counted(jitter, "pixel")} each way; the answers shown are for the image in its place.`
      : "")
  );
}

/** Whether images met their targets, and how soon. */
export function answersRemark({ images }: OptimizeRun, indices: readonly number[]): string {
  const chosen = indices.map((index) => images[index]!);
  const mixed = chosen.filter(({ target }) => !isSingle(target));
  const missed =
    mixed.length === 0
      ? ""
      : `Of mixed targets no share is missed by more than ${Math.max(...mixed.map(largestMiss)).toPrecision(2)}. `;
  return `${sentence(metText({ images: chosen }))} ${missed}${firstStepsRemark(chosen)}`;
}

/** How far images went from their starts. */
export function changeRemark(run: Pick<OptimizeRun, "images">, indices: readonly number[]): string {
  return `A pixel ends ${meanChange(run, indices).toFixed(3)} from where it began, on average.`;
}

/** Mean |pixel - pixel of the start| over images. */
export function meanChange({ images }: Pick<OptimizeRun, "images">, indices: readonly number[]): number {
  return indices.reduce((sum, index) => sum + changeOf(images[index]!), 0) / indices.length;
}

/** How soon single digits are answered with 99 %. */
function firstStepsRemark(images: readonly FoundImage[]): string {
  const singles = images.filter(({ target }) => isSingle(target));
  const steps = median(stepsTo99(singles));
  if (steps === undefined) return "";
  const atOnce = singles.filter((image) => image.stepsTo99 === 0).length;
  const slowest = Math.max(...stepsTo99(singles));
  return (
    `99 % for a single digit is reached after ${counted(steps, "step")} in the median` +
    (slowest > steps ? ` and ${slowest} at most` : "") +
    (atOnce > 0 ? `, by ${atOnce} of ${singles.length} with the start already.` : ".")
  );
}

/** What the later steps do: the part of the loss that is still falling. */
export function lateStepsRemark({ course }: OptimizeRun, indices: readonly number[]): string {
  const { snapshots, loss, crossEntropy } = course;
  // The answer is clear by then; what comes later is another matter.
  const early = snapshots.find(({ step }) => step > 0 && step >= Math.min(100, loss.length / 5));
  if (crossEntropy === undefined || snapshots.length < 3 || early === undefined || early.step >= loss.length) return "";
  const mean = (values: Float32Array) => indices.reduce((sum, index) => sum + values[index]!, 0) / indices.length;
  const at = (step: number) => ({
    entropy: mean(crossEntropy[step]!),
    penalty: mean(loss[step]!) - mean(crossEntropy[step]!),
  });
  const [before, after] = [at(early.step), at(loss.length - 1)];
  const share = (before.penalty - after.penalty) / (before.penalty + before.entropy - after.penalty - after.entropy);
  if (!(share > 0 && share <= 1)) return "";
  return `${percent(share, 0)} of what the loss still loses after step ${early.step} is penalty (${lossText(before.penalty)} to ${lossText(after.penalty)}): the later steps mostly ${share > 0.5 ? "clear away what the answer does not need" : "sharpen the answer"}.`;
}

/** The final images: targets across and starts down where there are several of both, else large ones in rows. */
export function addFoundImages(section: Section, { images, settings }: OptimizeRun, indices: readonly number[]): void {
  const chosen = indices.map((index) => images[index]!);
  const targets = groupedByTarget(chosen);
  const starts = [...new Set(chosen.map(({ start }) => start.label))];
  const isTable = starts.length > 1 && targets.length > 1 && targets.length <= MOST_TARGETS;
  const complete = targets.length * starts.length === chosen.length;
  const cell = (image: FoundImage, caption: readonly string[]): GridCell => ({
    pixels: image.pixels,
    width: 28,
    height: 28,
    caption,
    highlight: image.met ? "good" : "bad",
    figures: imageFigures(image),
  });
  const grid: Grid =
    isTable && complete
      ? {
          cells: starts.map((label) =>
            targets.map((group) => {
              const image = group.find(({ start }) => start.label === label)!;
              return cell(image, shareTexts(image));
            }),
          ),
          options: {
            scale: 2,
            columnLabels: targets.map((group) => targetText(group[0]!.target)),
            rowLabels: starts.map((label) => (/^\d+$/.test(label) ? `image ${label}` : label)),
          },
        }
      : {
          cells: rowsOf(
            chosen.map((image) =>
              cell(image, [`${targetText(image.target)} from ${image.start.shortText}`, ...shareTexts(image)]),
            ),
            FEW,
          ),
          options: { scale: 4 },
        };
  section.grid(grid.cells, {
    ...grid.options,
    alt: "Found images with the model's answers",
    caption: `Under each image the model's probability of what was asked; green where that is ${percent(barsOf(settings).single, 0)} or, for several digits, within ${barsOf(settings).mixed} of each share.`,
  });
}

/** What is known of a found image, to sort by and to look up. */
function imageFigures(image: FoundImage): Record<string, number | string> {
  const { target, start, predicted, confidence, loss, stepsTo99: steps } = image;
  return {
    ...{ target: targetText(target), start: start.shortText, answer: String(predicted), confidence, loss },
    "largest miss": largestMiss(image),
    ...(steps !== undefined && { "steps to 99 %": steps ?? "not reached" }),
    "change of a pixel": changeOf(image),
  };
}

/** The probability of every asked digit. */
function shareTexts({ target, probabilities }: FoundImage): string[] {
  const asked = target.probabilities.flatMap((p, digit) => (p > 0 ? [digit] : []));
  if (asked.length === 1) return [percent(probabilities[asked[0]!]!, 1)];
  return asked.slice(0, 3).map((digit) => `${digit}: ${percent(probabilities[digit]!, 1)}`);
}

/** Of some images, the indices of the first of each target. */
export function onePerTarget({ images }: OptimizeRun, indices: readonly number[]): number[] {
  return groupedByTarget(indices.map((index) => images[index]!)).map(([first]) => images.indexOf(first!));
}

/** How images became what they are: few with a row each and steps across, many side by side and small, steps down. */
export function addSnapshots(section: Section, { images, course }: OptimizeRun, indices: readonly number[]): void {
  const last = course.snapshots.length - 1;
  const columns = Math.min(MOST_SNAPSHOTS, last + 1);
  const shown = Array.from({ length: columns }, (_, column) => {
    return course.snapshots[columns === 1 ? last : Math.round((column * last) / (columns - 1))]!;
  });
  const chosen = indices.slice(0, MOST_SNAPSHOT_IMAGES);
  const cells = chosen.map((index) => shown.map((snapshot) => snapshotCell(snapshot, index)));
  const steps = shown.map(({ step }) => `step ${step}`);
  const names = chosen.map((index) => `${targetText(images[index]!.target)} from ${images[index]!.start.shortText}`);
  const few = chosen.length <= FEW;
  const grid: Grid = few
    ? { cells, options: { columnLabels: steps, rowLabels: names } }
    : {
        cells: shown.map((_, step) => cells.map((ofImage) => ofImage[step]!)),
        options: { scale: 2, columnLabels: chosen.map((index) => targetText(images[index]!.target)), rowLabels: steps },
      };
  section.grid(grid.cells, {
    ...grid.options,
    alt: "Snapshots of images during the optimisation",
    caption:
      `${few ? "A row for each image, steps from left to right." : "A column for each target, steps from top to bottom."} Under each snapshot the likeliest digit with its probability, and the loss.` +
      (chosen.length < indices.length ? ` The first ${chosen.length} of ${indices.length} images.` : ""),
  });
}

/** An image after some steps, with the answer to it. @param asked digits whose probability is told instead */
function snapshotCell(
  { step, images, probabilities: all, loss }: TargetSnapshot,
  index: number,
  asked: readonly number[] = [],
): GridCell {
  const size = 28 * 28;
  const probabilities = Array.from(all.subarray(index * 10, (index + 1) * 10));
  const confidence = Math.max(...probabilities);
  const answer = probabilities.indexOf(confidence);
  return {
    pixels: images.subarray(index * size, (index + 1) * size),
    width: 28,
    height: 28,
    caption: [
      ...(asked.length > 0
        ? asked.map((digit) => `${digit}  ${percent(probabilities[digit]!, 1)}`)
        : [`${answer}  ${percent(confidence, 1)}`]),
      `loss ${lossText(loss[index]!)}`,
    ],
    figures: { step, answer: String(answer), confidence, loss: loss[index]! },
  };
}

/** One image at each of its first steps. Under it the answer, or the probabilities of several digits asked for. */
export function addStrip(section: Section, { images, course }: OptimizeRun, index: number, steps: number): void {
  const { target, start } = images[index]!;
  const asked = target.probabilities.flatMap((p, digit) => (p > 0 ? [digit] : []));
  const shown = course.snapshots.filter(({ step }) => step <= steps);
  const name = `${targetText(target)} from ${start.shortText}`;
  section.grid([shown.map((snapshot) => snapshotCell(snapshot, index, asked.length > 1 ? asked : []))], {
    ...{ columnLabels: shown.map(({ step }) => `step ${step}`), rowLabels: [name] },
    alt: `${name}, step by step`,
    caption: `${name} at steps ${shown[0]!.step} to ${shown.at(-1)!.step}: under each picture ${asked.length > 1 ? "the probabilities of the digits asked for" : "the answer with its confidence"}, and the loss.`,
  });
}

/** What an image began with, of several together. */
const startsText = ({ start }: FoundImage) =>
  start.shortText.startsWith("noisy") ? "noisy digits" : start.shortText === "noise" ? "noise" : "real digits";

/** Points of a curve at most. */
const COURSE_POINTS = 250;

/**
 * Cross-entropy over the steps, a curve for each target. Most happens in the first steps, so they are spread.
 * Nothing where it was not the objective.
 * @param what names the images in the title; by default what they began with
 */
export function addCourse(
  section: Section,
  { images, course, settings }: OptimizeRun,
  indices: readonly number[],
  what = `from ${listed([...new Set(indices.map((index) => startsText(images[index]!)))])}`,
): void {
  const { crossEntropy } = course;
  if (crossEntropy === undefined) return;
  const groups = groupedByTarget(indices.map((index) => images[index]!)).slice(0, MOST_TARGETS);
  const last = crossEntropy.length - 1;
  const steps = last > 0 ? logarithmicSteps(last, COURSE_POINTS) : [0];
  const series = groups.map((group) => {
    const places = group.map((image) => images.indexOf(image));
    const { probabilities } = group[0]!.target;
    // Of a mixed target the cross-entropy has a floor, its entropy: only what lies above can be optimised away.
    const floor = -probabilities.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
    return {
      name: targetText(group[0]!.target),
      x: steps.map((step) => step + 1),
      y: steps.map((step) => {
        const total = places.reduce((sum, place) => sum + crossEntropy[step]![place]!, 0);
        return Math.max(total / places.length - floor, 1e-7);
      }),
    };
  });
  section.chart(
    lineChart({
      title: `Distance to the target, ${what}, at rate ${settings.learningRate}`,
      width: 900,
      series,
      x: { label: "step (1 is the start)", scale: "log" },
      y: { label: "cross-entropy above the least possible", scale: "log" },
    }),
    "Mean over the starts of each target.",
  );
}

/** Table of what the start makes of the result. */
export function addSpread(section: Section, { images }: Pick<OptimizeRun, "images">, indices: readonly number[]): void {
  const groups = groupedByTarget(indices.map((index) => images[index]!));
  const several = groups.some((group) => group.length > 1);
  const range = (values: readonly number[], text: (value: number) => string): TableCell => {
    const [low, high] = [text(Math.min(...values)), text(Math.max(...values))];
    return { text: low === high ? low : `${low} – ${high}`, numeric: true };
  };
  const changes = groups.map((group) => group.map(changeOf));
  section.table({
    ...(several && { caption: "From the lowest to the highest over the starts of each target." }),
    columns: [
      "Target",
      "Starts",
      "Met",
      "Probability of the target",
      "Loss",
      "Steps to 99 %",
      "Mean change of a pixel",
    ],
    rows: groups.map((group, i) => {
      const met = group.filter((image) => image.met).length;
      const reached = stepsTo99(group);
      const { target } = group[0]!;
      return [
        targetText(target).replaceAll(" ", "\u00a0"),
        group.length,
        { text: `${met}`, tone: met === group.length ? "good" : "bad", numeric: true },
        target.probabilities[target.likeliest] === 1
          ? range(
              group.map(({ probabilities }) => probabilities[target.likeliest]!),
              (p) => percent(p),
            )
          : { text: shareRanges(group), numeric: true },
        range(
          group.map(({ loss }) => loss),
          lossText,
        ),
        reached.length === 0 ? null : range(reached, String),
        range(changes[i]!, (change) => change.toFixed(3)),
      ];
    }),
  });
  if (!several) return;
  const spread = Math.max(...groups.map(lossSpread));
  section.text(
    `Between starts of one target the loss differs by at most ${lossText(spread)}. ${changeRemark({ images }, indices)}`,
  );
}

const lossSpread = (group: readonly FoundImage[]) => {
  const losses = group.map(({ loss }) => loss);
  return Math.max(...losses) - Math.min(...losses);
};

/** Mean |pixel - pixel of the start|. */
function changeOf({ pixels, start }: FoundImage): number {
  return pixels.reduce((sum, pixel, i) => sum + Math.abs(pixel - start.image[i]!), 0) / pixels.length;
}

function shareRanges(group: readonly FoundImage[]): string {
  const { probabilities } = group[0]!.target;
  const asked = probabilities.flatMap((p, digit) => (p > 0 ? [digit] : []));
  return asked
    .map((digit) => {
      const values = group.map((image) => image.probabilities[digit]!);
      const [low, high] = [Math.min(...values).toFixed(4), Math.max(...values).toFixed(4)];
      return `${digit}: ${low === high ? low : `${low}–${high}`}`;
    })
    .join("  ");
}
