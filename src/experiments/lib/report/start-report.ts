// What the main job's report tells besides the training: found images in the groups of its questions, and how the model
// takes noise.
import { barChart } from "../../../io/charts.js";
import type { Report } from "../../../io/report.js";
import type { OptimizeRun } from "../inputs/optimize-run.js";
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
  /** Why the built-in digits stand in for MNIST, where they do. */
  readonly fallbackReason: string | undefined;
  /** Appends the sections of the training. */
  readonly addTraining: () => void;
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
  const { optimization: run, groups, onNoise, fallbackReason, addTraining } = findings;
  if (fallbackReason !== undefined) {
    report.section("Data", (section) => {
      section.note(
        `MNIST could not be had, so the digits are the built-in ones, drawn by this program: ${fallbackReason}. Their figures say nothing about MNIST.`,
      );
    });
  }
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
