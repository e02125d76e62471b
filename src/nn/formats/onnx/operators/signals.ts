// Operators of signals: Fourier transforms as products with matrices of sines and cosines, and windows.
import { add, mul, sub } from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { concat, reshape, slice, transpose } from "../../../../autograd/ops/transform.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import { ELEMENT_TYPES, Value } from "../value.js";
import type { Operator, OperatorCall, Operators } from "./call.js";

/** Most elements of a matrix of angles. */
const MOST_ANGLES = 2 ** 24;

interface Transform {
  readonly length: number;
  readonly inverse: boolean;
  readonly onesided: boolean;
}

/**
 * The transform of the first axis of [n, others, 1 or 2]; the last axis has real and imaginary parts. The signal is cut
 * or filled with zeros to `length`.
 */
function transformed(call: OperatorCall, x: Tensor, { length, inverse, onesided }: Transform): Tensor {
  const [n, others, parts] = x.shape as [number, number, number];
  const toReal = inverse && onesided;
  const rows = !inverse && onesided ? Math.floor(length / 2) + 1 : length;
  const columns = Math.min(n, toReal ? Math.floor(length / 2) + 1 : length);
  if (!(length >= 1 && rows * columns <= MOST_ANGLES)) {
    call.refuse(`must have a dft_length from 1 to ${Math.floor(Math.sqrt(MOST_ANGLES))}, has ${length}`);
  }
  const [cosines, sines] = [new Float32Array(rows * columns), new Float32Array(rows * columns)];
  for (let k = 0; k < rows; k++) {
    for (let j = 0; j < columns; j++) {
      const angle = (((inverse ? 2 : -2) * Math.PI) / length) * ((k * j) % length);
      // Of a one-sided spectrum each frequency stands for itself and its mirror image.
      const twice = toReal && j > 0 && 2 * j !== length ? 2 : 1;
      const factor = inverse ? twice / length : 1;
      cosines[k * columns + j] = factor * Math.cos(angle);
      sines[k * columns + j] = factor * Math.sin(angle);
    }
  }
  const shape = [rows, columns];
  const [c, s] = [tensor(x.device, cosines, { shape }), tensor(x.device, sines, { shape })];
  const part = (k: number) => reshape(slice(x, [0, 0, k], [columns, others, 1]), [columns, others]);
  const real = part(0);
  const [a, b] = [matmul(c, real), toReal ? undefined : matmul(s, real)];
  if (parts === 1) return stacked(a, b);
  const imaginary = part(1);
  return stacked(sub(a, matmul(s, imaginary)), b && add(b, matmul(c, imaginary)));
}

const stacked = (real: Tensor, imaginary: Tensor | undefined): Tensor => {
  const column = (x: Tensor) => reshape(x, [...x.shape, 1]);
  return imaginary === undefined ? column(real) : concat([column(real), column(imaginary)], 2);
};

/** Along an axis of x [..., 1 or 2]. */
function along(call: OperatorCall, x: Tensor, axis: number, options: Transform): Tensor {
  const others = x.shape.map((_, k) => k).filter((k) => k !== axis && k !== x.rank - 1);
  const order = [axis, ...others, x.rank - 1];
  const turned = transpose(x, order);
  const flat = reshape(turned, [turned.shape[0]!, -1, x.shape.at(-1)!]);
  const y = transformed(call, flat, options);
  const whole = reshape(y, [y.shape[0]!, ...others.map((k) => x.shape[k]!), y.shape[2]!]);
  return transpose(
    whole,
    order.map((_, k) => order.indexOf(k)),
  );
}

function fourier(call: OperatorCall): Value {
  const x = call.float(0);
  const axis = call.axis(call.opset < 20 ? call.number("axis", 1) : call.scalar(2, -2), x.rank);
  if (axis === x.rank - 1 || x.shape.at(-1)! > 2)
    call.refuse(`must have real and imaginary parts as last axis, has [${x.shape}]`);
  const [inverse, onesided] = [call.flag("inverse"), call.flag("onesided")];
  const n = x.shape[axis]!;
  const length = call.scalar(1, inverse && onesided ? 2 * (n - 1) : n);
  return call.like(0, along(call, x, axis, { length, inverse, onesided }));
}

