// How reports show adversarial examples:
// - grids of them beside their originals,
// - tables of distances,
// - accuracy over epsilon,
// - remarks that follow from the figures of the run.
import type { LabelledImages } from "../../../data/dataset.js";
import type { Norm } from "../../../inputs/attacks/attack.js";
import { TEMPERATURE } from "../../../inputs/generators.js";
import { lineChart } from "../../../io/charts.js";
import type { GridCell } from "../../../io/grid.js";
import type { KeyFigure, Report, TableCell } from "../../../io/report.js";
import type { Architecture } from "../../../nn/architecture.js";
import {
  type AttackFigure,
  type Example,
  type Examples,
  epsilonText,
  exampleFigures,
  type GeneratorSettings,
  normTitles,
  type Sample,
  type SmallestEpsilons,
} from "../adversarial/generated-examples.js";
import type { TrainingNotes } from "../training/experiment-training.js";
import { type Grid, gridFiles } from "./grids.js";
import { layerTable } from "./layer-table.js";
import type { exampleQuestions } from "./questions/adversarial.js";
import { counted, duration, listed, percent } from "./text.js";

/** A row per sample: the original, then the example of each class. Green borders: answered with the target. */
export function exampleGrid(
  { examples }: Examples,
  samples: readonly Sample[],
  { imageShape, classNames, scale }: GridShape,
): Grid {
  const [height, width, channels] = imageShape as [number, number, 1 | 3];
  const cell = (pixels: Float32Array) => ({ pixels, width, height, channels });
  const rows = samples.map((original, row): GridCell[] => [
    { ...cell(original.pixels), caption: [classNames[original.label]!, "original"] },
    ...examples
      .filter(({ sample }) => sample === row)
      .map(({ pixels, fooled, confidence, l2, linf }) => ({
        ...cell(pixels),
        caption: [percent(confidence, 1), `L2 ${l2.toFixed(2)}`, `L∞ ${linf.toFixed(2)}`],
        figures: { confidence, L2: l2, "L∞": linf },
        highlight: fooled ? ("good" as const) : ("bad" as const),
      })),
  ]);
  return { cells: rows, options: { scale, columnLabels: ["", ...classNames.map((name) => `as ${name}`)] } };
}

export interface GridShape {
  readonly imageShape: readonly [number, number, number];
  readonly classNames: readonly string[];
  readonly scale: number;
}

/** The changes alone, grey where there is none; `strength` times as large. */
function changeGrid(
  { examples }: Examples,
  samples: readonly Sample[],
  { imageShape, classNames, scale }: GridShape,
  strength: number,
): Grid {
  const [height, width, channels] = imageShape as [number, number, 1 | 3];
  const rows = samples.map((original, row) =>
    examples
      .filter(({ sample }) => sample === row)
      .map(({ pixels, confidence, l2, linf }): GridCell => {
        const change = pixels.map((value, i) => 0.5 + (strength * (value - original.pixels[i]!)) / 2);
        return { pixels: change, width, height, channels, figures: { confidence, L2: l2, "L∞": linf } };
      }),
  );
  const columnLabels = classNames.map((name) => `as ${name}`);
  return { cells: rows, options: { scale, rowLabels: samples.map(({ label }) => classNames[label]!), columnLabels } };
}

/** One classifier's accuracy over epsilon. */
export interface SweepCurve {
  readonly name: string;
  /** Without an attack: where the curves begin. */
  readonly clean: number;
  readonly figures: readonly AttackFigure[];
}

/** Accuracy over epsilon in one norm, a curve per classifier and attack. */
export function sweepChart(curves: readonly SweepCurve[], norm: Norm, title: string): string {
  return lineChart({
    title,
    series: curves.flatMap(({ name, clean, figures }, colour) =>
      [...new Set(figures.map(({ attack }) => attack))].map((attack) => {
        const found = figures.filter((figure) => figure.norm === norm && figure.attack === attack);
        return {
          name: [name, attack.toUpperCase()].filter(Boolean).join(", "),
          x: [0, ...found.map(({ epsilon }) => epsilon)],
          y: [clean, ...found.map(({ accuracy }) => accuracy)],
          ...(curves.length > 1 && { colour }),
          dashed: attack === "fgsm",
        };
      }),
    ),
    x: { label: `epsilon, ${normTitles[norm]}` },
    y: { label: "accuracy", percent: true, min: 0, max: 1 },
  });
}

