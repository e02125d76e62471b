// Taking salt-and-pepper noise out of digits with an autoencoder. The experiment shows how a classifier reads noisy and
// denoised digits by the amount of noise, and what digits random codes are decoded into.
import { type LabelledImages, limitImages } from "../data/dataset.js";
import { lineChart } from "../io/charts.js";
import type { GridCell } from "../io/grid.js";
import { type KeyFigure, Report, type TableCell } from "../io/report.js";
import { binaryCrossEntropyFromLogits } from "../nn/losses.js";
import type { Model } from "../nn/model.js";
import { Sequential } from "../nn/sequential.js";
import { UsageError } from "../tensor/errors.js";
import { defineExperiment } from "./lib/frame/experiment.js";
import { type DrawnCodes, drawCodes, drawings } from "./lib/inputs/random-codes.js";
import { autoencoderDiagram } from "./lib/report/autoencoder-diagram.js";
import { type Grid, gridFiles } from "./lib/report/grids.js";
import { layerRows, layerTable } from "./lib/report/layer-table.js";
import { denoisingQuestions, denoisingStops } from "./lib/report/questions/denoising.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { counted, listed, lossText, milliseconds, percent, points } from "./lib/report/text.js";
import { imageAt } from "./lib/report/train-report.js";
import { answersFor, classify } from "./lib/training/classify.js";
import {
  heldOut,
  measureStep,
  type TrainingData,
  type TrainingNotes,
  type TrainingPlan,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";
import { autoencoder, zooArchitecture, zooModel } from "./lib/training/models.js";
import { noisyImages, saltAndPepper } from "./lib/training/noise.js";

// ---- Configuration

const zoo = zooModel("sgd-cnn");

const reference = {
  data: "mnist",
  /**
   * Of the training images: "fresh" for every step, or "fixed" in one copy, as in the reference. The first one is used.
   */
  noise: ["fresh", "fixed"] as readonly string[],
  level: 0.4,
  epochs: autoencoder.epochs,
  batch: autoencoder.batchSize,
  learningRate: autoencoder.learningRate,
  classifierEpochs: zoo.epochs,
  /** Random codes of each kind. */
  codes: 1000,
  trainImages: 60_000,
  testImages: 10_000,
};
type DenoisingSettings = typeof reference;

const noises = ["fresh", "fixed"];
const tenths = (count: number) => Array.from({ length: count }, (_, i) => i / 10);
const shownLevels = tenths(10);
const levels = tenths(11);

/** Of the reference, for MNIST: losses after 32 epochs, and accuracies at each of `levels`. */
const published = {
  loss: 0.1149,
  validationLoss: 0.1199,
  denoised: [0.954, 0.953, 0.951, 0.941, 0.919, 0.862, 0.729, 0.514, 0.319, 0.176, 0.101],
  noisy: [0.991, 0.965, 0.896, 0.787, 0.648, 0.49, 0.331, 0.229, 0.161, 0.121, 0.098],
  crossing: 0.15,
  step: "6 ms",
};
/** What the loss on the test part is to come to after the last step. */
const WANTED = 0.12;

/** Layers of the autoencoder up to its narrowest: flatten, 128, 96. */
const ENCODER_LAYERS = 3;
/** Training images whose codes stand for all. */
const CODED_IMAGES = 2000;
/** Digits in the first picture, codes of each kind in the second. */
const DIGITS_SHOWN = 4;
const CODES_SHOWN = 10;
/** A classifier's answer with more than this is called sure. */
const SURE = 0.9;

// ---- What is measured

/** Accuracies of the classifier by noise level. */
interface Curves {
  readonly noisy: readonly number[];
  readonly denoised: readonly number[];
}

/** Digits at `shownLevels`, [digit, level, height, width], with what they are taken for, [digit, level]. */
interface Shown {
  readonly pixels: Float32Array;
  readonly predicted: Int32Array;
}

/** Digits decoded from codes of one kind, and what they are taken for. */
interface Decoded {
  readonly kind: string;
  /** [at most CODES_SHOWN, height, width] */
  readonly pixels: Float32Array;
  /** Of all of them. */
  readonly predicted: Int32Array;
  readonly confidence: Float64Array;
  /** The digits they were meant to be, where they were. */
  readonly wanted?: Int32Array;
}

const REAL = "real codes";

// ---- Models

/** The two halves of a trained autoencoder, which share its weights. */
function halvesOf(model: Model) {
  const { device, seed, layers } = model;
  const half = (name: string, from: number, to?: number) => {
    const inputShape = from === 0 ? model.inputShape : layers[from - 1]!.placed.outputShape;
    return new Sequential({ name, inputShape, device, seed }, layers.slice(from, to));
  };
  return { encoder: half("encoder", 0, ENCODER_LAYERS), decoder: half("decoder", ENCODER_LAYERS) };
}

const outputs = async (model: Model, inputs: Float32Array) => Float32Array.from((await model.predict(inputs)).data);

// ---- Run

export const experiment = defineExperiment<DenoisingSettings>({
  presets: { reference, quick: { ...reference, noise: ["fresh"], epochs: 8, classifierEpochs: 3 } },

  async run(run) {
    const { settings, seed, signal } = run;
    const { level, batch: batchSize, learningRate, epochs } = settings;
    checkSettings(settings);
    const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
    // The classifier's reference trains on all images and tests once, the autoencoder's validates.
    const all = limitImages(dataset.train, settings.trainImages);
    const { train, validation } = heldOut(all);
    const test = limitImages(dataset.test, settings.testImages);

    // Noisy in, clean out.
    const pairs = ({ images, count }: LabelledImages, clean: LabelledImages): TrainingData => ({
      ...{ inputs: images, targets: clean.images, count },
    });
    const evaluated = (images: LabelledImages, name: string) =>
      pairs(noisyImages(images, level, { seed, name }), images);
    const denoisingPlan = (noise: string): TrainingPlan => ({
      architecture: zooArchitecture(autoencoder),
      data: pairs(noise === "fixed" ? noisyImages(train, level, { seed, name: "train" }) : train, train),
      ...(noise === "fresh" && { augment: (pixels, { random }) => saltAndPepper(pixels, level, random) }),
      ...{ validation: evaluated(validation, "validation"), test: evaluated(test, "test") },
      ...{ loss: binaryCrossEntropyFromLogits, epochs, batchSize },
      optimizer: () => autoencoder.optimizer({ learningRate }, 0),
    });
    const classifierPlan: TrainingPlan = {
      ...{ architecture: zooArchitecture(zoo), data: all, test },
      optimizer: (steps) => zoo.optimizer({ learningRate: zoo.learningRate }, steps),
      ...{ epochs: settings.classifierEpochs, batchSize: zoo.batchSize },
    };

    const step = await measureStep(run, denoisingPlan(settings.noise[0]!));
    const classifierStep = await measureStep(run, classifierPlan);
    const [forward, classifierForward] = [step / batchSize / 1.5, classifierStep / zoo.batchSize / 1.5];
    const partOf = (noise: string) => `autoencoder, ${noise} noise`;
    run.plan(
      {
        ...Object.fromEntries(
          settings.noise.map((noise) => [partOf(noise), trainingSeconds(denoisingPlan("fresh"), step)]),
        ),
        [zoo.name]: trainingSeconds(classifierPlan, classifierStep),
        levels: levels.length * test.count * (forward + classifierForward),
        digits: DIGITS_SHOWN * shownLevels.length * (forward + 2 * classifierForward),
        codes:
          CODED_IMAGES * forward + (1 + Object.keys(drawings).length) * settings.codes * (forward + classifierForward),
      },
      `autoencoder ${milliseconds(1000 * step)} a step of ${batchSize}, ${zoo.name} ${milliseconds(1000 * classifierStep)} a step of ${zoo.batchSize}`,
    );

    const trainings: { noise: string; notes: TrainingNotes; model: Model }[] = [];
    const models: Model[] = [];
    try {
      for (const noise of settings.noise) {
        const { model, notes } = await trainPart(run, partOf(noise), denoisingPlan(noise));
        models.push(model);
        trainings.push({ noise, notes, model });
      }
      const used = trainings[0]!.model;
      const { model: classifier, notes: classifierNotes } = await trainPart(run, zoo.name, classifierPlan);
      models.push(classifier);

      const curves = await run.part("levels", async (progress): Promise<Curves> => {
        const [noisy, denoised]: [number[], number[]] = [[], []];
        for (const [i, share] of levels.entries()) {
          const images = noisyImages(test, share, { seed, name: "test" });
          noisy.push((await classify(classifier, images, { signal })).accuracy);
          const cleaned = { ...images, images: await outputs(used, images.images) };
          denoised.push((await classify(classifier, cleaned, { signal })).accuracy);
          progress(
            (i + 1) / levels.length,
            `noise ${share}: ${percent(noisy[i]!, 1)}, denoised ${percent(denoised[i]!, 1)}`,
          );
        }
        return { noisy, denoised };
      });
      const digits = firstOfClasses(train, DIGITS_SHOWN);
      const shown = await run.part("digits", async (): Promise<{ noisy: Shown; denoised: Shown }> => {
        const noisy = noisyDigits(train, digits, seed);
        const denoised = await outputs(used, noisy);
        const taken = async (pixels: Float32Array): Promise<Shown> => {
          return { pixels, predicted: (await answersFor(classifier, pixels, { signal })).predicted };
        };
        return { noisy: await taken(noisy), denoised: await taken(denoised) };
      });
      const codes = await run.part("codes", async (progress): Promise<Decoded[]> => {
        const { encoder, decoder } = halvesOf(used);
        const coded = limitImages(train, CODED_IMAGES);
        const units = encoder.outputShape[0]!;
        const values = await outputs(encoder, noisyImages(coded, level, { seed, name: "codes" }).images);
        const rows = Array.from({ length: coded.count }, (_, i) => values.subarray(i * units, (i + 1) * units));
        const kinds = [REAL, ...Object.keys(drawings)];
        const decoded: Decoded[] = [];
        for (const kind of kinds) {
          signal.throwIfAborted();
          const count = Math.min(settings.codes, kind === REAL ? coded.count : settings.codes);
          const drawn: DrawnCodes =
            kind === REAL
              ? { values: values.subarray(0, count * units), wanted: coded.labels.slice(0, count) }
              : drawCodes(kind, { rows, labels: coded.labels }, { count, seed });
          const pixels = await outputs(decoder, drawn.values);
          const { predicted, confidence } = await answersFor(classifier, pixels, { signal });
          const { wanted } = drawn;
          const seen = pixels.slice(0, CODES_SHOWN * (pixels.length / count));
          decoded.push({ ...{ kind, pixels: seen, predicted, confidence }, ...(wanted && { wanted }) });
          progress(decoded.length / kinds.length);
        }
        return decoded;
      });

      // ---- Report

      const real = settings.data === "mnist";
      // In fewer epochs or on fewer images the loss that is wanted cannot be reached.
      const judged = real && epochs >= reference.epochs && all.count >= reference.trainImages;
      const last = (notes: TrainingNotes, name: string) => notes.history[name]!.at(-1)!;
      const main = trainings[0]!;
      const testLoss = main.notes.test!.loss;
      const accuracy = classifierNotes.test!.accuracy!;
      const meeting = crossing(curves);
      const stop = denoisingStops(levels, curves);
      // The level of the curves next to the one trained on.
      const trained = Math.round(10 * level);
      const [digitsPicture, codesPicture] = [digitsGrid(train, digits, shown), codesGrid(codes, train)];
      const report = new Report({
        title: "Taking noise out of digits",
        subtitle: `${counted(zooArchitecture(autoencoder).countParameters().total, "parameter")}, trained on ${counted(all.count, "image")} (${dataset.name}) with noise ${level} for ${counted(epochs, "epoch")}`,
        footer: run.footer,
      });
      const layers = layerRows(zooArchitecture(autoencoder));
      report.section("The autoencoder", (section) => {
        section.chart(
          autoencoderDiagram(layers, ENCODER_LAYERS, "loss: against the clean image"),
          "Each bar is a layer; its width is the square root of how many values the layer gives.",
        );
        section.text(LOSS_TEXT);
        section.text(trainingRemark(trainings, { real, epochs }));
        section.table({
          columns: ["", "loss", "validation loss", "lowest", "loss on the test part", "step, median"],
          rows: [
            ...trainings.map(({ noise, notes }, i): TableCell[] => [
              `${noise} noise${i === 0 ? ", used below" : ""}`,
              figure(lossText(last(notes, "loss"))),
              figure(lossText(last(notes, "val_loss"))),
              figure(lossText(Math.min(...notes.history["val_loss"]!))),
              { ...figure(lossText(notes.test!.loss)), ...toneOf(judged, notes.test!.loss <= WANTED) },
              notes.timing.stepMsMedian === undefined ? null : figure(milliseconds(notes.timing.stepMsMedian)),
            ]),
            [
              real ? "reference, one noisy copy" : "reference, on MNIST",
              ...[published.loss, published.validationLoss].map((loss) => figure(lossText(loss))),
              ...[null, null, figure(published.step)],
            ],
          ],
          caption: `Binary cross-entropy per pixel of noisy digits (level ${level}) with clean ones: mean over the last epoch's steps; after it on ${counted(validation.count, "validation image")}, the last of the training part, which are not trained on; the lowest of any epoch; after the last step on the ${counted(test.count, "image")} of the test part, by which nothing was chosen.`,
        });
        section.chart(
          lineChart({
            title: "Loss by epoch",
            width: 900,
            series: trainings.flatMap(({ noise, notes }, colour) => [
              { name: `${noise} noise, training`, y: notes.history["loss"]!, dashed: true, colour },
              { name: `${noise} noise, validation`, y: notes.history["val_loss"]!, colour },
            ]),
            x: { label: "epoch" },
            ...(real && {
              referenceLines: [
                { value: published.validationLoss, label: `reference, validation: ${published.validationLoss}` },
              ],
            }),
          }),
        );
        section.grid(digitsPicture.cells, {
          ...digitsPicture.options,
          alt: "Digits with noise from 0 to 0.9, and what the autoencoder makes of them",
          caption: `Of the training part ${listed(digits.map((at) => `a ${train.labels[at]}`))}; above with noise, below denoised. Green: ${zoo.name} takes it for the right digit; red: for another. ${shownRemark(train, digits, shown)}`,
        });
        section.details("Layers", (details) => details.table(layerTable(zooArchitecture(autoencoder))));
      });
      report.section("Recognised with and without", (section) => {
        section.text(curvesRemark(curves, { meeting, real, level }));
        const theirs = (name: string, y: readonly number[], colour: number) => ({
          ...{ name: `${name}, reference`, x: levels, y, colour, dashed: true },
        });
        section.chart(
          lineChart({
            title: `Accuracy of ${zoo.name} on the test part by noise`,
            ...{ width: 900, height: 400 },
            series: [
              { name: "noisy", x: levels, y: curves.noisy, colour: 0 },
              { name: "denoised", x: levels, y: curves.denoised, colour: 1 },
              ...(real ? [theirs("noisy", published.noisy, 0), theirs("denoised", published.denoised, 1)] : []),
            ],
            x: { label: "noise level" },
            y: { percent: true, min: 0, max: 1 },
            referenceLines: [meeting, stop?.level].flatMap((value) =>
              value === undefined ? [] : [{ value, label: "", axis: "x" as const }],
            ),
          }),
          linesRemark(meeting, stop),
        );
        section.table({
          columns: [
            ...["noise", "noisy", "denoised", "gain"],
            ...["noisy", "denoised"].map((name) => ({
              label: `${name}, reference${real ? "" : " (MNIST)"}`,
              reference: true,
            })),
          ],
          rows: levels.map((share, i): TableCell[] => [
            figure(share.toFixed(1)),
            figure(percent(curves.noisy[i]!)),
            figure(percent(curves.denoised[i]!)),
            {
              ...figure(points(curves.denoised[i]! - curves.noisy[i]!, 1)),
              tone: curves.denoised[i]! >= curves.noisy[i]! ? "good" : "bad",
            },
            figure(percent(published.noisy[i]!, 1)),
            figure(percent(published.denoised[i]!, 1)),
          ]),
          caption: `${counted(test.count, "test image")}; ${zoo.name} was trained on clean digits for ${counted(settings.classifierEpochs, "epoch")} and reaches ${percent(accuracy)} on clean test digits${real ? ` (reference ${percent(zoo.reference!.testAccuracy)} after ${zoo.epochs})` : ""}.`,
        });
      });
      report.section("Digits from random codes", (section) => {
        section
          .text(
            `Between its halves the autoencoder has a code of ${used.layers[ENCODER_LAYERS - 1]!.placed.outputShape[0]} values, none below 0. Random codes are drawn in four ways and decoded: naively, standard normal; unit by unit, each with the value that it has in some real code, independently of the others; normal with mean and covariance of real codes, cut off at 0; and the same of the codes of one digit only. Real codes are those of ${counted(Math.min(CODED_IMAGES, train.count), "training image")} with noise ${level}.`,
          )
          .text(codesRemark(codes));
        section.grid(codesPicture.cells, {
          ...codesPicture.options,
          alt: "Digits decoded from random codes, by the way the codes were drawn",
          caption: `The first of each kind; below each what ${zoo.name} takes it for, and its probability.`,
        });
        section.table({
          columns: [
            "codes",
            "images",
            "mean confidence",
            `surer than ${percent(SURE, 0)}`,
            "the digit meant",
            "commonest answer",
          ],
          rows: codes.map((entry): TableCell[] => {
            const { common, commonShare, confidence, sure, met } = codeFigures(entry);
            return [
              entry.kind,
              entry.predicted.length,
              ...[confidence, sure].map((value) => figure(percent(value, 1))),
              met === undefined ? null : figure(percent(met, 1)),
              figure(`${common} (${percent(commonShare, 0)})`),
            ];
          }),
          caption:
            "A classifier is sure of much that is no digit, too. Where a digit was meant, the share of images that are taken for it says more.",
        });
      });
      const figures: KeyFigure[] = [
        {
          label: "Loss on the test part",
          value: lossText(testLoss),
          note: `wanted ${lossText(WANTED)}, reference ${lossText(published.validationLoss)}`,
          ...toneOf(judged, testLoss <= WANTED),
        },
        {
          label: "Curves cross at noise",
          value: meeting === undefined ? "nowhere" : meeting.toFixed(2),
          note: `reference near ${published.crossing}`,
        },
        {
          label: `Denoised, noise ${levels[trained]}`,
          value: percent(curves.denoised[trained]!, 1),
          note: `noisy ${percent(curves.noisy[trained]!, 1)}`,
        },
        {
          label: `${zoo.name}, clean`,
          value: percent(accuracy),
          note: `reference ${percent(zoo.reference!.testAccuracy)}`,
        },
      ];
      report.section(`The classifier, ${zoo.name}`, (section) => {
        section.row((row) => {
          for (const [name, isShare] of [
            ["loss", false],
            ["accuracy", true],
          ] as const) {
            row.chart(
              lineChart({
                title: `Training ${name} of ${zoo.name}`,
                series: [{ name: "training", y: classifierNotes.history[name]! }],
                x: { label: "epoch" },
                y: { percent: isShare },
              }),
            );
          }
        });
        section.details("Layers", (details) => details.table(layerTable(zooArchitecture(zoo))));
      });
      const questions = denoisingQuestions({
        ...{ layers, encoderLayers: ENCODER_LAYERS, loss: testLoss, cleanEntropy: entropyOf(test.images) },
        ...{ levels, curves, crossing: meeting, classifier: zoo.name, trainedLevel: level },
        codes: codes.map((entry) => ({ kind: entry.kind, ...codeFigures(entry) })),
      });
      return {
        report,
        ...{ questions, recipe: recipes.denoising },
        figures,
        pictures: gridFiles({ "digits.svg": digitsPicture, "codes.svg": codesPicture }),
        metrics: {
          dataSource: dataset.source,
          ...{ trainImages: all.count, validationImages: validation.count, testImages: test.count },
          ...{ wanted: WANTED, reference: published },
          autoencoders: trainings.map(({ noise, notes }) => ({ noise, ...notes })),
          ...{ testLoss, classifier: { name: zoo.name, testAccuracy: accuracy, ...classifierNotes } },
          ...{ levels, ...curves, crossing: meeting ?? null, denoisingStops: stop ?? null },
          digits: digits.map((at) => ({ index: at, label: train.labels[at] })),
          codes: codes.map((entry) => ({ kind: entry.kind, images: entry.predicted.length, ...codeFigures(entry) })),
        },
        summary: [
          ...trainings.map(
            ({ noise, notes }) =>
              `${noise} noise: loss ${lossText(last(notes, "loss"))}, validation ${lossText(last(notes, "val_loss"))}; on the test part ${lossText(notes.test!.loss)}`,
          ),
          `${zoo.name}: ${percent(accuracy)}; noise ${levels[trained]}: noisy ${percent(curves.noisy[trained]!, 1)}, denoised ${percent(curves.denoised[trained]!, 1)}; crossing ${meeting === undefined ? "nowhere" : `at ${meeting.toFixed(3)}`}`,
        ].join("\n"),
      };
    } finally {
      for (const model of models) model.dispose();
    }
  },
});

// ---- What the report tells

const LOSS_TEXT =
  "The network is given the noisy image and judged by the clean one: binary cross-entropy, -(t log p + (1 - t) log(1 - p)) for a pixel t of the clean image and p of the output, as a mean over all pixels. Each pixel is taken for a question of black or white, whose answer is a probability; hence the sigmoid at the end. The gradient at its input is p - t, which does not vanish where the answer is wrong. Copying the input does not lower this loss: what is noise can only be told by what digits look like, and the code has room for that alone.";

/** Mean binary entropy of pixels: the cross-entropy that is left where each is given exactly. */
function entropyOf(pixels: Float32Array): number {
  const of = (p: number) => (p <= 0 || p >= 1 ? 0 : -p * Math.log(p) - (1 - p) * Math.log(1 - p));
  return pixels.reduce((sum, pixel) => sum + of(pixel), 0) / pixels.length;
}

function linesRemark(meeting: number | undefined, stop: ReturnType<typeof denoisingStops>): string | undefined {
  const lines = [
    ...(meeting === undefined ? [] : [`where the curves of this run cross, at ${meeting.toFixed(3)}`]),
    ...(stop === undefined
      ? []
      : [
          `where denoising stops, at ${stop.level.toFixed(2)}: there it meets ${stop.meets === "chance" ? "chance" : "the noisy curve"}`,
        ]),
  ];
  return lines.length === 0 ? undefined : `Upright lines: ${listed(lines)}.`;
}

const figure = (text: string) => ({ text, numeric: true });
const toneOf = (judged: boolean, good: boolean): { tone?: "good" | "bad" } =>
  judged ? { tone: good ? "good" : "bad" } : {};

function checkSettings({ noise }: DenoisingSettings): void {
  if (noise.length === 0 || noise.some((name) => !noises.includes(name)) || new Set(noise).size < noise.length) {
    throw new UsageError(`denoising: noise must be a list of ${noises.join(" and ")}, given ${JSON.stringify(noise)}`);
  }
}

/** The noise level from which on denoised digits are recognised better, between two levels in a straight line. */
export function crossing({ noisy, denoised }: Curves): number | undefined {
  const lead = levels.map((_, i) => noisy[i]! - denoised[i]!);
  const after = lead.findIndex((value, i) => i > 0 && value <= 0 && lead[i - 1]! > 0);
  if (after < 0) return undefined;
  const [from, to] = [lead[after - 1]!, lead[after]!];
  return levels[after - 1]! + (levels[after]! - levels[after - 1]!) * (from / (from - to));
}

/** Where the first image of each of the first `count` classes to come is. */
function firstOfClasses({ labels }: LabelledImages, count: number): number[] {
  const found = new Map<number, number>();
  for (const [at, label] of labels.entries()) {
    if (!found.has(label)) found.set(label, at);
    if (found.size === count) break;
  }
  return [...found.values()];
}

/** Images with noise of every level of `shownLevels`, [image, level, height, width]. */
function noisyDigits(images: LabelledImages, places: readonly number[], seed: number): Float32Array {
  const chosen = places.map((at) => imageAt(images, at).pixels);
  const size = chosen[0]!.length;
  const all = new Float32Array(places.length * shownLevels.length * size);
  for (const [i, pixels] of chosen.entries()) {
    for (const [k, level] of shownLevels.entries()) {
      const one = { ...images, images: pixels, count: 1 };
      const noisy = noisyImages(one, level, { seed, name: `digit ${i}` });
      all.set(noisy.images, (i * shownLevels.length + k) * size);
    }
  }
  return all;
}

function digitsGrid(
  images: LabelledImages,
  places: readonly number[],
  shown: { readonly noisy: Shown; readonly denoised: Shown },
): Grid {
  const rows = places.flatMap((at, i) =>
    [shown.noisy, shown.denoised].map(({ pixels, predicted }) =>
      shownLevels.map((level, k): GridCell => {
        const place = i * shownLevels.length + k;
        const right = predicted[place] === images.labels[at];
        return {
          ...imageAt({ ...images, images: pixels }, place),
          highlight: right ? "good" : "bad",
          figures: { noise: level, answer: String(predicted[place]), is: String(images.labels[at]) },
        };
      }),
    ),
  );
  const columnLabels = shownLevels.map((level) => level.toFixed(1));
  const rowLabels = places.flatMap((at) => [`${images.labels[at]}, noisy`, "denoised"]);
  return { cells: rows, options: { scale: 2, columnLabels, rowLabels } };
}

function codesGrid(codes: readonly Decoded[], images: LabelledImages): Grid {
  const rows = codes.map(({ pixels, predicted, confidence }) =>
    Array.from({ length: Math.min(CODES_SHOWN, predicted.length) }, (_, i): GridCell => {
      return {
        ...imageAt({ ...images, images: pixels }, i),
        caption: [`${predicted[i]}  ${percent(confidence[i]!, 0)}`],
        figures: { answer: String(predicted[i]), confidence: confidence[i]! },
      };
    }),
  );
  return { cells: rows, options: { scale: 2, rowLabels: codes.map(({ kind }) => kind) } };
}

function shownRemark(
  { labels }: LabelledImages,
  places: readonly number[],
  { noisy, denoised }: { readonly noisy: Shown; readonly denoised: Shown },
): string {
  const rightOf = ({ predicted }: Shown) =>
    predicted.reduce(
      (sum, digit, i) => sum + (digit === labels[places[Math.floor(i / shownLevels.length)]!] ? 1 : 0),
      0,
    );
  return `Of these ${noisy.predicted.length} images ${rightOf(noisy)} are recognised as they are, ${rightOf(denoised)} denoised.`;
}

function trainingRemark(
  trainings: readonly { readonly noise: string; readonly notes: TrainingNotes }[],
  { real, epochs }: { readonly real: boolean; readonly epochs: number },
): string {
  const sentences = trainings.map(({ noise, notes }) => {
    const [losses, unseen] = [notes.history["loss"]!, notes.history["val_loss"]!];
    const [loss, validation] = [losses.at(-1)!, unseen.at(-1)!];
    const lowest = unseen.indexOf(Math.min(...unseen));
    const course =
      lowest === unseen.length - 1
        ? "its lowest"
        : `after its lowest, ${lossText(unseen[lowest]!)}, in epoch ${lowest + 1}`;
    const how = noise === "fresh" ? "With new noise in every step" : "With one noisy copy of the training images";
    return `${how} the validation loss ends at ${lossText(validation)}, ${course}; the training loss is ${lossText(Math.abs(validation - loss))} ${validation > loss ? "lower" : "higher"}.`;
  });
  const [first, second] = trainings.map(({ notes }) => notes.test!.loss);
  if (second !== undefined) {
    const better = trainings[first! < second ? 0 : 1]!.noise;
    sentences.push(
      `${better === "fresh" ? "New" : "Fixed"} noise is better by ${lossText(Math.abs(first! - second))} on the test part.`,
    );
  }
  sentences.push(
    real
      ? `The reference trained with one noisy copy for ${autoencoder.epochs} epochs and ended at ${published.validationLoss}${epochs < autoencoder.epochs ? `; here it was ${counted(epochs, "epoch")}` : ""}.`
      : "The reference figures are those of MNIST, which these digits are not.",
  );
  return sentences.join(" ");
}

function curvesRemark(
  { noisy, denoised }: Curves,
  { meeting, real, level }: { readonly meeting: number | undefined; readonly real: boolean; readonly level: number },
): string {
  const gains = levels.map((_, i) => denoised[i]! - noisy[i]!);
  const best = gains.indexOf(Math.max(...gains));
  const cost =
    gains[0]! < 0
      ? `Denoising a clean digit costs ${points(gains[0]!, 1).slice(1)}: what the autoencoder gives back is a blurred copy, made for noise of ${level}.`
      : "Denoising clean digits costs nothing here.";
  const crossed =
    meeting === undefined
      ? `The curves do not cross: ${gains.every((gain) => gain <= 0) ? "denoising helps at no level" : "denoising helps from the start"}.`
      : `It pays from a noise of ${meeting.toFixed(3)} on${real ? ` (reference: near ${published.crossing} as it was told, ${crossing(published)!.toFixed(3)} by its points)` : ""}.`;
  const gained = gains[best]! > 0 ? ` It gains most at ${levels[best]}, ${points(gains[best]!, 1)}.` : "";
  if (!real) return `${cost} ${crossed}${gained}`;
  const apart = (name: "noisy" | "denoised", ours: readonly number[]) => {
    const differences = ours.map((value, i) => value - published[name][i]!);
    const widest = differences.reduce((a, b, i) => (Math.abs(b) > Math.abs(differences[a]!) ? i : a), 0);
    return `${name}, ${points(differences[widest]!, 1)} at ${levels[widest]}`;
  };
  return `${cost} ${crossed}${gained} Widest differences from the reference: ${apart("noisy", noisy)}; ${apart("denoised", denoised)}.`;
}

/** How sure the classifier is of decoded digits, and how often it says what was meant. */
function codeFigures({ predicted, confidence, wanted }: Decoded) {
  const count = predicted.length;
  const counts = new Array<number>(10).fill(0);
  for (const digit of predicted) counts[digit]!++;
  const common = counts.indexOf(Math.max(...counts));
  return {
    confidence: confidence.reduce((a, b) => a + b) / count,
    sure: confidence.filter((value) => value > SURE).length / count,
    ...(wanted && { met: predicted.filter((digit, i) => digit === wanted[i]).length / count }),
    ...{ common, commonShare: counts[common]! / count, predicted: counts },
  };
}

function codesRemark(codes: readonly Decoded[]): string {
  const measured = codes.map((entry) => ({ kind: entry.kind, ...codeFigures(entry) }));
  const own = measured.find(({ kind }) => kind === REAL)!;
  const drawn = measured.filter(({ kind }) => kind !== REAL).sort((a, b) => b.sure - a.sure);
  const sure = drawn.map(({ kind, sure: share }) => `${kind} ${percent(share, 0)}`);
  const meant = drawn.find(({ met }) => met !== undefined);
  const lopsided = drawn.filter(({ commonShare }) => commonShare > 0.25);
  return [
    `Surer than ${percent(SURE, 0)} the classifier is of ${percent(own.sure, 0)} of the images decoded from real codes; from random ones of these: ${listed(sure)}.`,
    meant === undefined
      ? ""
      : `Codes drawn from those of one digit become that digit in ${percent(meant.met!, 0)} of the cases, real codes in ${percent(own.met!, 0)}.`,
    lopsided.length === 0
      ? "No kind of random code gives one digit more than a quarter of the time."
      : `One digit more than a quarter of the time: ${listed(lopsided.map(({ kind, common, commonShare }) => `${kind}, a ${common} in ${percent(commonShare, 0)}`))}.`,
  ]
    .filter(Boolean)
    .join(" ");
}
