// What a run of "digits" answers: how good the final models are, how large beside AlexNet, what a change of one thing
// does, and which digits are mistaken.
import { mean } from "../spread.js";
import { counted, listed, percent } from "../text.js";
import { digitText, moreOrLess, type Question } from "./questions.js";

/** A model of the run. */
export interface DigitModel {
  readonly name: string;
  readonly parameters: number;
  /** Layers with weights. */
  readonly weighted: number;
  /** Whether it was trained for a few slow steps only. */
  readonly slow: boolean;
  readonly steps: number;
  readonly trainAccuracy: number;
  /** On images of the training part that were held out; undefined where all were trained on. */
  readonly validationAccuracy?: number;
  /** Of each replicate, by the last step's weights. */
  readonly testAccuracies: readonly number[];
  readonly standardError: number;
  /** Of the test images it gets wrong. */
  readonly mistakes: readonly number[];
  readonly confusion: readonly (readonly number[])[];
}

/** One thing changed in a model: what, and what came of it. */
export interface VariantFigures {
  /** "" for the model as it is. */
  readonly change: string;
  readonly parameters: number;
  readonly trainAccuracy: number;
  readonly testAccuracy: number;
  readonly standardError: number;
}

/** What images were found for a model, in how many steps. */
export interface ImageFigures {
  readonly model: string;
  readonly count: number;
  readonly met: number;
  readonly steps: number;
}

export function digitQuestions({
  models,
  variants,
  images,
}: {
  readonly models: readonly DigitModel[];
  readonly variants: readonly VariantFigures[];
  readonly images: readonly ImageFigures[];
}): Question[] {
  const whole = models.filter(({ slow }) => !slow);
  return [
    {
      question: "How good are the final models on training, validation and test images?",
      answer: models.map(performanceText).join(" "),
      shown: "Beside the references",
    },
    {
      question: "How do they compare with AlexNet in size?",
      answer: sizeText(models),
      shown: "Beside AlexNet, layer by layer",
    },
    ...(variants.length > 1
      ? [
          {
            question: "What do more capacity, batch normalisation and dropout change?",
            answer: variantsText(variants),
            shown: "One thing changed",
          },
        ]
      : []),
    ...(whole.length > 0
      ? [
          {
            question: "Which digits are confused, and would a person know them?",
            answer: confusedText(whole),
            shown: bestOf(whole).name,
          },
        ]
      : []),
    ...(images.length > 0
      ? [
          {
            question: "Which images do the networks take for each digit, that of AlexNet's size among them?",
            answer: imagesText(models, images),
            shown: "Images for these networks",
          },
        ]
      : []),
  ];
}

const bestOf = (models: readonly DigitModel[]) =>
  models.reduce((a, b) => (mean(b.testAccuracies) > mean(a.testAccuracies) ? b : a));

function performanceText({ name, slow, steps, trainAccuracy, validationAccuracy, testAccuracies }: DigitModel): string {
  const validation =
    validationAccuracy === undefined
      ? "no validation, since all training images were trained on"
      : `validation ${percent(validationAccuracy)}`;
  const test = `test ${percent(mean(testAccuracies))}${testAccuracies.length > 1 ? ` (mean of ${testAccuracies.length})` : ""}`;
  return `${name}${slow ? `, after ${counted(steps, "step")} only` : ""}: training ${percent(trainAccuracy)}, ${validation}, ${test}.`;
}

/** Weighted layers of AlexNet (Krizhevsky, Sutskever, Hinton 2012), with groups as published. */
export const alexNet = [
  { layer: "conv 96 11x11, stride 4", parameters: 34_944 },
  { layer: "conv 256 5x5, 2 groups", parameters: 307_456 },
  { layer: "conv 384 3x3", parameters: 885_120 },
  { layer: "conv 384 3x3, 2 groups", parameters: 663_936 },
  { layer: "conv 256 3x3, 2 groups", parameters: 442_624 },
  { layer: "dense 4096", parameters: 37_752_832 },
  { layer: "dense 4096", parameters: 16_781_312 },
  { layer: "dense 1000 softmax", parameters: 4_097_000 },
] as const;
const ALEXNET = alexNet.reduce((sum, { parameters }) => sum + parameters, 0);

function sizeText(models: readonly DigitModel[]): string {
  const each = models.map(({ name, parameters, weighted }) => {
    const times = parameters / ALEXNET;
    const size = times >= 0.5 ? `${times.toFixed(2)} times as many` : `1/${Math.round(1 / times)} of it`;
    return `${name} ${counted(parameters, "parameter")} in ${weighted} layers with weights (${size})`;
  });
  return `AlexNet has ${counted(ALEXNET, "parameter")} in ${alexNet.length} layers with weights, for images of 224 x 224 pixels in 1,000 classes. ${each.join("; ")}.`;
}

function variantsText([base, ...changed]: readonly VariantFigures[]): string {
  const each = changed.map((variant) => {
    const difference = variant.testAccuracy - base!.testAccuracy;
    const chance = 2 * Math.hypot(variant.standardError, base!.standardError);
    const gap = variant.trainAccuracy - variant.testAccuracy;
    const sure = Math.abs(difference) > chance ? "more than chance" : "no more than chance";
    return `${variant.change} (${counted(variant.parameters, "parameter")}): ${percent(variant.testAccuracy)} on the test part, ${moreOrLess(difference)}, ${sure} in drawing the test images would make; training leads by ${(100 * gap).toFixed(2)} points`;
  });
  return `As it is, the model has ${counted(base!.parameters, "parameter")} and ${percent(base!.testAccuracy)}, and training leads by ${(100 * (base!.trainAccuracy - base!.testAccuracy)).toFixed(2)} points. ${each.join(". ")}. Each is one training from the same seed; another would differ, too.`;
}

function confusedText(models: readonly DigitModel[]): string {
  const best = bestOf(models);
  if (best.mistakes.length === 0) return `${best.name}, the best, makes no mistake.`;
  const pairs = best.confusion
    .flatMap((row, is) => row.map((count, taken) => ({ is, taken, count: is === taken ? 0 : count })))
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, 3)
    .map(({ is, taken, count }) => `${digitText(is)} taken for ${digitText(taken)} (${counted(count, "time")})`);
  const others = models.filter((model) => model !== best);
  const shared = best.mistakes.filter((index) => others.every(({ mistakes }) => mistakes.includes(index)));
  const judged =
    others.length === 0
      ? "No other network of this run can be asked."
      : `${shared.length} of its ${counted(best.mistakes.length, "mistake")} ${shared.length === 1 ? "is" : "are"} made by ${others.length === 1 ? `${others[0]!.name}, too` : `all ${others.length + 1} networks`}: ${
          2 * shared.length > best.mistakes.length
            ? "most are digits that are hard for anybody; a person would hesitate, too"
            : "most are its own, and a person would know them"
        }. The pictures, the surest mistakes first, let the reader judge.`;
  return `${best.name} is best; its commonest mistakes: ${listed(pairs)}. ${judged}`;
}

function imagesText(models: readonly DigitModel[], images: readonly ImageFigures[]): string {
  return images
    .map(({ model, count, met, steps }) => {
      const slow = models.find(({ name }) => name === model)?.slow;
      return `${model}: after ${counted(steps, "step")} from noise ${met} of ${count} images are answered with their digit at 99 %${slow ? ", though the network was hardly trained" : ""}.`;
    })
    .join(" ");
}
