// Random tensors from Threefry-2x32 (tensor/random.ts), the same bits on both devices. Element i of a tensor comes from
// word i % 2 of counter offset + floor(i / 2), so a tensor is one reproducible piece of its key's sequence, whatever
// the workgroups or windows. Everything up to one f32 product and sum is integer arithmetic or exact in f32; those two
// are kept apart (`apart` below), since an adapter may fuse them.
import { defineKernel } from "../tensor/kernel.js";
import { type RandomKey, THREEFRY_PARITY, THREEFRY_ROTATIONS, threefry, unitFromBits } from "../tensor/random.js";
import type { GpuCall } from "../webgpu/program.js";
import { type Stream, stream } from "./stream.js";

/** Where in which sequence a tensor begins. */
export interface RandomParams {
  readonly key: RandomKey;
  /** First counter; a tensor of n elements uses ceil(n / 2) counters. */
  readonly offset: number;
}

/** Calls `use(i, bits)` for the 32 random bits of each element i < size. */
export function forEachBits({ key, offset }: RandomParams, size: number, use: (i: number, bits: number) => void): void {
  const words = new Uint32Array(2);
  for (let i = 0; i < size; i++) {
    if ((i & 1) === 0) {
      const counter = offset + i / 2;
      threefry(key.seed, key.stream, counter % 2 ** 32, Math.floor(counter / 2 ** 32), words);
    }
    use(i, words[i & 1]!);
  }
}

/** Uniforms for `randomBits` of the window that begins at element `start` (even). */
export function randomSizes({ key, offset }: RandomParams, start: number): Record<string, number> {
  const counter = offset + start / 2;
  return { seed: key.seed, stream: key.stream, counter0: counter % 2 ** 32, counter1: Math.floor(counter / 2 ** 32) };
}

/** WGSL `randomBits(i) -> vec4u`: the bits of elements 4i .. 4i + 3, from two counters side by side. */
export const RANDOM_BITS = /* wgsl */ `
fn rotate(x: vec2u, by: u32) -> vec2u { return (x << vec2u(by)) | (x >> vec2u(32u - by)); }
fn randomBits(i: u32) -> vec4u {
  let k0 = u.seed;
  let k1 = u.stream;
  let k2 = ${THREEFRY_PARITY}u ^ k0 ^ k1;
  let counter = u.counter0 + vec2u(2u * i, 2u * i + 1u);
  var x = counter + k0;
  var y = u.counter1 + select(vec2u(0u), vec2u(1u), counter < vec2u(u.counter0)) + k1;
${Array.from({ length: 20 }, (_, round) => {
  const mix = `  x += y; y = rotate(y, ${THREEFRY_ROTATIONS[round % 8]}u) ^ x;`;
  if (round % 4 !== 3) return mix;
  const block = (round + 1) / 4;
  return `${mix}\n  x += k${block % 3}; y += k${(block + 1) % 3} + ${block}u;`;
}).join("\n")}
  return vec4u(x.x, y.x, x.y, y.y);
}`;

/**
 * WGSL `apart(x)`: x, in a way that no compiler sees through, so that a product stays rounded before it is added to.
 */
const APART = /* wgsl */ `
fn apart(x: vec4f) -> vec4f { return bitcast<vec4f>(bitcast<vec4u>(x) ^ vec4u(u.zero)); }`;

/** Streams `statement` over y, with `randomBits` and `apart` at hand. */
function streamBits(
  call: GpuCall<RandomParams>,
  {
    sizes,
    declarations,
    ...text
  }: Omit<Stream, "key" | "bindings" | "sizes"> & { readonly sizes?: Record<string, number> },
): void {
  stream(call, {
    ...text,
    key: "",
    bindings: [{ name: "y", view: call.outputs[0]!, type: "vec4f", access: "read_write" }],
    declarations: `${RANDOM_BITS}${APART}${declarations ?? ""}`,
    sizes: (start) => ({ ...randomSizes(call.params, start), zero: 0, ...sizes }),
  });
}

