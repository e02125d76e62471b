// The layers of a network as a table: what a layer is, what it gives, and how many weights it has.
import type { TableCell } from "../../../io/report.js";
import type { Architecture } from "../../../nn/architecture.js";
import { formatShape, type Shape, sizeOf } from "../../../tensor/shape.js";

/** One layer as a report tells it. */
export interface LayerRow {
  readonly name: string;
  readonly kind: string;
  readonly outputShape: Shape;
  readonly parameters: number;
  /** Name of its activation, where it has one. */
  readonly activation?: string;
}

/** The layers of a network in order. */
export function layerRows({ layers }: Architecture): LayerRow[] {
  return layers.map(({ name, layer: { className, activation }, outputShape, weights }) => ({
    ...{ name, kind: className, outputShape },
    parameters: weights.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    ...(activation !== "linear" && { activation }),
  }));
}

/** As a table of a report. */
export function layerTable(network: Architecture, caption?: string) {
  return {
    columns: ["layer", "kind", "activation", "gives", "parameters"],
    rows: layerRows(network).map(({ name, kind, activation, outputShape, parameters }): TableCell[] => [
      ...[name, kind, activation ?? null, formatShape(outputShape)],
      parameters,
    ]),
    caption: caption ?? `${network.name}: ${network.countParameters().total.toLocaleString("en-US")} parameters.`,
  };
}
