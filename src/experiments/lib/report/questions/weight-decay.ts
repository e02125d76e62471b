// What a run of "weight-decay" answers: what plain networks are made of, what the penalty does, and how a convolutional
// network compares.
import type { LayerRow } from "../layer-table.js";
import type { Spread } from "../spread.js";
import { spreadText } from "../spread.js";
import { counted, listed, lossText, percent, points } from "../text.js";
import { moreOrLess, type Question } from "./questions.js";

/** What the networks of one factor came to. */
export interface FactorFigures {
  readonly factor: number;
  readonly final: Spread;
  readonly mean: Spread;
  readonly maximum: Spread;
  readonly best: number;
  /** Training less test accuracy. */
  readonly gap: number;
}

/** A network by its layers, with what it reached on the test part. */
export interface NetworkFigures {
  readonly name: string;
  readonly layers: readonly LayerRow[];
  readonly testAccuracy: number;
}

export function weightDecayQuestions({
  small,
  smallLoss,
  large,
  convolutional,
  byFactor,
  published,
  real,
  shorter,
}: {
  readonly small: NetworkFigures;
  readonly smallLoss: number;
  readonly large: NetworkFigures;
  readonly convolutional: NetworkFigures;
  readonly byFactor: readonly FactorFigures[];
  readonly published: number;
  /** Whether the images are MNIST's, of which the published figure is. */
  readonly real: boolean;
  /** Whether it was trained for fewer epochs or on fewer images than the reference. */
  readonly shorter: boolean;
}): Question[] {
  const smallSection = `${small.name}: two hidden layers of 64`;
  const factorSection = "mlp-500-300: five factors of an L2 penalty";
  return [
    {
      question: "How many layers, neurons and parameters, and why these input and output sizes?",
      answer: `${[small, large].map(sizesText).join(" ")} The input has ${inputSize(small)} numbers because an image has 28 x 28 pixels, the output ${outputSize(small)} because there are as many digits.`,
      shown: smallSection,
    },
    {
      question: "Which activations, and why?",
      answer: activationsText(small),
      shown: smallSection,
    },
    {
      question: "Which loss, what does it mean, and why does it suit?",
      answer: lossMeaning(small, smallLoss),
      shown: smallSection,
    },
    {
      question: "How do final, mean and maximum validation accuracy depend on the factor?",
      answer: factorsText(byFactor),
      shown: factorSection,
    },
    {
      question: `How near is the published ${percent(published)}, and what may explain the rest?`,
      answer: real ? publishedText(byFactor, published, shorter) : "It is of MNIST, which these digits are not.",
      shown: factorSection,
    },
    {
      question: "How do convolutional and fully connected networks differ in parameters and accuracy here?",
      answer: kindsText([small, large], convolutional),
      shown: "A convolutional network beside them",
    },
  ];
}

const weighted = ({ layers }: NetworkFigures) => layers.filter(({ parameters }) => parameters > 0);
const parametersOf = ({ layers }: NetworkFigures) => layers.reduce((sum, { parameters }) => sum + parameters, 0);
const outputSize = (network: NetworkFigures) => weighted(network).at(-1)!.outputShape.at(-1)!;
/** Of a dense first layer: its weights are inputs times units, and a bias for each. */
function inputSize(network: NetworkFigures): number {
  const [first] = weighted(network);
  const units = first!.outputShape.at(-1)!;
  return (first!.parameters - units) / units;
}

function sizesText(network: NetworkFigures): string {
  const dense = weighted(network);
  const neurons = dense.reduce((sum, { outputShape }) => sum + outputShape.at(-1)!, 0);
  const share = dense[0]!.parameters / parametersOf(network);
  return `${network.name} has ${counted(dense.length, "layer")} with weights (${listed(dense.map(({ outputShape }) => String(outputShape.at(-1))))} neurons, ${neurons} in all) and ${counted(parametersOf(network), "parameter")}, ${percent(share, 0)} of them in the first.`;
}

