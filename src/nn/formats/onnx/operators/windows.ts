// Operators of windows over images, signals and volumes: convolutions and poolings.
//
// The engine's operations take channels last. Inputs of ONNX's layout are transposed before and after, unless
// `channelsLast` says that they are not of it.
import { convTranspose2d } from "../../../../autograd/ops/conv-transpose.js";
import { conv2d } from "../../../../autograd/ops/conv2d.js";
import { full } from "../../../../autograd/ops/create.js";
import { abs, add, cast, div, greater, maximum, mul, pow, where } from "../../../../autograd/ops/elementwise.js";
import { addedRows } from "../../../../autograd/ops/gather.js";
import { norm } from "../../../../autograd/ops/norm.js";
import { avgPool2d, maxPool2d } from "../../../../autograd/ops/pool2d.js";
import { max, mean } from "../../../../autograd/ops/reduce.js";
import { split } from "../../../../autograd/ops/tile.js";
import { concat, pad, reshape, slice, strided, transpose } from "../../../../autograd/ops/transform.js";
import { type Shape, sizeOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";
import { fromLast, toLast } from "./numbers.js";

/** Sizes of a window along one axis. */
export interface Along {
  readonly input: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  /** Cells before and after. */
  readonly pads: readonly [number, number];
  /** How many windows there are. */
  readonly output: number;
}

/** [N, ..., C], whatever the layout of the call. */
export const imagesOf = (call: OperatorCall, i = 0): Tensor =>
  call.channelsLast ? call.float(i) : toLast(call.float(i));

/** The layout of the call. */
export const backFrom = (call: OperatorCall, y: Tensor): Value => call.like(0, call.channelsLast ? y : fromLast(y));

/** Windows over the axes between batch and channels, by the attributes that convolutions and poolings share. */
export function windowsOf(call: OperatorCall, sizes: Shape, kernel: Shape): Along[] {
  const rank = sizes.length;
  const list = (name: string) => {
    const given = call.numbers(name) ?? new Array<number>(rank).fill(1);
    return given.length === rank ? given : call.refuse(`must have ${rank} ${name}, has [${given}]`);
  };
  const [strides, dilations] = [list("strides"), list("dilations")];
  if (kernel.length !== rank) call.refuse(`must have a window of ${rank} axes, has [${kernel}]`);
  const given = call.numbers("pads") ?? new Array<number>(2 * rank).fill(0);
  if (given.length !== 2 * rank) call.refuse(`must have ${2 * rank} pads, has [${given}]`);
  const auto = call.choice("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"], "NOTSET");
  return sizes.map((input, k) => {
    const [size, stride, dilation] = [kernel[k]!, strides[k]!, dilations[k]!];
    if (!(size >= 1 && stride >= 1 && dilation >= 1)) call.refuse("must have windows, strides and dilations from 1");
    const extent = dilation * (size - 1) + 1;
    if (auto === "SAME_UPPER" || auto === "SAME_LOWER") {
      const output = Math.ceil(input / stride);
      const total = Math.max(0, (output - 1) * stride + extent - input);
      const less = Math.floor(total / 2);
      const pads = auto === "SAME_UPPER" ? ([less, total - less] as const) : ([total - less, less] as const);
      return { input, kernel: size, stride, dilation, pads, output };
    }
    const pads = auto === "VALID" ? ([0, 0] as const) : ([given[k]!, given[rank + k]!] as const);
    const steps = (input + pads[0] + pads[1] - extent) / stride;
    let output = (call.flag("ceil_mode") ? Math.ceil(steps) : Math.floor(steps)) + 1;
    // A window that begins behind the input and what is before it is left out.
    if (call.flag("ceil_mode") && (output - 1) * stride >= input + pads[0]) output--;
    if (output < 1) call.refuse(`must have windows within the input, which is ${input} long, and a window ${extent}`);
    return { input, kernel: size, stride, dilation, pads, output };
  });
}

/** Cells that windows reach behind the input. */
const behind = ({ input, kernel, stride, dilation, pads, output }: Along) =>
  (output - 1) * stride + dilation * (kernel - 1) + 1 - input - pads[0];

/** Kernels [Cout, Cin / groups, ...] as [..., Cin / groups, Cout]. */
const kernelLast = (w: Tensor) => transpose(w, [...w.shape.map((_, k) => k).slice(2), 1, 0]);

const pairs = <T>(windows: readonly Along[], of: (along: Along) => T): readonly [T, T] => [
  of(windows[0]!),
  of(windows[1]!),
];

