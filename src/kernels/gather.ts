// Picking rows by index, and its gradient; one-hot rows. x is seen as [outer, n, inner] with the picked axis in the
// middle, indices as [count]. An index out of range, negative ones among them, cannot be an error where nobody waits
// for the GPU. It gives what nobody takes for a value, alike on both devices: NaN in f32, -2^31 in i32, 2^32 - 1 in
// u32. The gradient of such a row goes nowhere.
import type { DType } from "../tensor/dtype.js";
import { defineKernel } from "../tensor/kernel.js";
import { sizeOf } from "../tensor/shape.js";
import { type GpuCall, type GpuView, sliceOf } from "../webgpu/program.js";
import { boxLoop } from "./box.js";

export interface GatherParams {
  readonly axis: number;
}

/** [outer, n, inner] of a shape around an axis. */
function fold(shape: readonly number[], axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis]!, sizeOf(shape.slice(axis + 1))];
}

/** What stands where an index was out of range: the value, and its bits. */
const NOTHING: Readonly<Record<DType, { readonly value: number; readonly bits: number }>> = {
  f32: { value: Number.NaN, bits: 0x7fc00000 },
  i32: { value: -(2 ** 31), bits: 0x80000000 },
  u32: { value: 2 ** 32 - 1, bits: 0xffffffff },
};

const inRange = (index: number, n: number) => index >= 0 && index < n;

/** Vec4s where rows are whole vec4s, else elements. */
function rowType(inner: number): { type: "vec4u" | "u32"; width: number } {
  return inner % 4 === 0 ? { type: "vec4u", width: 4 } : { type: "u32", width: 1 };
}

/**
 * y[o, k, :] = x[o, indices[k], :], or NOTHING. Inputs [x of any dtype [outer, n, inner], indices i32 [count]], outputs
 * [y [outer, count, inner]]. x may exceed a binding when axis is 0: rows are then picked slice by slice.
 */
export const gatherKernel = defineKernel<GatherParams>({
  name: "gather",
  cpu: ({ inputs: [x, indices], outputs: [y], params: { axis } }) => {
    const [outer, n, inner] = fold(x!.shape, axis);
    for (let o = 0, to = 0; o < outer; o++) {
      for (const index of indices!.data) {
        const from = (o * n + index) * inner;
        for (let k = 0; k < inner; k++) {
          y!.data[to++] = inRange(index, n) ? x!.data[from + k]! : NOTHING[y!.dtype].value;
        }
      }
    }
  },
  webgpu: (call) => {
    const [x, indices] = call.inputs as [GpuView, GpuView];
    const [outer, n, inner] = fold(x.shape, call.params.axis);
    const { type, width } = rowType(inner);
    const loop = boxLoop(call.profile, [outer, indices.size, inner / width]);
    for (const { view, first, end, skipped } of rowWindows(call, x, outer, n, inner)) {
      call.dispatch({
        key: type,
        program: () => ({
          workgroupSize: loop.workgroupSize,
          // As u32, negative indices are huge.
          body: loop.body(/* wgsl */ `let row = indices[c1];
    if (row >= u.first && row < u.end) { y[i] = x[u.skipped + (c0 * u.n + row - u.first) * u.inner + c2]; }
    else if (row >= u.n) { y[i] = ${type}(u.nothing); }`),
        }),
        bindings: [
          { name: "x", view, type },
          { name: "indices", view: indices, type: "u32" },
          { name: "y", view: call.outputs[0]!, type, access: "read_write" },
        ],
        sizes: {
          ...loop.sizes,
          n,
          inner: inner / width,
          first,
          end,
          skipped: skipped / width,
          nothing: NOTHING[x.dtype].bits,
        },
        workgroups: loop.workgroups,
      });
    }
  },
});

