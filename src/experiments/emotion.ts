// Emotions from faces: a small convolutional network on FER2013. The experiment shows what the network gets right and
// wrong by class, and its speed for one face at a time. The model is saved as Keras's .h5, which `kilograd camera`
// takes.

import { join } from "node:path";
import { loadCifar10 } from "../data/cifar10.js";
import { type ImageDataset, type LabelledImages, limitImages } from "../data/dataset.js";
import { fer2013Classes, loadFer2013, type RepeatedFaces } from "../data/fer2013.js";
import { confusionMatrix, lineChart } from "../io/charts.js";
import { writeFileAtomic } from "../io/files.js";
import type { GridCell } from "../io/grid.js";
import { Report, type TableCell } from "../io/report.js";
import { loadModel } from "../nn/checkpoint.js";
import { saveKerasModel } from "../nn/keras-models.js";
import type { Model } from "../nn/model.js";
import { adamW } from "../nn/optimizers.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { cameraScript } from "./lib/faces/camera-py.js";
import { finderArchitecture } from "./lib/faces/face-finder.js";
import { type FinderFigures, measureFinder, trainFinder } from "./lib/faces/face-finder-training.js";
import {
  bytesOf,
  distortFaces,
  FaceClassifier,
  faceArchitecture,
  PIXELS,
  preparedFaces,
  withPreparation,
} from "./lib/faces/faces.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import { type Grid, gridFiles } from "./lib/report/grids.js";
import { layerTable } from "./lib/report/layer-table.js";
import { emotionQuestions } from "./lib/report/questions/emotion.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { counted, listed, milliseconds, percent, points } from "./lib/report/text.js";
import { imageAt } from "./lib/report/train-report.js";
import { type Classification, classify } from "./lib/training/classify.js";
import { measureStep, type TrainingPlan, trainingSeconds, trainPart } from "./lib/training/experiment-training.js";
import { warmCosine } from "./lib/training/models.js";

// ---- Configuration

const reference = {
  filters: [32, 48, 96, 192] as readonly number[],
  dropout: 0.3,
  epochs: 16,
  batch: 64,
  learningRate: 3e-3,
  weightDecay: 0.02,
  /** Most images of each part. */
  trainImages: 28_709,
  testImages: 3_589,
  /** Faces classified one after the other to measure the speed. */
  timedFaces: 200,
  /** Windows that the face finder is trained on, passes over them, and collages that it is tested on. */
  finderWindows: 45_000,
  finderEpochs: 4,
  finderScenes: 300,
};

/** What was published for the whole of FER2013 (Goodfellow et al. 2013). */
const published = { human: 0.65, winner: 0.712 };
/** What this project asks of itself on half of it. */
const WANTED = 0.52;
/** Faces shown per class, right and wrong. */
const SHOWN = 7;
const MODEL_FILE = "emotion.h5";
/** The same as `kilograd camera` in Python, beside the model. */
const SCRIPT_FILE = "camera.py";
/** `kilograd camera` looks for it beside the model. */
const FINDER_FILE = "face-finder.h5";
/** Windows and scenes by which it is measured how long the finder takes. */
const MEASURED = { windows: 512, scenes: 2 };

// ---- What is measured

/** Answers for a part of the data set, whose pictures are not kept twice. */
type Answered = Omit<Classification, "images">;