function convolved(call: OperatorCall): Value {
  const x = imagesOf(call);
  const w = call.float(1);
  const group = call.number("group", 1);
  if (w.rank !== x.rank || w.rank < 3) call.refuse(`must have kernels of ${x.rank} axes, from 3, has [${w.shape}]`);
  const windows = windowsOf(call, x.shape.slice(1, -1), w.shape.slice(2));
  const bias = call.optional(2);
  return backFrom(call, convolution(x, kernelLast(w), windows, { group, bias }));
}

interface Grouped {
  readonly group: number;
  readonly bias?: Tensor | undefined;
}

/** x [N, ..., Cin], kernel [..., Cin / groups, Cout]: along one axis, two, or three and more by sums over the first. */
export function convolution(x: Tensor, kernel: Tensor, windows: readonly Along[], { group, bias }: Grouped): Tensor {
  if (windows.length === 1) {
    const one: Along = { input: 1, kernel: 1, stride: 1, dilation: 1, pads: [0, 0], output: 1 };
    const images = reshape(x, [x.shape[0]!, 1, x.shape[1]!, x.shape[2]!]);
    const y = convolution(images, reshape(kernel, [1, ...kernel.shape]), [one, windows[0]!], { group, bias });
    return reshape(y, [y.shape[0]!, y.shape[2]!, y.shape[3]!]);
  }
  if (windows.length === 2) {
    return conv2d(x, kernel, {
      strides: pairs(windows, ({ stride }) => stride),
      dilations: pairs(windows, ({ dilation }) => dilation),
      padding: pairs(windows, (along) => [along.pads[0], behind(along)] as const),
      groups: group,
      ...(bias && { bias }),
    });
  }
  const [first, ...rest] = windows as [Along, ...Along[]];
  const [n, ...inner] = x.shape as [number, ...number[]];
  const sides = x.shape.map((_, axis): [number, number] =>
    axis === 1 ? [first.pads[0], Math.max(0, behind(first))] : [0, 0],
  );
  const deep = pad(x, sides);
  let total: Tensor | undefined;
  for (let k = 0; k < first.kernel; k++) {
    const begin = deep.shape.map((_, axis) => (axis === 1 ? k * first.dilation : 0));
    const size = deep.shape.with(1, first.output);
    const layers = strided(
      deep,
      begin,
      size,
      size.map((_, axis) => (axis === 1 ? first.stride : 1)),
    );
    const part = reshape(
      slice(
        kernel,
        kernel.shape.map((_, axis) => (axis === 0 ? k : 0)),
        kernel.shape.with(0, 1),
      ),
      kernel.shape.slice(1),
    );
    const y = convolution(reshape(layers, [n * first.output, ...inner.slice(1)]), part, rest, { group });
    total = total === undefined ? y : add(total, y);
  }
  const y = bias === undefined ? total! : add(total!, bias);
  return reshape(y, [n, first.output, ...y.shape.slice(1)]);
}

/** One axis of a transposed convolution: cells that are cut off before and after, and ones added behind. */
interface Spread {
  readonly stride: number;
  readonly dilation: number;
  readonly pads: readonly [number, number];
  readonly more: number;
}

/**
 * x [N, ..., Cin], kernel [..., Cout, Cin]: along one axis, two, or three and more by sums over the first. Each cell of
 * a kernel along that axis gives images that stand `stride` apart.
 */
