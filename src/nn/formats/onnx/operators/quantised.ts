// Operators of quantised integers: numbers x = (q - zero point) scale. Products of integers are exact: sums beyond what
// float32 holds are computed in 32-bit integers.
import { full } from "../../../../autograd/ops/create.js";
import { add, cast, div, maximum, minimum, mul, sub } from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { max, min } from "../../../../autograd/ops/reduce.js";
import { reshape, transpose } from "../../../../autograd/ops/transform.js";
import { type Shape, sizeOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import { isSmallFloat, narrowedFloat } from "../narrow.js";
import { ELEMENT_TYPES, type ElementType, type Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";
import { fromLast, limited, rounded, toLast } from "./numbers.js";
import { product } from "./products.js";
import { convolution, windowsOf } from "./windows.js";

const RANGES: Partial<Record<ElementType, readonly [number, number]>> = {
  ...{
    uint8: [0, 255],
    int8: [-128, 127],
    uint16: [0, 65535],
    int16: [-32768, 32767],
    uint4: [0, 15],
    int4: [-8, 7],
    uint2: [0, 3],
    int2: [-2, 1],
  },
};

/** A scale or zero point for one axis, for blocks of one, or for all, as it broadcasts to `shape`. */
function spread(call: OperatorCall, x: Tensor, shape: Shape): Tensor {
  if (x.size === 1) return reshape(x, []);
  const axis = call.axis(call.number("axis", 1), shape.length);
  const block = call.number("block_size", 0);
  if (block === 0)
    return reshape(
      x,
      shape.map((_, k) => (k === axis ? x.size : 1)),
    );
  const at = Int32Array.from({ length: shape[axis]! }, (_, i) => Math.floor(i / block));
  return gather(x, tensor(x.device, at), axis);
}

/** Rounded, moved and limited to what the type holds. */
function toType(call: OperatorCall, x: Tensor, type: ElementType): Value {
  const [low, high] = RANGES[type] ?? call.refuse(`must give integers up to 16 bits, gives ${type}`);
  return call.make(type, limited(x, low, high));
}

function quantised(call: OperatorCall): Value {
  const x = cast(call.tensor(0), "f32");
  const scale = spread(call, call.float(1), x.shape);
  const wanted = call.number("output_dtype", 0);
  const type = call.has(2) ? call.value(2).type : ELEMENT_TYPES[wanted || 2]!;
  if (isSmallFloat(type)) return call.make(type, narrowedFloat(div(x, scale), type, call.flag("saturate", 1)));
  const moved = rounded(div(x, scale));
  return toType(call, call.has(2) ? add(moved, spread(call, cast(call.tensor(2), "f32"), x.shape)) : moved, type);
}

function restored(call: OperatorCall): Value {
  const x = cast(call.tensor(0), "f32");
  const scale = spread(call, call.float(1), x.shape);
  const moved = call.has(2) ? sub(x, spread(call, cast(call.tensor(2), "f32"), x.shape)) : x;
  const wanted = call.number("output_dtype", 0);
  return call.make(wanted ? ELEMENT_TYPES[wanted]! : call.value(1).type, mul(moved, scale));
}

/** Of the range that the numbers have, which always holds 0. */
function dynamic(call: OperatorCall): Value[] {
  const x = call.float(0);
  const axes = x.shape.map((_, axis) => axis);
  const zero = full(x.device, [], 0);
  const [low, high] = [minimum(min(x, { axes }), zero), maximum(max(x, { axes }), zero)];
  const scale = div(sub(high, low), 255);
  const point = rounded(limited(div(mul(low, -1), scale), 0, 255));
  const y = add(rounded(div(x, scale)), point);
  return [toType(call, y, "uint8"), call.make("float32", scale), call.make("uint8", point)];
}

/** Integers without their zero points, one for each row or column where `axis` says so. */
function centred(call: OperatorCall, i: number, zero: number, axis: number): Tensor {
  const x = cast(call.tensor(i), "f32");
  if (!call.has(zero)) return x;
  const point = cast(call.tensor(zero), "f32");
  const shape = point.rank > 1 ? point.shape : x.shape.map((_, k) => (k === (axis + x.rank) % x.rank ? point.size : 1));
  return sub(x, point.size === 1 ? reshape(point, []) : reshape(point, shape));
}

/** Most products of two differences of bytes whose sum float32 holds. */
const MOST_EXACT = Math.floor(2 ** 24 / 255 ** 2);

function wholeProduct(call: OperatorCall, a: Tensor, b: Tensor): Tensor {
  if (call.place.exact || a.shape.at(-1)! <= MOST_EXACT) return product(a, b);
  return product(cast(a, "i32"), cast(b, "i32"));
}

/** A convolution of integers: [N, ..., C]. */
function wholeConvolution(call: OperatorCall, x: Tensor, w: Tensor): Tensor {
  const images = toLast(x);
  const windows = windowsOf(call, images.shape.slice(1, -1), w.shape.slice(2));
  if (!call.place.exact && sizeOf(w.shape.slice(1)) > MOST_EXACT) {
    call.refuse(`must have kernels of at most ${MOST_EXACT} numbers, has [${w.shape}]; use floats`);
  }
  const kernel = transpose(w, [...w.shape.map((_, k) => k).slice(2), 1, 0]);
  return convolution(images, kernel, windows, { group: call.number("group", 1) });
}

/** Scaled to the result's own scale and zero point, inputs 6 and 7. */
function rescaled(call: OperatorCall, y: Tensor, [a, b]: readonly [Tensor, Tensor]): Tensor {
  const scaled = mul(cast(y, "f32"), div(mul(a, b), call.float(6)));
  const moved = call.has(7) ? add(scaled, cast(call.tensor(7), "f32")) : scaled;
  const type = resultType(call);
  const [low, high] = RANGES[type] ?? call.refuse(`must give integers up to 16 bits, gives ${type}`);
  return limited(rounded(moved), low, high);
}

const resultType = (call: OperatorCall): ElementType => call.value(call.has(7) ? 7 : 0).type;

/** One number for all, or one for each place of an axis. */
function along(x: Tensor, rank: number, axis: number): Tensor {
  if (x.size === 1) return reshape(x, []);
  return x.rank > 1
    ? x
    : reshape(
        x,
        Array.from({ length: rank }, (_, k) => (k === axis ? x.size : 1)),
      );
}

export const quantisation: Operators = {
  QuantizeLinear: quantised,
  DequantizeLinear: restored,
  DynamicQuantizeLinear: dynamic,
  MatMulInteger: (call) => call.make("int32", wholeProduct(call, centred(call, 0, 2, -2), centred(call, 1, 3, -1))),
  QLinearMatMul: (call) => {
    const y = wholeProduct(call, centred(call, 0, 2, -2), centred(call, 3, 5, -1));
    const scales = [along(call.float(1), y.rank, y.rank - 2), along(call.float(4), y.rank, y.rank - 1)] as const;
    return call.make(resultType(call), rescaled(call, y, scales));
  },
  ConvInteger: (call) =>
    call.make("int32", fromLast(wholeConvolution(call, centred(call, 0, 2, 1), centred(call, 1, 3, 0)))),
  QLinearConv: (call) => {
    const y = wholeConvolution(call, centred(call, 0, 2, 1), centred(call, 3, 5, 0));
    const biased = call.has(8) ? add(y, cast(call.tensor(8), "f32")) : y;
    const scales = [call.float(1), along(call.float(4), y.rank, y.rank - 1)] as const;
    return call.make(resultType(call), fromLast(rescaled(call, biased, scales)));
  },
};
