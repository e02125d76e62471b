// Resize and Upsample: along each axis a matrix of weights, which the host computes from sizes alone. Where every
// output is one input, those are picked instead.
import { add, cast } from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { transpose } from "../../../../autograd/ops/transform.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";

export interface ResizeRules {
  readonly mode: "nearest" | "linear" | "cubic";
  readonly coordinates: string;
  readonly nearest: string;
  readonly cubic: number;
  readonly excludeOutside: boolean;
  readonly antialias: boolean;
  readonly extrapolation: number;
}

/** One axis: its sizes, the scale, and the part of it that tf_crop_and_resize takes. */
export interface ResizedAxis {
  readonly input: number;
  readonly output: number;
  readonly scale: number;
  /** The output's size before it is made whole: ONNX aligns the corners of this. */
  readonly length: number;
  readonly from: number;
  readonly to: number;
}

/** Where output o lies among the inputs. */
function place({ coordinates }: ResizeRules, axis: ResizedAxis, o: number): number {
  const { input, output, scale, length, from, to } = axis;
  switch (coordinates) {
    case "asymmetric":
      return o / scale;
    case "align_corners":
      return output === 1 ? 0 : (o * (input - 1)) / (length - 1);
    case "pytorch_half_pixel":
      return output === 1 ? 0 : (o + 0.5) / scale - 0.5;
    case "half_pixel_symmetric": {
      const adjustment = output / (scale * input);
      const offset = (input / 2) * (1 - adjustment);
      return offset + (o + 0.5) / scale - 0.5;
    }
    case "tf_half_pixel_for_nn":
      return (o + 0.5) / scale;
    case "tf_crop_and_resize":
      return output === 1
        ? 0.5 * (from + to) * (input - 1)
        : from * (input - 1) + (o * (to - from) * (input - 1)) / (output - 1);
    default:
      return (o + 0.5) / scale - 0.5;
  }
}

/** Rounds a place to an input. */
const roundings: Readonly<Record<string, (x: number) => number>> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
};

