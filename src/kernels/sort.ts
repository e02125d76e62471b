// Order along the last axis: the indices that sort rows x [rows, n], or the first k of them; and moving elements of
// rows by index, there and back.
//
// Elements are compared as u32 keys, in whose order floats stand when all bits of negative ones and the sign of others
// are inverted. A NaN is larger than all that is none, as in PyTorch and NumPy; -0 and 0 are equal. Equal elements stay
// in their order, ascending and descending.
//
// Runs of 32 elements are sorted by counting: an element's place is the number of those before it. Then runs are merged
// by pairs. An element's place is its own, and the number of the other run's elements before it, which a binary search
// finds. Where only the first k are asked for, no run is longer than k: what lies behind cannot be among them. Distinct
// elements write distinct places, so no order of invocations shows.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { sizeOf } from "../tensor/shape.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { boxLoop } from "./box.js";
import { fillKernel } from "./fill.js";

export interface ArgsortParams {
  readonly descending: boolean;
}

const RUN = 32;

/** WGSL of an element's key from its bits, by dtype. */
const KEYS = {
  f32: `select(select(bits | 0x80000000u, ~bits, bits > 0x80000000u), 0xffffffffu, (bits & 0x7fffffffu) > 0x7f800000u)`,
  i32: "bits ^ 0x80000000u",
  u32: "bits",
};

const keyFunction = (dtype: GpuView["dtype"], descending: boolean) => /* wgsl */ `
fn keyOf(bits: u32) -> u32 { let key = ${KEYS[dtype]}; return ${descending ? "~key" : "key"}; }`;

/** Smaller than 0 where a comes before b; NaN is the largest. */
function compare(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a - b || 0;
}

function reference(x: CpuView, indices: CpuView, descending: boolean): void {
  const [n, k] = [x.shape.at(-1)!, indices.shape.at(-1)!];
  for (let row = 0; row < x.size / n; row++) {
    const values = x.data.subarray(row * n, (row + 1) * n);
    const order = Array.from(values, (_, j) => j).sort((a, b) => {
      // Infinities of one sign are equal.
      const [first, second] = [values[a]!, values[b]!];
      const before = first === second ? 0 : compare(first, second);
      return descending ? -before : before;
    });
    indices.data.set(order.slice(0, k), row * k);
  }
}

/** Runs of rows: key and index of every element, `kept` places for every run of which `span` elements were. */
interface Runs {
  readonly keys: GpuView;
  readonly indices: GpuView;
  readonly count: number;
  readonly span: number;
  readonly kept: number;
}

/** Inputs [x [..., n]], outputs [indices i32 [..., k]], k <= n: of the k smallest (descending: largest), in order. */
export const argsortKernel = defineKernel<ArgsortParams>({
  name: "argsort",
  cpu: ({ inputs: [x], outputs: [indices], params }) => reference(x!, indices!, params.descending),
  webgpu: (call) => {
    const [x, result] = [call.inputs[0]!, call.outputs[0]!];
    const n = x.shape.at(-1)!;
    const k = result.shape.at(-1)!;
    if (result.size === 0) return;
    const rows = sizeOf(x.shape.slice(0, -1));
    let runs = sortedRuns(call, { n, k, rows });
    while (runs.count > 1) runs = merged(call, runs, { n, k, rows });
  },
});

interface Sizes {
  readonly rows: number;
  readonly n: number;
  readonly k: number;
}

/** Memory of runs: the last one's indices are the result. */
function runsOf(call: GpuCall<ArgsortParams>, { rows, n, k }: Sizes, span: number): Runs {
  const count = Math.ceil(n / span);
  const kept = Math.min(span, k);
  const scratch = () => call.scratch({ shape: [rows, count, kept], dtype: "u32" });
  return { keys: scratch(), indices: count === 1 ? call.outputs[0]! : scratch(), count, span, kept };
}

