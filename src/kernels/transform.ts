// Moving elements: one strided copy serves transpose, slice, pad, flip, concat and their gradients (a slice's gradient
// is a pad and the reverse; a concat's are slices). Reshaping needs no kernel: Tensor.alias. Elements are copied as 32
// bits, whatever their dtype.
import { defineKernel } from "../tensor/kernel.js";
import { type GpuCall, type GpuView, sliceOf } from "../webgpu/program.js";
import { boxLoop } from "./box.js";
import { fillKernel } from "./fill.js";

/**
 * Copies a box of elements: for every position p < shape,
 * output[outputOffset + p . outputStrides] = input[inputOffset + p . inputStrides]; strides in elements.
 */
export interface Copy {
  readonly shape: readonly number[];
  readonly inputOffset: number;
  readonly inputStrides: readonly number[];
  readonly outputOffset: number;
  /** Positive: distinct positions write distinct elements. */
  readonly outputStrides: readonly number[];
}

export interface CopyParams {
  /** copies[k] reads inputs[k]. */
  readonly copies: readonly Copy[];
  /** Value of the elements that no copy writes; needed where there are any. */
  readonly fill?: number;
}

/** Inputs of one dtype, outputs [y] of that dtype. */
export const stridedCopyKernel = defineKernel<CopyParams>({
  name: "stridedCopy",
  cpu: ({ inputs, outputs: [y], params: { copies, fill } }) => {
    if (fill !== undefined) y!.data.fill(fill);
    for (const [k, { shape, inputStrides, outputStrides, ...offsets }] of copies.entries()) {
      const visit = (axis: number, from: number, to: number): void => {
        if (axis === shape.length) y!.data[to] = inputs[k]!.data[from]!;
        else {
          const [stepFrom, stepTo] = [inputStrides[axis]!, outputStrides[axis]!];
          for (let p = 0; p < shape[axis]!; p++) visit(axis + 1, from + p * stepFrom, to + p * stepTo);
        }
      };
      visit(0, offsets.inputOffset, offsets.outputOffset);
    }
  },
  webgpu: (call) => {
    const { copies, fill } = call.params;
    if (fill !== undefined) fillKernel.webgpu({ ...call, params: { value: fill } });
    for (const [k, copy] of copies.entries())
      dispatchCopy(call, call.inputs[k]!, call.outputs[0]!, planOf(copy, call.outputs[0]!.size));
  },
});

/** An axis of a copy: extent, input stride, output stride. */
interface Axis {
  readonly n: number;
  readonly from: number;
  readonly to: number;
}

/** A copy with the fewest axes, the output's innermost last. */
interface Plan {
  readonly axes: readonly Axis[];
  readonly from: number;
  readonly to: number;
}

function planOf(copy: Copy, outputSize: number): Plan {
  const { shape, inputStrides, outputStrides, inputOffset: from, outputOffset: to } = copy;
  const axes: Axis[] = [];
  const all = shape.map((n, k) => ({ n, from: inputStrides[k]!, to: outputStrides[k]! }));
  for (const axis of all.filter(({ n }) => n !== 1).sort((a, b) => b.to - a.to)) {
    const outer = axes.at(-1);
    if (outer !== undefined && outer.from === axis.n * axis.from && outer.to === axis.n * axis.to) {
      axes[axes.length - 1] = { ...axis, n: outer.n * axis.n };
    } else axes.push(axis);
  }
  if (axes.length === 0) axes.push({ n: 1, from: 1, to: 1 });
  const [{ n, ...strides }] = axes as [Axis];
  // The last elements of an output may be copied together with the padding behind them.
  if (axes.length === 1 && strides.from === 1 && strides.to === 1 && fours(from, to) && to + n === outputSize) {
    axes[0] = { ...strides, n: Math.ceil(n / 4) * 4 };
  }
  return { axes, from, to };
}

const fours = (...values: number[]) => values.every((value) => value % 4 === 0);

/** First element that one side of a plan touches, and how many from there to the last. */
function extentOf({ axes, ...offsets }: Plan, side: "from" | "to"): { first: number; count: number } {
  let first = offsets[side];
  let last = first;
  for (const axis of axes) {
    const reach = (axis.n - 1) * axis[side];
    if (reach < 0) first += reach;
    else last += reach;
  }
  return { first, count: last - first + 1 };
}

function dispatchCopy(call: GpuCall<unknown>, input: GpuView, output: GpuView, plan: Plan): void {
  if (plan.axes.some(({ n }) => n === 0)) return;
  // Bind only what is touched, from a multiple of 64 elements on; halve what is still too large for a binding.
  const sides = { from: input, to: output };
  const slices = { from: input, to: output };
  const offsets = { from: plan.from, to: plan.to };
  for (const side of ["from", "to"] as const) {
    if (sides[side].byteLength <= call.profile.maxBindingBytes) continue;
    const { first, count } = extentOf(plan, side);
    const start = Math.floor(first / 64) * 64;
    const slice = sliceOf(sides[side], start, Math.min(first + count, sides[side].size) - start);
    if (slice.byteLength > call.profile.maxBindingBytes) {
      for (const half of halves(plan, side)) dispatchCopy(call, input, output, half);
      return;
    }
    slices[side] = slice;
    offsets[side] -= start;
  }
  dispatchSlice(call, slices.from, slices.to, { axes: plan.axes, ...offsets });
}

