// What a run of "input-optimisation" answers: how images come about, what the start decides, who recognises them, which
// prior helps, why two digits are hard to balance, how small a change suffices, and what noise is taken for.
import { type RecognisedDigit, recognisableRemark, seenByOthers } from "../input-findings.js";
import { counted, listed, lossText, percent } from "../text.js";
import { digitText, moreOrLess, type Question } from "./questions.js";

/** Found images at a step, means over them. */
export interface CoursePoint {
  readonly step: number;
  readonly loss: number;
  /** Of what was asked for. */
  readonly probability: number;
}

/** A way to find digits, with the share of its images that the harder judge recognises. */
export interface PriorFigures {
  readonly name: string;
  readonly robust: boolean;
  readonly transfer: number;
}

/** An image on its way from one digit to another. */
export interface ChangeFigures {
  /** "7 to 2" */
  readonly text: string;
  readonly course: readonly { readonly step: number; readonly answer: number; readonly confidence: number }[];
  /** Of all starts, the smallest change at which the answer is the new digit; undefined where none gets there. */
  readonly smallest?: { readonly step: number; readonly l2: number; readonly pixels: number };
}

/** A real digit towards two digits in equal shares. */
export interface BalanceFigures {
  /** "2: 50 %, 3: 50 %" */
  readonly target: string;
  /** Probabilities after few steps, and the digits asked for. */
  readonly final: readonly number[];
  readonly asked: readonly number[];
  readonly steps: number;
  /** Mean change of the first asked digit's probability from one of the last steps to the next. */
  readonly swing: number;
  /** Largest |p - t| in the end, which is the gradient of the loss with respect to a logit. */
  readonly miss: number;
  readonly settled: { readonly met: number; readonly count: number; readonly bar: number };
}

export function inputQuestions({
  course,
  likeness,
  recognised,
  priors,
  balance,
  change,
  noise,
  noiseImages,
}: {
  readonly course: readonly CoursePoint[];
  /** Correlation between images of one digit from different starts: of the starts, and of what was found. */
  readonly likeness: { readonly starts: number; readonly found: number };
  readonly recognised: readonly RecognisedDigit[];
  readonly priors: readonly PriorFigures[];
  readonly balance?: BalanceFigures;
  readonly change?: ChangeFigures;
  readonly noise: readonly {
    readonly name: string;
    readonly favourite: number;
    readonly favouriteShare: number;
    readonly favouriteConfidence: number;
  }[];
  readonly noiseImages: number;
}): Question[] {
  const readable = "Readable digits from pure noise";
  return [
    {
      question: "How do the loss and the picture develop?",
      answer: courseText(course),
      shown: "Digits from noise",
    },
    {
      question: "How much does the start decide?",
      answer: likenessText(likeness),
      shown: "Digits from noise",
    },
    {
      question: "Which digits does a person, and which an outside judge, recognise?",
      answer: `${recognisableRemark(recognised)} What a person recognises here is for the reader to say: the pictures are there.`,
      shown: "Recognisable?",
    },
    {
      question: "Which penalty or prior helps, and by how much?",
      answer: priorsText(priors),
      shown: readable,
    },
    ...(balance === undefined
      ? []
      : [
          {
            question: "Where does a real 8 end on its way to two digits, why is the balance hard, and what mended it?",
            answer: balanceText(balance),
            shown: "Two digits at once",
          },
        ]),
    ...(change === undefined
      ? []
      : [
          {
            question: `What is said of a digit that goes from ${change.text}, and how small is the smallest change?`,
            answer: changeText(change),
            shown: "One digit taken for another",
          },
        ]),
    {
      question: "What does the network say to noise, how surely, and does another network agree?",
      answer: noiseText(noise, noiseImages),
      shown: "What the networks say to noise",
    },
  ];
}

function courseText(course: readonly CoursePoint[]): string {
  const [first, last] = [course[0]!, course.at(-1)!];
  const sure = course.find(({ probability }) => probability >= 0.99);
  const points = course
    .filter(({ step }, i) => step <= 4 || i === course.length - 1 || [10, 100].includes(step))
    .map(({ step, loss, probability }) => `step ${step}: ${lossText(loss)}, ${percent(probability, 1)}`);
  const half = course.find(({ loss }) => loss <= (first.loss + last.loss) / 2)!;
  return (
    `Mean loss, and mean probability of the digit: ${points.join("; ")}. Half of the fall is over by step ${half.step}. ` +
    (sure === undefined
      ? "99 % is not reached in the mean."
      : `99 % is reached in the mean by step ${sure.step}; what comes later changes the picture more than the answer.`)
  );
}

