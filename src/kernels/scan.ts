// Sums of all elements up to each one along an axis: x [outer, n, inner] -> y [outer, n, inner],
//   y[o, j, i] = sum of x[o, k, i] over k <= j,
// exclusive: over k < j; reverse: over k >= j (k > j). f32, i32, u32; integer sums wrap.
//
// An invocation adds up a row, one element after the other, where there are rows enough or they are short. A long row
// is cut into chunks of about sqrt(n). First come their sums, next the sums of those before each chunk, and then each
// chunk from there on. So rounding errors grow with sqrt(n), too.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { sizeOf } from "../tensor/shape.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { boxLoop } from "./box.js";

export interface CumsumParams {
  readonly axis: number;
  readonly exclusive: boolean;
  readonly reverse: boolean;
}

const fold = (shape: readonly number[], axis: number) =>
  [sizeOf(shape.slice(0, axis)), shape[axis]!, sizeOf(shape.slice(axis + 1))] as const;

function reference(x: CpuView, y: CpuView, { axis, exclusive, reverse }: CumsumParams): void {
  const [outer, n, inner] = fold(x.shape, axis);
  for (let row = 0; row < outer * inner; row++) {
    const start = Math.floor(row / inner) * n * inner + (row % inner);
    let total = 0;
    for (let j = 0; j < n; j++) {
      const at = start + (reverse ? n - 1 - j : j) * inner;
      const sum = total + x.data[at]!;
      // Integer arrays wrap what they store; the sum of two integers is exact here.
      y.data[at] = exclusive ? total : sum;
      total = x.dtype === "f32" ? sum : x.dtype === "i32" ? sum | 0 : sum >>> 0;
    }
  }
}

/** Rows that are shorter, and rows of which there are as many, are not cut. */
const LONG_ROW = 128;
const MANY_ROWS = { software: 64, hardware: 16_384 };

/** Inputs [x], outputs [y]. */
export const cumsumKernel = defineKernel<CumsumParams>({
  name: "cumsum",
  cpu: ({ inputs: [x], outputs: [y], params }) => reference(x!, y!, params),
  webgpu: (call) => {
    const [x, y] = [call.inputs[0]!, call.outputs[0]!];
    const { axis } = call.params;
    const [outer, n, inner] = fold(x.shape, axis);
    const cut = n >= LONG_ROW && outer * inner < MANY_ROWS[call.profile.family];
    const chunk = cut ? Math.ceil(Math.sqrt(n)) : n;
    const chunks = cut ? Math.ceil(n / chunk) : 1;
    const sizes = { n, chunk, chunks, inner };
    const zero = `${x.dtype}(0)`;
    if (!cut) {
      scan(call, "rows", [outer, 1, inner], { x, y }, sizes, { before: zero });
      return;
    }
    const sums = call.scratch({ shape: [outer, chunks, inner], dtype: x.dtype });
    scan(call, "sums", [outer, chunks, inner], { x, sums }, sizes, {
      before: zero,
      after: "sums[(c0 * u.chunks + c1) * u.inner + c2] = total;",
    });
    const loop = boxLoop(call.profile, [outer, inner]);
    call.dispatch({
      key: `offsets ${x.dtype}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `
    var total = ${zero};
    for (var k = 0u; k < u.chunks; k++) {
      let at = (c0 * u.chunks + k) * u.inner + c1;
      let sum = sums[at];
      sums[at] = total;
      total += sum;
    }`),
      }),
      bindings: [{ name: "sums", view: sums, type: x.dtype, access: "read_write" }],
      sizes: { ...loop.sizes, ...sizes },
      workgroups: loop.workgroups,
    });
    scan(call, "chunks", [outer, chunks, inner], { x, sums, y }, sizes, {
      before: "sums[(c0 * u.chunks + c1) * u.inner + c2]",
    });
  },
});

/** Adds up chunk c1 of row [c0, c2], and stores the sums where `y` is there. */
function scan(
  call: GpuCall<CumsumParams>,
  key: string,
  box: readonly number[],
  { x, sums, y }: { readonly x: GpuView; readonly sums?: GpuView; readonly y?: GpuView },
  sizes: Readonly<Record<string, number>>,
  { before, after = "" }: { readonly before: string; readonly after?: string },
): void {
  const { exclusive, reverse } = call.params;
  const loop = boxLoop(call.profile, box);
  const store = (value: string) => (y === undefined ? "" : `y[at] = ${value};`);
  call.dispatch({
    key: `${key} ${x.dtype} ${exclusive} ${reverse}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    var total = ${before};
    let end = min((c1 + 1u) * u.chunk, u.n);
    for (var j = c1 * u.chunk; j < end; j++) {
      let at = (c0 * u.n + ${reverse ? "u.n - 1u - j" : "j"}) * u.inner + c2;
      let value = x[at];
      ${exclusive ? store("total") : ""}
      total += value;
      ${exclusive ? "" : store("total")}
    }
    ${after}`),
    }),
    bindings: [
      { name: "x", view: x, type: x.dtype },
      ...(sums ? [{ name: "sums", view: sums, type: x.dtype, access: "read_write" } as const] : []),
      ...(y ? [{ name: "y", view: y, type: x.dtype, access: "read_write" } as const] : []),
    ],
    sizes: { ...loop.sizes, ...sizes },
    workgroups: loop.workgroups,
  });
}