interface ClassFigures {
  readonly name: string;
  readonly count: number;
  /** Share of its faces that are recognised. */
  readonly recall: number;
  /** Share of the faces taken for it that are of it; NaN where none is. */
  readonly precision: number;
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

function classFigures(confusion: readonly (readonly number[])[]): ClassFigures[] {
  return confusion.map((row, k) => ({
    name: fer2013Classes[k]!,
    count: sum(row),
    recall: row[k]! / sum(row),
    precision: row[k]! / sum(confusion.map((other) => other[k]!)),
  }));
}

/**
 * Milliseconds for each of `count` faces, from pixels on the host to probabilities on the host, one after the other.
 */
async function latencies(model: Model, faces: LabelledImages, count: number): Promise<number[]> {
  const classifier = new FaceClassifier(model, (pixels) => pixels.map((value) => 255 * value));
  const times: number[] = [];
  try {
    for (let i = 0; i < count + WARM_UP; i++) {
      const { pixels } = imageAt(faces, i % faces.count);
      const begun = performance.now();
      await classifier.answer(pixels);
      if (i >= WARM_UP) times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b);
  } finally {
    classifier.dispose();
  }
}
/** Faces before the clock starts: the first compiles, the second records. */
const WARM_UP = 3;

/** Whether a model has the same bits as another. */
async function sameBits(a: Model, b: Model): Promise<boolean> {
  const others = b.weights();
  for (const [i, { name, tensor }] of a.weights().entries()) {
    const [mine, theirs] = [await tensor.data(), await others[i]!.tensor.data()];
    const bytes = (data: typeof mine) => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (name !== others[i]!.name || !bytes(mine).equals(bytes(theirs))) return false;
  }
  return others.length === a.weights().length;
}

/** Faces of PrivateTest that are in no other part, and the accuracy on them; null where there are none. */
interface OnlyHere {
  readonly count: number;
  readonly accuracy: number | null;
}

export function onlyHere({ count, mistakes }: Pick<Answered, "count" | "mistakes">, repeated: RepeatedFaces): OnlyHere {
  const left = new Set(Array.from({ length: count }, (_, i) => i));
  for (const index of repeated.test) left.delete(index);
  const wrong = mistakes.filter((index) => left.has(index)).length;
  return { count: left.size, accuracy: left.size === 0 ? null : 1 - wrong / left.size };
}

/** How the classifier is trained, on prepared faces. */
export function facePlan(
  settings: typeof reference,
  { train, validation }: { readonly train: LabelledImages; readonly validation: LabelledImages },
): TrainingPlan {
  const { learningRate, weightDecay, epochs, batch } = settings;
  return {
    architecture: faceArchitecture(settings.filters, settings.dropout),
    ...{ data: train, validation, augment: distortFaces, epochs, batchSize: batch, checkpointSteps: 100 },
    optimizer: (steps) => adamW({ learningRate: warmCosine(learningRate, steps), weightDecay }),
  };
}

// ---- Run

export const experiment = defineExperiment<typeof reference>({
  presets: {
    reference,
    quick: {
      ...reference,
      ...{ epochs: 3, timedFaces: 100, finderWindows: 9_000, finderEpochs: 2, finderScenes: 50 },
    },
  },

  async run(run) {
    const { settings } = run;
    const data = await loadFer2013({ dataDir: run.loading.dataDir });
    const faces = {
      train: limitImages(data.train, settings.trainImages),
      validation: limitImages(data.validation, settings.testImages),
      test: limitImages(data.test, settings.testImages),
    };
    if (settings.batch > faces.train.count) {
      throw new UsageError(
        `emotion: batch must be at most the ${faces.train.count} training images, given ${settings.batch}`,
      );
    }
    const architecture = faceArchitecture(settings.filters, settings.dropout);
    // Prepared once, not at every step; the preparation becomes a part of the model afterwards.
    const plan = facePlan(settings, {
      train: await preparedFaces(run.device, faces.train),
      validation: await preparedFaces(run.device, faces.validation),
    });
    run.say(data.source);
    const scenery = await picturesWithoutFaces(run);
    const step = await measureStep(run, plan);
    const forward = step / settings.batch / 3;
    const training = trainingSeconds(plan, step);
    const finder = scenery && (await measuredFinder(run, faces, scenery));
    run.plan(
      {
        ...{
          classifier: training,
          answers: forward * faces.test.count,
          "training images": forward * faces.train.count,
        },
        speed: settings.timedFaces * forward * settings.batch,
        ...(finder && { "face finder": finder.training, "finder test": finder.test }),
      },
      `${counted(settings.epochs * Math.ceil(faces.train.count / settings.batch), "step")} of ${milliseconds(1000 * step)}`,
    );

    const { model: trained, notes } = await trainPart(run, "classifier", plan);
    const model = await withPreparation(architecture, trained);
    trained.dispose();
    try {
      const test = await run.part("answers", async (progress): Promise<Answered> => {
        const images = bytesOf(faces.test);
        const { signal } = run;
        const { images: _, ...answers } = await classify(model, images, {
          signal,
          onProgress: (done) => progress(done / images.count),
        });
        return answers;
      });
      const onTraining = await run.part("training images", async (progress) => {
        const images = bytesOf(faces.train);
        const { accuracy, loss } = await classify(model, images, {
          signal: run.signal,
          onProgress: (done) => progress(done / images.count),
        });
        return { accuracy, loss };
      });
      const times = await run.part("speed", () => latencies(model, faces.test, settings.timedFaces));
      const modelPath = join(run.folder, MODEL_FILE);
      await saveKerasModel(modelPath, model, {
        training: { optimizer: plan.optimizer(notes.steps).config(), loss: "sparse_categorical_crossentropy" },
        notes: { classNames: fer2013Classes, pixels: PIXELS, test: { accuracy: test.accuracy, loss: test.loss } },
      });
      await writeFileAtomic(join(run.folder, SCRIPT_FILE), cameraScript(MODEL_FILE, fer2013Classes));
      const again = await loadModel(modelPath, { device: run.device });
      const identical = await sameBits(model, again);
      again.dispose();
      const finderFigures = scenery && (await finderPart(run, faces, scenery));

      // ---- Report

      const classes = classFigures(test.confusion);
      const median = times[Math.floor(times.length / 2)]!;
      const slow = times[Math.floor(0.95 * times.length)]!;
      const rate = (1000 * times.length) / sum(times);
      const last = (name: string) => notes.history[name]!.at(-1)!;
      const error = Math.sqrt((test.accuracy * (1 - test.accuracy)) / test.count);
      const once = onlyHere(test, data.repeated);
      const { right, wrong } = examples(faces.test, test);
      const pictures = gridFiles({ "right.svg": right, "wrong.svg": wrong });
      const report = new Report({
        title: "Emotions from faces",
        subtitle: `${counted(architecture.countParameters().total, "parameter")}, trained on ${counted(faces.train.count, "face")} of FER2013 for ${counted(settings.epochs, "epoch")}`,
        footer: run.footer,
      });
      report.section("By emotion", (section) => {
        section.text(classRemark(classes, test)).table({
          columns: ["emotion", "faces", "recognised", "right when named"],
          rows: classes.map(({ name, count, recall, precision }): TableCell[] => [
            name,
            count,
            share(recall),
            share(precision),
          ]),
          caption: `PrivateTest, ${counted(test.count, "face")}. "Recognised": share of the faces of an emotion; "right when named": share of the faces taken for it.`,
        });
        section.chart(
          confusionMatrix({ labels: fer2013Classes, counts: test.confusion }),
          "Rows: what the face shows by its label. Columns: what it was taken for.",
        );
      });
      report.section("Compared", (section) => {
        section
          .text(comparedRemark(test.accuracy, error, classes))
          .text(repeatedRemark(data.repeated, test, once))
          .table({
            columns: ["", "accuracy", "on"],
            rows: [
              ["this run, PrivateTest", share(test.accuracy), counted(test.count, "face")],
              [
                "this run, PrivateTest without faces that are in another part, too",
                once.accuracy === null ? null : share(once.accuracy),
                counted(once.count, "face"),
              ],
              ["this run, PublicTest", share(last("val_accuracy")), counted(faces.validation.count, "face")],
              [
                "always the commonest emotion",
                share(Math.max(...classes.map((c) => c.count)) / test.count),
                "PrivateTest",
              ],
              ["people (published)", share(published.human), "the whole of FER2013"],
              ["winner of 2013 (published)", share(published.winner), "the whole of FER2013"],
            ],
          });
      });
      report.section("Faces", (section) => {
        section
          .text(mistakesRemark(test))
          .grid(right.cells, {
            ...right.options,
            alt: "Faces that are recognised, by emotion",
            caption: "Recognised, the surest of each emotion.",
          })
          .grid(wrong.cells, {
            ...wrong.options,
            alt: "Faces that are not recognised, by emotion",
            caption: "Not recognised, the surest of each emotion: what they were taken for.",
          });
      });
      report.section("Training", (section) => {
        section.text(
          `The trained model recognises ${percent(onTraining.accuracy, 1)} of its ${counted(faces.train.count, "training face")} as they are, and ${percent(last("val_accuracy"), 1)} of PublicTest. The curves of training are means over an epoch's steps, on distorted faces (mirrored, turned, shifted, scaled), with dropout: ${percent(last("accuracy"), 1)} in the last epoch.`,
        );
        section.row((row) => {
          for (const name of ["loss", "accuracy"]) {
            row.chart(
              lineChart({
                title: name === "loss" ? "Loss" : "Accuracy",
                series: [
                  { name: "training", y: notes.history[name]! },
                  { name: "PublicTest", y: notes.history[`val_${name}`]! },
                ],
                x: { label: "epoch" },
                y: { percent: name === "accuracy" },
              }),
            );
          }
        });
      });
      report.section("Speed and model", (section) => {
        section
          .text(
            `${rate.toFixed(0)} faces a second, one after the other (${counted(times.length, "face")}): ${milliseconds(median)} from pixels to probabilities in the median, ${milliseconds(slow)} for the slowest twentieth.`,
          )
          .text(
            `The model is saved as ${MODEL_FILE}, in Keras's HDF5 layout; read back, it has ${identical ? "the same bits" : "OTHER BITS"}. It takes grey faces of 48 x 48 pixels from 0 to 255 and prepares them itself, in its first two layers: each face less its mean, divided by its standard deviation, so that light and contrast go. ${SCRIPT_FILE} beside it does the same as the command with OpenCV and Keras.`,
          )
          .code(
            `kilograd camera --model ${modelPath}\npython ${join(run.folder, SCRIPT_FILE)}\nkeras.models.load_model("${MODEL_FILE}", compile=False).predict(pixels)`,
          )
          .details("Layers", (layers) =>
            layers
              .table(layerTable(architecture))
              .text("Before them come the two layers that prepare the pixels, which have no weights."),
          );
      });
      report.section("Finding the face", (section) => {
        if (finderFigures === undefined) {
          section.note(`No face finder was trained: it needs CIFAR-10 as pictures without faces. ${CAMERA_WITHOUT}`);
          return;
        }
        const { found, falseAlarms, meanOverlap, scenes } = finderFigures;
        section.text(finderRemark(finderFigures)).table({
          columns: ["", "share"],
          rows: [
            ["faces found (overlap of at least half)", share(found)],
            ["false alarms in scenes without a face", share(falseAlarms)],
            ["mean overlap with the face's box", share(meanOverlap)],
          ],
          caption: `${counted(scenes, "collage")} of CIFAR-10 test pictures with a PrivateTest face laid in, and as many without.`,
        });
      });
      const figures = {
        testAccuracy: test.accuracy,
        testLoss: test.loss,
        validationAccuracy: last("val_accuracy"),
        trainAccuracy: onTraining.accuracy,
      };
      const { faces: several, acrossParts, labelsDiffer } = data.repeated;
      const questions = emotionQuestions({
        ...{ classes, accuracy: test.accuracy, standardError: error, human: published.human },
        ...{ faceMs: median, facesPerSecond: rate, modelFile: MODEL_FILE, finder: finderFigures },
      });
      return {
        report,
        ...{ questions, recipe: recipes.emotion },
        figures: [
          {
            label: "PrivateTest accuracy",
            value: percent(test.accuracy, 1),
            note: `wanted ${percent(WANTED, 0)}; people about ${percent(published.human, 0)} on the whole set`,
            ...run.judged(test.accuracy >= WANTED),
          },
          { label: "One face", value: milliseconds(median), note: `${rate.toFixed(0)} a second` },
          {
            label: "Read back from .h5",
            value: identical ? "same bits" : "other bits",
            tone: identical ? "good" : "bad",
          },
        ],
        pictures,
        metrics: {
          ...figures,
          repeated: { faces: several, acrossParts, labelsDiffer, testFaces: test.count - once.count },
          withoutRepeated: once,
          wanted: WANTED,
          published,
          classes,
          confusion: test.confusion,
          history: notes.history,
          source: data.source,
          finder: finderFigures ?? null,
          parameters: architecture.countParameters(),
          model: { file: MODEL_FILE, sameBitsReadBack: identical, pixels: PIXELS },
          timing: { ...notes.timing, faceMsMedian: median, faceMs95: slow, facesPerSecond: rate },
        },
        summary:
          `emotion: PrivateTest ${percent(test.accuracy)} (standard error ${points(error).slice(1)}), ` +
          (once.accuracy === null
            ? "all of its faces are in another part, too; "
            : `${percent(once.accuracy)} without its ${test.count - once.count} faces that are in another part, too; `) +
          `${milliseconds(median)} a face, ${rate.toFixed(0)} a second\nModel: ${modelPath}`,
      };
    } finally {
      model.dispose();
    }
  },
});

const CAMERA_WITHOUT = "`kilograd camera` then takes the middle of the frame, or the part given with --crop.";

/** Backgrounds for the face finder; undefined where CIFAR-10 is not at hand. Nothing is downloaded for it. */
async function picturesWithoutFaces({ loading }: ExperimentRun): Promise<ImageDataset | undefined> {
  try {
    return await loadCifar10({ dataDir: loading.dataDir, offline: true });
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof DataError)) throw error;
    loading.say(`No face finder is trained, it needs CIFAR-10 for pictures without faces: ${error.message}`);
    return undefined;
  }
}