/** Above this, images from different starts have more in common than not. */
const ALIKE = 0.5;

function likenessText({ starts, found }: { readonly starts: number; readonly found: number }): string {
  const verdict =
    found >= ALIKE
      ? "the digit decides more than the start"
      : found > starts + 0.05
        ? "the start decides most, the digit some"
        : "the start decides nearly all";
  return `Images of one digit from different starts correlate by ${found.toFixed(2)} on average in the end, their starts by ${starts.toFixed(2)}: ${verdict}.`;
}

function priorsText(priors: readonly PriorFigures[]): string {
  const of = (robust: boolean) => priors.filter((prior) => prior.robust === robust);
  const parts = ([false, true] as const).flatMap((robust) => {
    const [alone, ...others] = of(robust);
    if (alone === undefined) return [];
    const sorted = others.toSorted((a, b) => b.transfer - a.transfer);
    const helping = sorted.filter(({ transfer }) => transfer > alone.transfer);
    const best = sorted[0];
    return [
      `Through the ${robust ? "robust" : "plain"} classifier ${percent(alone.transfer, 0)} without any; ${
        best === undefined || helping.length === 0
          ? "no prior helps"
          : `${best.name} helps most, ${percent(best.transfer, 0)}, then ${listed(helping.slice(1, 4).map(({ name, transfer }) => `${name} ${percent(transfer, 0)}`))}`
      }.`,
    ];
  });
  const [plain, robust] = [of(false)[0], of(true)[0]];
  const defence =
    plain && robust
      ? ` The robust classifier by itself makes ${moreOrLess(robust.transfer - plain.transfer)} recognisable than the plain one.`
      : "";
  return `By the judge that is harder to convince: ${parts.join(" ")}${defence}`;
}

function balanceText({ target, final, asked, steps, swing, miss, settled }: BalanceFigures): string {
  const shares = asked.map((digit) => `${digit}: ${final[digit]!.toFixed(3)}`);
  const others = final.reduce((sum, p, digit) => sum + (asked.includes(digit) ? 0 : p), 0);
  const jumps = swing / settled.bar;
  return (
    `Asked for ${target}, after ${counted(steps, "step")} ${listed(shares)}, all other digits ${others.toFixed(3)} (a reference: ${seenByOthers.mixed}); the whole vector is (${final.map((p) => p.toFixed(3)).join(", ")}). ` +
    `Near the balance the gradient of a logit, p - t, is small, ${miss.toPrecision(2)} at most here, but Adam's steps keep their length however small it is: from one of the last steps to the next the share moves by ${swing.toPrecision(2)} on average, ${jumps.toPrecision(2)} times what is allowed to miss. ` +
    (settled.met === settled.count
      ? `A rate that falls in the end mends it: all ${settled.count} images are within ${settled.bar} then.`
      : `With a rate that falls in the end ${settled.met} of ${settled.count} images are within ${settled.bar}.`)
  );
}

function changeText({ course, smallest }: ChangeFigures): string {
  const steps = course.map(
    ({ step, answer, confidence }) => `step ${step}: ${digitText(answer)} with ${percent(confidence, 1)}`,
  );
  return `The first one: ${steps.join("; ")}. ${
    smallest === undefined
      ? "None of the starts is taken for the new digit within these steps."
      : `The smallest change of all starts that suffices has an L2 length of ${smallest.l2.toFixed(2)} after ${counted(smallest.step, "step")}; it moves ${counted(smallest.pixels, "pixel")} of 784 by more than a tenth.`
  }`;
}

function noiseText(
  networks: readonly {
    readonly name: string;
    readonly favourite: number;
    readonly favouriteShare: number;
    readonly favouriteConfidence: number;
  }[],
  count: number,
): string {
  const [first, ...others] = networks;
  const agreeing = others.filter(({ favourite }) => favourite === first!.favourite);
  const agreed =
    agreeing.length === others.length
      ? `${others.length === 1 ? `${others[0]!.name} says` : `All ${others.length} others say`} so most often, too.`
      : agreeing.length === 0
        ? `No other network agrees: ${listed(others.map(({ name, favourite }) => `${name} says ${favourite}`))}.`
        : `${listed(agreeing.map(({ name }) => name))} ${agreeing.length === 1 ? "agrees" : "agree"}, the others do not: ${listed(others.filter((each) => !agreeing.includes(each)).map(({ name, favourite }) => `${name} says ${favourite}`))}.`;
  return `Of ${counted(count, "noise image")} ${first!.name} takes ${percent(first!.favouriteShare, 1)} for ${digitText(first!.favourite)}, ${percent(first!.favouriteConfidence, 0)} sure on average. ${agreed}`;
}