/** A row per epsilon, a column per classifier and attack. */
export function sweepTable(curves: readonly SweepCurve[], norm: Norm): { columns: string[]; rows: TableCell[][] } {
  const columns = curves.flatMap(({ name, figures }) =>
    [...new Set(figures.map(({ attack }) => attack))].map((attack) => ({ name, attack, figures })),
  );
  const epsilons = [
    ...new Set(curves.flatMap(({ figures }) => figures.filter((f) => f.norm === norm).map((f) => f.epsilon))),
  ];
  return {
    columns: ["epsilon", ...columns.map(({ name, attack }) => [name, attack.toUpperCase()].filter(Boolean).join(", "))],
    rows: [
      [figure("0"), ...columns.map(({ name }) => figure(percent(curves.find((curve) => curve.name === name)!.clean)))],
      ...epsilons.map((epsilon) => [
        figure(epsilonText(epsilon)),
        ...columns.map(({ attack, figures }) => {
          const found = figures.find((f) => f.norm === norm && f.attack === attack && f.epsilon === epsilon);
          return found === undefined ? null : figure(percent(found.accuracy));
        }),
      ]),
    ],
  };
}

/**
 * What has to be said of images that an attack had no gradient for: they count as withstanding it, and were not tried.
 */
export function withoutGradientRemark(figures: readonly AttackFigure[], images: number): string {
  const named = figures
    .filter(({ withoutGradient }) => withoutGradient > 0)
    .map(
      ({ attack, norm, epsilon, withoutGradient }) =>
        `${attack.toUpperCase()} in ${normTitles[norm]} at ${epsilonText(epsilon)} for ${withoutGradient}`,
    );
  return named.length === 0
    ? "Every attack had a gradient to follow for every image."
    : `Of ${counted(images, "image")} there was no gradient at any step of ${listed(named)}: these were not tried, and count with whatever the classifier answers.`;
}

/** A number as text in a table. */
export const figure = (text: string) => ({ text, numeric: true });

/** Everything that adversarial-mnist and adversarial-cifar10 found. */
export interface ExampleFindings {
  readonly samples: readonly Sample[];
  readonly found: Examples;
  readonly settings: GeneratorSettings;
  readonly shape: GridShape;
  /** Without an attack, and under FGSM and PGD. */
  readonly sweep: SweepCurve;
  /** Of how many images. */
  readonly sweepImages: number;
  readonly smallest: readonly SmallestEpsilons[];
}

/** Enlarges changes in pictures. */
const CHANGE_STRENGTH = 2;

/** The pictures of a run: `examples.svg` and `changes.svg`. */
export function examplePictures(findings: ExampleFindings): Map<string, Uint8Array | string> {
  const { examples, changes } = gridsOf(findings);
  return gridFiles({ "examples.svg": examples, "changes.svg": changes });
}

const gridsOf = ({ found, samples, shape }: ExampleFindings) => ({
  examples: exampleGrid(found, samples, shape),
  changes: changeGrid(found, samples, shape, CHANGE_STRENGTH),
});

/** The cards at the top: the wish is that every generator for another class succeeds. */
export function exampleCards({ found, samples, settings }: ExampleFindings): KeyFigure[] {
  const { count, fooled, meanL2, meanLinf } = exampleFigures(found, samples);
  return [
    {
      ...{ label: "Fool the classifier", value: `${fooled} of ${count}` },
      note: `wanted: all, with ${percent(settings.confidence, 0)} or more`,
      tone: fooled === count ? "good" : "bad",
    },
    { label: "Mean L2 distance", value: meanL2.toFixed(2), note: "of those that fool" },
    { label: "Mean L∞ distance", value: meanLinf.toFixed(2), note: "of those that fool" },
    {
      ...{ label: "Time for the generators", value: duration(found.seconds) },
      note: `${counted(found.examples.length, "network")} at once`,
    },
  ];
}

/** For metrics.json. */
export function exampleMetrics({ found, samples, sweep, sweepImages, smallest }: ExampleFindings) {
  return {
    generators: { ...exampleFigures(found, samples), seconds: found.seconds, course: found.course },
    examples: found.examples.map(({ pixels: _, sample, ...rest }) => ({ from: samples[sample]!.label, ...rest })),
    samples: samples.map(({ index, label }) => ({ index, label })),
    attacks: { images: sweepImages, clean: sweep.clean, figures: sweep.figures, smallestEpsilons: smallest },
  };
}

