// Digits from pure noise that are to be readable, and the report of them. They show what each prior on images adds to
// gradient descent, for a plain and for a robust classifier. That is measured by transfer to judges.
import type { GridCell } from "../../../io/grid.js";
import type { Report, Section, TableCell } from "../../../io/report.js";
import type { Grid } from "../report/grids.js";
import { addCourse, addSnapshots, methodText, onePerTarget } from "../report/optimize-report.js";
import { counted, listed, lossText, percent } from "../report/text.js";
import { rowsOf } from "../report/train-report.js";
import { type FoundImage, type OptimizeRun, readableSettings } from "./optimize-run.js";
import type { Regularizers } from "./target-problem.js";
import { convinced, leastTransfer, transferRate, type Verdicts } from "./transfer.js";

/** A way to find digits. */
export interface Variant {
  readonly name: string;
  /** Whether through the classifier that was trained on adversarial examples. */
  readonly robust: boolean;
  readonly objective: "cross-entropy" | "log-odds";
  readonly regularizers: Regularizers;
}

const none: Regularizers = { l1: 0, l2: 0, totalVariation: 0, blur: 0, jitter: 0 };
const priors: readonly (readonly [name: string, change: Partial<Regularizers>, objective?: "log-odds"])[] = [
  ["gradient descent alone", {}],
  ["L2 penalty", { l2: 0.01 }],
  ["total variation", { totalVariation: 0.01 }],
  ["blur", { blur: 1 }],
  ["jitter", { jitter: 2 }],
  ["L2, total variation, jitter", { l2: 0.001, totalVariation: 0.0005, jitter: 1 }],
  ["log-odds alone", {}, "log-odds"],
  ["log-odds and all priors", readableSettings.regularizers, "log-odds"],
];

/** The baseline comes first, the best combination last. */
export const variants: readonly Variant[] = [false, true].flatMap((robust) =>
  priors.map(([name, change, objective]): Variant => {
    return { name, robust, objective: objective ?? "cross-entropy", regularizers: { ...none, ...change } };
  }),
);

/** Share of the images that every judge must take for what they were found for. */
export const TRANSFER_BAR = 0.97;

/** Rows of the pictures that are shown for comparison only. */
const SHOWN_STARTS = 5;
const names = { l1: "L1", l2: "L2", totalVariation: "variation", blur: "blur", jitter: "jitter" } as const;

/** A variant with what came of it. */
export interface VariantOutcome {
  readonly variant: Variant;
  readonly run: OptimizeRun;
  readonly verdicts: Verdicts;
}

export const variantTitle = ({ name, robust }: Variant) => `${name}, ${robust ? "robust" : "plain"} classifier`;

/** For metrics.json. */
export function variantMetrics({ variant, run, verdicts }: VariantOutcome) {
  const { name, robust, objective, regularizers } = variant;
  return {
    ...{ name, robust, objective, regularizers, images: run.images.length, own: ownRate(run) },
    transfer: Object.fromEntries(
      Object.entries(verdicts).map(([judge, predicted]) => [judge, transferRate(run.images, predicted)]),
    ),
    byDigit: Object.fromEntries(
      Object.entries(verdicts).map(([judge, predicted]) => [
        judge,
        digits.map((digit) => transferRate(run.images, predicted, indicesOf(run, digit))),
      ]),
    ),
  };
}

const digits = Array.from({ length: 10 }, (_, digit) => digit);
const indicesOf = ({ images }: OptimizeRun, digit: number) =>
  images.flatMap(({ target }, index) => (target.likeliest === digit ? [index] : []));

/** Share of the images that the classifier they were found for takes for their digit. */
function ownRate({ images }: OptimizeRun): number {
  return images.filter(({ target, predicted }) => predicted === target.likeliest).length / images.length;
}

