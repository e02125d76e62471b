// Rows of mean 0 and variance 1, as layer normalisation needs them, with their gradient. Of each row of n elements x:
//
//   mean = sum(x) / n     scale = 1 / sqrt(sum((x - mean)^2) / n + epsilon)     y = (x - mean) scale
//   dx = scale (dy - sum(dy) / n - y sum(dy y) / n)
//
// The variance is that of centred values: the square of the mean taken from the mean of squares loses all digits where
// a row is far from 0. A NaN or an infinity among a row's x makes all of the row NaN. Who works on a row is in rows.ts.
import { defineKernel } from "../tensor/kernel.js";
import type { GpuView } from "../webgpu/program.js";
import { typed, unlessNan } from "./ieee.js";
import { forEachRow, overRows, read, write } from "./rows.js";

export interface StandardizeParams {
  /** Added to the variance. */
  readonly epsilon: number;
}

const total = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/** Inputs [x [rows, n]], outputs [y [rows, n], mean [rows], scale [rows]]. */
export const standardizeKernel = defineKernel<StandardizeParams>({
  name: "standardize",
  cpu({ inputs: [x], outputs: [y, means, scales], params: { epsilon } }) {
    forEachRow(x!, 1, (cells, row) => {
      const mean = total(cells.map((at) => x!.data[at]!)) / cells.length;
      const variance = total(cells.map((at) => (x!.data[at]! - mean) ** 2)) / cells.length;
      const scale = 1 / Math.sqrt(variance + epsilon);
      for (const at of cells) y!.data[at] = (x!.data[at]! - mean) * scale;
      means!.data[row] = mean;
      scales!.data[row] = scale;
    });
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const [y, means, scales] = call.outputs as [GpuView, GpuView, GpuView];
    overRows(call, x.shape, 1, {
      key: "standardize",
      bindings: [read("x", x), write("y", y), write("means", means), write("scales", scales)],
      numbers: { epsilon: call.params.epsilon },
      text: ({ each, across, once }) => /* wgsl */ `
    var sum = 0.0;
    ${each("sum += x[at];")}
    let mean = ${across("add", "sum")} / f32(u.size);
    var squares = 0.0;
    ${each("let d = x[at] - mean; squares += d * d;")}
    let power = ${across("add", "squares")} / f32(u.size) + u.epsilon;
    let scale = ${typed(unlessNan("1.0 / sqrt(power)", "power"), "f32")};
    ${each("y[at] = (x[at] - mean) * scale;")}
    if (${once}) { means[row] = mean; scales[row] = scale; }`,
    });
  },
});

/** Inputs [dy [rows, n], x [rows, n], mean [rows], scale [rows]], outputs [dx [rows, n]]. */
export const standardizeGradientKernel = defineKernel({
  name: "standardizeGradient",
  cpu({ inputs: [dy, x, means, scales], outputs: [dx] }) {
    forEachRow(x!, 1, (cells, row) => {
      const [mean, scale] = [means!.data[row]!, scales!.data[row]!];
      const y = cells.map((at) => (x!.data[at]! - mean) * scale);
      const slope = total(cells.map((at) => dy!.data[at]!)) / cells.length;
      const product = total(cells.map((at, j) => dy!.data[at]! * y[j]!)) / cells.length;
      for (const [j, at] of cells.entries()) dx!.data[at] = scale * (dy!.data[at]! - slope - y[j]! * product);
    });
  },
  webgpu(call) {
    const [dy, x, means, scales] = call.inputs as [GpuView, GpuView, GpuView, GpuView];
    overRows(call, x.shape, 1, {
      key: "standardizeGradient",
      bindings: [
        ...[read("dy", dy), read("x", x), read("means", means), read("scales", scales)],
        write("dx", call.outputs[0]!),
      ],
      text: ({ each, across }) => /* wgsl */ `
    let mean = means[row];
    let scale = scales[row];
    var slope = 0.0;
    var product = 0.0;
    ${each("slope += dy[at]; product += dy[at] * ((x[at] - mean) * scale);")}
    slope = ${across("add", "slope")} / f32(u.size);
    product = ${across("add", "product")} / f32(u.size);
    ${each("dx[at] = scale * (dy[at] - slope - (x[at] - mean) * scale * product);")}`,
    });
  },
});