/** Rows [first, end) of x as a view; its first `skipped` elements come before row `first`. */
function* rowWindows(call: GpuCall<unknown>, x: GpuView, outer: number, n: number, inner: number) {
  const { maxBindingBytes } = call.profile;
  if (x.byteLength <= maxBindingBytes || outer !== 1) {
    yield { view: x, first: 0, end: n, skipped: 0 };
    return;
  }
  const rows = Math.max(1, Math.floor((maxBindingBytes / 4 - 64) / inner));
  for (let first = 0; first < n; first += rows) {
    const end = Math.min(n, first + rows);
    const start = Math.floor((first * inner) / 64) * 64;
    yield { view: sliceOf(x, start, end * inner - start), first, end, skipped: first * inner - start };
  }
}

/**
 * dx[o, r, :] = sum of dy[o, k, :] over k with indices[k] = r, in the order of k: no atomics, the same bits every time.
 * Every row looks at all indices, which is meant for moderate counts. Inputs [dy f32 [outer, count, inner], indices i32
 * [count]], outputs [dx f32 [outer, n, inner]].
 */
export const gatherGradientKernel = defineKernel<GatherParams>({
  name: "gatherGradient",
  cpu: ({ inputs: [dy, indices], outputs: [dx], params: { axis } }) => {
    const [outer, n, inner] = fold(dx!.shape, axis);
    dx!.data.fill(0);
    for (let o = 0, from = 0; o < outer; o++) {
      for (const index of indices!.data) {
        const to = (o * n + index) * inner;
        if (inRange(index, n)) for (let k = 0; k < inner; k++) dx!.data[to + k]! += dy!.data[from + k]!;
        from += inner;
      }
    }
  },
  webgpu: (call) => {
    const [dy, indices] = call.inputs as [GpuView, GpuView];
    const dx = call.outputs[0]!;
    const [outer, n, inner] = fold(dx.shape, call.params.axis);
    const type = inner % 4 === 0 ? "vec4f" : "f32";
    const width = inner % 4 === 0 ? 4 : 1;
    const loop = boxLoop(call.profile, [outer, n, inner / width]);
    call.dispatch({
      key: type,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `var sum = ${type}(0.0);
    var at = c0 * u.picks * u.inner + c2;
    for (var k = 0u; k < u.picks; k++) {
      if (indices[k] == c1) { sum += dy[at]; }
      at += u.inner;
    }
    dx[i] = sum;`),
      }),
      bindings: [
        { name: "dy", view: dy, type },
        { name: "indices", view: indices, type: "u32" },
        { name: "dx", view: dx, type, access: "read_write" },
      ],
      sizes: { ...loop.sizes, picks: indices.size, inner: inner / width },
      workgroups: loop.workgroups,
    });
  },
});

/**
 * y[k, d] = 1 where indices[k] = d, else 0; a row of NaN where no d is. Inputs [indices i32 or u32 [count]], outputs [y
 * f32 [count, depth]].
 */
export const oneHotKernel = defineKernel<Record<never, never>>({
  name: "oneHot",
  cpu: ({ inputs: [indices], outputs: [y] }) => {
    const depth = y!.shape.at(-1)!;
    y!.data.fill(0);
    indices!.data.forEach((index, k) => {
      if (inRange(index, depth)) y!.data[k * depth + index] = 1;
      else y!.data.fill(Number.NaN, k * depth, (k + 1) * depth);
    });
  },
  webgpu: (call) => {
    const indices = call.inputs[0]!;
    const y = call.outputs[0]!;
    const depth = y.shape.at(-1)!;
    const loop = boxLoop(call.profile, [indices.size, depth]);
    call.dispatch({
      key: "",
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(
          "let index = indices[c0]; y[i] = select(select(0.0, 1.0, index == c1), u.nothing, index >= u.depth);",
        ),
      }),
      bindings: [
        { name: "indices", view: indices, type: "u32" },
        { name: "y", view: y, type: "f32", access: "read_write" },
      ],
      sizes: { ...loop.sizes, depth },
      numbers: { nothing: NOTHING.f32.value },
      workgroups: loop.workgroups,
    });
  },
});
