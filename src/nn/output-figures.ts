// Figures of steps by output: those of the whole loss, and with several losses those of each, by its output's name as
// Keras writes it: "loss", "price_loss", "kind_loss", "kind_accuracy".
import { UsageError } from "../tensor/errors.js";
import type { Tensor } from "../tensor/tensor.js";
import { type BatchFigures, type FigureSums, type Figures, FigureTable } from "./figures.js";
import type { Model } from "./model.js";
import type { StoredSums } from "./model-file.js";
import type { Objective, StepLosses } from "./objective.js";

/** Of a batch: the whole loss's, and with several terms each term's. */
export type OutputBatchFigures = readonly BatchFigures[];

/** Tables of figures on a device, one for the whole loss and with several terms one for each. */
export class OutputFigures {
  private readonly tables: readonly FigureTable[];
  /** What begins the names of each table's metrics. */
  private readonly prefixes: readonly string[];

  constructor(model: Model, { terms, single }: Objective) {
    const tables = terms.map(
      ({ output, loss, metrics }) => new FigureTable(model.device, model.outputShapes[output]!, loss, metrics),
    );
    const prefixes = terms.map(({ name }) => (single ? "" : `${name}_`));
    // The sum of several losses has no prediction of its own to count in.
    const { output, loss } = terms[0]!;
    const whole = () => new FigureTable(model.device, model.outputShapes[output]!, loss, []);
    this.tables = terms.length === 1 ? tables : [whole(), ...tables];
    this.prefixes = terms.length === 1 ? prefixes : ["", ...prefixes];
  }

  /** Batches recorded since the last read. */
  get unread(): number {
    return this.tables[0]!.unread;
  }

  /** Most batches between two reads. */
  get mostUnread(): number {
    return Math.min(...this.tables.map(({ mostUnread }) => mostUnread));
  }

  /** Records a batch; at most `mostUnread` between two reads. */
  record({ loss, losses, predictions }: StepLosses, targets: readonly Tensor[]): void {
    const [whole, ...each] = this.tables;
    whole!.record(loss, predictions[0]!, targets[0]!);
    for (const [i, table] of each.entries()) table.record(losses[i]!, predictions[i]!, targets[i]!);
  }

  /** Looks whether tensors are finite, for the next `readInspected`. Nothing is waited for. */
  inspect(tensors: readonly Tensor[]): void {
    this.tables[0]!.inspect(tensors);
  }

  /** Waits for the batches recorded so far and gives their figures, in order; others may be recorded meanwhile. */
  async read(): Promise<OutputBatchFigures[]> {
    return (await this.readInspected()).figures;
  }

  /** As `read`, and whether the tensors that `inspect` was given last are finite. */
  async readInspected(): Promise<{ readonly figures: OutputBatchFigures[]; readonly finite: boolean }> {
    const read = await Promise.all(this.tables.map((table) => table.readInspected()));
    const figures = read[0]!.figures.map((_, batch) => read.map((table) => table.figures[batch]!));
    return { figures, finite: read[0]!.finite };
  }

  /** Sums of nothing yet. */
  noSums(): FigureSums[] {
    return this.tables.map((table) => table.noSums());
  }

  /** Takes the figures of a batch of so many samples into the sums. */
  add(sums: readonly FigureSums[], batch: OutputBatchFigures, samples: number): void {
    for (const [i, table] of this.tables.entries()) table.add(sums[i]!, batch[i]!, samples);
  }

  /** Figures of all samples by name: losses first, those of outputs where there are several, then metrics. */
  figuresOf(sums: readonly FigureSums[]): Figures {
    const [whole, ...outputs] = this.tables.map((table, i) => table.figuresOf(sums[i]!));
    const [first, ...prefixes] = this.prefixes;
    const metricsOf = (prefix: string, { loss: _, ...metrics }: Figures) =>
      Object.entries(metrics).map(([name, value]) => [`${prefix}${name}`, value] as const);
    return {
      loss: whole!.loss,
      ...Object.fromEntries([
        ...outputs.map(({ loss }, i) => [`${prefixes[i]}loss`, loss] as const),
        ...metricsOf(first!, whole!),
        ...outputs.flatMap((figures, i) => metricsOf(prefixes[i]!, figures)),
      ]),
    };
  }

  /** Sums of a checkpoint, to go on with. @throws UsageError where they are those of other losses or metrics */
  resumed(stored: readonly StoredSums[], path: string): FigureSums[] {
    if (stored.length !== this.tables.length) {
      const losses = (tables: number) => Math.max(1, tables - 1);
      throw new UsageError(
        `${path}: to resume it, there must be as many losses as before, ${losses(stored.length)}, got ${losses(this.tables.length)}`,
      );
    }
    return this.tables.map((table, i) => table.resumed(stored[i]!, path));
  }

  dispose(): void {
    for (const table of this.tables) table.dispose();
  }
}
