// Operators that move elements, or say what shapes there are.
import { full } from "../../../../autograd/ops/create.js";
import {
  add,
  cast,
  equal,
  less,
  maximum,
  minimum,
  mul,
  notEqual,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { addedRows, gather } from "../../../../autograd/ops/gather.js";
import { prod } from "../../../../autograd/ops/moments.js";
import { max, min, sum } from "../../../../autograd/ops/reduce.js";
import { cumsum } from "../../../../autograd/ops/scan.js";
import { topK } from "../../../../autograd/ops/sort.js";
import { tile } from "../../../../autograd/ops/tile.js";
import {
  concat,
  expandDims,
  pad,
  reshape,
  slice,
  squeeze,
  strided,
  transpose,
} from "../../../../autograd/ops/transform.js";
import { broadcastShapes, type Shape, sizeOf, stridesOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import { ELEMENT_TYPES, type ElementType, Value } from "../value.js";
import type { Operator, OperatorCall, Operators } from "./call.js";

/** Most elements of what an operator makes of numbers alone, on the host or as a tensor. */
const MOST_MADE = { host: 2 ** 22, tensor: 2 ** 28 };

function requireSize(call: OperatorCall, shape: Shape): void {
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0)) call.refuse(`must have sizes from 0, has [${shape}]`);
  const most = call.place.exact ? MOST_MADE.host : MOST_MADE.tensor;
  if (sizeOf(shape) > most) call.refuse(`must give at most ${most} elements, would give [${shape}]`);
}

/** 0 copies a size, unless `allowzero`; -1 takes what remains. */
export function reshapedShape(call: OperatorCall, shape: Shape, wanted: readonly number[]): number[] {
  const keepsZero = call.flag("allowzero");
  const sizes = wanted.map((n, axis) =>
    n === 0 && !keepsZero ? (shape[axis] ?? call.refuse(`copies size ${axis} of [${shape}]`)) : n,
  );
  const given = sizeOf(sizes.filter((n) => n !== -1));
  const result = sizes.map((n) => (n === -1 ? sizeOf(shape) / given : n));
  if (sizeOf(result) !== sizeOf(shape) || !result.every((n) => Number.isInteger(n) && n >= 0)) {
    call.refuse(`must reshape to as many elements as [${shape}] has, reshapes to [${wanted}]`);
  }
  return result;
}

function reshaped(call: OperatorCall): Value {
  const x = call.tensor(0);
  const wanted = call.opset < 5 ? call.numbers("shape") : call.host(1);
  return call.like(0, reshape(x, reshapedShape(call, x.shape, wanted ?? call.refuse("must have a shape"))));
}

function unsqueezed(call: OperatorCall): Value {
  const x = call.tensor(0);
  const given = call.list("axes", 1, 13) ?? call.refuse("must have axes");
  const rank = x.rank + given.length;
  const axes = new Set(given.map((axis) => call.axis(axis, rank)));
  if (axes.size !== given.length) call.refuse(`must have distinct axes, has [${given}]`);
  let next = 0;
  return call.like(
    0,
    reshape(
      x,
      Array.from({ length: rank }, (_, axis) => (axes.has(axis) ? 1 : x.shape[next++]!)),
    ),
  );
}

function squeezed(call: OperatorCall): Value {
  const x = call.tensor(0);
  const given = call.list("axes", 1, 13);
  return call.like(
    0,
    squeeze(
      x,
      given?.map((axis) => call.axis(axis, x.rank)),
    ),
  );
}

function flattened(call: OperatorCall): Value {
  const x = call.tensor(0);
  const given = call.number("axis", 1);
  const axis = given === x.rank ? given : call.axis(given, x.rank + (given < 0 ? 0 : 1));
  return call.like(0, reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]));
}

