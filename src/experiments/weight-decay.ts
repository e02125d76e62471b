// Plain fully connected networks on digits: a small one against its reference, then weight decay. Weight decay takes
// the same network with L2 penalties of five strengths, several replicates each. They are compared by final, mean and
// best validation accuracy. Validation images are held out of the training images; the test part is looked at once,
// after the last step.
import { limitImages } from "../data/dataset.js";
import { lineChart } from "../io/charts.js";
import { Report, type TableCell } from "../io/report.js";
import { type Architecture, architecture } from "../nn/architecture.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { sgd } from "../nn/optimizers.js";
import { defineExperiment } from "./lib/frame/experiment.js";
import { layerRows, layerTable } from "./lib/report/layer-table.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { type NetworkFigures, weightDecayQuestions } from "./lib/report/questions/weight-decay.js";
import { mean, type Spread, spread, spreadText } from "./lib/report/spread.js";
import { counted, listed, lossText, milliseconds, percent, points } from "./lib/report/text.js";
import { classify } from "./lib/training/classify.js";
import {
  heldOut,
  measureStep,
  type TrainingNotes,
  type TrainingPlan,
  trainingJob,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";
import { zooArchitecture, zooModel } from "./lib/training/models.js";

// ---- Configuration

const reference = {
  data: "mnist",
  smallEpochs: 10,
  /** Of `small-cnn`, which is compared with the plain networks. */
  convolutionalEpochs: 5,
  /** Of the moving average of the small network's weights, which is measured beside those of the last step. */
  smallEmaMomentum: 0.999,
  factors: [1e-6, 1e-5, 1e-4, 5e-4, 1e-3] as readonly number[],
  replicates: 3,
  epochs: 40,
  batch: 128,
  learningRate: 0.1,
  trainImages: 60_000,
  testImages: 10_000,
};
type WeightDecaySettings = typeof reference;

/** What others reported: the best validation accuracy by factor, and the figure to approach. */
const referenceMaxima = new Map([
  [1e-6, 0.9822],
  [1e-5, 0.9823],
  [1e-4, 0.9833],
  [5e-4, 0.9833],
  [1e-3, 0.9833],
]);
const PUBLISHED = 0.9847;
/** What the best network, and the small one's averaged weights, are to reach. */
const TARGET = 0.983;
const SMALL_TARGET = 0.97;

// ---- Models

const small = zooModel("mlp-64");
const convolutional = zooModel("small-cnn");

/** `mlp-500-300`: the penalty factor * sum(w^2) of every kernel is part of the loss. */
function penalised(factor: number) {
  return architecture({ name: "mlp-500-300", inputShape: [28, 28, 1] }, [
    flatten(),
    dense({ units: 500, activation: "relu", kernelL2: factor }),
    dense({ units: 300, activation: "relu", kernelL2: factor }),
    dense({ units: 10, activation: "softmax", kernelL2: factor }),
  ]);
}

/** One network of the second part. */
interface Outcome {
  readonly factor: number;
  readonly replicate: number;
  /** On the validation images, by epoch. */
  readonly accuracy: readonly number[];
  readonly testAccuracy: number;
  /** Of the trained network on its training images. */
  readonly trainAccuracy: number;
  readonly stepMs: number | undefined;
}

/** The three ways to sum up a training by its accuracy on the validation images after each epoch. */
const summaries = {
  final: (accuracy: readonly number[]) => accuracy.at(-1)!,
  mean: (accuracy: readonly number[]) => mean(accuracy),
  maximum: (accuracy: readonly number[]) => Math.max(...accuracy),
} as const;
type Summary = keyof typeof summaries;

// ---- Run

export const experiment = defineExperiment<WeightDecaySettings>({
  presets: {
    reference,
    // The average is over the last fifty steps: the small network takes 1,570.
    quick: {
      ...reference,
      ...{ smallEmaMomentum: 0.98, convolutionalEpochs: 2, replicates: 2, epochs: 4, trainImages: 20_000 },
    },
  },

  async run(run) {
    const { settings } = run;
    const { epochs, batch: batchSize, learningRate } = settings;
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    const all = limitImages(dataset.train, settings.trainImages);
    const test = limitImages(dataset.test, settings.testImages);
    const { train, validation } = heldOut(all);
    // Its reference trains on all images and tests once.
    const smallPlanOf = (replicate: number): TrainingPlan => ({
      ...{ data: all, test, batchSize },
      optimizer: () => sgd({ learningRate, emaMomentum: settings.smallEmaMomentum }),
      ...{ architecture: zooArchitecture(small), epochs: settings.smallEpochs, seed: run.seed + replicate },
    });
    const convolutionalPlan: TrainingPlan = {
      ...{ architecture: zooArchitecture(convolutional), data: all, test, batchSize: convolutional.batchSize },
      optimizer: (steps) => convolutional.optimizer({ learningRate: convolutional.learningRate }, steps),
      epochs: settings.convolutionalEpochs,
    };
    const planOf = (factor: number, replicate: number): TrainingPlan => ({
      ...{ data: train, validation, test, optimizer: () => sgd({ learningRate }), batchSize },
      ...{ architecture: penalised(factor), epochs },
      // Replicates differ in weights and order; the same replicate of two factors starts from the same weights.
      seed: run.seed + replicate,
    });
    const networks = settings.factors.flatMap((factor) =>
      Array.from({ length: settings.replicates }, (_, replicate) => ({ factor, replicate })),
    );
    const replicates = Array.from({ length: settings.replicates }, (_, replicate) => replicate);
    const smallPartOf = (replicate: number) => `${small.name}, replicate ${replicate + 1}`;
    const partOf = ({ factor, replicate }: { factor: number; replicate: number }) =>
      `factor ${power(factor)}, replicate ${replicate + 1}`;

    const smallStep = await measureStep(run, smallPlanOf(0));
    const smallSeconds = trainingSeconds(smallPlanOf(0), smallStep);
    const convolutionalSeconds = trainingSeconds(convolutionalPlan, await measureStep(run, convolutionalPlan));
    const step = await measureStep(run, planOf(settings.factors[0]!, 0));
    const seconds = trainingSeconds(planOf(0, 0), step);
    run.plan(
      {
        ...Object.fromEntries(replicates.map((replicate) => [smallPartOf(replicate), smallSeconds])),
        [convolutional.name]: convolutionalSeconds,
        ...Object.fromEntries(
          networks.flatMap((network) => [
            [partOf(network), seconds],
            [`${partOf(network)}, training images`, (step * train.count) / batchSize / 2],
          ]),
        ),
      },
      `${counted(replicates.length, small.name, small.name)} of ${milliseconds(1000 * smallStep)} a step, ${counted(networks.length, "network")} of ${counted(epochs * Math.ceil(train.count / batchSize), "step")} of ${milliseconds(1000 * step)}`,
    );

    await run.ahead([
      ...networks.map((network) => trainingJob(run, partOf(network), () => planOf(network.factor, network.replicate))),
      ...replicates.map((replicate) => trainingJob(run, smallPartOf(replicate), () => smallPlanOf(replicate))),
      trainingJob(run, convolutional.name, () => convolutionalPlan),
    ]);
    const smallNotes: TrainingNotes[] = [];
    for (const replicate of replicates) {
      const { model, notes } = await trainPart(run, smallPartOf(replicate), smallPlanOf(replicate));
      model.dispose();
      smallNotes.push(notes);
    }
    const compared = await trainPart(run, convolutional.name, convolutionalPlan);
    compared.model.dispose();
    const outcomes: Outcome[] = [];
    for (const network of networks) {
      const trained = await trainPart(run, partOf(network), planOf(network.factor, network.replicate));
      const { history, timing, test: tested } = trained.notes;
      const onTraining = await run
        .part(`${partOf(network)}, training images`, async (progress) => {
          const { accuracy } = await classify(trained.model, train, {
            signal: run.signal,
            onProgress: (done) => progress(done / train.count),
          });
          return { accuracy };
        })
        .finally(() => trained.model.dispose());
      outcomes.push({
        ...network,
        ...{ accuracy: history["val_accuracy"]!, testAccuracy: tested!.accuracy!, trainAccuracy: onTraining.accuracy },
        stepMs: timing.stepMsMedian,
      });
    }

    // ---- Report

    const byFactor = settings.factors.map((factor) => {
      const replicates = outcomes.filter((outcome) => outcome.factor === factor);
      const over = (summary: Summary) => replicates.map(({ accuracy }) => summaries[summary](accuracy));
      return {
        factor,
        replicates,
        ...{ final: spread(over("final")), mean: spread(over("mean")), maximum: spread(over("maximum")) },
        best: Math.max(...over("maximum")),
        test: spread(replicates.map(({ testAccuracy }) => testAccuracy)),
        reference: referenceMaxima.get(factor),
        /** How much better it knows the images it was trained on. */
        gap: mean(replicates.map(({ trainAccuracy, testAccuracy }) => trainAccuracy - testAccuracy)),
      };
    });
    const best = byFactor.reduce((a, b) => (b.best > a.best ? b : a));
    const real = settings.data === "mnist";
    const smallFinals = smallNotes.map(({ test }) => test!.accuracy!);
    const smallAccuracy = spread(smallFinals);
    const smallAveraged = smallNotes.map(({ averaged }) => averaged!.accuracy!);
    const smallLoss = mean(smallNotes.map(({ test }) => test!.loss));
    const smallStepMs = meanOf(smallNotes.map(({ timing }) => timing.stepMsMedian));
    const charts = Object.fromEntries(
      (["final", "mean", "maximum"] as const).map((summary) => [
        summary,
        lineChart({
          title: `${capitalised(summary)} validation accuracy`,
          series: [seriesOf(byFactor, summary)],
          x: { label: "L2 factor", scale: "log" },
          y: { percent: true },
        }),
      ]),
    ) as Record<Summary, string>;

    const report = new Report({
      title: "Plain networks and weight decay",
      subtitle: `${counted(all.count, "image")} (${dataset.name}), SGD ${learningRate}, batch ${batchSize}`,
      footer: run.footer,
    });
    report.section(`${small.name}: two hidden layers of 64`, (section) => {
      section.text(smallRemark(smallNotes, { real, epochs: settings.smallEpochs }));
      section.table({
        columns: ["", "this run", { label: real ? "reference" : "reference, on MNIST", reference: true }],
        rows: [
          ["Parameters", zooArchitecture(small).countParameters().total, 55_050],
          ["Test accuracy", figure(spreadText(smallAccuracy)), figure(percent(small.reference!.testAccuracy))],
          ["... the best", figure(percent(Math.max(...smallFinals))), null],
          ["... by averaged weights", figure(spreadText(spread(smallAveraged))), null],
          ["Test loss", figure(lossText(smallLoss)), figure(lossText(small.reference!.testLoss!))],
          ["Training step, median", stepCell(smallStepMs), figure(small.reference!.step)],
        ],
        caption: `After ${counted(settings.smallEpochs, "epoch")}, on ${counted(test.count, "test image")}, once; mean ± standard deviation over ${counted(settings.replicates, "replicate")}. Averaged: the weights' moving average over the steps (momentum ${settings.smallEmaMomentum}) instead of the last step's.`,
      });
      section.details(`Layers of ${small.name}`, (layers) => layers.table(layerTable(zooArchitecture(small))));
      section.row((row) => {
        for (const [name, title, isShare] of [
          ["loss", `Training loss of ${small.name}`, false],
          ["accuracy", `Training accuracy of ${small.name}`, true],
        ] as const) {
          row.chart(
            lineChart({
              title,
              series: [{ name: "training", y: meanByEpoch(smallNotes, name) }],
              x: { label: "epoch" },
              y: { percent: isShare },
            }),
          );
        }
      });
    });
    report.section("mlp-500-300: five factors of an L2 penalty", (section) => {
      section.text(factorRemark(byFactor, { real, epochs, trainImages: all.count }));
      section.table({
        columns: [
          ...["factor", "final", "mean", "maximum", "best"],
          { label: real ? "reference" : "on MNIST", reference: true },
          ...["test", "training − test"],
        ],
        rows: byFactor.map(
          ({ factor, final, mean: overEpochs, maximum, best: top, reference: theirs, test, gap }): TableCell[] => [
            figure(power(factor)),
            ...[final, overEpochs, maximum].map((value) => figure(spreadText(value))),
            { ...figure(percent(top)), ...(real && run.judged(top >= TARGET)) },
            theirs === undefined ? null : figure(percent(theirs)),
            figure(spreadText(test)),
            figure(points(gap)),
          ],
        ),
        caption: `Accuracy on ${counted(validation.count, "validation image")}, the last of the training part, which are not trained on: after the last of ${counted(epochs, "epoch")}, mean and maximum over the epochs, each as mean ± standard deviation over ${counted(settings.replicates, "replicate")}; the best replicate; the maximum in the reference. Maxima and the best are chosen by these images, as in the reference, and so are a little too good. Test: accuracy on ${counted(test.count, "test image")} after the last step, by which nothing is chosen. Training: accuracy of the trained network on the ${counted(train.count, "image")} that it was trained on. Published for such a network: ${percent(PUBLISHED)}.`,
      });
      section.row((row) =>
        row
          .chart(charts.final)
          .chart(charts.mean)
          .chart(charts.maximum)
          .chart(
            lineChart({
              title: "Final, mean and maximum validation accuracy",
              series: (["final", "mean", "maximum"] as const).map((summary) => seriesOf(byFactor, summary)),
              x: { label: "L2 factor", scale: "log" },
              y: { percent: true },
              ...(real && { referenceLines: [{ value: PUBLISHED, label: `published, ${percent(PUBLISHED)}` }] }),
            }),
          ),
      );
      section.text("Error bars: standard deviation over the replicates.");
      section.details("Layers of mlp-500-300", (layers) => layers.table(layerTable(penalised(0))));
      section.chart(
        lineChart({
          title: "Validation accuracy by epoch, mean of the replicates",
          width: 900,
          series: byFactor.map(({ factor, replicates }) => ({
            name: power(factor),
            y: replicates[0]!.accuracy.map((_, epoch) => mean(replicates.map(({ accuracy }) => accuracy[epoch]!))),
          })),
          x: { label: "epoch" },
          y: { percent: true },
        }),
      );
    });
    const networksOf = (name: string, network: Architecture, testAccuracy: number): NetworkFigures => ({
      ...{ name, layers: layerRows(network), testAccuracy },
    });
    const kinds = {
      small: networksOf(small.name, zooArchitecture(small), smallAccuracy.mean),
      large: networksOf("mlp-500-300", penalised(0), Math.max(...byFactor.map((entry) => entry.test.mean))),
      convolutional: networksOf(convolutional.name, zooArchitecture(convolutional), compared.notes.test!.accuracy!),
    };
    report.section("A convolutional network beside them", (section) => {
      section.table(kindsTable(Object.values(kinds), real));
      section.chart(convolutionalChart(compared.notes));
      section.details(`Layers of ${convolutional.name}`, (layers) =>
        layers.table(layerTable(zooArchitecture(convolutional))),
      );
    });
    const stepMs = meanOf(outcomes.map((outcome) => outcome.stepMs));
    const shorter = epochs < reference.epochs || all.count < reference.trainImages;
    return {
      report,
      ...{
        questions: weightDecayQuestions({ ...kinds, smallLoss, byFactor, published: PUBLISHED, real, shorter }),
        recipe: recipes.weightDecay,
      },
      figures: [
        {
          label: `Best, factor ${power(best.factor)}`,
          value: percent(best.best),
          note: `validation; wanted ${percent(TARGET, 1)}, published ${percent(PUBLISHED)}; test ${spreadText(best.test)} after the last step`,
          ...(real && run.judged(best.best >= TARGET)),
        },
        {
          label: small.name,
          value: spreadText(spread(smallAveraged)),
          note: `averaged weights; the last step's ${spreadText(smallAccuracy)}, reference ${percent(small.reference!.testAccuracy)}`,
          ...(real && run.judged(mean(smallAveraged) >= SMALL_TARGET)),
        },
        {
          label: "Step of mlp-500-300",
          value: stepMs === undefined ? "–" : milliseconds(stepMs),
          note: "mean of the medians",
        },
        {
          label: "Step of mlp-64",
          value: smallStepMs === undefined ? "–" : milliseconds(smallStepMs),
          note: `reference ${small.reference!.step}`,
        },
      ],
      metrics: {
        ...{ trainImages: all.count, validationImages: validation.count, testImages: test.count },
        convolutional: { name: convolutional.name, ...compared.notes },
        small: {
          ...{ testAccuracy: smallAccuracy, averagedTestAccuracy: spread(smallAveraged), testLoss: smallLoss },
          networks: smallNotes,
        },
        factors: byFactor.map(({ replicates: _, ...figures }) => figures),
        networks: outcomes,
      },
      summary: [
        `${small.name}: test ${spreadText(smallAccuracy)}, loss ${lossText(smallLoss)}, averaged weights ${spreadText(spread(smallAveraged))}`,
        ...byFactor.map(
          ({ factor, final, maximum, test }) =>
            `factor ${power(factor)}: validation, final ${spreadText(final)}, maximum ${spreadText(maximum)}; test ${spreadText(test)}`,
        ),
      ].join("\n"),
    };
  },
});

/** Parameters and accuracies of both kinds of networks. */
function kindsTable(networks: readonly NetworkFigures[], real: boolean) {
  return {
    columns: [
      "network",
      "kind",
      "parameters",
      "test accuracy",
      { label: real ? "reference" : "on MNIST", reference: true },
    ],
    rows: networks.map(({ name, layers, testAccuracy }): TableCell[] => {
      const known =
        name === "mlp-500-300" ? Math.max(...referenceMaxima.values()) : zooModel(name).reference?.testAccuracy;
      return [
        name,
        layers.some(({ kind }) => kind === "Conv2D") ? "convolutional" : "fully connected",
        layers.reduce((sum, { parameters }) => sum + parameters, 0),
        figure(percent(testAccuracy)),
        known === undefined ? null : figure(percent(known)),
      ];
    }),
    caption:
      "After the last step of each; of mlp-500-300 the factor with the best mean over its replicates, whose reference is a maximum over epochs.",
  };
}

function convolutionalChart({ history }: TrainingNotes): string {
  return lineChart({
    title: `Training accuracy of ${convolutional.name}`,
    series: [{ name: "training", y: history["accuracy"]! }],
    x: { label: "epoch" },
    y: { percent: true },
  });
}

/** Of what is there; undefined of nothing. */
function meanOf(values: readonly (number | undefined)[]): number | undefined {
  const present = values.flatMap((value) => value ?? []);
  return present.length === 0 ? undefined : mean(present);
}

/** A figure of the history, its mean over networks. */
function meanByEpoch(notes: readonly TrainingNotes[], name: string): number[] {
  return notes[0]!.history[name]!.map((_, epoch) => mean(notes.map(({ history }) => history[name]![epoch]!)));
}

type ByFactor = { readonly factor: number; readonly gap: number; readonly best: number } & Readonly<
  Record<Summary, Spread>
>;

function seriesOf(byFactor: readonly ByFactor[], summary: Summary) {
  const over = byFactor.map((entry) => entry[summary]);
  return {
    name: summary,
    x: byFactor.map(({ factor }) => factor),
    y: over.map((value) => value.mean),
    // One replicate has no spread to draw.
    ...(over.every(({ deviation }) => Number.isFinite(deviation)) && {
      errors: over.map(({ deviation }) => deviation),
    }),
  };
}

const power = (factor: number) => factor.toExponential().replace("e+0", "").replace("e+", "e");
const figure = (text: string) => ({ text, numeric: true });
const stepCell = (ms: number | undefined): TableCell => (ms === undefined ? null : figure(milliseconds(ms)));
const capitalised = (word: string) => word[0]!.toUpperCase() + word.slice(1);

function smallRemark(notes: readonly TrainingNotes[], { real, epochs }: { real: boolean; epochs: number }): string {
  const finals = notes.map(({ test }) => test!.accuracy!);
  const accuracy = mean(finals);
  const loss = mean(notes.map(({ test }) => test!.loss));
  const averaged = mean(notes.map(({ averaged }) => averaged!.accuracy!));
  const difference = accuracy - small.reference!.testAccuracy;
  const reached = finals.filter((final) => final >= small.reference!.testAccuracy).length;
  const compared = real
    ? ` That is ${points(difference)} against the reference${epochs === small.epochs ? "" : `, which trained for ${small.epochs} epochs`}; ${reached} of ${finals.length} reach it.`
    : " The reference figures are those of MNIST, which these digits are not.";
  const whose = notes.length === 1 ? "Accuracy" : `Mean accuracy of ${notes.length} networks, from other weights each,`;
  return `${whose} on the test part is ${percent(accuracy)} after ${counted(epochs, "epoch")}, the loss ${lossText(loss)}.${compared} By the weights' moving average it is ${percent(averaged)}.`;
}

function factorRemark(
  byFactor: readonly ByFactor[],
  { real, epochs, trainImages }: { real: boolean; epochs: number; trainImages: number },
): string {
  const sorted = byFactor.toSorted((a, b) => b.maximum.mean - a.maximum.mean);
  const [first, last] = [sorted[0]!, sorted.at(-1)!];
  const difference = first.maximum.mean - last.maximum.mean;
  const noise = Math.max(...byFactor.map(({ maximum }) => maximum.deviation));
  const judged = !Number.isFinite(noise)
    ? "with one replicate there is no telling how much of that is chance"
    : difference > 2 * noise
      ? "more than twice the largest standard deviation among replicates: the factor matters"
      : "less than twice the largest standard deviation among replicates: these runs cannot tell them apart";
  const within = sorted.filter(
    (entry) => first.maximum.mean - entry.maximum.mean <= (Number.isFinite(noise) ? noise : 0),
  );
  const gaps = byFactor.map(({ gap }) => gap);
  const falling = gaps[0]! > 0 && gaps.at(-1)! < gaps[0]! - 1e-3;
  const top = byFactor.reduce((a, b) => (b.best > a.best ? b : a));
  return (
    `By the maximum of validation accuracy over epochs, factor ${power(first.factor)} is best (${spreadText(first.maximum)}) and ${power(last.factor)} worst (${spreadText(last.maximum)}): ${points(difference)}, ${judged}. ` +
    (within.length > 1
      ? `Within one such deviation of the best lie ${listed(within.map(({ factor }) => power(factor)))}. `
      : "") +
    `Between factors ${power(byFactor[0]!.factor)} and ${power(byFactor.at(-1)!.factor)} the lead of training over test accuracy ${falling ? "shrinks by more than 0.1 points" : "does not shrink by more than 0.1 points"}, from ${points(gaps[0]!)} to ${points(gaps.at(-1)!)}${falling ? ": the penalty keeps the network from fitting its training images alone" : ""}. ` +
    (real
      ? `The best single network reaches ${percent(top.best)} on the validation images, ${points(top.best - PUBLISHED)} against the published figure.` +
        (epochs < reference.epochs || trainImages < reference.trainImages
          ? ` The references trained on ${counted(reference.trainImages, "image")} for ${reference.epochs} epochs, here it was ${counted(trainImages, "image")} and ${counted(epochs, "epoch")}.`
          : "")
      : "The reference figures are those of MNIST, which these digits are not.")
  );
}