/** For the terminal. */
export function exampleSummary({ found, samples, sweep }: ExampleFindings): string {
  const { count, fooled, meanL2, meanLinf } = exampleFigures(found, samples);
  return [
    `${fooled} of ${count} generators fool the classifier, mean L2 ${meanL2.toFixed(2)}, L-infinity ${meanLinf.toFixed(2)}`,
    ...sweep.figures.map(
      ({ attack, norm, epsilon, accuracy }) =>
        `${attack.toUpperCase()} ${norm} ${epsilonText(epsilon)}: ${percent(accuracy)}`,
    ),
  ].join("\n");
}

/** Appends what the generators found, FGSM and PGD for comparison, and how it is done. */
export function addExampleSections(report: Report, findings: ExampleFindings): void {
  const { samples, found, settings, shape, sweep, sweepImages, smallest } = findings;
  const { classNames } = shape;
  const pairs = counted(found.examples.length, "generator");
  report.section("Examples", (section) => {
    section.text(examplesRemark(findings));
    const { examples, changes } = gridsOf(findings);
    section.grid(examples.cells, {
      ...examples.options,
      alt: "originals and their adversarial examples for all classes",
      caption: `Left the original, then the image of each generator, under it the classifier's confidence in the class above the column, and how far the image is from the original. Green: answered so, with ${percent(settings.confidence, 0)} or more.`,
    });
    section.grid(changes.cells, {
      ...changes.options,
      alt: "the change of every pixel",
      caption: `What was changed, ${CHANGE_STRENGTH} times as strong: grey is no change, white is brighter, black is darker.`,
    });
  });
  report.section("Distances", (section) => {
    section.text(distanceRemark(findings));
    for (const norm of ["l2", "linf"] as const) section.table(distanceTable(findings, norm));
  });
  report.section("Course", (section) => {
    section.text(courseRemark(findings));
    const x = found.course.map((_, round) => round + 1);
    section.row((row) =>
      row
        .chart(
          lineChart({
            title: "Generators that have succeeded",
            series: [{ name: "succeeded", x, y: found.course.map(({ fooled }) => fooled) }],
            x: { label: "round" },
            y: { min: 0, max: found.examples.length },
          }),
        )
        .chart(
          lineChart({
            title: "Mean L2 distance of their closest images",
            series: [{ name: "L2", x, y: found.course.map(({ meanL2 }) => meanL2) }],
            x: { label: "round" },
            y: { min: 0 },
          }),
        ),
    );
  });
  report.section("FGSM and PGD for comparison", (section) => {
    section.text(sweepRemark(sweep, sweepImages));
    const norms = [...new Set(sweep.figures.map(({ norm }) => norm))];
    section.row((row) => {
      for (const norm of norms) row.chart(sweepChart([sweep], norm, `Accuracy within a ball in ${normTitles[norm]}`));
    });
    section.row((row) => {
      for (const norm of norms) {
        row.table({
          ...sweepTable([sweep], norm),
          caption: `${normTitles[norm]}, ${counted(sweepImages, "test image")}.`,
        });
      }
    });
    section.text(smallestRemark(findings));
    section.table({
      columns: [
        "sample",
        ...smallest.map(({ attack, norm }) => `${attack.toUpperCase()}, ${normTitles[norm]}`),
        "generator, L2",
        "generator, L∞",
      ],
      rows: samples.map(({ label }, sample): TableCell[] => {
        const closest = closestOther(findings, sample);
        return [
          classNames[label]!,
          ...smallest.map(({ epsilons }) =>
            figure(Number.isFinite(epsilons[sample]) ? epsilonText(epsilons[sample]!) : "none"),
          ),
          ...(["l2", "linf"] as const).map((norm) =>
            closest === undefined ? null : figure(`${closest[norm].toFixed(2)} (as ${classNames[closest.target]})`),
          ),
        ];
      }),
      caption:
        "The smallest epsilon tried at which the attack has the sample answered with any other class, and the closest image of its generators for another class.",
    });
  });
  report.section("How it is done", (section) => {
    section.text(
      `A simple generator f(w) is a network with one input neuron, always 1, and an image as output: a dense layer without bias or activation, so its weights are the image. The classifier C is frozen. In turn, ${pairs} are trained (a) by f(1) = sample and (b) by C(f(1)) = one-hot(class), both with mean squared error and Adam (learning rate ${settings.generatorRate}, falling in the end, beta2 0.9): ${settings.startSteps} steps of (a) to begin with, then ${counted(settings.rounds, "round")} of ${settings.foolSteps} steps of (b) and ${settings.fitSteps} of (a). After each step weights are limited to [0, 1], so that f gives an image. In the first half of the rounds (b) takes the classifier's logits divided by ${TEMPERATURE}: behind a softmax that is sure of some third class, squared error leads to the border between that and a fourth and no further. Whether a generator has succeeded is always told by the classifier as it is.`,
    );
    section.text(
      `All generators are trained side by side as one tensor of weights [${found.examples.length}, pixels]. Since their input is 1, its rows are their outputs; their losses are added, so each row gets its own network's gradient, and Adam treats every element for itself. What comes out is what each would come to alone. In (b) a generator rests that is answered with its class at ${percent(settings.confidence, 0)} or more, in (a) one that is not yet; of all images answered so, the closest to the sample is kept. Gradients reach the weights of the generators only; no kernel computes any for the classifier's.`,
    );
    section.text(
      "FGSM (one step along the sign, or direction, of the gradient) and PGD (many small ones from a random point of the ball) are untargeted, with Foolbox's defaults: PGD has 40 steps of 1/30 epsilon in L∞, 50 of 1/40 epsilon in L2. They raise the cross-entropy within a ball of given size, while the generators look for a small change of any shape: distances are results here, and limits there.",
    );
  });
}