function transposed(x: Tensor, kernel: Tensor, axes: readonly Spread[]): Tensor {
  if (axes.length === 1) {
    const one: Spread = { stride: 1, dilation: 1, pads: [0, 0], more: 0 };
    const images = reshape(x, [x.shape[0]!, 1, ...x.shape.slice(1)]);
    const y = transposed(images, reshape(kernel, [1, ...kernel.shape]), [one, axes[0]!]);
    return reshape(y, [y.shape[0]!, ...y.shape.slice(2)]);
  }
  if (axes.length === 2) {
    const both = <T>(of: (axis: Spread) => T): readonly [T, T] => [of(axes[0]!), of(axes[1]!)];
    return convTranspose2d(x, kernel, {
      strides: both(({ stride }) => stride),
      dilations: both(({ dilation }) => dilation),
      padding: both(({ pads }) => pads),
      outputPadding: both(({ more }) => more),
    });
  }
  const [{ stride, dilation, pads, more }, ...rest] = axes as [Spread, ...Spread[]];
  const [n, depth, ...inner] = x.shape as [number, number, ...number[]];
  const cells = kernel.shape[0]!;
  const whole = (depth - 1) * stride + dilation * (cells - 1) + 1;
  const layers = reshape(x, [n * depth, ...inner]);
  let total: Tensor | undefined;
  for (let k = 0; k < cells; k++) {
    const begin = kernel.shape.map((_, axis) => (axis === 0 ? k : 0));
    const part = reshape(slice(kernel, begin, kernel.shape.with(0, 1)), kernel.shape.slice(1));
    const y = transposed(layers, part, rest);
    const sides = (after: number, before = 0) => [[0, 0], [before, after], ...y.shape.slice(1).map(() => [0, 0])];
    const apart = pad(reshape(y, [n * depth, 1, ...y.shape.slice(1)]), sides(stride - 1));
    const own = reshape(apart, [n, depth * stride, ...y.shape.slice(1)]);
    const spread = slice(
      own,
      own.shape.map(() => 0),
      own.shape.with(1, (depth - 1) * stride + 1),
    );
    const placed = pad(spread, sides(whole - spread.shape[1]! - k * dilation, k * dilation));
    total = total === undefined ? placed : add(total, placed);
  }
  const long =
    more > 0
      ? pad(
          total!,
          total!.shape.map((_, axis) => [0, axis === 1 ? more : 0]),
        )
      : total!;
  const size = long.shape[1]! - pads[0] - pads[1];
  return slice(
    long,
    long.shape.map((_, axis) => (axis === 1 ? pads[0] : 0)),
    long.shape.with(1, size),
  );
}

function convolvedBack(call: OperatorCall): Value {
  const x = imagesOf(call);
  const w = call.float(1);
  const group = call.number("group", 1);
  const rank = x.rank - 2;
  if (rank < 1 || w.rank !== x.rank) call.refuse(`must have kernels of ${x.rank} axes, from 3, has [${w.shape}]`);
  const all = (name: string, standard: number) => call.numbers(name) ?? new Array<number>(rank).fill(standard);
  const [strides, dilations, more] = [all("strides", 1), all("dilations", 1), all("output_padding", 0)];
  const auto = call.choice("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"], "NOTSET");
  const given = call.numbers("pads") ?? new Array<number>(2 * rank).fill(0);
  const wanted = call.numbers("output_shape")?.slice(-rank);
  const axes = Array.from({ length: rank }, (_, k): Spread => {
    const [stride, dilation] = [strides[k]!, dilations[k]!];
    const whole = (x.shape[1 + k]! - 1) * stride + dilation * (w.shape[2 + k]! - 1) + 1;
    const size = wanted?.[k] ?? (auto.startsWith("SAME") ? x.shape[1 + k]! * stride : undefined);
    if (size === undefined) {
      const pads = auto === "VALID" ? ([0, 0] as const) : ([given[k]!, given[rank + k]!] as const);
      return { stride, dilation, pads, more: more[k]! };
    }
    const total = whole + more[k]! - size;
    if (total < 0) return { stride, dilation, pads: [0, 0], more: more[k]! - total };
    const less = Math.floor(total / 2);
    const pads = auto === "SAME_UPPER" ? ([less, total - less] as const) : ([total - less, less] as const);
    return { stride, dilation, pads, more: more[k]! };
  });
  // [Cin, Cout / groups, ...] as [..., Cout / groups, Cin].
  const kernel = transpose(w, [...w.shape.map((_, k) => k).slice(2), 1, 0]);
  const last = x.rank - 1;
  const parts =
    group === 1
      ? [transposed(x, kernel, axes)]
      : split(x, group, last).map((part, g) => transposed(part, split(kernel, group, last)[g]!, axes));
  const y = parts.length === 1 ? parts[0]! : concat(parts, last);
  const bias = call.optional(2);
  return backFrom(call, bias === undefined ? y : add(y, bias));
}

/** What windows of any number of axes, with dilations, hold at each of their cells: tensors of the output's shape. */
function cellsOf(x: Tensor, windows: readonly Along[], fill: number): { cell: Tensor; at: readonly number[] }[] {
  const sides = [
    [0, 0] as const,
    ...windows.map((along) => [along.pads[0], Math.max(0, behind(along))] as const),
    [0, 0] as const,
  ];
  const whole = pad(
    x,
    sides.map((each) => [...each]),
    fill,
  );
  const size = [x.shape[0]!, ...windows.map(({ output }) => output), x.shape.at(-1)!];
  const steps = [1, ...windows.map(({ stride }) => stride), 1];
  const count = sizeOf(windows.map(({ kernel }) => kernel));
  return Array.from({ length: count }, (_, i) => {
    let left = i;
    const at = windows
      .toReversed()
      .map(({ kernel }) => {
        const k = left % kernel;
        left = (left - k) / kernel;
        return k;
      })
      .toReversed();
    const begin = [0, ...at.map((k, axis) => k * windows[axis]!.dilation), 0];
    return { cell: strided(whole, begin, size, steps), at };
  });
}

