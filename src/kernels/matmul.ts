// Matrix products: C = activation(op(A) op(B) + bias), op(X) = X or its transpose.
//   a: [..., M, K] or, transposed, [..., K, M];  b: [..., K, N] or, transposed, [..., N, K];  bias: [N] (optional)
//   c: [..., M, N]; the batch axes "..." broadcast;  sums of B's columns: [N] (optional, of a single product)
// This file holds the float64 reference and runs what matmul-plan.ts plans (batches, operands larger than a binding,
// pieces of k); the WGSL of a single product is in matmul-subgroup.ts (software profile) and matmul-shared.ts
// (hardware).
import type { Device } from "../tensor/device.js";
import { defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { empty, run } from "../tensor/tensor.js";
import { type GpuCall, type GpuView, sliceOf } from "../webgpu/program.js";
import { defineTunable, provideFamilySample } from "../webgpu/tuning.js";
import { activationCpu, activationWgsl } from "./activation.js";
import { TALL_FORM } from "./matmul-panel.js";
import { describe, offsetsOf, type PlannedPart, planMatmul, type Region } from "./matmul-plan.js";
import type { MatmulParams, Product, ProductFamily } from "./matmul-product.js";
import { sharedFamily } from "./matmul-shared.js";
import { subgroupFamily, TRIP_FORM } from "./matmul-subgroup.js";
import { dispatchReduce } from "./reduce.js";
import { rolledLoop } from "./rolled.js";
import { TILES_FORM } from "./tile-choice.js";

/** Inputs: a, b and optionally bias. Outputs: c and optionally the sums over k of b [K, N]. Shapes as above. */
export const matmulKernel = defineKernel<MatmulParams>({
  name: "matmul",
  flops(params, [a, b]) {
    const { m, n, k, count } = describe(a!.shape, b!.shape, params);
    return 2 * m * n * k * count;
  },
  cpu({ inputs: [a, b, bias], outputs: [c, sums], params }) {
    const { m, n, k, count, axes } = describe(a!.shape, b!.shape, params);
    const [stepAm, stepAk] = params.transposeA ? [1, m] : [k, 1];
    const [stepBk, stepBn] = params.transposeB ? [1, k] : [n, 1];
    const act = activationCpu(params.activation);
    // Names of their own and one type: V8 computes the inner loop several times as fast.
    const [as, bs, cs] = [a!.data as Float64Array, b!.data as Float64Array, c!.data as Float64Array];
    sums?.data.forEach((_, j) => {
      sums.data[j] = 0;
      for (let p = 0; p < k; p++) sums.data[j]! += b!.data[p * n + j]!;
    });
    for (let matrix = 0; matrix < count; matrix++) {
      const [offsetA, offsetB] = offsetsOf(axes, matrix);
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = bias?.data[j] ?? 0;
          let atA = offsetA + i * stepAm;
          let atB = offsetB + j * stepBn;
          for (let p = 0; p < k; p++, atA += stepAk, atB += stepBk) sum += as[atA]! * bs[atB]!;
          cs[(matrix * m + i) * n + j] = act(sum);
        }
      }
    }
  },
  webgpu(call) {
    const [a, b] = call.inputs as readonly [GpuView, GpuView];
    const family = familyOf(call);
    const limits = {
      most: Math.floor(call.profile.maxBindingBytes / 4),
      splitsFor: (shape: Parameters<ProductFamily["splitsFor"]>[0]) => family.splitsFor(shape, call.profile),
    };
    const parts = planMatmul(a.shape, b.shape, call.params, limits);
    for (const part of parts) multiply(call, part);
    // Without rows of C there is no product that could bring them.
    const sums = call.outputs[1];
    if (sums !== undefined && parts.length === 0) sumColumns(call, b, sums);
  },
});

function familyOf(call: GpuCall<MatmulParams>): ProductFamily {
  return call.profile.family === "software" ? subgroupFamily : sharedFamily;
}

/** A product of float32 matrices of some size, to time forms of the kernel by. */
const sample = (a: Shape, b: Shape, transposeA: boolean) => (device: Device) => {
  const [left, right] = [a, b].map((shape) =>
    empty(device, shape, "f32").assign(new Float32Array(sizeOf(shape)).fill(0.5)),
  );
  const params: MatmulParams = { transposeA, transposeB: false, activation: "linear" };
  const { m, n } = describe(a, b, params);
  return () => {
    run(matmulKernel, [left!, right!], { shape: [m, n], dtype: "f32" }, params);
  };
};
provideFamilySample(sample([128, 256], [256, 128], false));
defineTunable({ ...TALL_FORM, profile: "software", sample: sample([256, 512], [512, 128], false) });
defineTunable({ ...TRIP_FORM, profile: "software", sample: sample([1024, 64], [1024, 128], true) });
defineTunable({ ...TILES_FORM, profile: "hardware", sample: sample([1024, 1024], [1024, 1024], false) });

