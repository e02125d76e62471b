// Zeros around inputs, and cropping, along one or two axes: x [N, L, C] or [N, H, W, C].
import { pad, slice } from "../../autograd/ops/transform.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyOf, integer, listOf, type Rule } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import type { KerasWords } from "../formats/keras-words.js";
import { type CallableLayer, defineLayer, type Fusion, type LayerOptions, type LayerParts } from "../layer.js";
import { requireSpatial, shortFor } from "./window.js";

/** Cells before and after: one number for both. */
export type Sides = number | readonly [before: number, after: number];
/** [[top, bottom], [left, right]], [vertical, horizontal], or one number for all. */
export type Sides2d =
  | number
  | readonly [vertical: number, horizontal: number]
  | readonly [vertical: readonly [number, number], horizontal: readonly [number, number]];

export interface ZeroPadding1dOptions extends LayerOptions {
  /** Default 1. */
  readonly padding?: Sides;
}
export interface ZeroPadding2dOptions extends LayerOptions {
  /** Default 1. */
  readonly padding?: Sides2d;
}
export interface Cropping1dOptions extends LayerOptions {
  /** Default 1. */
  readonly cropping?: Sides;
}
export interface Cropping2dOptions extends LayerOptions {
  /** Default 0. */
  readonly cropping?: Sides2d;
}

const cells = integer({ from: 0, to: 2 ** 16 });
const pair = listOf(cells, { from: 2, to: 2 });
const sidesRule: Rule = { ...anyOf(cells, pair), expected: "a whole number from 0, or [before, after]" };
const sides2dRule: Rule = {
  ...anyOf(cells, pair, listOf(pair, { from: 2, to: 2 })),
  expected: "a whole number from 0, [vertical, horizontal], or [[top, bottom], [left, right]]",
};

const sidesOf = (given: Sides): [number, number] => (typeof given === "number" ? [given, given] : [...given]);
const sides2dOf = (given: Sides2d): [[number, number], [number, number]] => {
  const [vertical, horizontal] = typeof given === "number" ? [given, given] : given;
  return [sidesOf(vertical), sidesOf(horizontal)];
};

/** The same layers, after one without weights that is part of the first. */
const after = (fusion: Fusion): Fusion => ({
  ...fusion,
  call: (x, [, ...weights], [, ...training]) => fusion.call(x, weights, training),
  fuse(next) {
    const longer = fusion.fuse?.(next);
    return longer && after(longer);
  },
});

/** What both do, on sides for each axis between the batch and the channels. */
function padding(sides: readonly (readonly [number, number])[]): Pick<LayerParts, "gives" | "outputShape" | "call"> {
  return {
    gives: "summaries",
    outputShape(shape) {
      requireSpatial(shape, sides.length);
      return shape.map((size, axis) => size + (sides[axis]?.[0] ?? 0) + (sides[axis]?.[1] ?? 0));
    },
    call: (x) => pad(x, [[0, 0], ...sides, [0, 0]]),
  };
}

function cropping(sides: readonly (readonly [number, number])[]): Pick<LayerParts, "gives" | "outputShape" | "call"> {
  const left = (shape: Shape) => shape.map((size, axis) => size - (sides[axis]?.[0] ?? 0) - (sides[axis]?.[1] ?? 0));
  return {
    gives: "summaries",
    outputShape(shape) {
      requireSpatial(shape, sides.length);
      if (left(shape).every((size) => size > 0)) return left(shape);
      throw new ShapeError(`must leave something of ${formatShape(shape)}, crops ${JSON.stringify(sides)}`);
    },
    call: (x) => slice(x, [0, ...sides.map(([before]) => before), 0], [-1, ...left(x.shape.slice(1))]),
  };
}

const words = (name: string): KerasWords => ({
  settings: { [name]: name },
  fixedIfGiven: { data_format: "channels_last" },
});

export const ZeroPadding1D = defineLayer<ZeroPadding1dOptions>({
  className: "ZeroPadding1D",
  options: { padding: sidesRule },
  make: ({ padding: given = 1 }) => ({ config: { padding: sidesOf(given) }, ...padding([sidesOf(given)]) }),
  keras: words("padding"),
});

export const ZeroPadding2D = defineLayer<ZeroPadding2dOptions>({
  className: "ZeroPadding2D",
  options: { padding: sides2dRule },
  make({ padding: given = 1 }) {
    const sides = sides2dOf(given);
    return {
      config: { padding: sides },
      ...padding(sides),
      fuse(next) {
        const padded = next.padded?.(sides);
        return padded && after(padded);
      },
    };
  },
  keras: words("padding"),
});

export const Cropping1D = defineLayer<Cropping1dOptions>({
  className: "Cropping1D",
  options: { cropping: sidesRule },
  make: ({ cropping: given = 1 }) => ({ config: { cropping: sidesOf(given) }, ...cropping([sidesOf(given)]) }),
  keras: words("cropping"),
});

export const Cropping2D = defineLayer<Cropping2dOptions>({
  className: "Cropping2D",
  options: { cropping: sides2dRule },
  make: ({ cropping: given = 0 }) => ({ config: { cropping: sides2dOf(given) }, ...cropping(sides2dOf(given)) }),
  keras: words("cropping"),
});

/** Zeros before and after [N, L, C]; `zeroPadding1d(2)` is short for `zeroPadding1d({ padding: 2 })`. */
export const zeroPadding1d = (options: Sides | ZeroPadding1dOptions = {}): CallableLayer =>
  ZeroPadding1D(shortFor("padding", options));

/** Zeros around images [N, H, W, C]; `zeroPadding2d(2)` is short for `zeroPadding2d({ padding: 2 })`. */
export const zeroPadding2d = (options: Sides2d | ZeroPadding2dOptions = {}): CallableLayer =>
  ZeroPadding2D(shortFor("padding", options));

/** Leaves out the ends of [N, L, C]; `cropping1d(2)` is short for `cropping1d({ cropping: 2 })`. */
export const cropping1d = (options: Sides | Cropping1dOptions = {}): CallableLayer =>
  Cropping1D(shortFor("cropping", options));

/** Leaves out the borders of images [N, H, W, C]; `cropping2d(2)` is short for `cropping2d({ cropping: 2 })`. */
export const cropping2d = (options: Sides2d | Cropping2dOptions = {}): CallableLayer =>
  Cropping2D(shortFor("cropping", options));
