// Matrix products: C = activation(op(A) op(B) + bias), op(X) = X or its transpose.
//   a: [..., M, K] or, transposed, [..., K, M];  b: [..., K, N] or, transposed, [..., N, K];  bias: [N] (optional)
//   c: [..., M, N]; the batch axes "..." broadcast;  sums of B's columns: [N] (optional, of a single product)
// This file plans (batches, operands larger than a binding, pieces of k) and holds the float64 reference; the WGSL of a
// single product is in matmul-subgroup.ts (software profile) and matmul-shared.ts (hardware).
import type { Device } from "../tensor/device.js";
import { defineKernel } from "../tensor/kernel.js";
import { broadcastShapes, broadcastStrides, type Shape, sizeOf } from "../tensor/shape.js";
import { empty, run } from "../tensor/tensor.js";
import { type GpuCall, type GpuView, MAX_WORKGROUPS, windowOf } from "../webgpu/program.js";
import { defineTunable } from "../webgpu/tuning.js";
import { activationCpu, activationWgsl } from "./activation.js";
import { TALL_FORM } from "./matmul-panel.js";
import { MAX_SPLITS, type MatmulParams, type Product } from "./matmul-product.js";
import { sharedFamily } from "./matmul-shared.js";
import { subgroupFamily, TRIP_FORM } from "./matmul-subgroup.js";
import { dispatchReduce } from "./reduce.js";
import { rolledLoop } from "./rolled.js";
import { SUBGROUP_LANES } from "./subgroup-tile.js";
import { TILES_FORM } from "./tile-choice.js";

interface Sizes {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** A run of batch axes along which both operands advance evenly; strides in elements. */
interface BatchAxis {
  readonly size: number;
  readonly strideA: number;
  readonly strideB: number;
}

/** M, N, K, and the batch axes, outermost first, joined where both operands allow it. Expects shapes that fit. */
function describe(a: Shape, b: Shape, { transposeA, transposeB }: MatmulParams) {
  const [rowsA, columnsA] = a.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.slice(-2) as [number, number];
  const shape = broadcastShapes("matmul", a.slice(0, -2), b.slice(0, -2));
  const stridesA = broadcastStrides(a.slice(0, -2), shape);
  const stridesB = broadcastStrides(b.slice(0, -2), shape);
  const axes: BatchAxis[] = [];
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i]!;
    const strideA = stridesA[i]! * rowsA * columnsA;
    const strideB = stridesB[i]! * rowsB * columnsB;
    const inner = axes[0];
    if (size === 1) continue;
    if (inner !== undefined && strideA === inner.strideA * inner.size && strideB === inner.strideB * inner.size) {
      axes[0] = { ...inner, size: inner.size * size };
    } else axes.unshift({ size, strideA, strideB });
  }
  return {
    m: transposeA ? columnsA : rowsA,
    k: transposeA ? rowsA : columnsA,
    n: transposeB ? rowsB : columnsB,
    count: sizeOf(shape),
    axes,
  };
}

