// Loss, accuracy and metrics of steps. They are kept on the device in a small table and read many steps at a time. The
// read is what makes the host wait for the device.

import { zeros } from "../autograd/ops/create.js";
import { noGrad } from "../autograd/tape.js";
import { storeRowKernel } from "../kernels/copy.js";
import { fillKernel } from "../kernels/fill.js";
import { findNonFiniteKernel } from "../kernels/loss-scaling.js";
import { COUNT_LANES, FIGURE_COLUMNS, type StepFiguresParams, stepFiguresKernel } from "../kernels/step-figures.js";
import type { Device } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { keep, scope } from "../tensor/scope.js";
import type { Shape } from "../tensor/shape.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";
import { asLoss, type LossFunction } from "./loss.js";
import { type MetricOption, MetricSet, type MetricTotals } from "./metrics/metric.js";

/** What a batch came to. */
export interface BatchFigures {
  /** Mean over the batch. */
  readonly loss: number;
  /** How many samples were classified correctly; 0 where accuracy is not asked for. */
  readonly correct: number;
  /** Numbers of each metric, in their order; see `Metric`. */
  readonly statistics: readonly (readonly number[])[];
}

/** Sums over an epoch, in float64 and in the order of the batches. */
export interface FigureSums {
  loss: number;
  correct: number;
  samples: number;
  /** Totals by the metrics' names. */
  metrics: MetricTotals;
}

/** Figures of samples by name, the loss among them. */
export type Figures = { readonly loss: number; readonly accuracy?: number } & Readonly<Record<string, number>>;

/** Most batches between two reads. */
const MOST_UNREAD = 64;
/** Most elements of the table, but that it has a row: 4 MB that are read at once. */
const MOST_ELEMENTS = 2 ** 20;

/** A table of the last batches' figures on a device, and of whether tensors are finite. */
export class FigureTable {
  readonly accuracy: StepFiguresParams["accuracy"];
  private readonly threshold: number;
  private readonly metrics: MetricSet;
  /** Elements of each metric's statistics, known from the first batch on. */
  private sizes: readonly number[] | undefined;
  private columns = FIGURE_COLUMNS;
  private capacity = MOST_UNREAD;
  /** A row per batch, and one that begins with whether what was inspected last is not finite. */
  private table: Tensor | undefined;
  /** Whether what was inspected last holds an infinity or NaN. */
  private readonly nonFinite: Tensor;
  private rows = 0;

  /** Of an output of a model. By default accuracy is counted where the loss is one of classes. */
  constructor(
    private readonly device: Device,
    outputShape: Shape,
    given: LossFunction,
    metrics?: readonly MetricOption[],
  ) {
    const loss = asLoss(given);
    const binary = outputShape.length === 1 && outputShape[0] === 1;
    const wanted = metrics?.includes("accuracy") ?? (loss.classifies || (binary && loss.lossName.startsWith("binary")));
    this.accuracy = wanted ? (binary ? "binary" : "classes") : "none";
    this.threshold = loss.includes === "sigmoid" ? 0 : 0.5;
    this.metrics = new MetricSet(metrics ?? [], loss.includes);
    this.nonFinite = keep(zeros(device, [1], "u32"));
  }

  /** Batches recorded since the last read. */
  get unread(): number {
    return this.rows;
  }

  /** Most batches between two reads. */
  get mostUnread(): number {
    return this.capacity;
  }

  /** Records a batch; at most `mostUnread` between two reads. The prediction is as the loss takes it. */
  record(loss: Tensor, prediction: Tensor, target: Tensor): void {
    const { accuracy, threshold } = this;
    noGrad(() =>
      scope(() => {
        const statistics = this.metrics.statistics(prediction, target);
        const table = this.tableOf(statistics.map(({ size }) => size));
        const inputs = accuracy === "none" ? [loss] : [loss, prediction, target];
        const { columns } = this;
        runInto(stepFiguresKernel, inputs, [table], () => ({ row: this.rows, columns, accuracy, threshold }));
        let next = FIGURE_COLUMNS;
        for (const values of statistics) {
          const first = next;
          runInto(storeRowKernel, [values], [table], () => ({ row: this.rows, columns, first }));
          next += values.size;
        }
      }),
    );
    this.nonFinite.device.everyTime(() => {
      this.rows++;
    });
  }

