// Random codes for a decoder, drawn with more or less of what real codes are like.
import { RandomStream } from "../../../tensor/random.js";

/** Codes of real images with their classes. */
export interface Codes {
  /** Each [units]. */
  readonly rows: readonly Float32Array[];
  readonly labels: ArrayLike<number>;
}

/** Codes drawn at random, [count, units], and the class each was meant to be of, where it was. */
export interface DrawnCodes {
  readonly values: Float32Array;
  readonly wanted?: Int32Array;
}

type Drawing = (codes: Codes, count: number, random: RandomStream) => DrawnCodes;

/** By name, the naive one first. */
export const drawings: Readonly<Record<string, Drawing>> = {
  /** Nothing of real codes. */
  "standard normal": ({ rows }, count, random) => ({
    values: Float32Array.from({ length: count * rows[0]!.length }, () => random.normal()),
  }),
  /** Each unit has the value that it has in some real code, whatever the other units have. */
  "unit by unit": ({ rows }, count, random) => {
    const units = rows[0]!.length;
    return {
      values: Float32Array.from({ length: count * units }, (_, i) => rows[random.integer(rows.length)]![i % units]!),
    };
  },
  /** Mean and covariance of all real codes. */
  normal: ({ rows }, count, random) => ({ values: normalCodes(rows, count, random) }),
  /** Mean and covariance of the real codes of one class, of each class in turn. */
  "normal, one digit": ({ rows, labels }, count, random) => {
    const classes = [...new Set(Array.from(labels))].sort((a, b) => a - b);
    const wanted = Int32Array.from({ length: count }, (_, k) => classes[k % classes.length]!);
    const units = rows[0]!.length;
    const values = new Float32Array(count * units);
    wanted.forEach((label, k) => {
      const own = rows.filter((_, i) => labels[i] === label);
      values.set(normalCodes(own, 1, random), k * units);
    });
    return { values, wanted };
  },
};

/**
 * Normal codes [count, units] with the mean and the covariance of real ones. With standard normal n_i,
 *
 * mean + sum over i of n_i (row_i - mean) / sqrt(N)
 *
 * has just that covariance. What falls below 0 becomes 0, as after a rectifier.
 */
export function normalCodes(rows: readonly Float32Array[], count: number, random: RandomStream): Float32Array {
  const units = rows[0]!.length;
  const mean = new Float64Array(units);
  for (const row of rows) row.forEach((value, unit) => void (mean[unit]! += value / rows.length));
  const drawn = new Float32Array(count * units);
  for (let k = 0; k < count; k++) {
    const sum = new Float64Array(units);
    for (const row of rows) {
      const weight = random.normal() / Math.sqrt(rows.length);
      for (let unit = 0; unit < units; unit++) sum[unit]! += weight * (row[unit]! - mean[unit]!);
    }
    for (let unit = 0; unit < units; unit++) drawn[k * units + unit] = Math.max(0, mean[unit]! + sum[unit]!);
  }
  return drawn;
}

/** Draws codes of one kind. */
export function drawCodes(
  kind: string,
  codes: Codes,
  { count, seed }: { readonly count: number; readonly seed: number },
) {
  return drawings[kind]!(codes, count, new RandomStream(seed, `codes/${kind}`));
}