/**
 * What training and testing the finder will take, in seconds: measured on few windows and scenes, the first of which
 * compile.
 */
async function measuredFinder(
  run: ExperimentRun<typeof reference>,
  faces: { readonly train: LabelledImages; readonly test: LabelledImages },
  pictures: ImageDataset,
): Promise<{ training: number; test: number }> {
  const { seed, signal, device, settings } = run;
  const finder = finderArchitecture().build({ device, seed });
  const seconds = async (work: () => Promise<unknown>) => {
    await work();
    const begun = performance.now();
    await work();
    return (performance.now() - begun) / 1000;
  };
  try {
    const { windows, scenes } = MEASURED;
    const small = { windows, epochs: 1, seed, signal, progress: () => {} };
    const data = { faces: faces.train, backgrounds: pictures.train };
    const training = await seconds(() => trainFinder(finder, data, small));
    const test = await seconds(() => measureFinder(finder, data, { scenes, seed, signal }));
    // An epoch of the measurement makes its windows, too, which the others do not: a little is promised too much.
    const passes = (settings.finderWindows / windows) * settings.finderEpochs;
    return { training: training * passes, test: (test * settings.finderScenes) / scenes };
  } finally {
    finder.dispose();
  }
}

/** Trains, tests and saves the face finder. */
async function finderPart(
  run: ExperimentRun<typeof reference>,
  faces: { readonly train: LabelledImages; readonly test: LabelledImages },
  pictures: ImageDataset,
): Promise<FinderFigures> {
  const { finderWindows: windows, finderEpochs: epochs, finderScenes: scenes } = run.settings;
  const { seed, signal } = run;
  const { model } = await run.model("face finder", {
    architecture: finderArchitecture(),
    train: async (finder, { progress }) => {
      const data = { faces: faces.train, backgrounds: pictures.train };
      await trainFinder(finder, data, { ...{ windows, epochs, seed, signal, progress } });
      return {};
    },
  });
  try {
    await saveKerasModel(join(run.folder, FINDER_FILE), model);
    const data = { faces: faces.test, backgrounds: pictures.test };
    return await run.part("finder test", () => measureFinder(model, data, { scenes, seed, signal }));
  } finally {
    model.dispose();
  }
}