/** Two halves along the axis that reaches farthest on one side. */
function halves({ axes, from, to }: Plan, side: "from" | "to"): [Plan, Plan] {
  const reach = ({ n, [side]: stride }: Axis) => (n - 1) * Math.abs(stride);
  const longest = axes.reduce((a, b) => (reach(b) > reach(a) ? b : a));
  // A multiple of 64 where possible, so that vec4s stay whole.
  const n = longest.n > 64 ? Math.round(longest.n / 128) * 64 : Math.ceil(longest.n / 2);
  const withExtent = (extent: number) => axes.map((axis) => (axis === longest ? { ...axis, n: extent } : axis));
  return [
    { axes: withExtent(n), from, to },
    { axes: withExtent(longest.n - n), from: from + n * longest.from, to: to + n * longest.to },
  ];
}

function dispatchSlice(call: GpuCall<unknown>, input: GpuView, output: GpuView, plan: Plan): void {
  const { axes } = plan;
  const last = axes.at(-1)!;
  /** Whether all but the axes of unit stride lie on multiples of four elements. */
  const aligned = (unitFrom: Axis, unitTo: Axis) =>
    fours(plan.from, plan.to, unitFrom.n, unitTo.n) &&
    axes.every((axis) => (axis === unitFrom || fours(axis.from)) && (axis === unitTo || fours(axis.to)));
  const across = axes.find((axis) => axis !== last && axis.from === 1);
  if (last.to === 1 && last.from === 1 && aligned(last, last)) {
    const vectors = axes.map((a) => (a === last ? scaled(a, 4, 1) : scaled(a, 1, 4)));
    dispatchLoop(call, "rows", input, output, { axes: vectors, from: plan.from / 4, to: plan.to / 4 });
  } else if (last.to === 1 && across !== undefined && aligned(across, last)) {
    // Blocks of 4 x 4 elements: `across` runs along the input, `last` along the output.
    const blocks = axes.map((a) => (a === across || a === last ? scaled(a, 4, 1) : scaled(a, 1, 4)));
    dispatchLoop(
      call,
      "blocks",
      input,
      output,
      { axes: blocks, from: plan.from / 4, to: plan.to / 4 },
      { xRow: last.from / 4, yRow: across.to / 4 },
    );
  } else dispatchLoop(call, "elements", input, output, plan);
}

const scaled = ({ n, from, to }: Axis, byExtent: number, byStride: number): Axis => ({
  n: n / byExtent,
  from: from / byStride,
  to: to / byStride,
});

/** WGSL that moves the cell from x[f] to y[t], in elements or vec4s. */
const MOVES = {
  elements: "y[t] = x[f];",
  rows: "y[t] = x[f];",
  blocks: /* wgsl */ `let a = x[f]; let b = x[f + u.xRow]; let c = x[f + 2u * u.xRow]; let d = x[f + 3u * u.xRow];
    y[t] = vec4u(a.x, b.x, c.x, d.x);
    y[t + u.yRow] = vec4u(a.y, b.y, c.y, d.y);
    y[t + 2u * u.yRow] = vec4u(a.z, b.z, c.z, d.z);
    y[t + 3u * u.yRow] = vec4u(a.w, b.w, c.w, d.w);`,
};

function dispatchLoop(
  call: GpuCall<unknown>,
  kind: keyof typeof MOVES,
  input: GpuView,
  output: GpuView,
  { axes, from, to }: Plan,
  extra: Readonly<Record<string, number>> = {},
): void {
  const loop = boxLoop(
    call.profile,
    axes.map(({ n }) => n),
  );
  const sizes: Record<string, number> = { ...loop.sizes, xOffset: from, yOffset: to, ...extra };
  for (const [k, axis] of axes.entries()) {
    sizes[`xStride${k}`] = axis.from;
    sizes[`yStride${k}`] = axis.to;
  }
  const index = (of: "x" | "y") => [`u.${of}Offset`, ...axes.map((_, k) => `c${k} * u.${of}Stride${k}`)].join(" + ");
  const type = kind === "elements" ? "u32" : "vec4u";
  call.dispatch({
    key: `${kind} ${axes.length}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(`let f = ${index("x")}; let t = ${index("y")};\n    ${MOVES[kind]}`),
    }),
    bindings: [
      { name: "x", view: input, type },
      { name: "y", view: output, type, access: "read_write" },
    ],
    sizes,
    workgroups: loop.workgroups,
  });
}