/** The found images, targets across and starts down: green where all judges see the digit, red where none does. */
export function variantPicture({ run, verdicts }: VariantOutcome, rows = Number.POSITIVE_INFINITY): Grid {
  const { images } = run;
  const starts = [...new Set(images.map(({ start }) => start.label))].slice(0, rows);
  const judges = Object.entries(verdicts);
  const cells = starts.map((label) =>
    digits.map((digit): GridCell => {
      const index = images.findIndex(({ target, start }) => target.likeliest === digit && start.label === label);
      const { pixels, loss, probabilities } = images[index]!;
      const seen = judges.filter(([, predicted]) => convinced(images, predicted, index)).length;
      return {
        ...{ pixels, width: 28, height: 28 },
        ...(seen === judges.length && { highlight: "good" as const }),
        ...(seen === 0 && { highlight: "bad" as const }),
        caption: [judges.map(([, predicted]) => predicted[index]).join(", ")],
        figures: {
          ...{ loss, "classifier's probability": probabilities[digit]!, "judges who see it": seen },
          ...Object.fromEntries(judges.map(([name, predicted]) => [name, String(predicted[index])])),
        },
      };
    }),
  );
  return { cells, options: { scale: 2, columnLabels: digits.map(String), rowLabels: starts } };
}

/** Of each digit the found image with the lowest loss, large. */
export function largePicture({ run }: VariantOutcome): Grid {
  const best = digits.map((digit) =>
    indicesOf(run, digit)
      .map((index) => run.images[index]!)
      .reduce((a, b) => (b.loss < a.loss ? b : a)),
  );
  const cells = best.map(
    ({ pixels, target, probabilities, loss }): GridCell => ({
      ...{ pixels, width: 28, height: 28 },
      caption: [`${target.label}  ${percent(probabilities[target.likeliest]!, 1)}`],
      figures: { loss, "classifier's probability": probabilities[target.likeliest]! },
    }),
  );
  return { cells: rowsOf(cells, 5), options: { scale: 5 } };
}

/** Appends the comparison and the images. The first outcome is the baseline, the last the best combination. */
export function addReadableDigits(report: Report, outcomes: readonly VariantOutcome[]): void {
  const judges = Object.keys(outcomes[0]!.verdicts);
  const best = outcomes.at(-1)!;
  const every = best.run.images.map((_, index) => index);
  const pictureText = `Columns: what was asked for. Under each image the answers of ${listed(judges)}; green where all of them see the digit, red where none does.`;
  report.section("Readable digits from pure noise", (section) => {
    section.text(
      `Every way begins with the same ${counted(every.length / 10, "noise image")} for each digit. Whether the results look like digits is asked of ${listed(judges)}: other architectures with batch normalisation, trained from other weights and on distorted digits, that had no part in finding them. The robust classifier is the same architecture as the plain one, trained on adversarial examples. ${transferRemark(outcomes)}`,
    );
    section.table({
      columns: ["Prior", "strength", "classifier", "its own answer", ...judges, "hardest digit"],
      rows: outcomes.map(({ variant, run, verdicts }): TableCell[] => {
        const byDigit = digits.map((digit) => leastTransfer(run.images, verdicts, indicesOf(run, digit)));
        const hardest = byDigit.indexOf(Math.min(...byDigit));
        return [
          variant.name,
          strengthText(variant.regularizers),
          variant.robust ? "robust" : "plain",
          { text: percent(ownRate(run), 0), numeric: true },
          ...Object.values(verdicts).map((predicted): TableCell => {
            const rate = transferRate(run.images, predicted);
            return { text: percent(rate, 0), numeric: true, tone: rate >= TRANSFER_BAR ? "good" : "bad" };
          }),
          byDigit[hardest] === 1 ? null : { text: `${hardest}: ${percent(byDigit[hardest]!, 0)}`, numeric: true },
        ];
      }),
      caption: `Transfer: the share of ${counted(every.length, "image")} that a judge takes for the digit they were found for; green from ${percent(TRANSFER_BAR, 0)}. Hardest digit: by the lower of the judges' shares. ${counted(best.run.settings.steps, "step")} each.`,
    });
    const [large, all] = [largePicture(best), variantPicture(best)];
    section.grid(large.cells, {
      ...large.options,
      alt: "A readable digit of each class",
      caption: `${variantTitle(best.variant)}: of each digit the image with the lowest loss, and the classifier's probability of it.`,
    });
    section.grid(all.cells, {
      ...all.options,
      alt: `Digits from noise: ${variantTitle(best.variant)}`,
      caption: pictureText,
    });
    section.text(methodText(best.run));
    addSnapshots(section, best.run, onePerTarget(best.run, every));
    addCourse(section, best.run, every, "readable digits");
    addDigits(section, best);
    for (const outcome of outcomes.slice(0, -1)) {
      section.details(variantTitle(outcome.variant), (details) => {
        const { cells, options } = variantPicture(outcome, SHOWN_STARTS);
        details.grid(cells, {
          ...options,
          ...{ alt: `Digits from noise: ${variantTitle(outcome.variant)}`, caption: pictureText },
        });
      });
    }
  });
}