/** How many cells of each window count, as [1, ..., 1]. */
function countsOf(x: Tensor, windows: readonly Along[], padding: boolean): Tensor {
  const along = windows.map(({ input, kernel, stride, dilation, pads, output }) =>
    Array.from({ length: output }, (_, o) => {
      let count = 0;
      for (let k = 0; k < kernel; k++) {
        const at = o * stride - pads[0] + k * dilation;
        if (padding ? at < input + pads[1] : at >= 0 && at < input) count++;
      }
      return count;
    }),
  );
  const counts = along.reduce((all, axis) => all.flatMap((a) => axis.map((b) => a * b)), [1]);
  return tensor(x.device, Float32Array.from(counts), { shape: [1, ...windows.map(({ output }) => output), 1] });
}

/** Whether the engine's pooling does it: one axis or two, no dilation, padding smaller than the window. */
const fits = (windows: readonly Along[]) =>
  windows.length <= 2 &&
  windows.every(
    (along) =>
      along.dilation === 1 && along.pads[0] >= 0 && along.pads[0] < along.kernel && behind(along) < along.kernel,
  );

/** The engine's pooling of one axis or two. */
function pooled(pool: typeof avgPool2d, x: Tensor, windows: readonly Along[]): Tensor {
  const one: Along = { input: 1, kernel: 1, stride: 1, dilation: 1, pads: [0, 0], output: 1 };
  const both = windows.length === 1 ? [one, windows[0]!] : windows;
  const images = windows.length === 1 ? reshape(x, [x.shape[0]!, 1, ...x.shape.slice(1)]) : x;
  const y = pool(images, {
    poolSize: pairs(both, ({ kernel }) => kernel),
    strides: pairs(both, ({ stride }) => stride),
    padding: pairs(both, (along) => [along.pads[0], behind(along)] as const),
  });
  return windows.length === 1 ? reshape(y, [y.shape[0]!, ...y.shape.slice(2)]) : y;
}

const kernelOf = (call: OperatorCall) => call.numbers("kernel_shape") ?? call.refuse("must have a kernel_shape");

function largest(call: OperatorCall): Value | Value[] {
  const { type } = call.value(0);
  const given = call.tensor(0);
  const x = call.channelsLast ? given : toLast(given);
  const windows = windowsOf(call, x.shape.slice(1, -1), kernelOf(call));
  if (call.outputs < 2 && x.dtype === "f32" && fits(windows)) return backFrom(call, pooled(maxPool2d, x, windows));
  const low = x.dtype === "f32" ? Number.NEGATIVE_INFINITY : -(2 ** 31);
  const cells = cellsOf(x, windows, low);
  const y = cells.map(({ cell }) => cell).reduce(maximum);
  const result = call.make(type, call.channelsLast ? y : fromLast(y));
  return call.outputs < 2 ? result : [result, winners(call, x, windows, cells)];
}

/** Flat positions in x [N, C, ...] of the first maximum of each window. */
function winners(
  call: OperatorCall,
  x: Tensor,
  windows: readonly Along[],
  cells: readonly { cell: Tensor; at: readonly number[] }[],
): Value {
  if (call.channelsLast) call.refuse("must not be asked for positions where channels are last");
  const columns = call.flag("storage_order");
  const sizes = windows.map(({ input }) => input);
  const strides = sizes.map((_, k) => sizeOf(columns ? sizes.slice(0, k) : sizes.slice(k + 1)));
  const positions = ({ at }: { at: readonly number[] }) => {
    const along = windows.map(({ stride, dilation, pads, output }, axis) =>
      Array.from({ length: output }, (_, o) => (o * stride - pads[0] + at[axis]! * dilation) * strides[axis]!),
    );
    const flat = along.reduce((all, axis) => all.flatMap((a) => axis.map((b) => a + b)), [0]);
    return tensor(x.device, Float32Array.from(flat), { shape: [1, ...windows.map(({ output }) => output), 1] });
  };
  let best = cells[0]!.cell;
  let where_ = positions(cells[0]!);
  for (const each of cells.slice(1)) {
    const more = greater(each.cell, best);
    where_ = where(more, positions(each), where_);
    best = where(more, each.cell, best);
  }
  const [n, c, size] = [x.shape[0]!, x.shape.at(-1)!, sizeOf(sizes)];
  const planes = Float32Array.from({ length: n * c }, (_, i) => i * size);
  const begin = tensor(x.device, planes, { shape: [n, ...sizes.map(() => 1), c] });
  return call.make("int64", fromLast(add(where_, begin)));
}