/** What questions/adversarial.ts asks for. @param set where the nearest images of other classes are looked for */
export function exampleQuestionFigures(
  {
    samples,
    found,
    settings,
    shape: { classNames },
  }: Pick<ExampleFindings, "samples" | "found" | "settings" | "shape">,
  set: LabelledImages,
): Parameters<typeof exampleQuestions>[0] {
  const changedShare = (pixels: Float32Array, original: Float32Array) =>
    pixels.reduce((sum, value, i) => sum + (Math.abs(value - original[i]!) > 0.1 ? 1 : 0), 0) / pixels.length;
  return {
    examples: found.examples
      .filter(({ sample, target }) => samples[sample]!.label !== target)
      .map(({ sample, target, pixels, fooled, l2, linf }) => ({
        ...{ from: classNames[samples[sample]!.label]!, to: classNames[target]!, fooled, l2, linf },
        changed: changedShare(pixels, samples[sample]!.pixels),
      })),
    nearestSample: samples.reduce((sum, sample) => sum + nearestOther(sample, set), 0) / samples.length,
    confidence: settings.confidence,
  };
}

/** L2 distance from a sample to the nearest image of another class. */
function nearestOther({ label, pixels }: Sample, { images, labels }: LabelledImages): number {
  let nearest = Number.POSITIVE_INFINITY;
  for (const [i, other] of labels.entries()) {
    if (other === label) continue;
    let squares = 0;
    for (let k = 0; k < pixels.length && squares < nearest; k++)
      squares += (images[i * pixels.length + k]! - pixels[k]!) ** 2;
    nearest = Math.min(nearest, squares);
  }
  return Math.sqrt(nearest);
}

/** Appends the classifier: its training and its layers. */
export function addClassifier(report: Report, network: Architecture, { history }: TrainingNotes): void {
  report.section("The classifier", (section) => {
    section.row((row) => {
      for (const [name, title, isShare] of [
        ["loss", "Loss of the classifier", false],
        ["accuracy", "Accuracy of the classifier", true],
      ] as const) {
        row.chart(
          lineChart({
            title,
            series: [
              { name: "training", y: history[name]! },
              { name: "test part", y: history[`val_${name}`]! },
            ],
            x: { label: "epoch" },
            y: { percent: isShare },
          }),
        );
      }
    });
    section.table(layerTable(network));
  });
}

const others = ({ found, samples }: ExampleFindings) =>
  found.examples.filter(({ sample, target }) => samples[sample]!.label !== target);

function closestOther(findings: ExampleFindings, sample: number): Example | undefined {
  return others(findings)
    .filter((example) => example.sample === sample && example.fooled)
    .toSorted((a, b) => a.l2 - b.l2)[0];
}

