// Dropout of elements, or along axes together.
import { ones } from "../../autograd/ops/create.js";
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { mul } from "../../autograd/ops/elementwise.js";
import { ShapeError } from "../../tensor/errors.js";
import { number } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { shortFor } from "./window.js";

export interface DropoutOptions extends LayerOptions {
  /** Share of elements set to 0 while training, in [0, 1); the others grow by 1 / (1 - rate). */
  readonly rate: number;
  /**
   * Shape of the mask, that of the batch included: null is a size of the input, 1 drops along the axis together. [null,
   * 1, 1, 1] drops whole images. Default: every element by itself.
   */
  readonly noiseShape?: readonly (number | null)[];
}

/** The mask's shape for inputs x. @throws ShapeError unless x is it, or stretches it */
function maskShape(noiseShape: readonly (number | null)[], x: Shape): Shape {
  const shape = noiseShape.map((size, axis) => size ?? x[axis] ?? 1);
  const fits = shape.length === x.length && shape.every((size, axis) => size === 1 || size === x[axis]);
  if (fits) return shape;
  throw new ShapeError(
    `Dropout: noiseShape must have as many axes as the inputs, each null, 1 or their size, got [${noiseShape.map(String).join(", ")}] for ${formatShape(x)}`,
  );
}

export const Dropout = defineLayer<DropoutOptions>({
  className: "Dropout",
  options: {
    rate: number({ from: 0, below: 1 }),
    noiseShape: {
      expected: "a list of whole numbers from 1 and nulls",
      accepts: (value) =>
        Array.isArray(value) && value.every((size) => size === null || (Number.isSafeInteger(size) && size >= 1)),
    },
  },
  required: ["rate"],
  make: ({ rate, noiseShape }) => ({
    // Only where it is given: earlier versions read the rest.
    config: { rate, ...(noiseShape && { noiseShape }) },
    gives: rate === 0 ? "elements" : "survivors",
    call(x, _, { training, key }) {
      if (!training || rate === 0) return x;
      if (noiseShape === undefined) return dropoutOp(x, { rate, key });
      return mul(x, dropoutOp(ones(x.device, maskShape(noiseShape, x.shape)), { rate, key }));
    },
  }),
  keras: {
    settings: {
      rate: "rate",
      noiseShape: { name: "noise_shape", to: (value) => value ?? null, from: (value) => value ?? undefined },
    },
  },
});

/** Drops elements while training; `dropout(0.5)` is short for `dropout({ rate: 0.5 })`. */
export const dropout = (options: number | DropoutOptions): CallableLayer => Dropout(shortFor("rate", options));