/** Where in A and B the matrices with linear index `matrix` over `axes` begin. */
function offsetsOf(axes: readonly BatchAxis[], matrix: number): [number, number] {
  let offsetA = 0;
  let offsetB = 0;
  let remaining = matrix;
  for (const { size, strideA, strideB } of axes.toReversed()) {
    offsetA += (remaining % size) * strideA;
    offsetB += (remaining % size) * strideB;
    remaining = Math.floor(remaining / size);
  }
  return [offsetA, offsetB];
}

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
          for (let p = 0; p < k; p++, atA += stepAk, atB += stepBk) sum += a!.data[atA]! * b!.data[atB]!;
          c!.data[(matrix * m + i) * n + j] = act(sum);
        }
      }
    }
  },
  webgpu(call) {
    const [a, b] = call.inputs as readonly [GpuView, GpuView];
    if (call.outputs[0]!.size === 0) return;
    const { n, k, axes, ...rest } = describe(a.shape, b.shape, call.params);
    let { m } = rest;
    // Many matrices times one: the rows of all of them are the rows of a single product.
    const last = axes.at(-1);
    if (last !== undefined && last.strideB === 0 && last.strideA === m * k && !call.params.transposeA) {
      m *= last.size;
      axes.pop();
    }
    // The innermost batch axis goes into the workgroups' third dimension, the others are dispatches of their own.
    const batch = axes.pop() ?? { size: 1, strideA: 0, strideB: 0 };
    const outer = axes.reduce((count, axis) => count * axis.size, 1);
    const most = Math.floor(MAX_WORKGROUPS / MAX_SPLITS);
    for (let matrix = 0; matrix < outer; matrix++) {
      const [offsetA, offsetB] = offsetsOf(axes, matrix);
      for (let first = 0; first < batch.size; first += most) {
        multiply(call, {
          sizes: { m, n, k },
          batch: { ...batch, size: Math.min(most, batch.size - first) },
          offsetA: offsetA + first * batch.strideA,
          offsetB: offsetB + first * batch.strideB,
          offsetC: (matrix * batch.size + first) * m * n,
        });
      }
    }
  },
});

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
defineTunable({ ...TALL_FORM, profile: "software", sample: sample([256, 512], [512, 128], false) });
defineTunable({ ...TRIP_FORM, profile: "software", sample: sample([1024, 64], [1024, 128], true) });
defineTunable({ ...TILES_FORM, profile: "hardware", sample: sample([1024, 1024], [1024, 1024], false) });

/** Rows of B whose sums may be one chain of additions along with the product. */
const LONGEST_SUM = 512;

/** Equal products along one batch axis, and where the first one's matrices begin. */
interface Part {
  readonly sizes: Sizes;
  readonly batch: BatchAxis;
  readonly offsetA: number;
  readonly offsetB: number;
  readonly offsetC: number;
}

/**
 * Products whose operands may exceed the largest binding (only where there is no batch): windows over the rows of C and
 * of A and B as stored. A window over k gives a partial C, and so does a piece of k that was cut off to fill the device
 * with workgroups; a second pass adds the partial results in a fixed order.
 */
