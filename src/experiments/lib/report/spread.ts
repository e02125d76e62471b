// A figure over replicates: networks that differ in their weights at the start and in the order of the images.
import { percent } from "./text.js";

/** Mean and sample standard deviation; the latter is NaN for one value. */
export interface Spread {
  readonly mean: number;
  readonly deviation: number;
}

export function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

export function spread(values: readonly number[]): Spread {
  const centre = mean(values);
  return {
    mean: centre,
    deviation: Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1)),
  };
}

/** Shares as "98.77 % ± 0.12". */
export const spreadText = ({ mean: centre, deviation }: Spread) =>
  `${percent(centre)}${Number.isFinite(deviation) ? ` ± ${(100 * deviation).toFixed(2)}` : ""}`;
