// Counting parameters, and the summary table in Keras's format.
import { type Shape, sizeOf } from "../tensor/shape.js";
import type { Layer, WeightSpec } from "./layer.js";

/** Numbers of scalars in a model's weights. */
export interface ParameterCount {
  readonly total: number;
  readonly trainable: number;
  readonly nonTrainable: number;
}

/** What a summary says of a layer. */
export interface SummaryRow {
  readonly name: string;
  readonly layer: Layer;
  readonly outputShape: Shape;
  readonly weights: readonly WeightSpec[];
  /** Whether the layer's trainable weights are trained. */
  readonly trainable: boolean;
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

/** The table that Keras 3 prints, in its words. */
export function formatSummary(model: string, rows: readonly SummaryRow[]): string {
  const cells = rows.map(({ name, layer, outputShape, weights }) => {
    const title = `${name} (${layer.className})`;
    return [
      title.length <= COLUMN_WIDTHS[0] ? [title] : [name, `(${layer.className})`],
      [`(${["None", ...outputShape].join(", ")})`],
      [grouped(count(weights))],
    ];
  });
  const widths = COLUMN_WIDTHS.map((width, column) =>
    Math.max(width, ...cells.flatMap((row) => row[column]!.map((text) => text.length))),
  );
  const line = (texts: readonly string[], bar: string) => {
    const padded = texts.map((text, column) => {
      const width = widths[column]!;
      return ` ${column === 2 ? text.padStart(width) : text.padEnd(width)} `;
    });
    return `${bar}${padded.join(bar)}${bar}`;
  };
  const lines = (row: readonly (readonly string[])[]) =>
    row[0]!
      .map((_, i) =>
        line(
          row.map((texts) => texts[i] ?? ""),
          "│",
        ),
      )
      .join("\n");
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
    line(["Layer (type)", "Output Shape", "Param #"], "┃"),
    rule("┡━╇┩"),
    cells.map(lines).join(`\n${rule("├─┼┤")}\n`),
    rule("└─┴┘"),
    ...totals.map(([label, n]) => ` ${label} params: ${grouped(n)} (${formatBytes(n)})`),
  ].join("\n");
}