/** Rows of B whose sums may be one chain of additions along with the product. */
const LONGEST_SUM = 512;

/** The sums of b [K, N] over k in a pass of their own. */
function sumColumns(call: GpuCall<MatmulParams>, b: GpuView, sums: GpuView): void {
  const [k, n] = b.shape as readonly [number, number];
  dispatchReduce(call, "sum", b, sums, { outer: 1, reduce: k, inner: n });
}

/** Runs a part of a plan. */
function multiply(call: GpuCall<MatmulParams>, { batch, strides, rows, whole }: PlannedPart): void {
  const [a, b, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
  const [c, sums] = call.outputs as readonly [GpuView, GpuView | undefined];
  const { transposeA, transposeB, activation } = call.params;
  const family = familyOf(call);
  const taken = (view: GpuView, { slice, offset }: Region) => ({
    view: slice ? sliceOf(view, ...slice) : view,
    offset,
  });
  let summed = sums === undefined;
  for (const { c: rowsOfC, products, partials, size, stride } of rows) {
    const result = taken(c, rowsOfC);
    const scratch = partials > 0 ? call.scratch({ shape: [partials * stride], dtype: "f32" }) : undefined;
    for (const { m, n, k, column, partial, splits, kStep, ...planned } of products) {
      const target = scratch ? { view: scratch, offset: partial! * stride } : result;
      const product: Product = {
        ...{ m, n, k, batch: batch.size, splits, kStep, splitStride: stride },
        a: {
          ...taken(a, planned.a),
          ...{ stride: strides.a, batchStride: batch.strideA, transposed: transposeA },
        },
        b: {
          ...taken(b, planned.b),
          ...{ stride: strides.b, batchStride: batch.strideB, transposed: transposeB },
        },
        c: {
          ...{ view: target.view, offset: target.offset + column },
          ...{ stride: strides.c, batchStride: m * strides.c, transposed: false },
        },
        bias: scratch === undefined && bias !== undefined ? { view: bias, offset: column } : undefined,
        activation: scratch === undefined ? activation : "linear",
      };
      const together = !summed && whole && k <= LONGEST_SUM && family.sumsColumns(call, product);
      if (!summed && !together) sumColumns(call, b, sums!);
      family.run(call, together ? { ...product, columnSums: sums } : product);
      summed = true;
    }
    if (scratch !== undefined) {
      addPartials(call, {
        ...{ from: scratch, partials, splitStride: stride, size },
        ...{ to: result.view, offset: result.offset, n: strides.c, bias },
      });
    }
  }
}

interface Partials {
  /** [partials, splitStride] of which the first `size` elements of each row are a C. */
  readonly from: GpuView;
  readonly partials: number;
  readonly splitStride: number;
  readonly size: number;
  readonly to: GpuView;
  readonly offset: number;
  readonly n: number;
  readonly bias: GpuView | undefined;
}

/** to[offset + i] = activation(sum over p of from[p][i] + bias[i % n]), p in rising order. */
function addPartials(call: GpuCall<MatmulParams>, p: Partials): void {
  const { activation } = call.params;
  const vector = p.size % 4 === 0 && p.offset % 4 === 0 && (p.bias === undefined || p.n % 4 === 0);
  const width = vector ? 4 : 1;
  const type = vector ? "vec4f" : "f32";
  const loop = rolledLoop(call.profile, p.size / width);
  call.dispatch({
    key: `add partials ${activation}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationWgsl(activation, type),
      body: loop.body(/* wgsl */ `
    var sum = partials[i];
    for (var p = 1u; p < u.partials; p++) { sum += partials[p * u.stride + i]; }
    c[u.offset + i] = activation(sum${p.bias === undefined ? "" : " + bias[i % u.n]"});`),
    }),
    bindings: [
      { name: "partials", view: p.from, type },
      ...(p.bias === undefined ? [] : [{ name: "bias", view: p.bias, type }]),
      { name: "c", view: p.to, type, access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      partials: p.partials,
      stride: p.splitStride / width,
      offset: p.offset / width,
      n: p.n / width,
    },
    workgroups: loop.workgroups,
  });
}