export interface UniformParams extends RandomParams {
  readonly low: number;
  readonly high: number;
}

/** Largest float32 below a finite float32 x. */
function floatBelow(x: number): number {
  const bits = new Int32Array(1);
  const value = new Float32Array(bits.buffer);
  value[0] = x;
  if (x === 0) return -(2 ** -149);
  bits[0]! += x > 0 ? -1 : 1;
  return value[0]!;
}

/** low, range and the largest result of uniform numbers, as float32 values. */
function uniformNumbers(params: UniformParams) {
  const low = Math.fround(params.low);
  const high = Math.fround(params.high);
  return { low, range: Math.fround(high - low), last: Math.max(low, floatBelow(high)) };
}

/** y = min(low + (high - low) n 2^-24, the float below high), n of 24 random bits. Inputs none, outputs [y f32]. */
export const randomUniformKernel = defineKernel<UniformParams>({
  name: "randomUniform",
  cpu: ({ outputs: [y], params }) => {
    const { low, range, last } = uniformNumbers(params);
    forEachBits(params, y!.size, (i, bits) => {
      y!.data[i] = Math.min(last, Math.fround(low + Math.fround(range * unitFromBits(bits))));
    });
  },
  webgpu: (call) =>
    streamBits(call, {
      statement: "y[i] = min(vec4f(u.last), u.low + apart(u.range * (vec4f(randomBits(i) >> vec4u(8u)) * 0x1p-24f)));",
      numbers: uniformNumbers(call.params),
    }),
});

export interface BernoulliParams extends RandomParams {
  /** Probability of 1, honoured to 2^-25. */
  readonly probability: number;
}

/** An event of the given probability happens where (bits >> 8) < threshold. */
export function bernoulliThreshold(probability: number): number {
  return Math.round(probability * 2 ** 24);
}

/** y = 1 with the given probability, else 0. Inputs none, outputs [y f32]. */
export const randomBernoulliKernel = defineKernel<BernoulliParams>({
  name: "randomBernoulli",
  cpu: ({ outputs: [y], params }) => {
    const threshold = bernoulliThreshold(params.probability);
    forEachBits(params, y!.size, (i, bits) => {
      y!.data[i] = bits >>> 8 < threshold ? 1 : 0;
    });
  },
  webgpu: (call) =>
    streamBits(call, {
      statement: "y[i] = select(vec4f(0.0), vec4f(1.0), (randomBits(i) >> vec4u(8u)) < vec4u(u.threshold));",
      sizes: { threshold: bernoulliThreshold(call.params.probability) },
    }),
});

/** Linear segments of an octave of the normal quantile: |error| < 8e-6 (standard deviations) everywhere. */
const SEGMENTS = 128;
/** Normal numbers are multiples of 2^-21: 24 bits hold the largest, 6.34. */
const NORMAL_SCALE = 2 ** 21;

/** Upper tail of the standard normal distribution, P(Z > z), z >= 0; relative error about 1e-13. */
export function normalTail(z: number): number {
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z < 3) {
    // 1/2 - density (z + z^3/3 + z^5/(3 5) + ...)
    let sum = 0;
    for (let term = z, k = 1; term > 1e-18; term *= (z * z) / (k += 2)) sum += term;
    return 0.5 - density * sum;
  }
  // Laplace's continued fraction: density / (z + 1/(z + 2/(z + 3/(z + ...))))
  let fraction = z;
  for (let k = 80; k > 0; k--) fraction = z + k / fraction;
  return density / fraction;
}

/**
 * The quantile -z(p), P(Z > z) = p, in fixed point, as pairs (value, drop to the next) for 32 octaves of SEGMENTS
 * points: octave o holds p = 2^(-2-o) (1 + s / SEGMENTS). Each point is found from the one before by Newton's method.
 */
