// Options of what slides over images, kernels and pooling windows, and the size of what comes out.
import type { Pool2dOptions } from "../../autograd/ops/pool2d.js";
import { type Padding, type Pair, windowAxis } from "../../kernels/conv2d/geometry.js";
import { ShapeError } from "../../tensor/errors.js";
import { integer, object } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import type { LayerConfig } from "../layer.js";

export type { Padding, Pair } from "../../kernels/conv2d/geometry.js";

export function pairOf(value: Pair): readonly [number, number] {
  return typeof value === "number" ? [value, value] : value;
}

/** What a window's length or distance along one axis may be. */
export const lengthRule = integer({ from: 1, to: 2 ** 16 });

/** Options of which one is given alone: `maxPool2d(2)` is `maxPool2d({ poolSize: 2 })`. */
export function shortFor<Options extends object>(name: string, options: unknown): Options {
  return (object.accepts(options) ? options : { [name]: options }) as Options;
}

/** @throws ShapeError unless inputs are [length, channels], or images [height, width, channels] */
export function requireSpatial(shape: Shape, axes: number): void {
  if (shape.length === axes + 1) return;
  const form = axes === 1 ? "[length, channels]" : "[height, width, channels]";
  throw new ShapeError(
    `needs ${axes === 1 ? "inputs" : "images"} ${form}, got ${formatShape(shape)}; put nn.reshape(${form}) before it`,
  );
}

/** The options of the pooling op, from the configuration of a pooling layer. */
export function windowsOf({ poolSize, strides, padding }: LayerConfig): Pool2dOptions {
  return { poolSize, strides, padding } as Pool2dOptions;
}

export interface Window {
  readonly size: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly padding: Padding;
  readonly dilations?: readonly [number, number];
}

/**
 * Height and width of the output for images [height, width, channels].
 * @throws ShapeError for other inputs, and images smaller than the window
 */
export function slide(shape: Shape, { size, strides, padding, dilations = [1, 1] }: Window): [number, number] {
  requireSpatial(shape, 2);
  const along = (axis: 0 | 1) =>
    windowAxis(
      `on ${formatShape(shape)}`,
      { input: shape[axis]!, kernel: size[axis], stride: strides[axis], dilation: dilations[axis] },
      typeof padding === "string" ? padding : padding[axis],
    ).output;
  return [along(0), along(1)];
}