function finderRemark({ found, falseAlarms, milliseconds: time }: FinderFigures): string {
  return (
    `For the camera, a second, smaller network says of windows of all places and sizes whether they frame a face. On collages it finds ${percent(found, 0)} of the faces and sees one in ${percent(falseAlarms, 0)} of the scenes that have none; a scene takes ${milliseconds(time)}. ` +
    `Collages are not rooms: these figures compare settings, they promise nothing. It is saved as ${FINDER_FILE}.`
  );
}

const share = (value: number): TableCell => (Number.isNaN(value) ? null : { text: percent(value, 1), numeric: true });

/** Grids with a row per emotion: the surest right answers, and the surest wrong ones. */
function examples(faces: LabelledImages, test: Answered): { right: Grid; wrong: Grid } {
  const order = Array.from({ length: test.count }, (_, i) => i).sort(
    (a, b) => test.confidence[b]! - test.confidence[a]!,
  );
  const grid = (wanted: boolean) => {
    const rows = fer2013Classes.map((_, label) =>
      order
        .filter((i) => faces.labels[i] === label && (test.predicted[i] === label) === wanted)
        .slice(0, SHOWN)
        .map((i): GridCell => {
          const caption = `${fer2013Classes[test.predicted[i]!]!} ${percent(test.confidence[i]!, 0)}`;
          const answer = fer2013Classes[test.predicted[i]!]!;
          const figures = { answer, is: fer2013Classes[label]!, confidence: test.confidence[i]!, "test face": i };
          return { ...imageAt(faces, i), caption: [caption], highlight: wanted ? "good" : "bad", figures };
        }),
    );
    return { cells: rows, options: { scale: 2, rowLabels: fer2013Classes } };
  };
  return { right: grid(true), wrong: grid(false) };
}