/** The range of one axis: where it begins, its step, how many. */
function walked(start: number, end: number, step: number, size: number) {
  const from = start < 0 ? start + size : start;
  const to = end < 0 ? end + size : end;
  const limit = (n: number, low: number, high: number) => Math.max(low, Math.min(high, n));
  const begin = step > 0 ? limit(from, 0, size) : limit(from, -1, size - 1);
  const stop = step > 0 ? limit(to, 0, size) : limit(to, -1, size - 1);
  const count = Math.max(0, Math.ceil((stop - begin) / step));
  return { begin: count === 0 ? 0 : begin, count, step: count === 0 ? 1 : step };
}

function sliced(call: OperatorCall): Value {
  const x = call.tensor(0);
  const from = call.opset < 10;
  const starts = (from ? call.numbers("starts") : call.host(1)) ?? call.refuse("must have starts");
  const ends = (from ? call.numbers("ends") : call.host(2)) ?? call.refuse("must have ends");
  const given = from ? call.numbers("axes") : call.hostOr(3, undefined);
  const axes = (given ?? starts.map((_, k) => k)).map((axis) => call.axis(axis, x.rank));
  const steps = (from ? undefined : call.hostOr(4, undefined)) ?? starts.map(() => 1);
  const ranges = x.shape.map((n) => ({ begin: 0, count: n, step: 1 }));
  for (const [k, axis] of axes.entries()) {
    if (!steps[k]) call.refuse("must have steps other than 0");
    ranges[axis] = walked(starts[k]!, ends[k]!, steps[k]!, x.shape[axis]!);
  }
  return call.like(0, boxOf(x, ranges));
}

function boxOf(x: Tensor, ranges: readonly { begin: number; count: number; step: number }[]): Tensor {
  const [begin, count] = [ranges.map((r) => r.begin), ranges.map((r) => r.count)];
  if (ranges.every(({ step }) => step === 1)) return slice(x, begin, count);
  return strided(
    x,
    begin,
    count,
    ranges.map(({ step }) => step),
  );
}

function splitted(call: OperatorCall): Value[] {
  const x = call.tensor(0);
  const axis = call.axis(call.number("axis", 0), x.rank);
  const n = x.shape[axis]!;
  const parts = call.opset >= 18 ? call.number("num_outputs", call.outputs) : call.outputs;
  // The last part is the smaller one.
  const each = Math.ceil(n / parts);
  const equal = Array.from({ length: parts }, (_, k) => Math.max(0, Math.min(each, n - k * each)));
  const sizes = call.list("split", 1, 13) ?? equal;
  if (sizes.some((size) => !(size >= 0)) || sizes.reduce((a, b) => a + b, 0) !== n) {
    call.refuse(`must split ${n} elements, splits [${sizes}]`);
  }
  let begin = 0;
  return sizes.map((size) => {
    const origin = x.shape.map((_, k) => (k === axis ? begin : 0));
    begin += size;
    return call.like(0, slice(x, origin, x.shape.with(axis, size)));
  });
}

/** Indices as i32 from 0. */
function indicesOf(call: OperatorCall, i: number, size: number): Tensor {
  const indices = cast(call.tensor(i), "i32");
  const { host } = call.value(i);
  if (host !== undefined && Array.from(host as ArrayLike<number>).every((n) => n >= 0)) return indices;
  return where(less(indices, 0), add(indices, size), indices);
}

function gathered(call: OperatorCall): Value {
  const x = call.tensor(0);
  const axis = call.axis(call.number("axis", 0), x.rank);
  const { host, shape } = call.value(1);
  const n = x.shape[axis]!;
  if (host !== undefined) {
    const wrong = Array.from(host as ArrayLike<number>).find((each) => each < -n || each >= n);
    if (wrong !== undefined) call.refuse(`must have indices from ${-n} to ${n - 1}, has ${wrong}`);
    if (host.length === 1) {
      const at = host[0]! < 0 ? host[0]! + n : host[0]!;
      const row = slice(
        x,
        x.shape.map((_, k) => (k === axis ? at : 0)),
        x.shape.with(axis, 1),
      );
      return call.like(0, reshape(row, x.shape.toSpliced(axis, 1, ...shape)));
    }
  }
  return call.like(0, gather(x, indicesOf(call, 1, n), axis));
}