function averaged(call: OperatorCall): Value {
  const x = imagesOf(call);
  const windows = windowsOf(call, x.shape.slice(1, -1), kernelOf(call));
  const counted = call.flag("count_include_pad");
  const without = windows.every((along) => along.pads[0] === 0 && behind(along) <= 0);
  if (fits(windows) && (!counted || without)) return backFrom(call, pooled(avgPool2d, x, windows));
  const total = cellsOf(x, windows, 0)
    .map(({ cell }) => cell)
    .reduce(add);
  return backFrom(call, div(total, countsOf(x, windows, counted)));
}

function normed(call: OperatorCall): Value {
  const x = imagesOf(call);
  const p = call.number("p", 2);
  const windows = windowsOf(call, x.shape.slice(1, -1), kernelOf(call));
  const total = cellsOf(pow(abs(x), p), windows, 0)
    .map(({ cell }) => cell)
    .reduce(add);
  return backFrom(call, pow(total, 1 / p));
}

/** Over all positions: [N, C, 1, ...]. */
const overall = (reduce: (x: Tensor, axes: number[]) => Tensor) => (call: OperatorCall) => {
  const x = call.float(0);
  const axes = x.shape.map((_, axis) => axis).slice(2);
  return call.like(0, reduce(x, call.channelsLast ? axes.map((axis) => axis - 1) : axes));
};

function unpooled(call: OperatorCall): Value {
  const x = call.tensor(0);
  const kernel = kernelOf(call);
  const rank = x.rank - 2;
  const strides = call.numbers("strides") ?? new Array<number>(rank).fill(1);
  const pads = call.numbers("pads") ?? new Array<number>(2 * rank).fill(0);
  const inferred = [
    ...x.shape.slice(0, 2),
    ...kernel.map((k, i) => (x.shape[2 + i]! - 1) * strides[i]! + k - pads[i]! - pads[rank + i]!),
  ];
  const shape = call.hostOr(2, inferred);
  // Positions are of the inferred shape, in whose corner the result begins.
  const rows = addedRows(reshape(x, [-1]), reshape(cast(call.tensor(1), "i32"), [-1]), [sizeOf(inferred)], 0);
  const y = reshape(rows, inferred);
  const more = shape.map((n, axis): [number, number] => [0, Math.max(0, n - inferred[axis]!)]);
  return call.like(0, more.every(([, after]) => after === 0) ? y : pad(y, more));
}

/** Local response normalisation: x / (bias + alpha / size * sum of squares of neighbouring channels)^beta. */
function responses(call: OperatorCall): Value {
  const x = imagesOf(call);
  const size = call.number("size");
  const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
  const channels = x.shape.at(-1)!;
  const squares = pad(
    mul(x, x),
    x.shape.map((_, axis) => (axis === x.rank - 1 ? [before, after] : [0, 0])),
  );
  let total = full(x.device, [], 0);
  for (let k = 0; k < size; k++) {
    const begin = x.shape.map((_, axis) => (axis === x.rank - 1 ? k : 0));
    total = add(total, slice(squares, begin, x.shape.with(-1, channels)));
  }
  const scale = add(mul(total, call.number("alpha", 1e-4) / size), call.number("bias", 1));
  return backFrom(call, div(x, pow(scale, call.number("beta", 0.75))));
}

export const windows: Operators = {
  Conv: convolved,
  ConvTranspose: convolvedBack,
  MaxPool: largest,
  AveragePool: averaged,
  LpPool: normed,
  MaxUnpool: unpooled,
  GlobalMaxPool: overall((x, axes) => max(x, { axes, keepDims: true })),
  GlobalAveragePool: overall((x, axes) => mean(x, { axes, keepDims: true })),
  GlobalLpPool: (call) => overall((x, axes) => norm(x, { axes, keepDims: true, order: call.number("p", 2) }))(call),
  LRN: responses,
};