function kernelAt(rules: ResizeRules, distance: number): number {
  const d = Math.abs(distance);
  if (rules.mode === "linear") return Math.max(0, 1 - d);
  const a = rules.cubic;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/** Rows of weights [output][input]; a row of zeros, and `outside`, where the place lies outside. */
export function weightsOf(rules: ResizeRules, axis: ResizedAxis): { rows: Float64Array[]; outside: boolean[] } {
  const { input, output, scale } = axis;
  const rows: Float64Array[] = [];
  const outside: boolean[] = [];
  // Antialiasing stretches the kernel over the inputs that an output covers.
  const stretch = rules.antialias && scale < 1 ? scale : 1;
  const reach = (rules.mode === "linear" ? 1 : 2) / stretch;
  for (let o = 0; o < output; o++) {
    const row = new Float64Array(input);
    const x = place(rules, axis, o);
    const out = rules.coordinates === "tf_crop_and_resize" && (x < 0 || x > input - 1);
    outside.push(out);
    rows.push(row);
    if (out) continue;
    if (rules.mode === "nearest") {
      row[Math.max(0, Math.min(input - 1, roundings[rules.nearest]!(x)))] = 1;
      continue;
    }
    const taps: [number, number][] = [];
    for (let i = Math.floor(x - reach) + 1; i <= Math.ceil(x + reach) - 1 || taps.length === 0; i++) {
      taps.push([i, kernelAt(rules, (i - x) * stretch)]);
    }
    const inside = rules.excludeOutside ? taps.filter(([i]) => i >= 0 && i < input) : taps;
    const total = inside.reduce((sum, [, w]) => sum + w, 0);
    for (const [i, w] of inside) row[Math.max(0, Math.min(input - 1, i))]! += w / total;
  }
  return { rows, outside };
}

/** Most weights of an axis: its size before times that after. */
const MOST_WEIGHTS = 2 ** 24;

/** x with one axis resized. */
function along(call: OperatorCall, x: Tensor, axis: number, resized: ResizedAxis, rules: ResizeRules): Tensor {
  if (resized.output * resized.input > MOST_WEIGHTS) {
    call.refuse(`must resize an axis by at most ${MOST_WEIGHTS} weights, from ${resized.input} to ${resized.output}`);
  }
  const { rows, outside } = weightsOf(rules, resized);
  const single = rows.every((row) => row.filter((w) => w !== 0).length === 1 && row.includes(1));
  if (single) {
    const at = Int32Array.from(rows, (row) => row.indexOf(1));
    return gather(x, tensor(x.device, at), axis);
  }
  const flat = new Float32Array(rows.length * resized.input);
  for (const [o, row] of rows.entries()) flat.set(row, o * resized.input);
  const matrix = tensor(x.device, flat, { shape: [rows.length, resized.input] });
  const order = x.shape.map((_, k) => k).filter((k) => k !== axis);
  const y = matmul(transpose(x, [...order, axis]), matrix, { transposeB: true });
  const back = order.map((_, k) => k).toSpliced(axis, 0, x.rank - 1);
  const result = transpose(y, back);
  if (!outside.includes(true)) return result;
  const fill = Float32Array.from(outside, (out) => (out ? rules.extrapolation : 0));
  return add(result, tensor(x.device, fill, { shape: result.shape.map((_, k) => (k === axis ? fill.length : 1)) }));
}

/** Sizes and scales of all axes, from an input of scales or one of sizes. */
export function resizedAxes(call: OperatorCall, shape: readonly number[]): (ResizedAxis | undefined)[] {
  const upsample = call.opset < 10;
  const listed = (i: number) => {
    const list = call.hostOr(i, undefined);
    return list?.length ? list : undefined;
  };
  const scales = upsample ? (call.numbers("scales") ?? listed(1)) : listed(call.opset < 11 ? 1 : 2);
  const sizes = call.opset < 11 ? undefined : listed(3);
  const roi = call.opset < 11 ? undefined : listed(1);
  const axes = call.numbers("axes")?.map((axis) => call.axis(axis, shape.length)) ?? shape.map((_, k) => k);
  const given = scales ?? sizes;
  if (given?.length !== axes.length) call.refuse(`must have a scale or a size for each of ${axes.length} axes`);
  const policy = call.choice("keep_aspect_ratio_policy", ["stretch", "not_larger", "not_smaller"], "stretch");
  const factors = sizes?.map((size, k) => size / shape[axes[k]!]!);
  const one = factors && (policy === "not_larger" ? Math.min(...factors) : Math.max(...factors));
  return shape.map((input, axis) => {
    const k = axes.indexOf(axis);
    if (k < 0) return undefined;
    const [from, to] = [roi?.[k] ?? 0, roi?.[axes.length + k] ?? 1];
    if (sizes === undefined) {
      const scale = scales![k]!;
      const span = call.text("coordinate_transformation_mode", "half_pixel") === "tf_crop_and_resize" ? to - from : 1;
      const length = input * span * scale;
      return { input, output: Math.floor(length), scale, length, from, to };
    }
    const stretched = policy === "stretch";
    const output = stretched ? sizes[k]! : Math.floor(one! * input + 0.5);
    return { input, output, scale: stretched ? output / input : one!, length: output, from, to };
  });
}

/** What an operator's attributes say. */
export const rulesOf = (call: OperatorCall): ResizeRules => ({
  mode: call.choice("mode", ["nearest", "linear", "cubic"], "nearest"),
  coordinates: call.opset < 11 ? "asymmetric" : call.text("coordinate_transformation_mode", "half_pixel"),
  nearest: call.opset < 11 ? "floor" : call.text("nearest_mode", "round_prefer_floor"),
  cubic: call.number("cubic_coeff_a", -0.75),
  excludeOutside: call.flag("exclude_outside"),
  antialias: call.flag("antialias"),
  extrapolation: call.number("extrapolation_value", 0),
});

function resized(call: OperatorCall): Value {
  const { type } = call.value(0);
  const given = call.tensor(0);
  // Channels change places with the axes behind them; numbers of axes are ONNX's in attributes and inputs.
  const shape = call.channelsLast ? [given.shape[0]!, given.shape.at(-1)!, ...given.shape.slice(1, -1)] : given.shape;
  const rules = rulesOf(call);
  if (roundings[rules.nearest] === undefined) call.refuse(`has no nearest_mode "${rules.nearest}"`);
  let y = cast(given, "f32");
  for (const [axis, each] of resizedAxes(call, shape).entries()) {
    if (
      each === undefined ||
      (each.output === each.input && each.scale === 1 && rules.coordinates !== "tf_crop_and_resize")
    )
      continue;
    const own = !call.channelsLast ? axis : axis === 0 ? 0 : axis === 1 ? given.rank - 1 : axis - 1;
    y = along(call, y, own, each, rules);
  }
  return call.make(type, y);
}

export const resizing: Operators = {
  Resize: resized,
  Upsample: resized,
};