const hostTensor = (call: OperatorCall, values: ArrayLike<number>, shape: Shape): Tensor =>
  tensor(call.place.device, Int32Array.from(values), { shape });

/** Positions in a flat array of `shape` for indices along an axis: i32 of the indices' shape. */
function flatIndices(call: OperatorCall, shape: Shape, indices: Tensor, axis: number): Tensor {
  const strides = stridesOf(shape);
  let flat = mul(indices, strides[axis]!);
  for (let k = 0; k < shape.length; k++) {
    if (k === axis || indices.shape[k] === 1) continue;
    const count = indices.shape[k]!;
    const along = Array.from({ length: count }, (_, i) => i * strides[k]!);
    flat = add(
      flat,
      hostTensor(
        call,
        along,
        shape.map((_, j) => (j === k ? count : 1)),
      ),
    );
  }
  return flat;
}

function gatheredElements(call: OperatorCall): Value {
  const x = call.tensor(0);
  const axis = call.axis(call.number("axis", 0), x.rank);
  const flat = flatIndices(call, x.shape, indicesOf(call, 1, x.shape[axis]!), axis);
  return call.like(0, gather(reshape(x, [-1]), flat, 0));
}

/** Positions of rows: indices [..., k] name the first k axes behind `batch` ones of `shape`. */
function rowPositions(call: OperatorCall, shape: Shape, i: number, batch: number) {
  const given = cast(call.tensor(i), "i32");
  const k = given.shape.at(-1)!;
  const named = shape.slice(batch, batch + k);
  const inner = shape.slice(batch + k);
  const sizes = hostTensor(call, named, [k]);
  const indices = where(less(given, 0), add(given, sizes), given);
  const strides = stridesOf(named);
  let rows = sum(mul(indices, hostTensor(call, strides, [k])), [-1]);
  const outer = sizeOf(shape.slice(0, batch));
  if (batch > 0) {
    const starts = Array.from({ length: outer }, (_, b) => b * sizeOf(named));
    const column = [...shape.slice(0, batch), ...rows.shape.slice(batch).map(() => 1)];
    rows = add(rows, hostTensor(call, starts, column));
  }
  return { rows, inner, count: outer * sizeOf(named) };
}

function gatheredRows(call: OperatorCall): Value {
  const x = call.tensor(0);
  const { rows, inner, count } = rowPositions(call, x.shape, 1, call.number("batch_dims", 0));
  return call.like(0, gather(reshape(x, [count, ...inner]), rows, 0));
}

/** Most pairs of a row of data and one of updates. */
const MOST_PAIRS = 2 ** 26;

const MERGES = {
  mul: { nothing: 1, merge: mul, over: (x: Tensor) => prod(x, { axis: 1 }) },
  max: { nothing: Number.NEGATIVE_INFINITY, merge: maximum, over: (x: Tensor) => max(x, { axes: [1] }) },
  min: { nothing: Number.POSITIVE_INFINITY, merge: minimum, over: (x: Tensor) => min(x, { axes: [1] }) },
} as const;

/** Updates merged with the rows that they name: each row of data looks at all updates. */
function merged(call: OperatorCall, data: Tensor, rows: Tensor, updates: Tensor, how: keyof typeof MERGES): Tensor {
  const [count, size] = [data.shape[0]!, sizeOf(data.shape.slice(1))];
  if (count * updates.size > MOST_PAIRS) {
    call.refuse(
      `must merge by ${how} at most ${MOST_PAIRS} pairs of numbers, has ${count} rows and ${updates.size} updates`,
    );
  }
  const { nothing, merge, over } = MERGES[how];
  const column = tensor(
    data.device,
    Int32Array.from({ length: count }, (_, k) => k),
    { shape: [count, 1, 1] },
  );
  const named = equal(column, reshape(rows, [1, rows.size, 1]));
  const floats = reshape(cast(updates, "f32"), [1, rows.size, size]);
  const found = over(where(named, floats, full(data.device, [], nothing)));
  return cast(merge(cast(data, "f32"), reshape(found, data.shape)), data.dtype);
}

