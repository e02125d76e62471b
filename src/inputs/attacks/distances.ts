// How far images lie from others.

import { ShapeError } from "../../tensor/errors.js";
import { check, instanceOf, integer } from "../../tensor/options.js";

/** How far images lie from others: the Euclidean length of the change, and its largest value. */
export interface Distances {
  readonly l2: Float64Array;
  readonly linf: Float64Array;
}

/** Of `count` images each, in a row. @throws ShapeError for rows of different lengths */
export function distancesBetween(from: Float32Array, to: Float32Array, count: number): Distances {
  for (const [name, value] of Object.entries({ from, to })) {
    check("distancesBetween", name, value, instanceOf(Float32Array, "a Float32Array"));
  }
  check("distancesBetween", "count", count, integer({ from: 1 }));
  if (from.length !== to.length || from.length % count !== 0) {
    throw new ShapeError(
      `distancesBetween: needs two rows of ${count} images of one size, got ${from.length} and ${to.length} values`,
    );
  }
  const size = from.length / count;
  const [l2, linf] = [new Float64Array(count), new Float64Array(count)];
  for (let i = 0; i < from.length; i++) {
    const image = Math.floor(i / size);
    const change = Math.abs(to[i]! - from[i]!);
    l2[image]! += change * change;
    linf[image] = Math.max(linf[image]!, change);
  }
  return { l2: l2.map(Math.sqrt), linf };
}
