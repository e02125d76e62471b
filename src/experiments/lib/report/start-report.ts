// What the main job's report tells besides the training: found images in the groups of its questions, and how the model
// takes noise.
import { barChart } from "../../../io/charts.js";
import type { GridCell } from "../../../io/grid.js";
import type { KeyFigure, Report, Section } from "../../../io/report.js";
import type { FoundImage, OptimizeRun } from "../inputs/optimize-run.js";
import { type Opinion, type RobustDigits, takenFor } from "../inputs/robust-digits.js";
import { targetText } from "../inputs/target.js";
import type { Answers } from "../training/classify.js";
import {
  addCourse,
  addFoundImages,
  addSnapshots,
  addSpread,
  answersRemark,
  changeRemark,
  lateStepsRemark,
  meanChange,
  methodText,
  onePerTarget,
} from "./optimize-report.js";
import { counted, percent } from "./text.js";
import { rowsOf } from "./train-report.js";

/** The wishes by what they are to show; indices into one batch. */
export interface WishGroups {
  readonly noise: readonly number[];
  readonly real: readonly number[];
  readonly mixed: readonly number[];
  readonly conversions: readonly number[];
}

export interface StartFindings {
  readonly optimization: OptimizeRun;
  readonly groups: WishGroups;
  readonly onNoise: Answers;
  readonly readable: RobustDigits;
  /** Why the built-in digits stand in for MNIST, where they do. */
  readonly fallbackReason: string | undefined;
  /** Appends the sections of the training. */
  readonly addTraining: () => void;
}

/** What the images of the robust network came to, as a card. */
export function readableCards({ run, plainOnReadable }: RobustDigits): KeyFigure[] {
  const { images } = run;
  const taken = takenFor(images, plainOnReadable);
  return [
    {
      label: "Readable digits",
      value: `${taken} of ${images.length}`,
      note: "from noise, seen by a network that had no part",
      tone: taken === images.length ? "good" : "bad",
    },
  ];
}

/** The last line in the terminal. */
export function readableSummary({ run, training, plainOnReadable }: RobustDigits): string {
  const { images } = run;
  return `${counted(images.length, "digit")} from noise by ${training.zoo.name}: the plain network, which had no part, takes ${takenFor(images, plainOnReadable)} for what they were found for`;
}

/** The digits that can be read, and beside them those that only convince. */
function addReadable(report: Report, readable: RobustDigits): void {
  const { training, run, plainOnReadable, robustOnPlain, plainImages } = readable;
  const { epsilon, steps } = training.zoo.adversary!;
  report.section("Ten digits from pure noise", (section) => {
    section.text(
      `Each began as uniform noise and followed the gradient of ${training.zoo.name}: the network of this report, trained on adversarial examples. ` +
        `Every training image was first changed against the network, by ${counted(steps, "step")} of PGD within an L2 distance of ${epsilon}. ` +
        `It is right on ${percent(training.test.accuracy)} of the test images. The plain network had no part in these images, and takes ${takenFor(run.images, plainOnReadable)} of ${run.images.length} for what they were found for.`,
    );
    addOpinions(section, run.images, plainOnReadable, "plain");
    section.text(methodText(run));
    addSnapshots(section, run, onePerTarget(run, [...run.images.keys()]));
  });
  report.section("Sure, but not seeing", (section) => {
    const least = Math.min(...plainImages.map(({ target, probabilities }) => probabilities[target.likeliest]!));
    section.text(
      `The plain network's own images from the same noise. It gives each of its digits at least ${percent(least)}. The robust network takes ${takenFor(plainImages, robustOnPlain)} of ${plainImages.length} for them, and is ${percent(mean(robustOnPlain.confidence), 0)} sure of its answers in the mean.`,
    );
    addOpinions(section, plainImages, robustOnPlain, "robust");
  });
}

const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;