/** Updates at rows of data: put there, or merged with what is there. Rows that are named twice must be merged. */
function scattered(call: OperatorCall, data: Tensor, rows: Tensor, updates: Tensor): Tensor {
  const reduce = call.choice("reduction", ["none", "add", "mul", "max", "min"], "none");
  if (reduce !== "none" && reduce !== "add") return merged(call, data, rows, updates, reduce);
  const floats = cast(updates, "f32");
  const sums = cast(addedRows(floats, rows, data.shape, 0), data.dtype);
  if (reduce === "add") return add(data, sums);
  const hits = addedRows(add(mul(floats, 0), 1), rows, data.shape, 0);
  return where(notEqual(hits, 0), sums, data);
}

function scatteredElements(call: OperatorCall): Value {
  const x = call.tensor(0);
  const axis = call.axis(call.number("axis", 0), x.rank);
  const flat = flatIndices(call, x.shape, indicesOf(call, 1, x.shape[axis]!), axis);
  const y = scattered(call, reshape(x, [-1]), reshape(flat, [-1]), reshape(call.tensor(2), [-1]));
  return call.like(0, reshape(y, x.shape));
}

function scatteredRows(call: OperatorCall): Value {
  const x = call.tensor(0);
  const { rows, inner, count } = rowPositions(call, x.shape, 1, 0);
  const updates = reshape(call.tensor(2), [rows.size, ...inner]);
  return call.like(0, reshape(scattered(call, reshape(x, [count, ...inner]), reshape(rows, [-1]), updates), x.shape));
}

/** x repeated to a shape that it broadcasts to. */
export function expandedTo(x: Tensor, shape: Shape): Tensor {
  const rank = shape.length;
  const filled = [...new Array<number>(rank - x.rank).fill(1), ...x.shape];
  const repeats = shape.map((n, axis) => (filled[axis] === n ? 1 : n));
  return repeats.every((n) => n === 1) ? reshape(x, shape) : tile(reshape(x, filled), repeats);
}

function expanded(call: OperatorCall): Value {
  const x = call.tensor(0);
  const shape = broadcastShapes("Expand", x.shape, call.host(1));
  requireSize(call, shape);
  return call.like(0, expandedTo(x, shape));
}

/** Pads in ONNX's order: all begins, then all ends. Negative ones crop. */
export function padded(
  call: OperatorCall,
  x: Tensor,
  pads: readonly (readonly [number, number])[],
  mode: string,
  fill: number,
): Tensor {
  const cropped = slice(
    x,
    pads.map(([before]) => Math.max(0, -before)),
    x.shape.map((n, axis) => n - Math.max(0, -pads[axis]![0]) - Math.max(0, -pads[axis]![1])),
  );
  const more = pads.map((each) => each.map((n) => Math.max(0, n)) as [number, number]);
  requireSize(
    call,
    cropped.shape.map((n, axis) => n + more[axis]![0] + more[axis]![1]),
  );
  if (mode === "constant") return more.every(([a, b]) => a + b === 0) ? cropped : pad(cropped, more, fill);
  let y = cropped;
  for (const [axis, [before, after]] of more.entries()) {
    if (before + after === 0) continue;
    const n = y.shape[axis]!;
    if (before + n + after > MOST_MADE.host) call.refuse(`must pad an axis to at most ${MOST_MADE.host} elements`);
    const at = Array.from({ length: before + n + after }, (_, i) => sourceOf(i - before, n, mode));
    y = gather(y, hostTensor(call, at, [at.length]), axis);
  }
  return y;
}

/** Which of n elements stands at a place outside. */
function sourceOf(i: number, n: number, mode: string): number {
  const wrapped = (k: number, period: number) => ((k % period) + period) % period;
  if (mode === "edge") return Math.max(0, Math.min(n - 1, i));
  if (mode === "wrap") return wrapped(i, n);
  if (n === 1) return 0;
  const at = wrapped(i, 2 * n - 2);
  return at < n ? at : 2 * n - 2 - at;
}

