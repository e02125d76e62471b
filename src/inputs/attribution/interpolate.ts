// Maps of a layer's size enlarged to that of the inputs, so that they can be laid over them; Captum has this as
// LayerAttribution.interpolate.
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, checkOptions, instanceOf, integer, listOf, object, oneOf, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { MOST_VALUES } from "../images.js";
import type { Attribution } from "./attribution.js";

/** Options of {@link interpolate}. */
export interface InterpolateOptions {
  /** [height, width] of the result. */
  readonly size: readonly [number, number];
  /** Default "nearest", as Captum's; "bilinear" between the pixels' middles. */
  readonly mode?: "nearest" | "bilinear";
}

const interpolateRules: Rules<InterpolateOptions> = {
  size: listOf(integer({ from: 1, to: 2 ** 14 }), { from: 2, to: 2 }),
  mode: oneOf("nearest", "bilinear"),
};

/** Of a place in the result: the two it lies between, and how near it is to the second. */
function between(at: number, from: number, to: number, mode: "nearest" | "bilinear"): [number, number, number] {
  if (mode === "nearest") {
    const nearest = Math.min(Math.floor((at * from) / to), from - 1);
    return [nearest, nearest, 0];
  }
  const place = Math.max(0, ((at + 0.5) * from) / to - 0.5);
  const first = Math.floor(place);
  return [first, Math.min(first + 1, from - 1), place - first];
}

/**
 * Values [N, h, w, C] as [N, height, width, C].
 * @throws ShapeError for what has no height and width, UsageError for options out of range
 * @example attributions.interpolate(map, { size: [28, 28], mode: "bilinear" })
 */
export function interpolate<Given extends Pick<Attribution, "values" | "shape">>(
  attribution: Given,
  options: InterpolateOptions,
): Given {
  check("interpolate", "attribution", attribution, object);
  const { values, shape } = attribution;
  check("interpolate", "values", values, instanceOf(Float32Array, "a Float32Array"));
  check("interpolate", "shape", shape, listOf(integer({ from: 1 })));
  const { size, mode = "nearest" } = checkOptions("interpolate", options, interpolateRules, ["size"]);
  if (shape.length !== 4 || sizeOf(shape) !== values.length) {
    throw new ShapeError(
      `interpolate: needs values [N, height, width, C], got ${values.length} of ${formatShape(shape)}`,
    );
  }
  const [count, height, width, channels] = shape as readonly [number, number, number, number];
  const result: Shape = [count, ...size, channels];
  if (sizeOf(result) > MOST_VALUES) {
    throw new UsageError(`interpolate: at most ${MOST_VALUES} values are made at once, got ${formatShape(result)}`);
  }
  const found = new Float32Array(sizeOf(result));
  const columns = Array.from({ length: size[1] }, (_, column) => between(column, width, size[1], mode));
  let to = 0;
  for (let image = 0; image < count; image++) {
    for (let row = 0; row < size[0]; row++) {
      const [top, bottom, down] = between(row, height, size[0], mode);
      const [above, below] = [top, bottom].map((y) => (image * height + y!) * width * channels) as [number, number];
      for (const [left, right, across] of columns) {
        for (let channel = 0; channel < channels; channel++) {
          const [l, r] = [left * channels + channel, right * channels + channel];
          const upper = values[above + l]! * (1 - across) + values[above + r]! * across;
          const lower = values[below + l]! * (1 - across) + values[below + r]! * across;
          found[to++] = upper * (1 - down) + lower * down;
        }
      }
    }
  }
  return { ...attribution, values: found, shape: result };
}