function examplesRemark(findings: ExampleFindings): string {
  const { found, samples, settings } = findings;
  const { count, fooled, meanL2, meanLinf, meanConfidence } = exampleFigures(found, samples);
  const own = found.examples.filter(({ sample, target }) => samples[sample]!.label === target);
  const ownText = `Those for a sample's own class end ${Math.max(...own.map(({ l2 }) => l2)).toFixed(3)} from it at most.`;
  if (fooled === 0) return `None of ${count} generators for another class succeeds. ${ownText}`;
  return `Of ${counted(count, "generator")} for another class than the sample's, ${fooled === count ? "all" : fooled} have the classifier answer that class with ${percent(settings.confidence, 0)} or more (${percent(meanConfidence, 1)} on average), ${meanL2.toFixed(2)} from the sample in L2 and ${meanLinf.toFixed(2)} in L∞ on average. ${ownText}`;
}

function distanceRemark(findings: ExampleFindings): string {
  const { samples, shape } = findings;
  const sorted = others(findings)
    .filter(({ fooled }) => fooled)
    .toSorted((a, b) => a.l2 - b.l2);
  const name = ({ sample, target }: Example) =>
    `${shape.classNames[samples[sample]!.label]} as ${shape.classNames[target]}`;
  const [first, last] = [sorted[0], sorted.at(-1)];
  if (first === undefined || last === undefined) return "There are no distances to tell of: no generator succeeded.";
  return `The shortest way is ${name(first)} (L2 ${first.l2.toFixed(2)}), the longest ${name(last)} (${last.l2.toFixed(2)}).`;
}

function distanceTable({ samples, found, shape }: ExampleFindings, norm: Norm) {
  return {
    columns: [`${normTitles[norm]}, as`, ...shape.classNames],
    rows: samples.map(({ label }, row): TableCell[] => [
      shape.classNames[label]!,
      ...found.examples
        .filter(({ sample }) => sample === row)
        .map((example) => ({
          ...figure(example[norm].toFixed(2)),
          ...(!example.fooled && { tone: "bad" as const }),
        })),
    ]),
    caption: `Distance from the sample in ${normTitles[norm]}; red: not answered with the class.`,
  };
}

function courseRemark({ found }: ExampleFindings): string {
  const last = found.course.at(-1)!;
  const first = found.course.findIndex(({ fooled }) => fooled === last.fooled);
  const before = found.course[first]!;
  return `${last.fooled} of ${counted(found.examples.length, "generator")} have succeeded, the last of them in round ${first + 1} of ${found.course.length}; from there to the end the mean L2 distance goes from ${before.meanL2.toFixed(2)} to ${last.meanL2.toFixed(2)}. It took ${duration(found.seconds)}.`;
}

/** Where an attack halves a classifier's accuracy. */
function halvingEpsilon({ clean, figures }: SweepCurve, attack: string, norm: Norm): number | undefined {
  return figures.find((f) => f.attack === attack && f.norm === norm && f.accuracy < clean / 2)?.epsilon;
}

function sweepRemark(sweep: SweepCurve, images: number): string {
  const parts = [...new Set(sweep.figures.map(({ norm }) => norm))].flatMap((norm) =>
    [...new Set(sweep.figures.map(({ attack }) => attack))].map((attack) => {
      const epsilon = halvingEpsilon(sweep, attack, norm);
      const name = `${attack.toUpperCase()} in ${normTitles[norm]}`;
      return epsilon === undefined ? `${name} at none of the epsilons tried` : `${name} at ${epsilonText(epsilon)}`;
    }),
  );
  return `Without an attack, ${percent(sweep.clean)} of ${counted(images, "test image")} are classified correctly. The first epsilon at which less than half of that is left: ${listed(parts)}. ${withoutGradientRemark(sweep.figures, images)}`;
}

function smallestRemark(findings: ExampleFindings): string {
  const { samples, smallest } = findings;
  const entry = smallest.find(({ attack, norm }) => attack === "pgd" && norm === "l2");
  if (entry === undefined) return "";
  const compared = samples.flatMap((_, sample) => {
    const closest = closestOther(findings, sample);
    const epsilon = entry.epsilons[sample]!;
    return closest !== undefined && Number.isFinite(epsilon) ? [{ l2: closest.l2, epsilon }] : [];
  });
  if (compared.length === 0) return "For none of the samples did both PGD in L2 and a generator find an example.";
  const mean = (values: number[]) => (values.reduce((a, b) => a + b) / values.length).toFixed(2);
  return `For ${counted(compared.length, "sample")} both find an example: PGD in L2 from an epsilon of ${mean(compared.map(({ epsilon }) => epsilon))} on, on average, for any other class and with any confidence; the closest image of the generators, which must be answered with ${percent(findings.settings.confidence, 0)}, is ${mean(compared.map(({ l2 }) => l2))} away.`;
}
