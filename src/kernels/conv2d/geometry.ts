// Sizes of a two-dimensional convolution: output shape and padding from the user's options, with Keras's rules. Pure
// arithmetic; the index maps that the kernels use are at the end.
import type { Spec } from "../../tensor/dtype.js";
import { ShapeError } from "../../tensor/errors.js";
import { anyOf, integer, listOf, oneOf, oneOrPair, type Rules } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import type { GpuView } from "../../webgpu/program.js";

/** [height, width], or one number for both. */
export type Pair = number | readonly [number, number];

/**
 * Padding of the input with zeros. "valid": none. "same": output size ceil(input / stride), an odd pixel at the bottom
 * or right, as Keras. Or explicitly [[top, bottom], [left, right]]; a negative bottom or right leaves out rows or
 * columns of the input.
 */
export type Padding = "valid" | "same" | readonly [readonly [number, number], readonly [number, number]];

export interface Conv2dOptions {
  /** Default 1. */
  readonly strides?: Pair;
  /** Default "valid". */
  readonly padding?: Padding;
  /** Distance between kernel elements, default 1. */
  readonly dilations?: Pair;
}

/** Sizes and distances of windows: more than an image has pixels along an axis makes no sense, and fits u32 indices. */
export const pairRule = oneOrPair(integer({ from: 1, to: 2 ** 16 }));

const side = listOf(integer({ from: -(2 ** 16), to: 2 ** 16 }), { from: 2, to: 2 });

/** What a padding may be. */
export const paddingRule = {
  ...anyOf(oneOf("valid", "same"), listOf(side, { from: 2, to: 2 })),
  expected: '"valid", "same" or [[top, bottom], [left, right]]',
};

/** Rules of the options of whatever slides over images. */
export const conv2dRules: Rules<Conv2dOptions> = { strides: pairRule, padding: paddingRule, dilations: pairRule };

/** One spatial axis of a sliding window. */
export interface WindowAxis {
  readonly input: number;
  readonly output: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  /** Zeros before the first element; those after the last follow from the other sizes. */
  readonly padding: number;
}

/**
 * x [batch, y.input, x.input, inputs] * kernel [y.kernel, x.kernel, inputs, outputs] -> [batch, y.output, x.output,
 * outputs].
 */
export interface Conv2dGeometry {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
}

/** Number pairs of an option, checked to be positive integers. */
export function positivePair(op: string, name: string, value: Pair): readonly [number, number] {
  const pair: readonly [number, number] = typeof value === "number" ? [value, value] : value;
  if (!pair.every((n) => Number.isSafeInteger(n) && n >= 1)) {
    throw new ShapeError(`${op}: ${name} must be positive integers, got [${pair.join(", ")}]`);
  }
  return pair;
}

/** Whether windows are single pixels, all of them: then each element of the input belongs to one window. */
export const takesAllPixels = ({ y, x }: Conv2dGeometry): boolean =>
  [y, x].every(({ kernel, input, output }) => kernel === 1 && input === output);

/** Output size and padding of one axis: output = floor((input + padding - dilation (kernel - 1) - 1) / stride) + 1. */
export function windowAxis(
  op: string,
  sizes: { readonly input: number; readonly kernel: number; readonly stride: number; readonly dilation: number },
  padding: "valid" | "same" | readonly [number, number],
): WindowAxis {
  const { input, kernel, stride, dilation } = sizes;
  const extent = dilation * (kernel - 1) + 1;
  let before = 0;
  let total = 0;
  if (padding === "same") {
    total = Math.max(0, (Math.ceil(input / stride) - 1) * stride + extent - input);
    before = Math.floor(total / 2);
  } else if (padding !== "valid") {
    if (!padding.every(Number.isSafeInteger) || padding[0] < 0) {
      throw new ShapeError(
        `${op}: padding must be non-negative integers (negative at the bottom or right to crop), got [${padding.join(", ")}]`,
      );
    }
    before = padding[0];
    total = padding[0] + padding[1];
  }
  const output = Math.floor((input + total - extent) / stride) + 1;
  if (output < 1) {
    throw new ShapeError(
      `${op}: the kernel must fit into the padded input, it spans ${extent} and the input ${input} + ${total}; use padding "same" or a smaller kernel`,
    );
  }
  return { input, output, kernel, stride, dilation, padding: before };
}