/** What came of each digit, and how much the start matters for it. */
function addDigits(section: Section, { run, verdicts }: VariantOutcome): void {
  const range = (values: readonly number[], text: (value: number) => string): TableCell => {
    const [low, high] = [text(Math.min(...values)), text(Math.max(...values))];
    return { text: low === high ? low : `${low} – ${high}`, numeric: true };
  };
  section.table({
    columns: [
      "digit",
      "classifier's probability of it",
      "loss",
      ...Object.keys(verdicts),
      "spread of a pixel over the starts",
    ],
    rows: digits.map((digit): TableCell[] => {
      const indices = indicesOf(run, digit);
      const images = indices.map((index) => run.images[index]!);
      return [
        String(digit),
        range(
          images.map(({ probabilities }) => probabilities[digit]!),
          (p) => percent(p, 1),
        ),
        range(
          images.map(({ loss }) => loss),
          lossText,
        ),
        ...Object.values(verdicts).map((predicted) => ({
          ...{ text: percent(transferRate(run.images, predicted, indices), 0), numeric: true },
        })),
        { text: pixelSpread(images).toFixed(3), numeric: true },
      ];
    }),
    caption:
      "From the lowest to the highest over the starts; transfer to each judge; standard deviation of a pixel over the starts, mean over the pixels.",
  });
}

function pixelSpread(images: readonly FoundImage[]): number {
  const size = images[0]!.pixels.length;
  let total = 0;
  for (let pixel = 0; pixel < size; pixel++) {
    const values = images.map(({ pixels }) => pixels[pixel]!);
    const mean = values.reduce((a, b) => a + b) / values.length;
    total += Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  }
  return total / size;
}

/** "L2 0.003, variation 0.001". */
function strengthText(regularizers: Regularizers): string | null {
  const used = Object.entries(regularizers).filter(([, strength]) => strength > 0);
  return used.length === 0
    ? null
    : used.map(([name, strength]) => `${names[name as keyof Regularizers]} ${strength}`).join(", ");
}

/** What of it helped, by the lower of the judges' rates. */
function transferRemark(outcomes: readonly VariantOutcome[]): string {
  const least = ({ run, verdicts }: VariantOutcome) => leastTransfer(run.images, verdicts);
  const said = (outcome: VariantOutcome) => `${percent(least(outcome), 0)} (${variantTitle(outcome.variant)})`;
  const [baseline, best] = [outcomes[0]!, outcomes.at(-1)!];
  const single = outcomes.slice(1).filter(({ variant }) => !variant.robust && variant.name !== best.variant.name);
  const strongest = single.reduce((a, b) => (least(b) > least(a) ? b : a));
  const robustAlone = outcomes.find(({ variant }) => variant.robust && variant.name === baseline.variant.name)!;
  return (
    `By the judge that is harder to convince, transfer is ${said(baseline)}; the strongest single prior reaches ${said(strongest)}, the robust classifier by itself ${said(robustAlone)}, and together ${said(best)}: ` +
    `${least(best) >= TRANSFER_BAR ? "at least" : "less than"} the ${percent(TRANSFER_BAR, 0)} that are wanted.`
  );
}