function padding(call: OperatorCall): Value {
  const x = call.tensor(0);
  const given = call.opset < 2 ? call.numbers("paddings") : call.list("pads", 1, 11);
  if (given === undefined) return call.refuse("must have pads");
  const fill = call.opset < 11 ? call.number("value", 0) : call.scalar(2, 0);
  const axes = call.hostOr(3, undefined)?.map((axis) => call.axis(axis, x.rank)) ?? x.shape.map((_, axis) => axis);
  if (given.length !== 2 * axes.length) call.refuse(`must have ${2 * axes.length} pads, has ${given.length}`);
  const pads = x.shape.map((_, axis): readonly [number, number] => {
    const k = axes.indexOf(axis);
    return k < 0 ? [0, 0] : [given[k]!, given[axes.length + k]!];
  });
  const mode = call.choice("mode", ["constant", "reflect", "edge", "wrap"], "constant");
  return call.like(0, padded(call, x, pads, mode, fill));
}

const ints = (values: readonly number[], shape: Shape = [values.length]) => Value.of("int64", shape, values);

function typeFrom(call: OperatorCall, name: string, standard: ElementType): ElementType {
  if (!call.given(name)) return standard;
  const number = call.number(name);
  return ELEMENT_TYPES[number] ?? call.refuse(`has an element type ${number}`);
}

function constant(call: OperatorCall): Value {
  const whole = call.constant("value");
  if (whole !== undefined) return Value.of(whole.type, whole.shape, whole.data);
  for (const [name, type] of [
    ["value_float", "float32"],
    ["value_int", "int64"],
  ] as const) {
    if (call.given(name)) return Value.of(type, [], [call.number(name)]);
  }
  for (const [name, type] of [
    ["value_floats", "float32"],
    ["value_ints", "int64"],
  ] as const) {
    const list = call.numbers(name);
    if (list !== undefined) return Value.of(type, [list.length], list);
  }
  return call.refuse("must be a constant of numbers; texts and sparse tensors are not read");
}

function range(call: OperatorCall): Value {
  const [start, limit, step] = [call.host(0)[0]!, call.host(1)[0]!, call.host(2)[0]!];
  const count = Math.max(0, Math.ceil((limit - start) / step));
  requireSize(call, [count]);
  return Value.of(
    call.value(0).type,
    [count],
    Array.from({ length: count }, (_, i) => start + i * step),
  );
}

/** A host constant where x[..., i, j] is kept: j - i at most, or at least, k. */
function triangle(call: OperatorCall): Value {
  const x = call.tensor(0);
  const [n, m] = x.shape.slice(-2) as [number, number];
  const k = call.scalar(1, 0);
  const upper = call.flag("upper", 1);
  const kept = new Float64Array(n * m);
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) kept[i * m + j] = Number(upper ? j - i >= k : j - i <= k);
  if (x.size === 0) return call.like(0, x.alias());
  return call.like(0, where(hostTensor(call, kept, [n, m]), x, full(x.device, [], 0, x.dtype)));
}

/** [N, C, H, W] with blocks of channels as pixels, or the other way. */
function blocks(call: OperatorCall, toSpace: boolean): Value {
  const given = call.tensor(0);
  const b = call.number("blocksize");
  const x = call.channelsLast ? transpose(given, [0, 3, 1, 2]) : given;
  const [n, c, h, w] = x.shape as [number, number, number, number];
  let y: Tensor;
  if (toSpace) {
    const inner = c / (b * b);
    const columns = call.choice("mode", ["DCR", "CRD"], "DCR") === "DCR";
    const parts = columns
      ? transpose(reshape(x, [n, b, b, inner, h, w]), [0, 3, 4, 1, 5, 2])
      : transpose(reshape(x, [n, inner, b, b, h, w]), [0, 1, 4, 2, 5, 3]);
    y = reshape(parts, [n, inner, h * b, w * b]);
  } else {
    const columns = call.choice("mode", ["DCR", "CRD"], "DCR") === "DCR";
    const parts = transpose(reshape(x, [n, c, h / b, b, w / b, b]), columns ? [0, 3, 5, 1, 2, 4] : [0, 1, 3, 5, 2, 4]);
    y = reshape(parts, [n, c * b * b, h / b, w / b]);
  }
  return call.like(0, call.channelsLast ? transpose(y, [0, 2, 3, 1]) : y);
}