export interface GeometryOptions {
  /** Begins messages; default "conv2d". */
  readonly op?: string;
  /** Groups of channels that see only themselves, default 1. */
  readonly groups?: number;
}

/**
 * Geometry of conv2d for x [N, H, W, inputs] and kernel [kh, kw, inputs, outputs]. With groups, x has `groups` times as
 * many channels, and outputs are those of all.
 */
export function conv2dGeometry(
  x: Shape,
  kernel: Shape,
  options: Conv2dOptions = {},
  { op = "conv2d", groups = 1 }: GeometryOptions = {},
): Conv2dGeometry {
  if (x.length !== 4 || kernel.length !== 4) {
    throw new ShapeError(
      `${op}: needs x [N, H, W, Cin] and kernel [kh, kw, Cin, Cout], got ${formatShape(x)} and ${formatShape(kernel)}; reshape the input`,
    );
  }
  const [batch, height, width, channels] = x as [number, number, number, number];
  const [kernelHeight, kernelWidth, inputs, outputs] = kernel as [number, number, number, number];
  if (!kernel.every((n) => n >= 1)) {
    throw new ShapeError(`${op}: the kernel's sizes must be at least 1, got ${formatShape(kernel)}`);
  }
  if (channels !== inputs * groups) {
    throw new ShapeError(
      `${op}: x ${formatShape(x)} has ${channels} channels, kernel ${formatShape(kernel)} needs ${inputs}${groups === 1 ? "" : ` in each of ${groups} groups`}; the last axis of x must equal the kernel's third${groups === 1 ? "" : " times the groups"}`,
    );
  }
  if (outputs % groups !== 0) {
    throw new ShapeError(
      `${op}: output channels must be the same number in each of ${groups} groups, got ${outputs} of kernel ${formatShape(kernel)}`,
    );
  }
  const [strideY, strideX] = positivePair(op, "strides", options.strides ?? 1);
  const [dilationY, dilationX] = positivePair(op, "dilations", options.dilations ?? 1);
  const { padding = "valid" } = options;
  if (typeof padding === "string" && padding !== "valid" && padding !== "same") {
    throw new ShapeError(
      `${op}: padding must be "valid", "same" or [[top, bottom], [left, right]], got "${String(padding)}"`,
    );
  }
  const explicit = typeof padding !== "string";
  return {
    batch,
    inputs,
    outputs,
    y: windowAxis(
      op,
      { input: height, kernel: kernelHeight, stride: strideY, dilation: dilationY },
      explicit ? padding[0] : padding,
    ),
    x: windowAxis(
      op,
      { input: width, kernel: kernelWidth, stride: strideX, dilation: dilationX },
      explicit ? padding[1] : padding,
    ),
  };
}

/** @throws ShapeError unless all are f32 and bias has one number per output channel */
export function checkConv2dInputs(
  { outputs }: Conv2dGeometry,
  x: Spec,
  kernel: Spec,
  bias: Spec | undefined,
  op = "conv2d",
): void {
  if (x.dtype !== "f32" || kernel.dtype !== "f32") {
    throw new ShapeError(`${op}: x and kernel must be f32, got ${x.dtype} and ${kernel.dtype}; use cast()`);
  }
  if (bias !== undefined && (bias.shape.length !== 1 || bias.shape[0] !== outputs || bias.dtype !== "f32")) {
    throw new ShapeError(
      `${op}: bias must be f32 of shape [${outputs}], one number per output channel, got ${bias.dtype} ${formatShape(bias.shape)}`,
    );
  }
}

export function inputShape({ batch, y, x, inputs }: Conv2dGeometry): Shape {
  return [batch, y.input, x.input, inputs];
}

export function outputShape({ batch, y, x, outputs }: Conv2dGeometry): Shape {
  return [batch, y.output, x.output, outputs];
}

/** Of the direct algorithm, products with padding included. */
export function convolutionFlops(geometry: Conv2dGeometry): number {
  return 2 * sizeOf(outputShape(geometry)) * geometry.y.kernel * geometry.x.kernel * geometry.inputs;
}

export function kernelShape({ y, x, inputs, outputs }: Conv2dGeometry): Shape {
  return [y.kernel, x.kernel, inputs, outputs];
}