function classRemark(classes: readonly ClassFigures[], { confusion }: Answered): string {
  const present = classes.filter(({ count }) => count > 0).sort((a, b) => b.recall - a.recall);
  const [best, worst] = [present[0]!, present.at(-1)!];
  const pairs = confusion
    .flatMap((row, t) =>
      row.map((count, p) => ({ t, p, count: t === p ? 0 : count, share: count / Math.max(1, sum(row)) })),
    )
    .filter(({ count }) => count > 0)
    .sort((a, b) => b.count - a.count)
    .slice(0, 3)
    .map(({ t, p, share: of }) => `${fer2013Classes[t]} taken for ${fer2013Classes[p]} (${percent(of, 0)} of them)`);
  return (
    `Easiest is ${best.name}, of which ${percent(best.recall, 1)} are recognised, hardest ${worst.name} with ${percent(worst.recall, 1)}` +
    ` (${counted(worst.count, "face")}). Commonest mistakes: ${listed(pairs)}.`
  );
}

function comparedRemark(accuracy: number, error: number, classes: readonly ClassFigures[]): string {
  const balanced = sum(classes.map(({ recall }) => (Number.isNaN(recall) ? 0 : recall))) / classes.length;
  return (
    `${percent(accuracy, 1)} of the faces are recognised (standard error ${(100 * error).toFixed(1)} points), ${percent(balanced, 1)} as a mean over emotions. ` +
    `That is ${points(accuracy - WANTED, 1)} against what is asked of this run, ${points(accuracy - published.human, 1)} against people on the whole data set.`
  );
}

export function repeatedRemark(
  { faces, acrossParts, labelsDiffer }: RepeatedFaces,
  test: Pick<Answered, "count" | "accuracy">,
  once: OnlyHere,
): string {
  if (faces === 0) return "No face is in the data set more than once.";
  return (
    `The data set has ${counted(faces, "face")} more than once, pixel for pixel: ${acrossParts} in several parts, ${labelsDiffer} with different labels. ` +
    `${counted(test.count - once.count, "face")} of PrivateTest ${test.count - once.count === 1 ? "is" : "are"} in another part, too. ` +
    (once.accuracy === null
      ? "No other face is left to measure."
      : `Without them ${percent(once.accuracy, 1)} are recognised, ${points(once.accuracy - test.accuracy, 1)}.`)
  );
}

function mistakesRemark({ mistakes, confidence, count }: Answered): string {
  const sure = mistakes.filter((i) => confidence[i]! > 0.9).length;
  return `${counted(mistakes.length, "face")} of ${count.toLocaleString("en-US")} are not recognised; of ${counted(sure, "of them", "of them")} the model was surer than 90 %.`;
}
