// Loss and accuracy of steps, kept on the device in a small table and read many steps at a time: the read is what makes
// the host wait for the device.

import { zeros } from "../autograd/ops/create.js";
import { storeRowKernel } from "../kernels/copy.js";
import { fillKernel } from "../kernels/fill.js";
import { findNonFiniteKernel } from "../kernels/loss-scaling.js";
import { COUNT_LANES, FIGURE_COLUMNS, type StepFiguresParams, stepFiguresKernel } from "../kernels/step-figures.js";
import { listOf, oneOf } from "../tensor/options.js";
import { keep } from "../tensor/scope.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";
import type { Loss } from "./losses.js";
import type { Model } from "./model.js";

/** What a batch came to. */
export interface BatchFigures {
  /** Mean over the batch. */
  readonly loss: number;
  /** How many samples were classified correctly; 0 where accuracy is not asked for. */
  readonly correct: number;
}

/** Metrics besides the loss. */
export type Metric = "accuracy";

/** Most batches between two reads. */
export const MOST_UNREAD = 64;

export const metricsRule = listOf(oneOf("accuracy"));

/** A table of the last batches' figures on a device, and of whether tensors are finite. */
export class FigureTable {
  readonly accuracy: StepFiguresParams["accuracy"];
  private readonly threshold: number;
  /** A row per batch, and one that begins with whether what was inspected last is not finite. */
  private readonly table: Tensor;
  /** Whether what was inspected last holds an infinity or NaN. */
  private readonly nonFinite: Tensor;
  private rows = 0;

  /** By default accuracy is counted where the loss is one of classes. */
  constructor(model: Model, loss: Loss, metrics?: readonly Metric[]) {
    const binary = model.outputShape.length === 1 && model.outputShape[0] === 1;
    const wanted = metrics?.includes("accuracy") ?? (loss.classifies || (binary && loss.lossName.startsWith("binary")));
    this.accuracy = wanted ? (binary ? "binary" : "classes") : "none";
    this.threshold = loss.includes === "sigmoid" ? 0 : 0.5;
    this.table = keep(empty(model.device, [MOST_UNREAD + 1, FIGURE_COLUMNS]));
    this.nonFinite = keep(zeros(model.device, [1], "u32"));
  }

  /** Batches recorded since the last read. */
  get unread(): number {
    return this.rows;
  }

  /** Records a batch; at most MOST_UNREAD between two reads. */
  record(loss: Tensor, prediction: Tensor, target: Tensor): void {
    const { accuracy, threshold } = this;
    const inputs = accuracy === "none" ? [loss] : [loss, prediction, target];
    runInto(stepFiguresKernel, inputs, [this.table], () => ({ row: this.rows, accuracy, threshold }));
    this.table.device.everyTime(() => {
      this.rows++;
    });
  }

  /** Looks whether tensors are finite, for the next `readInspected`. Nothing is waited for. */
  inspect(tensors: readonly Tensor[]): void {
    runInto(fillKernel, [], [this.nonFinite], { value: 0 });
    runInto(findNonFiniteKernel, tensors, [this.nonFinite], {});
    runInto(storeRowKernel, [this.nonFinite], [this.table], { row: MOST_UNREAD * FIGURE_COLUMNS });
  }

  /** Waits for the batches recorded so far and gives their figures, in order; others may be recorded meanwhile. */
  async read(): Promise<BatchFigures[]> {
    return (await this.readInspected()).figures;
  }

  /** As `read`, and whether the tensors that `inspect` was given last are finite. */
  async readInspected(): Promise<{ readonly figures: BatchFigures[]; readonly finite: boolean }> {
    const { rows } = this;
    this.rows = 0;
    const values = await this.table.data();
    // A whole number that is not 0 is no 0 as a float either.
    const finite = values[MOST_UNREAD * FIGURE_COLUMNS] === 0;
    const figures = Array.from({ length: rows }, (_, row): BatchFigures => {
      const start = row * FIGURE_COLUMNS;
      let correct = 0;
      if (this.accuracy !== "none") for (let i = 1; i <= COUNT_LANES; i++) correct += values[start + i]!;
      return { loss: values[start]!, correct };
    });
    return { figures, finite };
  }

  dispose(): void {
    this.table.dispose();
    this.nonFinite.dispose();
  }
}

/** Sums over an epoch, in float64 and in the order of the batches. */
export interface FigureSums {
  loss: number;
  correct: number;
  samples: number;
}

export function addFigures(sums: FigureSums, { loss, correct }: BatchFigures, samples: number): void {
  sums.loss += loss * samples;
  sums.correct += correct;
  sums.samples += samples;
}

/** Means per sample, as Keras reports them. */
export function meansOf(sums: FigureSums, accuracy: boolean): { loss: number; accuracy?: number } {
  return { loss: sums.loss / sums.samples, ...(accuracy && { accuracy: sums.correct / sums.samples }) };
}
