// Counting parameters, and the summary table in Keras's format.
import { type Shape, sizeOf } from "../tensor/shape.js";
import { type GraphInput, isChain } from "./graph.js";
import type { Layer, WeightSpec } from "./layer.js";
import type { PlacedCall } from "./model-shape.js";

/** Numbers of scalars in a model's weights. */
export interface ParameterCount {
  readonly total: number;
  readonly trainable: number;
  readonly nonTrainable: number;
}

/** What a summary says of a layer. */
export interface SummaryRow {
  readonly name: string;
  readonly layer: Pick<Layer, "className">;
  readonly outputShape: Shape;
  readonly weights: readonly WeightSpec[];
  /** Whether the layer's trainable weights are trained. */
  readonly trainable: boolean;
  /** What it is called on, as Keras writes it: "conv2d[0][0]" is the first output of the first call of conv2d. */
  readonly connections?: readonly string[];
}

interface SummarizedGraph {
  readonly inputs: readonly GraphInput[];
  readonly calls: readonly PlacedCall[];
  readonly outputs: readonly number[];
}

/** A row for each layer; where the graph is no chain, one for each input, too, and what each is called on. */
export function summaryRows({ inputs, calls, outputs }: SummarizedGraph, layers: readonly SummaryRow[]): SummaryRow[] {
  if (isChain({ inputs, calls, outputs, layers })) return [...layers];
  const nameOf = (value: number): string => {
    const call = calls[value - inputs.length];
    return call === undefined ? `${inputs[value]!.name}[0][0]` : `${layers[call.layer]!.name}[${call.repeat}][0]`;
  };
  return [
    ...inputs.map(({ name, shape }) => ({
      ...{ name, layer: { className: "InputLayer" }, outputShape: shape, weights: [], trainable: true },
      connections: ["-"],
    })),
    ...layers.map((row, i) => ({
      ...row,
      connections: calls.flatMap((call) => (call.layer === i ? call.inputs.map(nameOf) : [])),
    })),
  ];
}

const count = (weights: readonly WeightSpec[]) => weights.reduce((sum, { shape }) => sum + sizeOf(shape), 0);

export function countParameters(rows: readonly SummaryRow[]): ParameterCount {
  const total = rows.reduce((sum, row) => sum + count(row.weights), 0);
  const trainable = rows.reduce(
    (sum, row) => sum + (row.trainable ? count(row.weights.filter((weight) => weight.trainable)) : 0),
    0,
  );
  return { total, trainable, nonTrainable: total - trainable };
}

/** Bytes of float32 parameters as Keras writes them: "30.88 KB". */
function formatBytes(parameters: number): string {
  let size = parameters * 4;
  const units = ["B", "KB", "MB", "GB", "TB"];
  while (size >= 1024 && units.length > 1) {
    size /= 1024;
    units.shift();
  }
  return `${size.toFixed(2)} ${units[0]}`;
}

const grouped = (n: number) => n.toLocaleString("en-US");

/** Widths of the columns as Keras draws them on a terminal of 80; a word that is longer widens its column. */
const COLUMN_WIDTHS = [31, 22, 13] as const;
/** The same where what layers are called on is shown. */
const GRAPH_WIDTHS = [19, 17, 10, 17] as const;

/** The table that Keras 3 prints, in its words. */
export function formatSummary(model: string, rows: readonly SummaryRow[]): string {
  const asGraph = rows.some(({ connections }) => connections !== undefined);
  const least: readonly number[] = asGraph ? GRAPH_WIDTHS : COLUMN_WIDTHS;
  const cells = rows.map(({ name, layer, outputShape, weights, connections = [] }) => {
    const title = `${name} (${layer.className})`;
    return [
      title.length <= least[0]! ? [title] : [name, `(${layer.className})`],
      [`(${["None", ...outputShape].join(", ")})`],
      [grouped(count(weights))],
      ...(asGraph ? [connections.map((from, i) => (i < connections.length - 1 ? `${from},` : from))] : []),
    ];
  });
  const widths = least.map((width, column) =>
    Math.max(width, ...cells.flatMap((row) => row[column]!.map((text) => text.length))),
  );
  const line = (texts: readonly string[], bar: string) => {
    const padded = texts.map((text, column) => {
      const width = widths[column]!;
      return ` ${column === 2 ? text.padStart(width) : text.padEnd(width)} `;
    });
    return `${bar}${padded.join(bar)}${bar}`;
  };
  const lines = (row: readonly (readonly string[])[]) => {
    const height = Math.max(...row.map((texts) => texts.length));
    const at = (i: number) => row.map((texts) => texts[i] ?? "");
    return Array.from({ length: height }, (_, i) => line(at(i), "│")).join("\n");
  };
  const rule = ([left, fill, cross, right]: string) =>
    `${left}${widths.map((width) => fill!.repeat(width + 2)).join(cross)}${right}`;
  const { total, trainable, nonTrainable } = countParameters(rows);
  const totals = [
    ["Total", total],
    ["Trainable", trainable],
    ["Non-trainable", nonTrainable],
  ] as const;
  return [
    `Model: "${model}"`,
    rule("┏━┳┓"),
    line(["Layer (type)", "Output Shape", "Param #", ...(asGraph ? ["Connected to"] : [])], "┃"),
    rule("┡━╇┩"),
    cells.map(lines).join(`\n${rule("├─┼┤")}\n`),
    rule("└─┴┘"),
    ...totals.map(([label, n]) => ` ${label} params: ${grouped(n)} (${formatBytes(n)})`),
  ].join("\n");
}