/** Images with the probability of their digit, and the answer of another network. */
function addOpinions(section: Section, images: readonly FoundImage[], opinion: Opinion, other: string): void {
  const cells = images.map(
    ({ pixels, target, probabilities }, index): GridCell => ({
      ...{ pixels, width: 28, height: 28 },
      highlight: opinion.predicted[index] === target.likeliest ? "good" : "bad",
      caption: [
        `${targetText(target)}: ${percent(probabilities[target.likeliest]!, 1)}`,
        `${other}: ${opinion.predicted[index]}, ${percent(opinion.confidence[index]!, 1)}`,
      ],
      figures: {
        "probability of the digit": probabilities[target.likeliest]!,
        [`${other} network says`]: String(opinion.predicted[index]),
        [`${other} network's confidence`]: opinion.confidence[index]!,
      },
    }),
  );
  section.grid(rowsOf(cells, 5), {
    scale: 4,
    alt: "Digits from noise with what both networks say",
    caption: `Under each image the asked digit with its probability, and the ${other} network's answer; green where that is the digit.`,
  });
}

/** How a model answers to noise: how often each digit, and how sure it is of it. */
export function noiseFigures({ predicted, confidence, count, classCount }: Answers) {
  const counts = new Array<number>(classCount).fill(0);
  const sums = new Array<number>(classCount).fill(0);
  for (let i = 0; i < count; i++) {
    counts[predicted[i]!]!++;
    sums[predicted[i]!]! += confidence[i]!;
  }
  return {
    images: count,
    predicted: counts,
    meanConfidence: sums.map((sum, digit) => (counts[digit] === 0 ? null : sum / counts[digit]!)),
  };
}

/** Appends everything. */
export function addStartSections(report: Report, findings: StartFindings): void {
  const { optimization: run, groups, onNoise, readable, fallbackReason, addTraining } = findings;
  if (fallbackReason !== undefined) {
    report.section("Data", (section) => {
      section.note(
        `MNIST could not be had, so the digits are the built-in ones, drawn by this program: ${fallbackReason}. Their figures say nothing about MNIST.`,
      );
    });
  }
  addReadable(report, readable);
  report.section("Digits from noise", (section) => {
    section.text(
      `${answersRemark(run, groups.noise)} ${changeRemark(run, groups.noise)} ${lateStepsRemark(run, groups.noise)}`,
    );
    addFoundImages(section, run, groups.noise);
    addSnapshots(section, run, onePerTarget(run, groups.noise));
    addCourse(section, run, groups.noise);
  });
  report.section("Digits from noisy real digits", (section) => {
    section.text(
      `${answersRemark(run, groups.real)} ${changeRemark(run, groups.real)} From noise it is ${meanChange(run, groups.noise).toFixed(3)}.`,
    );
    addFoundImages(section, run, groups.real);
    addSnapshots(section, run, onePerTarget(run, groups.real));
  });
  report.section("Mixed digits", (section) => {
    section.text(
      `${answersRemark(run, groups.mixed)} The reference ended at 0.29 and 0.71 instead of 0.5 each after 10 steps of constant length.`,
    );
    addSnapshots(section, run, groups.mixed);
    addSpread(section, run, groups.mixed);
  });
  report.section("One digit taken for another", (section) => {
    section.text(`${answersRemark(run, groups.conversions)} ${changeRemark(run, groups.conversions)}`);
    addSnapshots(section, run, groups.conversions);
    addSpread(section, run, groups.conversions);
  });
  report.section("What the model says to noise", (section) => {
    const { predicted, meanConfidence, images } = noiseFigures(onNoise);
    const favourite = predicted.indexOf(Math.max(...predicted));
    section
      .text(
        `${counted(images, "uniform random image")}, only classified: ${percent(predicted[favourite]! / images, 1)} are called ${favourite}, with ${percent(meanConfidence[favourite]!, 0)} confidence on average. ` +
          "A reference model called almost all noise 8, with about 49 %.",
      )
      .chart(
        barChart({
          title: "Answers to noise",
          categories: predicted.map((_, digit) => String(digit)),
          categoryLabel: "answer",
          series: [{ name: "share of noise images", values: predicted.map((count) => count / images) }],
          values: { percent: true },
          showValues: true,
        }),
      );
  });
  addTraining();
  report.section("How the images were found", (section) => {
    section.text(methodText(run));
    section.text(`All ${counted(run.images.length, "image")} were one batch.`);
    addSpread(
      section,
      run,
      run.images.map((_, index) => index),
    );
  });
}
