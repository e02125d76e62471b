// Writes what TensorBoard shows, for kilograd/node: figures of epochs and steps, histograms of weights, pictures.
import { EventFile, type EventValue, encodeRecord, type Histogram } from "../../io/event-file.js";
import { prepareOutputFolder } from "../../io/files.js";
import type { GridCell } from "../../io/grid.js";
import { encodePicture } from "../../io/png.js";
import { UsageError } from "../../tensor/errors.js";
import { callable, checkOptions, integer, object, type Rules, text } from "../../tensor/options.js";
import type { Callback, TrainingContext } from "./callback.js";

/** A picture: [height, width] or [height, width, 3] in [0, 1]. */
export type LoggedPicture = Pick<GridCell, "pixels" | "width" | "height" | "channels">;

export interface TensorBoardOptions {
  /** The folder of this training, which `tensorboard --logdir` is given, or one above it. Made where it is missing. */
  readonly path: string;
  /** Writes the loss of every so many steps, too; default: figures of epochs only. */
  readonly everySteps?: number;
  /** Writes histograms of all weights after every so many epochs; default: none. */
  readonly histogramEpochs?: number;
  /** Pictures by name to write after an epoch (from 0). */
  readonly images?: (
    epoch: number,
    context: TrainingContext,
  ) => Readonly<Record<string, LoggedPicture>> | Promise<Readonly<Record<string, LoggedPicture>>>;
}

const rules: Rules<TensorBoardOptions> = {
  path: text,
  everySteps: integer({ from: 1 }),
  histogramEpochs: integer({ from: 1 }),
  images: callable,
};

/** Milliseconds between two writes within an epoch. */
const WRITE_EVERY_MS = 1000;
const BUCKETS = 30;

/**
 * A file of events for each training, which TensorBoard opens: `epoch/loss` and the other figures of an epoch,
 * `step/loss`, `weights/NAME`, `images/NAME`. All are told by the number of finished optimizer steps. A training that
 * goes on from a checkpoint adds a file; TensorBoard then forgets what an earlier file has of later steps.
 * @throws KilogradError `FILE_WRITE` from `fit` where a file cannot be written; UsageError for a folder that cannot
 * @example
 * await model.fit(train, { optimizer, loss, callbacks: [nn.tensorBoard({ path: "logs/first", everySteps: 10 })] });
 * // npx: tensorboard --logdir logs
 */
export function tensorBoard(given: TensorBoardOptions): Callback {
  const { path, everySteps, histogramEpochs, images } = checkOptions("tensorBoard", given, rules, ["path"]);
  let file: EventFile | undefined;
  let waiting: Uint8Array[] = [];
  let written = 0;
  let lastStep = 0;

  const close = () => {
    file?.close();
    file = undefined;
    waiting = [];
  };
  const flush = () => {
    for (const records of waiting) file!.write(records);
    waiting = [];
    written = performance.now();
  };
  const add = (step: number, values: Readonly<Record<string, EventValue>>, folder: string) => {
    const time = Date.now() / 1000;
    if (file === undefined) {
      file = new EventFile(folder, time);
      waiting.push(encodeRecord({ time, step, values: "session start" }));
    }
    waiting.push(encodeRecord({ time, step, values }));
  };
  let folder = path;

  return {
    name: "tensorBoard",
    async onTrainBegin() {
      close();
      lastStep = 0;
      folder = await prepareOutputFolder(path);
    },
    onStepEnd({ step, loss }) {
      lastStep = step;
      if (everySteps === undefined || step % everySteps !== 0) return;
      add(step, { "step/loss": { scalar: loss } }, folder);
      if (performance.now() - written > WRITE_EVERY_MS) flush();
    },
    async onEpochEnd(epoch, logs, context) {
      const values: Record<string, EventValue> = {};
      for (const [name, scalar] of Object.entries(logs)) values[`epoch/${name}`] = { scalar };
      if (histogramEpochs !== undefined && (epoch + 1) % histogramEpochs === 0) {
        for (const [name, tensor] of context.model.namedTensors()) {
          const { histogram, nonFinite } = histogramOf(await tensor.data());
          if (histogram !== undefined) values[`weights/${name}`] = { histogram };
          if (nonFinite > 0) values[`non-finite/${name}`] = { scalar: nonFinite };
        }
      }
      for (const [name, picture] of Object.entries((await checked(images?.(epoch, context))) ?? {})) {
        const { pixels, width, height, channels = 1 } = picture;
        const png = encodePicture("tensorBoard: images", pixels, { width, height, channels });
        values[`images/${name}`] = { image: { png, width, height, channels } };
      }
      add(lastStep, values, folder);
      flush();
    },
    onTrainEnd() {
      if (file !== undefined) flush();
    },
    dispose: close,
  };
}

async function checked<T>(given: T | Promise<T>): Promise<T> {
  const pictures = await given;
  if (pictures === undefined || object.accepts(pictures)) return pictures;
  throw new UsageError(`tensorBoard: images must give pictures by name, got ${typeof pictures}`);
}

/** Counts of finite values in buckets of equal width, and how many values are not finite. */
function histogramOf(values: ArrayLike<number>): { readonly histogram?: Histogram; readonly nonFinite: number } {
  let [min, max, count, sum, sumOfSquares] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    [min, max] = [Math.min(min, value), Math.max(max, value)];
    count++;
    sum += value;
    sumOfSquares += value * value;
  }
  const nonFinite = values.length - count;
  if (count === 0) return { nonFinite };
  const buckets = min === max ? 1 : BUCKETS;
  const width = (max - min) / buckets;
  const limits = Array.from({ length: buckets }, (_, i) => (i === buckets - 1 ? max : min + (i + 1) * width));
  const counts = new Array<number>(buckets).fill(0);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    counts[width === 0 ? 0 : Math.min(buckets - 1, Math.floor((value - min) / width))]!++;
  }
  return { histogram: { min, max, count, sum, sumOfSquares, limits, counts }, nonFinite };
}
