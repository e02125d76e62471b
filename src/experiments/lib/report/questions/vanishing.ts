// What a run of "vanishing-gradients" answers: which networks learn, and what the gradients explain about it.
import type { DerivativeCheck } from "../backpropagation.js";
import { counted, listed, percent, twoDigits } from "../text.js";
import {
  type Activation,
  accuracyRemark,
  CURVE_STEPS,
  type DepthFigures,
  LEARNED,
  ratio,
  titles,
} from "../vanishing-findings.js";
import type { Question } from "./questions.js";

/** Of the first layer's gradient over the output layer's: below it the first layers hardly move. */
export const VANISHED = 1e-3;
/** Of every layer's gradient: below it the signal has faded on its way forward. */
export const FADED = 1e-4;

const nameOf = ({ activation, depth }: DepthFigures) => `${titles[activation]} with ${depth} layers`;
const vanishes = ({ untrained }: DepthFigures) => ratio(untrained) < VANISHED;
const fades = ({ untrained }: DepthFigures) => Math.max(...untrained) < FADED;

export function vanishingQuestions({
  outcomes,
  depths,
  checks,
}: {
  readonly outcomes: readonly DepthFigures[];
  readonly depths: readonly number[];
  readonly checks: readonly DerivativeCheck[];
}): Question[] {
  return [
    {
      question: "What is the error of a layer, from the next one's, for each activation?",
      answer: `d_l = (d_(l+1) W_(l+1)^T) * f'(z_l), and f' is [z > 0] for ReLU, 1 - a² for tanh, a (1 - a) for the sigmoid and 1.14393 (1 - tanh²(2z/3)) + 0.01 for LeCun. ${errorText(checks)}`,
      shown: "Why: the equations, and the derivatives measured",
    },
    {
      question: "What is the range of each derivative?",
      answer: `${listed(checks.map(({ activation, range, measured }) => `${titles[activation]} ${range}, measured ${measured.least.toPrecision(4)} to ${measured.most.toPrecision(6)}`))}: ${checks.every(({ holds }) => holds) ? "all hold" : `not so for ${listed(checks.filter(({ holds }) => !holds).map(({ activation }) => titles[activation]))}`}.`,
      shown: "Why: the equations, and the derivatives measured",
    },
    {
      question: "Which networks learn?",
      answer: accuracyRemark(outcomes, depths),
      shown: "Test accuracy",
    },
    {
      question: "What do the gradients per layer explain about it?",
      answer: explanation(outcomes),
      shown: "Gradients before training",
    },
    {
      question: "What is to be seen before training?",
      answer: foretold(outcomes, depths),
      shown: "Gradients before training",
    },
    {
      question: "How does LeCun's learning curve differ from that of tanh?",
      answer: curves(outcomes, depths),
      shown: "Learning curves: LeCun against tanh",
    },
  ];
}

function errorText(checks: readonly DerivativeCheck[]): string {
  const worst = checks.reduce((a, b) => (b.largestError > a.largestError ? b : a));
  return `The adapter's derivatives differ from these formulas by ${twoDigits(worst.largestError)} at most (${titles[worst.activation]}).`;
}

/** Why networks did not learn, by their gradients before training. */
function explanation(outcomes: readonly DepthFigures[]): string {
  const failed = outcomes.filter(({ testAccuracy }) => testAccuracy <= LEARNED);
  if (failed.length === 0) return "Every network learned; there is no failure to explain.";
  const lost = failed.filter(vanishes);
  const faded = failed.filter((network) => !vanishes(network) && fades(network));
  const other = failed.filter((network) => !vanishes(network) && !fades(network));
  const sentences = [
    lost.length === 0
      ? ""
      : `Lost on the way back (first layer below ${VANISHED} of the output layer): ${listed(lost.map((network) => `${nameOf(network)} (${twoDigits(ratio(network.untrained))})`))}.`,
    faded.length === 0
      ? ""
      : `Faded on the way forward (every layer's gradient below ${FADED}): ${listed(faded.map((network) => `${nameOf(network)} (${twoDigits(Math.max(...network.untrained))} at most)`))}.`,
    other.length === 0
      ? ""
      : `Not explained by the gradients before training: ${listed(other.map((network) => `${nameOf(network)} (${percent(network.testAccuracy, 1)})`))}; more steps may be all that is missing.`,
  ];
  return `${counted(failed.length, "network")} of ${outcomes.length} did not learn. ${sentences.filter(Boolean).join(" ")}`;
}

/** What the gradients of untrained networks tell of who will learn. */
function foretold(outcomes: readonly DepthFigures[], depths: readonly number[]): string {
  const deepest = outcomes.filter(({ depth }) => depth === depths.at(-1));
  const healthy = (network: DepthFigures) => !vanishes(network) && !fades(network);
  const right = outcomes.filter((network) => healthy(network) === network.testAccuracy > LEARNED);
  return (
    `First layer's gradient over the output layer's at ${depths.at(-1)} layers: ${listed(deepest.map(({ activation, untrained }) => `${titles[activation]} ${twoDigits(ratio(untrained))}`))}. ` +
    `Whether a network would learn could be told before the first step for ${right.length} of ${outcomes.length}${right.length === outcomes.length ? "" : `, not for ${listed(outcomes.filter((network) => !right.includes(network)).map(nameOf))}`}: gradients that neither vanish nor fade go with learning.`
  );
}

function curves(outcomes: readonly DepthFigures[], depths: readonly number[]): string {
  const of = (depth: number, activation: Activation) =>
    outcomes.find((outcome) => outcome.depth === depth && outcome.activation === activation)!.curve;
  return depths
    .map((depth) => {
      const [plain, lecun] = [of(depth, "tanh"), of(depth, "lecunTanh")];
      if (plain.length === 0 || lecun.length === 0) return `At ${depth} layers the runs are too short for a curve.`;
      const reached = lecun.findIndex((loss) => loss <= plain.at(-1)!);
      const ends = `(at the end ${lecun.at(-1)!.toFixed(3)} against ${plain.at(-1)!.toFixed(3)})`;
      return reached < 0
        ? `At ${depth} layers it stays behind ${ends}.`
        : `At ${depth} layers it needs ${percent((reached + 1) / plain.length, 0)} of the steps for tanh's last loss, ${counted((reached + 1) * CURVE_STEPS, "step")} ${ends}.`;
    })
    .join(" ");
}