/**
 * One axis of a gather. The target at position d takes from the source, for each tap t, position p / divisor with
 *
 * p = d scale + offset + t step
 *
 * It does so where p >= 0, p is a multiple of the divisor and p / divisor < source.
 */
export interface GatherAxis {
  readonly source: number;
  readonly target: number;
  readonly taps: number;
  readonly scale: number;
  readonly offset: number;
  readonly step: number;
  readonly divisor: number;
}

/**
 * The common form of the forward pass and the input gradient, for every image:
 *
 * target[y, x, c] = sum over taps ty, tx and channels k of source[p(y, ty), p(x, tx), k] * kernel[ty, tx, ...].
 */
export interface Gather {
  readonly batch: number;
  readonly y: GatherAxis;
  readonly x: GatherAxis;
  readonly sourceChannels: number;
  readonly targetChannels: number;
  /** Strides, in elements, of the kernel's source and target channel. */
  readonly kernelStrides: { readonly source: number; readonly target: number };
}

/**
 * What a gather reads and writes: source and target [batch, height, width, channels], kernel, bias [targetChannels].
 */
export interface GatherViews {
  readonly source: GpuView;
  readonly kernel: GpuView;
  readonly bias?: GpuView;
  readonly target: GpuView;
}

/** y[d] takes x[d stride - padding + t dilation]. */
export function forwardGather({ batch, inputs, outputs, y, x }: Conv2dGeometry): Gather {
  const axis = (a: WindowAxis): GatherAxis => ({
    source: a.input,
    target: a.output,
    taps: a.kernel,
    scale: a.stride,
    offset: -a.padding,
    step: a.dilation,
    divisor: 1,
  });
  return {
    batch,
    y: axis(y),
    x: axis(x),
    sourceChannels: inputs,
    targetChannels: outputs,
    kernelStrides: { source: outputs, target: 1 },
  };
}

/** dx[d] takes dy[(d + padding - t dilation) / stride]. */
export function inputGradientGather({ batch, inputs, outputs, y, x }: Conv2dGeometry): Gather {
  const axis = (a: WindowAxis): GatherAxis => ({
    source: a.output,
    target: a.input,
    taps: a.kernel,
    scale: 1,
    offset: a.padding,
    step: -a.dilation,
    divisor: a.stride,
  });
  return {
    batch,
    y: axis(y),
    x: axis(x),
    sourceChannels: outputs,
    targetChannels: inputs,
    kernelStrides: { source: 1, target: outputs },
  };
}

/** The (target, tap) pairs of an axis whose source position exists, as a share of all. */
export function usedShare({ source, target, taps, scale, offset, step, divisor }: GatherAxis): number {
  let used = 0;
  for (let d = 0; d < target; d++) {
    for (let t = 0; t < taps; t++) {
      const p = d * scale + offset + t * step;
      if (p >= 0 && p % divisor === 0 && p / divisor < source) used++;
    }
  }
  return used / (target * taps);
}

/** The parameters by which both families' gather programs read the index maps. */
export function gatherSizes({ y, x, sourceChannels, targetChannels, kernelStrides }: Gather) {
  return {
    sourceHeight: y.source,
    sourceWidth: x.source,
    sourceChannels,
    targetHeight: y.target,
    targetWidth: x.target,
    targetChannels,
    tapsY: y.taps,
    tapsX: x.taps,
    scaleY: y.scale,
    scaleX: x.scale,
    offsetY: y.offset,
    offsetX: x.offset,
    stepY: y.step,
    stepX: x.step,
    divisorY: y.divisor,
    divisorX: x.divisor,
    kernelSource: kernelStrides.source,
    kernelTarget: kernelStrides.target,
  };
}

/** The parameters of the windows that both families' kernel gradient programs read. */
export function windowSizes({ y, x }: Pick<Conv2dGeometry, "y" | "x">) {
  return {
    kernelWidth: x.kernel,
    inputHeight: y.input,
    inputWidth: x.input,
    outputHeight: y.output,
    outputWidth: x.output,
    strideY: y.stride,
    strideX: x.stride,
    dilationY: y.dilation,
    dilationX: x.dilation,
    paddingY: y.padding,
    paddingX: x.padding,
  };
}