function activationsText(network: NetworkFigures): string {
  const used = weighted(network).map(({ activation }) => activation ?? "none");
  const [hidden, output] = [new Set(used.slice(0, -1)), used.at(-1)];
  const why: Record<string, string> = {
    relu: "its derivative is 1 where a unit is on, so that no layer shrinks the gradient, and it costs one comparison",
    softmax: "its outputs are from 0 and sum to 1, so that they can be read as probabilities of the digits",
  };
  return `Hidden: ${listed([...hidden].map((name) => `${name}${why[name] ? ` (${why[name]})` : ""}`))}. Output: ${output}${why[output!] ? ` (${why[output!]})` : ""}.`;
}

function lossMeaning({ name, testAccuracy }: NetworkFigures, loss: number): string {
  const typical = Math.exp(-loss);
  return (
    `Categorical cross-entropy, E = -log p of the right digit, as a mean over the images: how surprised the network is. A network that knows nothing has log 10 = ${Math.log(10).toFixed(4)}. ` +
    `${name} ends at ${lossText(loss)} on the test part, so that it gives the right digit ${percent(typical, 1)} in the geometric mean, and is right in ${percent(testAccuracy, 1)}: ${loss < Math.log(10) ? "its probabilities say more than chance" : "it is surer of wrong answers than one that knows nothing"}. ` +
    `With a softmax its gradient is p - t, which does not vanish where the network is wrong. The penalty adds factor · sum of w².`
  );
}

const power = (factor: number) => factor.toExponential().replace("e+0", "").replace("e+", "e");

function factorsText(byFactor: readonly FactorFigures[]): string {
  const one = (key: "final" | "mean" | "maximum", word: string) => {
    const sorted = byFactor.toSorted((a, b) => b[key].mean - a[key].mean);
    const [first, last] = [sorted[0]!, sorted.at(-1)!];
    const noise = Math.max(...byFactor.map((entry) => entry[key].deviation));
    const judged = Number.isFinite(noise)
      ? first[key].mean - last[key].mean > 2 * noise
        ? "more than twice the largest error bar"
        : "less than twice the largest error bar, so no difference to speak of"
      : "without error bars, as there is one replicate";
    return `${word}: from ${spreadText(last[key])} at ${power(last.factor)} to ${spreadText(first[key])} at ${power(first.factor)}, ${judged}.`;
  };
  return [one("final", "Final"), one("mean", "Mean"), one("maximum", "Maximum")].join(" ");
}

function publishedText(byFactor: readonly FactorFigures[], published: number, shorter: boolean): string {
  const top = byFactor.reduce((a, b) => (b.best > a.best ? b : a));
  const missing = published - top.best;
  if (missing <= 0)
    return `It is reached: the best network has ${percent(top.best)} at a factor of ${power(top.factor)}.`;
  const reasons = [
    ...(shorter ? ["fewer epochs or images than the reference has"] : []),
    ...(top.gap > missing
      ? [
          `overfitting: at this factor training accuracy leads test accuracy by ${points(top.gap).slice(1)}, more than is missing`,
        ]
      : []),
    "a published figure is the best of many trainings, and validation images are not the test images",
  ];
  return `The best network has ${percent(top.best)} at a factor of ${power(top.factor)}: ${points(-missing)}. What may explain it: ${reasons.join("; ")}.`;
}

function kindsText(dense: readonly NetworkFigures[], convolutional: NetworkFigures): string {
  const best = dense.reduce((a, b) => (b.testAccuracy > a.testAccuracy ? b : a));
  const difference = convolutional.testAccuracy - best.testAccuracy;
  const each = [...dense, convolutional].map(
    (network) =>
      `${network.name} ${counted(parametersOf(network), "parameter")}, ${percent(network.testAccuracy)} on the test part`,
  );
  const times = parametersOf(best) / parametersOf(convolutional);
  const size =
    times >= 1
      ? `with ${times.toFixed(1)} times fewer parameters`
      : `with ${(1 / times).toFixed(1)} times as many parameters`;
  const why =
    difference > 0
      ? " Its weights are shared by all places of the image, so that a stroke need not be learned anew at each of them."
      : "";
  return `${each.join("; ")}. The convolutional network has ${moreOrLess(difference)} than ${best.name}, the better of the others, ${size}.${why}`;
}