function oneHotEncoded(call: OperatorCall): Value {
  const depth = call.host(1)[0]!;
  const values = call.tensor(2);
  const rank = call.value(0).rank + 1;
  const axis = call.axis(call.number("axis", -1), rank);
  requireSize(call, [...call.value(0).shape, depth]);
  const floats = call.tensor(0);
  const indices = where(less(floats, 0), add(floats, depth), floats);
  const along = Array.from({ length: rank }, (_, k) => (k === axis ? depth : 1));
  const counts = cast(
    hostTensor(
      call,
      Array.from({ length: depth }, (_, k) => k),
      along,
    ),
    indices.dtype,
  );
  const hot = equal(expandDims(indices, axis), counts);
  const [off, on] = [slice(values, [0], [1]), slice(values, [1], [1])].map((each) => reshape(each, []));
  return call.like(2, where(hot, on!, off!));
}

function top(call: OperatorCall): Value[] {
  const x = call.tensor(0);
  const k = call.opset < 10 ? call.number("k") : call.host(1)[0]!;
  const axis = call.axis(call.number("axis", -1), x.rank);
  const { values, indices } = topK(x, k, { axis, largest: call.flag("largest", 1) });
  return [call.like(0, values), call.make("int64", indices)];
}

function reversedSequences(call: OperatorCall): Value {
  const x = call.tensor(0);
  const lengths = call.host(1);
  const [batch, time] = [call.number("batch_axis", 1), call.number("time_axis", 0)];
  const t = x.shape[time]!;
  const at: number[] = [];
  const shape = x.shape.map((n, axis) => (axis === batch || axis === time ? n : 1));
  const first = Math.min(batch, time);
  const [outer, inner] = [x.shape[first]!, x.shape[first === batch ? time : batch]!];
  for (let i = 0; i < outer; i++) {
    for (let j = 0; j < inner; j++) {
      const [b, s] = first === batch ? [i, j] : [j, i];
      at.push(s < lengths[b]! ? lengths[b]! - 1 - s : Math.min(s, t - 1));
    }
  }
  const indices = expandedTo(hostTensor(call, at, shape), x.shape);
  return call.like(0, gather(reshape(x, [-1]), flatIndices(call, x.shape, indices, time), 0));
}

function centred(call: OperatorCall): Value {
  const x = call.tensor(0);
  const wanted = call.host(1);
  const axes = call.numbers("axes")?.map((axis) => call.axis(axis, x.rank)) ?? x.shape.map((_, axis) => axis);
  const pads = x.shape.map((n, axis): [number, number] => {
    const k = axes.indexOf(axis);
    const more = k < 0 ? 0 : wanted[k]! - n;
    const before = more < 0 ? -Math.floor(-more / 2) : Math.floor(more / 2);
    return [before, more - before];
  });
  return call.like(0, padded(call, x, pads, "constant", 0));
}

function picked(call: OperatorCall): Value {
  const x = call.tensor(0);
  const condition = call.host(1);
  const at = condition.flatMap((each, i) => (each !== 0 ? [i] : []));
  const indices = hostTensor(call, at, [at.length]);
  if (!call.given("axis")) return call.like(0, gather(reshape(x, [-1]), indices, 0));
  return call.like(0, gather(x, indices, call.axis(call.number("axis"), x.rank)));
}

function nonZero(call: OperatorCall): Value {
  const { shape } = call.value(0);
  const strides = stridesOf(shape);
  const at = call.host(0).flatMap((each, i) => (each !== 0 ? [i] : []));
  const rows = shape.map((n, axis) => at.map((i) => Math.floor(i / strides[axis]!) % n));
  return ints(rows.flat(), [shape.length, at.length]);
}

