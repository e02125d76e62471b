// What runs of "adversarial-mnist", "adversarial-cifar10" and "robust" answer: how far examples are from their
// originals, what makes a classifier resist them, and what that costs.
import { counted, listed, percent } from "../text.js";
import { moreOrLess, type Question } from "./questions.js";

/** An example for another class than its sample's. */
export interface ExampleDistance {
  /** Names of the classes: the sample's, and the one wanted. */
  readonly from: string;
  readonly to: string;
  readonly fooled: boolean;
  readonly l2: number;
  readonly linf: number;
  /** Share of the values that change by more than a tenth of their range. */
  readonly changed: number;
}

export function exampleQuestions({
  examples,
  nearestSample,
  confidence,
}: {
  readonly examples: readonly ExampleDistance[];
  /** L2 distance between an image of the test part and the nearest of another class, mean over the samples. */
  readonly nearestSample: number;
  readonly confidence: number;
}): Question[] {
  const fooled = examples.filter((example) => example.fooled);
  return [
    {
      question: "How far is each example from its original?",
      answer: distanceText(fooled, examples.length, confidence),
      shown: "Distances",
    },
    {
      question: "Would a person notice?",
      answer: noticeText(fooled, nearestSample),
      shown: "Examples",
    },
    {
      question: "Which classes are hardest?",
      answer: hardestText(examples),
      shown: "Distances",
    },
  ];
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function distanceText(fooled: readonly ExampleDistance[], count: number, confidence: number): string {
  if (fooled.length === 0) return `None of ${count} examples is answered as wanted; there is no distance to tell.`;
  const sorted = fooled.toSorted((a, b) => a.l2 - b.l2);
  const [first, last] = [sorted[0]!, sorted.at(-1)!];
  return `${fooled.length} of ${count} are answered with the class wanted, ${percent(confidence, 0)} sure or more: ${mean(fooled.map(({ l2 }) => l2)).toFixed(2)} away in L2 on average, from ${first.l2.toFixed(2)} (${first.from} as ${first.to}) to ${last.l2.toFixed(2)} (${last.from} as ${last.to}), and ${mean(fooled.map(({ linf }) => linf)).toFixed(3)} in L∞.`;
}

/** A change of fewer of the values, each by more than a tenth, and of less than half of the way to another image. */
const FEW = 0.02;

function noticeText(fooled: readonly ExampleDistance[], nearestSample: number): string {
  if (fooled.length === 0) return "There is no example to notice.";
  const [l2, changed] = [mean(fooled.map((each) => each.l2)), mean(fooled.map((each) => each.changed))];
  const share = l2 / nearestSample;
  const verdict =
    changed < FEW
      ? "hardly, without the original beside it"
      : share < 0.5
        ? "yes, as dirt on the picture, and would still see the original's class"
        : "yes, and the picture may be in doubt";
  return `${percent(changed, 1)} of the values change by more than a tenth of their range, and the way is ${percent(share, 0)} of that to the nearest test image of another class (${nearestSample.toFixed(2)} in L2). By these figures a person would notice: ${verdict}.`;
}

function hardestText(examples: readonly ExampleDistance[]): string {
  const by = (key: "from" | "to") =>
    [...new Set(examples.map((example) => example[key]))]
      .map((name) => {
        const of = examples.filter((example) => example[key] === name);
        const reached = of.filter(({ fooled }) => fooled);
        return { name, failed: of.length - reached.length, l2: mean(reached.map(({ l2 }) => l2)) };
      })
      // What fails is harder than what is far.
      .sort((a, b) => b.failed - a.failed || (Number.isNaN(a.l2) ? -1 : b.l2 - a.l2));
  const text = ({ name, failed, l2 }: ReturnType<typeof by>[number]) =>
    failed > 0 ? `${name} (${counted(failed, "failure")})` : `${name} (${l2.toFixed(2)} in L2)`;
  const [to, from] = [by("to"), by("from")];
  const origin =
    from.length > 1 ? ` As an original ${text(from[0]!)} is hardest to change, ${text(from.at(-1)!)} easiest.` : "";
  return `As a target hardest are ${listed(to.slice(0, 2).map(text))}, easiest is ${text(to.at(-1)!)}.${origin}`;
}

/** A classifier and how it was defended. */
export interface DefenceFigures {
  /** "plain", "L∞ adversary", ... */
  readonly name: string;
  readonly clean: number;
  /** Under PGD in the ball that the robust one was trained for, and in one of another norm. */
  readonly linf: number;
  readonly l2: number;
  readonly fooled: number;
  readonly count: number;
  readonly meanL2: number;
  readonly stepMs: number | undefined;
}

/** Defences of a data set's classifier, the plain one first. */
export interface DefendedStudy {
  readonly name: string;
  /** "L∞ 0.3", "L2 2" */
  readonly trained: string;
  readonly other: string;
  readonly defences: readonly DefenceFigures[];
}

export function robustQuestions(studies: readonly DefendedStudy[]): Question[] {
  const first = studies[0]!;
  return [
    {
      question: "What makes the robust model robust?",
      answer: studies.map(robustText).join(" "),
      shown: "The defence",
    },
    {
      question: "What does it cost?",
      answer: studies.map(costText).join(" "),
      shown: `${first.name}: training`,
    },
    {
      question: "Does it hold under attacks that it was not trained on?",
      answer: studies.map(otherText).join(" "),
      shown: `${first.name}: generators`,
    },
    ...(first.defences.length > 2
      ? [
          {
            question: "How do several defences compare?",
            answer: defencesText(first),
            shown: `${first.name}: other defences`,
          },
        ]
      : []),
  ];
}

const HELD = 0.5;

function robustText({ name, trained, defences: [plain, robust] }: DefendedStudy): string {
  const gain = robust!.linf - plain!.linf;
  return `${name}: it was trained on the worst image that an attack finds near each one. PGD in ${trained} leaves it ${percent(robust!.linf)} right, the plain one ${percent(plain!.linf)}: ${gain > 0 ? moreOrLess(gain) : "the defence has failed"}.`;
}

function costText({ name, defences: [plain, robust] }: DefendedStudy): string {
  const times =
    plain!.stepMs === undefined || robust!.stepMs === undefined
      ? ""
      : `, and ${(robust!.stepMs / plain!.stepMs).toFixed(1)} times the time of a training step`;
  const difference = robust!.clean - plain!.clean;
  return `${name}: ${difference < 0 ? `${moreOrLess(difference, { less: "of accuracy without an attack" })}` : "no accuracy without an attack"}${times}.`;
}

function otherText({ name, other, defences: [plain, robust] }: DefendedStudy): string {
  const holds = robust!.l2 > HELD * robust!.clean;
  const far = robust!.fooled > 0 && plain!.fooled > 0 ? robust!.meanL2 / plain!.meanL2 : undefined;
  const generators =
    robust!.fooled < robust!.count
      ? `${robust!.fooled} of ${robust!.count} generators succeed (plain: ${plain!.fooled})`
      : `all ${robust!.count} generators succeed, which know no ball`;
  return `${name}: PGD in ${other} leaves ${percent(robust!.l2)} (plain: ${percent(plain!.l2)}), ${holds ? "so there it holds" : "so there it does not hold"}; ${generators}${far === undefined ? "" : `, at ${far.toFixed(2)} times the distance`}.`;
}

function defencesText({ trained, other, defences }: DefendedStudy): string {
  const best = (key: "clean" | "linf" | "l2") => defences.reduce((a, b) => (b[key] > a[key] ? b : a));
  const each = defences
    .slice(1)
    .map(
      ({ name, clean, linf, l2, fooled, count }) =>
        `${name}: ${percent(clean, 1)} without an attack, ${percent(linf, 1)} and ${percent(l2, 1)} under PGD in ${trained} and ${other}, ${fooled} of ${count} generators`,
    );
  const winners = [best("linf"), best("l2")];
  const verdict =
    winners[0] === winners[1]
      ? `${winners[0]!.name} is best in both balls.`
      : `In ${trained} ${winners[0]!.name} is best, in ${other} ${winners[1]!.name}: each defence is good at what it was trained for.`;
  return `${each.join("; ")}. ${verdict}`;
}