  /** The table, made when the sizes of statistics are known. @throws ShapeError where they are not what they were */
  private tableOf(sizes: readonly number[]): Tensor {
    if (this.sizes === undefined) {
      this.sizes = sizes;
      this.columns = sizes.reduce((total, size) => total + size, FIGURE_COLUMNS);
      this.capacity = Math.max(1, Math.min(MOST_UNREAD, Math.floor(MOST_ELEMENTS / this.columns)));
      this.table = keep(empty(this.device, [this.capacity + 1, this.columns]));
    }
    const other = sizes.findIndex((size, i) => size !== this.sizes![i]);
    if (other < 0) return this.table!;
    throw new ShapeError(
      `${this.metrics.names[other]}: statistics must have as many elements for every batch, got ${this.sizes[other]}, then ${sizes[other]}`,
    );
  }

  /** Looks whether tensors are finite, for the next `readInspected`. Nothing is waited for. Before a batch, none. */
  inspect(tensors: readonly Tensor[]): void {
    const { capacity: row, columns, table } = this;
    if (table === undefined) return;
    runInto(fillKernel, [], [this.nonFinite], { value: 0 });
    runInto(findNonFiniteKernel, tensors, [this.nonFinite], {});
    runInto(storeRowKernel, [this.nonFinite], [table], { row, columns });
  }

  /** Waits for the batches recorded so far and gives their figures, in order; others may be recorded meanwhile. */
  async read(): Promise<BatchFigures[]> {
    return (await this.readInspected()).figures;
  }

  /** As `read`, and whether the tensors that `inspect` was given last are finite. */
  async readInspected(): Promise<{ readonly figures: BatchFigures[]; readonly finite: boolean }> {
    const { rows, columns, capacity, sizes } = this;
    if (this.table === undefined || sizes === undefined) return { figures: [], finite: true };
    this.rows = 0;
    const values = await this.table.data();
    // A whole number that is not 0 is no 0 as a float either.
    const finite = values[capacity * columns] === 0;
    const figures = Array.from({ length: rows }, (_, row): BatchFigures => {
      const start = row * columns;
      let correct = 0;
      if (this.accuracy !== "none") for (let i = 1; i <= COUNT_LANES; i++) correct += values[start + i]!;
      let next = start + FIGURE_COLUMNS;
      const statistics = sizes.map((size) => Array.from(values.subarray(next, (next += size))));
      return { loss: values[start]!, correct, statistics };
    });
    return { figures, finite };
  }

  /** Sums of nothing yet. */
  noSums(): FigureSums {
    return { loss: 0, correct: 0, samples: 0, metrics: {} };
  }

  /** Takes a batch's figures into the sums. */
  add(sums: FigureSums, { loss, correct, statistics }: BatchFigures, samples: number): void {
    sums.loss += loss * samples;
    sums.correct += correct;
    sums.samples += samples;
    this.metrics.update(sums.metrics, statistics);
  }

  /** Figures of all samples, as Keras reports them: means per sample, and the metrics. */
  figuresOf({ loss, correct, samples, metrics }: FigureSums): Figures {
    return {
      loss: loss / samples,
      ...(this.accuracy !== "none" && { accuracy: correct / samples }),
      ...this.metrics.results(metrics, samples),
    };
  }

  /** Sums of a checkpoint, to go on with. @throws UsageError where they are those of other metrics */
  resumed({ metrics = {}, ...sums }: Omit<FigureSums, "metrics"> & Partial<FigureSums>, path: string): FigureSums {
    const { names } = this.metrics;
    const stored = Object.keys(metrics);
    // A training may take other metrics from the beginning of an epoch on.
    if (sums.samples > 0 && (stored.length !== names.length || !names.every((name) => stored.includes(name)))) {
      const listed = (list: readonly string[]) => (list.length === 0 ? "none" : list.join(", "));
      throw new UsageError(
        `${path}: to resume it within an epoch, metrics must be as before, ${listed(stored)}, got ${listed(names)}`,
      );
    }
    return { ...sums, metrics: Object.fromEntries(stored.map((name) => [name, [...metrics[name]!]])) };
  }

  dispose(): void {
    this.table?.dispose();
    this.nonFinite.dispose();
  }
}
