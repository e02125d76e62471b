// Images of another size: upsampling by whole factors, and resizing to a given size. Keras's numbers; see the op.
import { resize } from "../../autograd/ops/resize.js";
import { reshape } from "../../autograd/ops/transform.js";
import { pairRule } from "../../kernels/conv2d/geometry.js";
import { INTERPOLATIONS, type Interpolation } from "../../kernels/resize.js";
import { oneOf } from "../../tensor/options.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";
import { lengthRule, type Pair, pairOf, requireSpatial, shortFor } from "./window.js";

export interface UpSampling1dOptions extends LayerOptions {
  /** How often each position is repeated; default 2. */
  readonly size?: number;
}

export interface UpSampling2dOptions extends LayerOptions {
  /** Factors of height and width; default 2. */
  readonly size?: Pair;
  /** Default "nearest". */
  readonly interpolation?: Interpolation;
}

export interface ResizingOptions extends LayerOptions {
  readonly height: number;
  readonly width: number;
  /** Default "bilinear". */
  readonly interpolation?: Interpolation;
}

const interpolationRule = oneOf(...INTERPOLATIONS);

export const UpSampling1D = defineLayer<UpSampling1dOptions>({
  className: "UpSampling1D",
  options: { size: lengthRule },
  make: ({ size = 2 }) => ({
    config: { size },
    gives: "summaries",
    outputShape(shape) {
      requireSpatial(shape, 1);
      return [shape[0]! * size, shape[1]!];
    },
    call(x) {
      const [batch, length, channels] = x.shape as [number, number, number];
      // A column of images of width 1.
      const y = resize(reshape(x, [batch, length, 1, channels]), {
        size: [length * size, 1],
        interpolation: "nearest",
      });
      return reshape(y, [batch, length * size, channels]);
    },
  }),
  keras: { settings: { size: "size" } },
});

export const UpSampling2D = defineLayer<UpSampling2dOptions>({
  className: "UpSampling2D",
  options: { size: pairRule, interpolation: interpolationRule },
  make({ size: given = 2, interpolation = "nearest" }) {
    const size = pairOf(given);
    return {
      config: { size, interpolation },
      gives: "summaries",
      outputShape(shape) {
        requireSpatial(shape, 2);
        return [shape[0]! * size[0], shape[1]! * size[1], shape[2]!];
      },
      call: (x) => resize(x, { size: [x.shape[1]! * size[0], x.shape[2]! * size[1]], interpolation }),
    };
  },
  keras: { settings: { size: "size", interpolation: "interpolation" }, fixed: { data_format: "channels_last" } },
});

export const Resizing = defineLayer<ResizingOptions>({
  className: "Resizing",
  options: { height: lengthRule, width: lengthRule, interpolation: interpolationRule },
  required: ["height", "width"],
  make: ({ height, width, interpolation = "bilinear" }) => ({
    config: { height, width, interpolation },
    gives: "summaries",
    outputShape(shape) {
      requireSpatial(shape, 2);
      return [height, width, shape[2]!];
    },
    call: (x) => resize(x, { size: [height, width], interpolation }),
  }),
  keras: {
    settings: { height: "height", width: "width", interpolation: "interpolation" },
    fixed: { crop_to_aspect_ratio: false },
    fixedIfGiven: { data_format: "channels_last", pad_to_aspect_ratio: false, antialias: false },
    passedOver: ["training"],
  },
});

/** Repeats each position of [N, L, C]; `upSampling1d(3)` is short for `upSampling1d({ size: 3 })`. */
export const upSampling1d = (options: number | UpSampling1dOptions = {}): CallableLayer =>
  UpSampling1D(shortFor("size", options));

/** Images [N, H, W, C] of a multiple of the size; `upSampling2d(2)` is short for `upSampling2d({ size: 2 })`. */
export const upSampling2d = (options: Pair | UpSampling2dOptions = {}): CallableLayer =>
  UpSampling2D(shortFor("size", options));

/** Images of [height, width], whatever their size was. */
export const resizing = (options: ResizingOptions): CallableLayer => Resizing(options);
