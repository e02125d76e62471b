// Softmax and logSoftmax along an axis, and softmax cross-entropy, with their gradients.
//
// x [outer, R, inner]; with top = max_j x_j and total = sum_j exp(x_j - top):
//
//   softmax     y_j = exp(x_j - top) / total          dx_j = y_j (dy_j - sum_k y_k dy_k)
//   logSoftmax  y_j = x_j - top - log(total)          dx_j = dy_j - exp(y_j) sum_k dy_k
//
//   cross-entropy of logits x [N, C] with targets t:  loss = sum_j t_j (log(total) - (x_j - top))
//                                                     dx_j = (exp(x_j - top) / total * sum_k t_k - t_j) dy
//
// No exponent is positive, so nothing overflows. A NaN or +Infinity among a row's x makes all of the row NaN; -Infinity
// has the probability 0, and with class ids its loss counts only where it is the target (0 times infinity is no term).
// Cross-entropy writes its gradient in the same pass, for dy = 1: both come from the same top and total. The mean or
// sum over a small batch is part of that pass, too. Who works on a row is in rows.ts.
import { defineKernel } from "../tensor/kernel.js";
import type { GpuView } from "../webgpu/program.js";
import { typed, unlessNan } from "./ieee.js";
import { dispatchReduce } from "./reduce.js";
import { forEachRow, overRows, type RowText, read, write } from "./rows.js";

export interface SoftmaxParams {
  /** Non-negative. */
  readonly axis: number;
  readonly log: boolean;
}

/** Elements up to which one workgroup is faster than a second dispatch, and rows whose sum is no long chain. */
const SINGLE_WORKGROUP = 4096;
const SINGLE_WORKGROUP_ROWS = 512;

const unlessNanF32 = (y: string, x: string) => typed(unlessNan(y, x), "f32");

/** WGSL that defines `top` and `total` of a row; a NaN, which `top` may lack, is in `total`. */
const topAndTotal = ({ each, across }: RowText) => /* wgsl */ `
    var top = x[start];
    ${each("top = max(top, x[at]);")}
    top = ${across("max", "top")};
    var total = 0.0;
    ${each(`let d = x[at] - top; total += ${unlessNanF32("exp(d)", "d")};`)}
    total = ${across("add", "total")};`;

/** Inputs [x], outputs [y] of the same shape. */
export const softmaxKernel = defineKernel<SoftmaxParams>({
  name: "softmax",
  cpu({ inputs: [x], outputs: [y], params: { axis, log } }) {
    forEachRow(x!, axis, (cells) => {
      const top = cells.reduce((m, at) => Math.max(m, x!.data[at]!), Number.NEGATIVE_INFINITY);
      const total = cells.reduce((s, at) => s + Math.exp(x!.data[at]! - top), 0);
      for (const at of cells) {
        const shifted = x!.data[at]! - top;
        y!.data[at] = log ? shifted - Math.log(total) : Math.exp(shifted) / total;
      }
    });
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const { axis, log } = call.params;
    overRows(call, x.shape, axis, {
      key: `log ${log}`,
      bindings: [read("x", x), write("y", call.outputs[0]!)],
      text: (row) => /* wgsl */ `${topAndTotal(row)}
    ${log ? `let log_total = ${unlessNanF32("log(total)", "total")};` : ""}
    ${row.each(`y[at] = ${log ? "x[at] - top - log_total" : "exp(x[at] - top) / total"};`)}`,
    });
  },
});

/** Inputs [dy, y], outputs [dx], all of one shape. */
export const softmaxGradientKernel = defineKernel<SoftmaxParams>({
  name: "softmaxGradient",
  cpu({ inputs: [dy, y], outputs: [dx], params: { axis, log } }) {
    forEachRow(y!, axis, (cells) => {
      const total = cells.reduce((s, at) => s + dy!.data[at]! * (log ? 1 : y!.data[at]!), 0);
      for (const at of cells) {
        const [g, v] = [dy!.data[at]!, y!.data[at]!];
        dx!.data[at] = log ? g - Math.exp(v) * total : v * (g - total);
      }
    });
  },
  webgpu(call) {
    const [dy, y] = call.inputs as [GpuView, GpuView];
    const { axis, log } = call.params;
    const bindings = [read("dy", dy), read("y", y), write("dx", call.outputs[0]!)];
    overRows(call, y.shape, axis, {
      key: `log ${log}`,
      bindings,
      text: ({ each, across }) => /* wgsl */ `
    var total = 0.0;
    ${each(`total += dy[at]${log ? "" : " * y[at]"};`)}
    total = ${across("add", "total")};
    ${each(`dx[at] = ${log ? `dy[at] - ${unlessNanF32("exp(y[at])", "y[at]")} * total` : "y[at] * (dy[at] - total)"};`)}`,
    });
  },
});