export function normalTable(): Uint32Array {
  const points = 32 * SEGMENTS;
  const table = new Uint32Array(2 * points);
  let z = 0;
  let next = 0;
  for (let point = points - 1; point >= 0; point--) {
    // From p = 1/2 outwards: octave 0 has the largest p.
    const octave = 31 - Math.floor(point / SEGMENTS);
    const p = 2 ** (-33 + Math.floor(point / SEGMENTS)) * (1 + (point % SEGMENTS) / SEGMENTS);
    for (let step = 0; step < 6; step++) {
      const tail = normalTail(z);
      z += ((tail - p) * Math.sqrt(2 * Math.PI)) / Math.exp((-z * z) / 2);
    }
    const value = Math.round(z * NORMAL_SCALE);
    const entry = 2 * (octave * SEGMENTS + (point % SEGMENTS));
    table[entry] = value;
    table[entry + 1] = value - next;
    next = value;
  }
  return table;
}

let cachedTable: Uint32Array | undefined;
const sharedNormalTable = () => (cachedTable ??= normalTable());

/**
 * The standard normal number of 32 random bits, as an integer multiple of 2^-21. The first bit is the sign. The others
 * with a 1 behind them are q, and p = q 2^-33 in (0, 1/2) is the probability beyond. Of q, the leading zeros are the
 * octave, the next 7 bits the segment, the next 16 the place within.
 */
function normalFixed(bits: number, table: Uint32Array): number {
  const q = (bits << 1) | 1;
  const octave = Math.clz32(q);
  const m = q << octave;
  const entry = 2 * (octave * SEGMENTS + ((m >>> 24) & (SEGMENTS - 1)));
  // At most 13,000 x 65,535: exact in 32 bits.
  const magnitude = table[entry]! - ((table[entry + 1]! * ((m >>> 8) & 0xffff) + 0x8000) >>> 16);
  return bits >>> 31 === 0 ? magnitude : 0 - magnitude;
}

const NORMAL = /* wgsl */ `
fn normal(bits: u32) -> f32 {
  let q = (bits << 1u) | 1u;
  let octave = countLeadingZeros(q);
  let m = q << octave;
  let entry = quantiles[octave * ${SEGMENTS}u + ((m >> 24u) & ${SEGMENTS - 1}u)];
  let magnitude = i32(entry.x - ((entry.y * ((m >> 8u) & 0xffffu) + 0x8000u) >> 16u));
  return f32(select(magnitude, -magnitude, (bits >> 31u) == 1u)) * 0x1p-21f;
}`;

export interface NormalParams extends RandomParams {
  readonly mean: number;
  readonly standardDeviation: number;
}

/**
 * y = mean + standardDeviation z, z standard normal by inversion of its distribution function in integer arithmetic, to
 * 6.3 standard deviations. No logarithm or cosine: adapters differ in those. Inputs none, outputs [y f32].
 */
export const randomNormalKernel = defineKernel<NormalParams>({
  name: "randomNormal",
  cpu: ({ outputs: [y], params }) => {
    const mean = Math.fround(params.mean);
    const deviation = Math.fround(params.standardDeviation);
    const table = sharedNormalTable();
    forEachBits(params, y!.size, (i, bits) => {
      y!.data[i] = Math.fround(mean + Math.fround(deviation * (normalFixed(bits, table) / NORMAL_SCALE)));
    });
  },
  webgpu: (call) =>
    streamBits(call, {
      declarations: NORMAL,
      tables: [{ name: "quantiles", view: call.constant("quantiles", sharedNormalTable), type: "vec2u" }],
      statement: /* wgsl */ `let bits = randomBits(i);
    let z = vec4f(normal(bits.x), normal(bits.y), normal(bits.z), normal(bits.w));
    y[i] = u.mean + apart(u.deviation * z);`,
      numbers: { mean: call.params.mean, deviation: call.params.standardDeviation },
    }),
});