function sortedRuns(call: GpuCall<ArgsortParams>, sizes: Sizes): Runs {
  const x = call.inputs[0]!;
  const { rows, n } = sizes;
  const runs = runsOf(call, sizes, RUN);
  const loop = boxLoop(call.profile, [rows, n]);
  call.dispatch({
    key: `runs ${x.dtype} ${call.params.descending}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: keyFunction(x.dtype, call.params.descending),
      body: loop.body(/* wgsl */ `
    let run = c1 / ${RUN}u;
    let start = c0 * u.n;
    let key = keyOf(${zeroed("x[start + c1]", x.dtype)});
    var place = 0u;
    let end = min((run + 1u) * ${RUN}u, u.n);
    for (var j = run * ${RUN}u; j < end; j++) {
      let other = keyOf(${zeroed("x[start + j]", x.dtype)});
      place += u32(other < key || (other == key && j < c1));
    }
    if (place < u.kept) {
      let at = (c0 * u.runs + run) * u.kept + place;
      keys[at] = key;
      indices[at] = c1;
    }`),
    }),
    bindings: [
      { name: "x", view: x, type: "u32" },
      { name: "keys", view: runs.keys, type: "u32", access: "read_write" },
      { name: "indices", view: runs.indices, type: "u32", access: "read_write" },
    ],
    sizes: { ...loop.sizes, n, runs: runs.count, kept: runs.kept },
    workgroups: loop.workgroups,
  });
  return runs;
}

/** -0 as 0. */
const zeroed = (bits: string, dtype: GpuView["dtype"]) =>
  dtype === "f32" ? `select(${bits}, 0u, ${bits} == 0x80000000u)` : bits;

function merged(call: GpuCall<ArgsortParams>, from: Runs, sizes: Sizes): Runs {
  const { rows, n } = sizes;
  const to = runsOf(call, sizes, 2 * from.span);
  const loop = boxLoop(call.profile, [rows, from.count, from.kept]);
  call.dispatch({
    key: "merge",
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: /* wgsl */ `
fn lengthOf(run: u32) -> u32 { return min(u.kept, select(0u, u.n - run * u.span, run < u.runs)); }`,
      body: loop.body(/* wgsl */ `
    if (c2 < lengthOf(c1)) {
      let at = (c0 * u.runs + c1) * u.kept + c2;
      let key = keys[at];
      // Equal elements of the run before come first.
      let after = c1 % 2u;
      let start = (c0 * u.runs + (c1 ^ 1u)) * u.kept;
      var low = 0u;
      var high = lengthOf(c1 ^ 1u);
      while (low < high) {
        let middle = (low + high) / 2u;
        let other = keys[start + middle];
        if (other < key || (other == key && after == 1u)) { low = middle + 1u; } else { high = middle; }
      }
      let place = c2 + low;
      if (place < u.placesKept) {
        let target_at = (c0 * u.pairs + c1 / 2u) * u.placesKept + place;
        keysTo[target_at] = key;
        indicesTo[target_at] = indices[at];
      }
    }`),
    }),
    bindings: [
      { name: "keys", view: from.keys, type: "u32" },
      { name: "indices", view: from.indices, type: "u32" },
      { name: "keysTo", view: to.keys, type: "u32", access: "read_write" },
      { name: "indicesTo", view: to.indices, type: "u32", access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      n,
      runs: from.count,
      span: from.span,
      kept: from.kept,
      pairs: to.count,
      placesKept: to.kept,
    },
    workgroups: loop.workgroups,
  });
  return to;
}

/** y[row, j] = x[row, indices[row, j]]. Inputs [x [..., n], any dtype, indices i32 [..., k]], outputs [y [..., k]]. */
export const takeAlongKernel = defineKernel<Record<never, never>>({
  name: "takeAlong",
  cpu: ({ inputs: [x, indices], outputs: [y] }) => {
    const [n, k] = [x!.shape.at(-1)!, y!.shape.at(-1)!];
    for (let i = 0; i < y!.size; i++) y!.data[i] = x!.data[Math.floor(i / k) * n + indices!.data[i]!]!;
  },
  webgpu: (call) => {
    const [x, indices] = call.inputs as [GpuView, GpuView];
    moveAlong(call, indices, x, "y[i] = x[c0 * u.n + u32(indices[i])];", { n: x.shape.at(-1)! });
  },
});

/**
 * Its adjoint for indices that are distinct in a row: y[row, indices[row, j]] = x[row, j], and 0 elsewhere. Inputs [x
 * [..., k], indices i32 [..., k]], outputs [y [..., n]].
 */
export const putAlongKernel = defineKernel<Record<never, never>>({
  name: "putAlong",
  cpu: ({ inputs: [x, indices], outputs: [y] }) => {
    const [k, n] = [x!.shape.at(-1)!, y!.shape.at(-1)!];
    y!.data.fill(0);
    for (let i = 0; i < x!.size; i++) y!.data[Math.floor(i / k) * n + indices!.data[i]!] = x!.data[i]!;
  },
  webgpu: (call) => {
    const [x, indices] = call.inputs as [GpuView, GpuView];
    const y = call.outputs[0]!;
    if (y.size > x.size) fillKernel.webgpu({ ...call, params: { value: 0 } });
    moveAlong(call, indices, x, "y[c0 * u.n + u32(indices[i])] = x[i];", { n: y.shape.at(-1)! });
  },
});

function moveAlong(
  call: GpuCall<unknown>,
  indices: GpuView,
  x: GpuView,
  statement: string,
  sizes: Readonly<Record<string, number>>,
): void {
  const k = indices.shape.at(-1)!;
  const loop = boxLoop(call.profile, [sizeOf(indices.shape.slice(0, -1)), k]);
  call.dispatch({
    key: "",
    program: () => ({ workgroupSize: loop.workgroupSize, body: loop.body(statement) }),
    bindings: [
      { name: "x", view: x, type: "u32" },
      { name: "indices", view: indices, type: "i32" },
      { name: "y", view: call.outputs[0]!, type: "u32", access: "read_write" },
    ],
    sizes: { ...loop.sizes, ...sizes },
    workgroups: loop.workgroups,
  });
}