export interface CrossEntropyParams {
  /** "none": a loss per sample, [N]; "mean" or "sum" of them, and the gradient of that. */
  readonly reduction: "none" | "mean" | "sum";
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/**
 * WGSL that defines `weight`, the sum of a row's targets, and `weighted`, that of target times x - top; needs `top`.
 */
function targetSums(soft: boolean, { each, across }: RowText): string {
  if (soft) {
    return /* wgsl */ `
    var weight = 0.0;
    var weighted = 0.0;
    ${each("weight += t[at]; weighted += t[at] * (x[at] - top);")}
    weight = ${across("add", "weight")};
    weighted = ${across("add", "weighted")};`;
  }
  return /* wgsl */ `
    let id = u32(t[row]);
    let weight = select(u.invalid, 1.0, id < u.size);
    let weighted = x[start + min(id, u.size - 1)] - top;`;
}

/**
 * Inputs [logits [N, C], targets: class ids i32 or u32 [N] or distributions f32 [N, C]]. Outputs [loss [N] or, for mean
 * and sum, one element] and, where it is needed, the gradient for dy = 1 [N, C]. An id that is no class gives NaN.
 */
export const softmaxCrossEntropyKernel = defineKernel<CrossEntropyParams>({
  name: "softmaxCrossEntropy",
  cpu({ inputs: [x, t], outputs: [loss, gradient], params: { reduction } }) {
    const [rows, size] = x!.shape as [number, number];
    const scale = reduction === "mean" ? 1 / rows : 1;
    const soft = t!.dtype === "f32";
    let batch = 0;
    forEachRow(x!, 1, (cells, row) => {
      const top = cells.reduce((m, at) => Math.max(m, x!.data[at]!), Number.NEGATIVE_INFINITY);
      const total = cells.reduce((s, at) => s + Math.exp(x!.data[at]! - top), 0);
      const targets = cells.map((at, j) => (soft ? t!.data[at]! : Number(t!.data[row] === j)));
      const terms = targets.map((target, j) => target * (x!.data[cells[j]!]! - top));
      const id = t!.data[row]!;
      const [weight, weighted] = soft
        ? [sum(targets), sum(terms)]
        : id >= 0 && id < size
          ? [1, x!.data[cells[id]!]! - top]
          : [Number.NaN, Number.NaN];
      const value = weight * Math.log(total) - weighted;
      if (reduction === "none") loss!.data[row] = value;
      else batch += value;
      if (gradient === undefined) return;
      for (const [j, at] of cells.entries()) {
        gradient.data[at] = ((Math.exp(x!.data[at]! - top) / total) * weight - targets[j]!) * scale;
      }
    });
    if (reduction !== "none") loss!.data[0] = batch * scale;
  },
  webgpu(call) {
    const [x, t] = call.inputs as [GpuView, GpuView];
    const [loss, gradient] = call.outputs as [GpuView, GpuView | undefined];
    const { reduction } = call.params;
    const [rows] = x.shape as [number, number];
    const soft = t.dtype === "f32";
    const single = reduction !== "none" && x.size <= SINGLE_WORKGROUP && rows <= SINGLE_WORKGROUP_ROWS;
    const losses = reduction === "none" || single ? loss : call.scratch({ shape: [rows], dtype: "f32" });
    const scale = reduction === "mean" ? 1 / rows : 1;
    overRows(call, x.shape, 1, {
      key: `${t.dtype}${single ? " all" : ""}${gradient === undefined ? "" : " gradient"}`,
      bindings: [
        read("x", x),
        read("t", t),
        write("loss", losses),
        ...(gradient === undefined ? [] : [write("dx", gradient)]),
      ],
      numbers: { invalid: Number.NaN, scale },
      text: (row) => /* wgsl */ `${topAndTotal(row)}${targetSums(soft, row)}
    let value = weight * ${unlessNanF32("log(total)", "total")} - weighted;
    ${single ? "sum += value;" : `if (${row.once}) { loss[row] = value; }`}
    ${
      gradient === undefined
        ? ""
        : row.each(
            `dx[at] = (exp(x[at] - top) / total * weight - ${soft ? "t[at]" : "select(0.0, 1.0, j == id)"}) * u.scale;`,
          )
    }`,
      ...(single && {
        frame: {
          before: "var sum = 0.0;",
          after: ({ overall }) => `sum = ${overall("sum")}; if (lane == 0) { loss[0] = sum * u.scale; }`,
        },
      }),
    });
    if (losses !== loss) dispatchReduce(call, "sum", losses, loss, { outer: 1, reduce: rows, inner: 1 }, scale);
  },
});