/** Products up to each element along an axis: as far back as 1, 2, 4 and so on in turn. */
function cumulativeProduct(call: OperatorCall): Value {
  const given = call.tensor(0);
  const axis = call.axis(call.scalar(1, 0), given.rank);
  const n = given.shape[axis]!;
  const backwards = call.flag("reverse");
  const moved = (x: Tensor, by: number) => {
    const kept = slice(
      x,
      x.shape.map((_, k) => (k === axis && backwards ? by : 0)),
      x.shape.with(axis, n - by),
    );
    return pad(
      kept,
      x.shape.map((_, k) => (k !== axis ? [0, 0] : backwards ? [0, by] : [by, 0])),
      1,
    );
  };
  let y = call.flag("exclusive") && n > 0 ? moved(given, 1) : given;
  for (let by = 1; by < n; by *= 2) y = mul(y, moved(y, by));
  return call.like(0, y);
}

const repeated: Operator = (call) => {
  const repeats = call.host(1);
  const x = call.tensor(0);
  requireSize(
    call,
    x.shape.map((n, axis) => n * repeats[axis]!),
  );
  return call.like(0, tile(x, repeats));
};

export const shapes: Operators = {
  Identity: (call) => call.like(0, call.tensor(0)),
  Reshape: reshaped,
  Flatten: flattened,
  Squeeze: squeezed,
  Unsqueeze: unsqueezed,
  Transpose: (call) => {
    const x = call.tensor(0);
    return call.like(0, x.rank === 0 ? x : transpose(x, call.numbers("perm")));
  },
  Concat: (call) => {
    const all = call.inputs.map((_, i) => call.tensor(i));
    const axis = call.opset < 4 ? call.number("axis", 1) : call.number("axis");
    return call.like(0, concat(all, axis));
  },
  Split: splitted,
  Slice: sliced,
  Gather: gathered,
  GatherElements: gatheredElements,
  GatherND: gatheredRows,
  ScatterElements: scatteredElements,
  Scatter: scatteredElements,
  ScatterND: scatteredRows,
  Expand: expanded,
  Tile: repeated,
  Pad: padding,
  CenterCropPad: centred,
  Compress: picked,
  NonZero: nonZero,
  Shape: (call) => {
    const { shape } = call.value(0);
    const end = (n: number) => Math.max(0, Math.min(shape.length, n < 0 ? n + shape.length : n));
    const [from, to] = [end(call.number("start", 0)), end(call.number("end", shape.length))];
    return ints(shape.slice(from, Math.max(from, to)));
  },
  Size: (call) => ints([call.value(0).size], []),
  Constant: constant,
  ConstantOfShape: (call) => {
    const shape = call.host(0);
    requireSize(call, shape);
    const value = call.constant("value");
    return call.make(value?.type ?? "float32", full(call.place.device, shape, value?.data[0] ?? 0));
  },
  Range: range,
  EyeLike: (call) => {
    const { shape, type } = call.value(0);
    const [n, m] = shape as [number, number];
    const k = call.number("k", 0);
    requireSize(call, shape);
    const values = Array.from({ length: n * m }, (_, i) => Number((i % m) - Math.floor(i / m) === k));
    return Value.of(typeFrom(call, "dtype", type), shape, values);
  },
  Trilu: triangle,
  DepthToSpace: (call) => blocks(call, true),
  SpaceToDepth: (call) => blocks(call, false),
  OneHot: oneHotEncoded,
  CumSum: (call) => {
    const x = call.tensor(0);
    const axis = call.axis(call.host(1)[0]!, x.rank);
    const [exclusive, reverse] = [call.flag("exclusive"), call.flag("reverse")];
    return call.like(0, cumsum(x, { axis, exclusive, reverse }));
  },
  CumProd: cumulativeProduct,
  TopK: top,
  ReverseSequence: reversedSequences,
};