/** Fourier transforms of frames of a signal [N, length, 1 or 2]: [N, frames, frequencies, 2]. */
function ofFrames(call: OperatorCall): Value {
  const given = call.float(0);
  const x = given.rank === 2 ? reshape(given, [...given.shape, 1]) : given;
  const step = call.scalar(1, 1);
  const window = call.optional(2);
  const length = call.scalar(3, window?.shape[0] ?? x.shape[1]!);
  const [batch, size, parts] = x.shape as [number, number, number];
  const frames = Math.floor((size - length) / step) + 1;
  if (!(step >= 1 && length >= 1 && frames >= 1))
    call.refuse(`must have frames within ${size}, of ${length} by ${step}`);
  const at = Int32Array.from({ length: frames * length }, (_, i) => Math.floor(i / length) * step + (i % length));
  const picked = reshape(gather(x, tensor(x.device, at), 1), [batch, frames, length, parts]);
  const weighted = window === undefined ? picked : mul(picked, reshape(window, [length, 1]));
  return call.like(0, along(call, weighted, 2, { length, inverse: false, onesided: call.flag("onesided", 1) }));
}

/** A window of constants: sums of cosines of multiples of the angle. */
const window =
  (factors: readonly number[]): Operator =>
  (call) => {
    const size = call.host(0)[0] ?? call.refuse("must have a size");
    if (!(size >= 0 && size <= MOST_ANGLES)) call.refuse(`must have a size from 0 to ${MOST_ANGLES}, has ${size}`);
    const period = call.flag("periodic", 1) ? size : size - 1;
    const type = ELEMENT_TYPES[call.number("output_datatype", 1)] ?? call.refuse("must be of numbers");
    const values = Array.from({ length: size }, (_, n) =>
      factors.reduce((sum, factor, k) => sum + factor * Math.cos((2 * Math.PI * k * n) / period), 0),
    );
    return Value.of(type, [size], values);
  };

/** Triangles of frequencies that are equally far apart as they are heard: [frequencies, bins]. */
function melWeights(call: OperatorCall): Value {
  const [bins, length, rate, low, high] = [0, 1, 2, 3, 4].map((i) => call.host(i)[0]!) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const rows = Math.floor(length / 2) + 1;
  if (!(bins >= 1 && rows >= 1 && bins * rows <= MOST_ANGLES)) call.refuse(`must have at most ${MOST_ANGLES} weights`);
  const mel = (hertz: number) => 2595 * Math.log10(1 + hertz / 700);
  const step = (mel(high) - mel(low)) / (bins + 2);
  const edges = Array.from({ length: bins + 2 }, (_, k) => {
    const hertz = 700 * (10 ** ((k * step + mel(low)) / 2595) - 1);
    return Math.floor(((length + 1) * hertz) / rate);
  });
  const values = new Float64Array(rows * bins);
  for (let i = 0; i < bins; i++) {
    const [from, middle, to] = [edges[i]!, edges[i + 1]!, edges[i + 2]!];
    if (from < 0 || to > rows) call.refuse(`must have frequencies up to half of the sample rate, ${rate}`);
    if (middle === from) values[middle * bins + i] = 1;
    else for (let j = from; j <= middle; j++) values[j * bins + i] = (j - from) / (middle - from);
    for (let j = middle; j < to; j++) values[j * bins + i] = (to - j) / (to - middle);
  }
  const type = ELEMENT_TYPES[call.number("output_datatype", 1)] ?? call.refuse("must be of numbers");
  return Value.of(type, [rows, bins], values);
}

export const signals: Operators = {
  DFT: fourier,
  STFT: ofFrames,
  HannWindow: window([0.5, -0.5]),
  HammingWindow: window([25 / 46, -21 / 46]),
  BlackmanWindow: window([0.42, -0.5, 0.08]),
  MelWeightMatrix: melWeights,
};