function multiply(call: GpuCall<MatmulParams>, { sizes: { m, n, k }, batch, offsetA, offsetB, offsetC }: Part): void {
  const [a, b, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
  const [c, sums] = call.outputs as readonly [GpuView, GpuView | undefined];
  const { transposeA, transposeB, activation } = call.params;
  const family = call.profile.subgroupSize === SUBGROUP_LANES ? subgroupFamily : sharedFamily;
  const most = Math.floor(call.profile.maxBindingBytes / 4);

  const alone = c.size === m * n;
  const tooLarge = (view: GpuView) => alone && view.size > most;
  /** Rows as stored, `length` elements each, of which no more than a binding holds are taken at a time. */
  const rowsOf = (view: GpuView, length: number): Limit[] => (tooLarge(view) ? [{ length, most, aligned: true }] : []);
  const [aLength, bLength] = [transposeA ? m : k, transposeB ? k : n];
  const nStep = rowsPerWindow(n, transposeB ? rowsOf(b, bLength) : []);
  const kWindow = rowsPerWindow(k, [
    ...(transposeA ? rowsOf(a, aLength) : []),
    ...(transposeB ? [] : rowsOf(b, bLength)),
  ]);
  const kWindows = Math.max(1, Math.ceil(k / kWindow));
  const partialC = { length: n, most: Math.floor(most / kWindows / 4) * 4, aligned: false };
  const mStep = rowsPerWindow(m, [
    ...(transposeA ? [] : rowsOf(a, aLength)),
    ...rowsOf(c, n),
    ...(kWindows > 1 ? [partialC] : []),
  ]);
  let splits = 1;
  let kStep = kWindow;
  if (kWindows === 1 && mStep >= m && nStep >= n) {
    const wanted = family.splitsFor({ m, n, k, batch: batch.size, transposedA: transposeA }, call.profile);
    const affordable = Math.max(1, Math.min(MAX_SPLITS, Math.floor(most / (batch.size * m * n + 3))));
    kStep = Math.max(4, Math.ceil(k / Math.min(wanted, affordable) / 4) * 4);
    splits = Math.max(1, Math.ceil(k / kStep));
  }
  const partials = kWindows * splits;

  const cut = (view: GpuView, offset: number, first: number, count: number, length: number) =>
    tooLarge(view)
      ? { view: windowOf(view, first * length, count * length), offset }
      : { view, offset: offset + first * length };
  for (const [m0, rows] of steps(m, mStep)) {
    const size = batch.size * rows * n;
    const splitStride = Math.ceil(size / 4) * 4;
    const result = cut(c, offsetC, m0, rows, n);
    const scratch = partials > 1 ? call.scratch({ shape: [partials * splitStride], dtype: "f32" }) : undefined;
    for (const [n0, columns] of steps(n, nStep)) {
      for (const [k0, depth] of steps(k, kWindow)) {
        const partial = scratch && { view: scratch, offset: Math.floor(k0 / kWindow) * splitStride };
        const [aFirst, aCount, aColumn] = transposeA ? [k0, depth, m0] : [m0, rows, k0];
        const [bFirst, bCount, bColumn] = transposeB ? [n0, columns, k0] : [k0, depth, n0];
        const target = partial ?? result;
        const product: Product = {
          m: rows,
          n: columns,
          k: depth,
          batch: batch.size,
          a: {
            ...cut(a, offsetA + aColumn, aFirst, aCount, aLength),
            stride: aLength,
            batchStride: batch.strideA,
            transposed: transposeA,
          },
          b: {
            ...cut(b, offsetB + bColumn, bFirst, bCount, bLength),
            stride: bLength,
            batchStride: batch.strideB,
            transposed: transposeB,
          },
          c: { view: target.view, offset: target.offset + n0, stride: n, batchStride: rows * n, transposed: false },
          splits,
          kStep: kWindows === 1 ? kStep : depth,
          splitStride,
          bias: partial === undefined && bias !== undefined ? { view: bias, offset: n0 } : undefined,
          activation: partial === undefined ? activation : "linear",
        };
        const whole = rows === m && columns === n && depth === k;
        const together = sums !== undefined && whole && k <= LONGEST_SUM && family.sumsColumns(call, product);
        if (sums !== undefined && !together && m0 + n0 + k0 === 0) {
          dispatchReduce(call, "sum", b, sums, { outer: 1, reduce: k, inner: n });
        }
        family.run(call, together ? { ...product, columnSums: sums } : product);
      }
    }
    if (scratch !== undefined) {
      addPartials(call, {
        from: scratch,
        partials,
        splitStride,
        size,
        to: result.view,
        offset: result.offset,
        n,
        bias,
      });
    }
  }
}

/** [start, count] of the pieces of `total`; one empty piece for 0. */
function steps(total: number, step: number): [number, number][] {
  const pieces: [number, number][] = [];
  for (let start = 0; start < total; start += step) pieces.push([start, Math.min(step, total - start)]);
  return pieces.length === 0 ? [[0, 0]] : pieces;
}

/** Matrices whose rows have `length` elements, taken `most` elements at a time; as windows if `aligned`. */
interface Limit {
  readonly length: number;
  readonly most: number;
  readonly aligned: boolean;
}

/**
 * Rows to take at a time, at least one. Windows begin where a binding may, on a multiple of 64 elements; where too many
 * rows would be needed for that, they exceed the limit, and the dispatch says so.
 */
function rowsPerWindow(rows: number, limits: readonly Limit[]): number {
  const fitting = Math.min(...limits.map(({ length, most }) => Math.floor(most / length)));
  if (rows <= fitting) return Math.max(1, rows);
  let unit = 4;
  while (limits.some(({ aligned, length }) => aligned && (unit * length) % 64 !== 0)) unit *= 2;
  return Math.max(unit, Math.floor(fitting / unit) * unit);
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
