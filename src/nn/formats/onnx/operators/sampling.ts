// Operators that take images at places between pixels, and those of blocks of images.
//
// A value between pixels is a sum over the pixels around it, by weights that are functions of the place. Pixels are
// rows of a matrix, picked by index; so gradients of images and of places follow from gather and arithmetic.
import { full } from "../../../../autograd/ops/create.js";
import {
  abs,
  add,
  cast,
  clip,
  floor,
  greaterEqual,
  lessEqual,
  maximum,
  mul,
  sub,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { addedRows, gather } from "../../../../autograd/ops/gather.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { max, mean } from "../../../../autograd/ops/reduce.js";
import { split } from "../../../../autograd/ops/tile.js";
import { concat, expandDims, reshape, slice, transpose } from "../../../../autograd/ops/transform.js";
import { type Shape, sizeOf, stridesOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";
import { fromLast, rounded, toLast } from "./numbers.js";

type Padding = "zeros" | "border" | "reflection";

/** How a value along one axis is made of pixels: their places and weights. */
interface Tap {
  readonly place: Tensor;
  readonly weight: Tensor | undefined;
}

/** 1 for places from low to high, else 0. */
const between = (x: Tensor, low: number, high: number): Tensor =>
  cast(mul(greaterEqual(x, low), lessEqual(x, high)), "f32");

/** Reflected at the borders until it is between them. */
function reflected(x: Tensor, low: number, high: number): Tensor {
  const range = high - low;
  if (range === 0) return add(mul(x, 0), low);
  const away = abs(sub(x, low));
  const within = sub(away, mul(floor(mul(away, 0.5 / range)), 2 * range));
  return add(where(lessEqual(within, range), within, sub(2 * range, within)), low);
}

/** Weights of the pixels at -1, 0, 1 and 2 from the one before a place, by cubic convolution with a = -3/4. */
function cubicWeights(t: Tensor): Tensor[] {
  const a = -0.75;
  const near = (d: Tensor) => add(mul(mul(sub(mul(d, a + 2), a + 3), d), d), 1);
  const far = (d: Tensor) => sub(mul(add(mul(sub(mul(d, a), 5 * a), d), 8 * a), d), 4 * a);
  return [far(add(t, 1)), near(t), near(sub(1, t)), far(sub(2, t))];
}

const TAPS = { nearest: [0], linear: [0, 1], cubic: [-1, 0, 1, 2] } as const;

function tapsOf(x: Tensor, mode: keyof typeof TAPS): Tap[] {
  if (mode === "nearest") return [{ place: x, weight: undefined }];
  const before = floor(x);
  const t = sub(x, before);
  const weights = mode === "linear" ? [sub(1, t), t] : cubicWeights(t);
  return TAPS[mode].map((step, k) => ({ place: step === 0 ? before : add(before, step), weight: weights[k] }));
}

/**
 * Sums of weighted pixels: rows [M, C], of which those of one image begin at `begin`, a tensor that broadcasts to
 * places. `places` has one tensor for each axis of `sizes`. Gives [...places, C].
 */
function sampled(
  rows: Tensor,
  begin: Tensor,
  places: readonly Tensor[],
  { sizes, mode, padding, borders }: Sampling,
): Tensor {
  const strides = stridesOf(sizes);
  let total: Tensor | undefined;
  const each = (axis: number, index: Tensor, weight: Tensor | undefined): void => {
    if (axis === sizes.length) {
      const picked = gather(rows, cast(add(index, begin), "i32"));
      const share = weight === undefined ? picked : mul(picked, expandDims(weight, -1));
      total = total === undefined ? share : add(total, share);
      return;
    }
    const n = sizes[axis]!;
    for (const tap of tapsOf(places[axis]!, mode)) {
      const moved = padding === "reflection" ? floor(add(reflected(tap.place, ...borders[axis]!), 0.5)) : tap.place;
      const inside = between(tap.place, 0, n - 1);
      const own = padding === "zeros" ? (tap.weight === undefined ? inside : mul(tap.weight, inside)) : tap.weight;
      const both = weight === undefined || own === undefined ? (weight ?? own) : mul(weight, own);
      each(axis + 1, add(index, mul(clip(moved, 0, n - 1), strides[axis]!)), both);
    }
  };
  each(0, full(rows.device, [], 0), undefined);
  return total!;
}

interface Sampling {
  readonly sizes: Shape;
  readonly mode: keyof typeof TAPS;
  readonly padding: Padding;
  /** Between which places reflect along each axis. */
  readonly borders: readonly (readonly [number, number])[];
}

const counting = (like: Tensor, count: number, step: number, shape: Shape): Tensor =>
  tensor(
    like.device,
    Float32Array.from({ length: count }, (_, k) => k * step),
    { shape },
  );

/** x [N, C, ...] at places that grid [N, ..., axes] gives from -1 to 1, the last axis first. */
function gridSampled(call: OperatorCall): Value {
  const x = cast(call.tensor(0), "f32");
  const grid = call.float(1);
  const sizes = x.shape.slice(2);
  const words =
    call.opset < 20 ? (["nearest", "bilinear", "bicubic"] as const) : (["nearest", "linear", "cubic"] as const);
  const word = call.choice("mode", words, call.opset < 20 ? "bilinear" : "linear");
  const mode = word.replace(/^bi/, "") as keyof typeof TAPS;
  const padding = call.choice("padding_mode", ["zeros", "border", "reflection"], "zeros");
  const corners = call.flag("align_corners");
  const borders = sizes.map((n): readonly [number, number] => (corners ? [0, n - 1] : [-0.5, n - 0.5]));
  const places = sizes.map((n, axis) => {
    const from = [...grid.shape.slice(0, -1).map(() => 0), sizes.length - 1 - axis];
    const one = reshape(slice(grid, from, [...grid.shape.slice(0, -1), 1]), grid.shape.slice(0, -1));
    const exact = corners ? mul(add(one, 1), (n - 1) / 2) : mul(sub(mul(add(one, 1), n), 1), 0.5);
    const place = mode === "nearest" ? rounded(exact) : exact;
    if (padding === "border") return clip(place, 0, n - 1);
    return padding === "reflection" ? reflected(place, ...borders[axis]!) : place;
  });
  const [batch, channels] = x.shape as [number, number];
  const count = sizeOf(sizes);
  const begin = counting(x, batch, count, [batch, ...sizes.map(() => 1)]);
  const y = sampled(reshape(toLast(x), [batch * count, channels]), begin, places, { sizes, mode, padding, borders });
  return call.like(0, fromLast(y));
}

/** Places of all pixels under an affine map of coordinates from -1 to 1: theta [N, d, d + 1]. */
function affineGrid(call: OperatorCall): Value {
  const theta = call.float(0);
  const sizes = call.host(1).slice(2);
  const count = sizeOf(sizes);
  if (!(count <= 2 ** 26)) call.refuse(`must have a grid of at most ${2 ** 26} places, has [${sizes}]`);
  const corners = call.flag("align_corners");
  const strides = stridesOf(sizes);
  const base = new Float32Array(count * (sizes.length + 1));
  for (let i = 0; i < count; i++) {
    for (const [axis, n] of sizes.entries()) {
      const k = Math.floor(i / strides[axis]!) % n;
      // Coordinates are x, y, z: the last axis comes first.
      const place = sizes.length - 1 - axis;
      base[i * (sizes.length + 1) + place] = corners ? (n === 1 ? -1 : (2 * k) / (n - 1) - 1) : (2 * k + 1) / n - 1;
    }
    base[i * (sizes.length + 1) + sizes.length] = 1;
  }
  const places = tensor(theta.device, base, { shape: [1, count, sizes.length + 1] });
  const y = matmul(places, theta, { transposeB: true });
  return call.like(0, reshape(y, [theta.shape[0]!, ...sizes, sizes.length]));
}

/** Boxes of images [N, C, H, W], each averaged, or its maximum taken, over the cells of a grid of places. */
function boxes(call: OperatorCall): Value {
  const x = call.float(0);
  const [rois, owner] = [call.float(1), call.tensor(2)];
  const [batch, channels, height, width] = x.shape as [number, number, number, number];
  const count = rois.shape[0]!;
  const ratio = call.number("sampling_ratio", 0);
  if (!(ratio >= 1)) call.refuse("must have a sampling_ratio from 1, since another depends on what is computed");
  const half =
    call.opset >= 16 &&
    call.choice("coordinate_transformation_mode", ["half_pixel", "output_half_pixel"], "half_pixel") === "half_pixel";
  const scale = call.number("spatial_scale", 1);
  const side = (k: number) => sub(mul(reshape(slice(rois, [0, k], [count, 1]), [count]), scale), half ? 0.5 : 0);
  const along = (begin: Tensor, end: Tensor, cells: number, n: number) => {
    const length = half ? sub(end, begin) : maximum(sub(end, begin), 1);
    const steps = tensor(
      x.device,
      Float32Array.from({ length: cells * ratio }, (_, k) => (k + 0.5) / (cells * ratio)),
    );
    const place = add(expandDims(begin, 1), mul(expandDims(length, 1), steps));
    const inside = between(place, -1, n);
    const low = clip(place, 0, n - 1);
    const before = clip(floor(low), 0, Math.max(0, n - 2));
    const share = sub(low, before);
    return [
      { place: before, weight: mul(sub(1, share), inside) },
      { place: clip(add(before, 1), 0, n - 1), weight: mul(share, inside) },
    ];
  };
  const [rows, columns] = [call.number("output_height", 1), call.number("output_width", 1)];
  const vertical = along(side(1), side(3), rows, height);
  const horizontal = along(side(0), side(2), columns, width);
  const pixels = reshape(toLast(x), [batch * height * width, channels]);
  const begin = reshape(mul(cast(owner, "f32"), height * width), [count, 1, 1]);
  const corners = vertical.flatMap((v) =>
    horizontal.map((h) => {
      const index = add(add(mul(expandDims(v.place, 2), width), expandDims(h.place, 1)), begin);
      return mul(
        gather(pixels, cast(index, "i32")),
        expandDims(mul(expandDims(v.weight, 2), expandDims(h.weight, 1)), -1),
      );
    }),
  );
  const largest = call.choice("mode", ["avg", "max"], "avg") === "max";
  const values = corners.reduce((a, b) => (largest ? maximum(a, b) : add(a, b)));
  const cells = reshape(values, [count, rows, ratio, columns, ratio, channels]);
  const y = largest ? max(cells, { axes: [2, 4] }) : mean(cells, { axes: [2, 4] });
  return call.like(0, fromLast(y));
}

/** A convolution whose cells lie where offsets say, between pixels too, each with a factor. */
function deformed(call: OperatorCall): Value {
  const [x, w, offset, bias, mask] = [call.float(0), call.float(1), call.float(2), call.optional(3), call.optional(4)];
  if (x.rank !== 4) call.refuse(`must have images [N, C, H, W], has [${x.shape}]`);
  const [batch, channels, height, width] = x.shape as [number, number, number, number];
  const [outputs, inner, kernelHeight, kernelWidth] = w.shape as [number, number, number, number];
  const [, , rows, columns] = offset.shape as [number, number, number, number];
  const [groups, parts] = [call.number("group", 1), call.number("offset_group", 1)];
  const strides = call.numbers("strides") ?? [1, 1];
  const dilations = call.numbers("dilations") ?? [1, 1];
  const pads = call.numbers("pads") ?? [0, 0, 0, 0];
  const cells = kernelHeight * kernelWidth;
  if (inner * groups !== channels || channels % parts !== 0 || offset.shape[1] !== parts * cells * 2) {
    call.refuse(`must have groups that fit, has x [${x.shape}], w [${w.shape}], offset [${offset.shape}]`);
  }
  const moves = reshape(offset, [batch, parts, cells, 2, rows, columns]);
  const place = (axis: 0 | 1) => {
    const own = slice(moves, [0, 0, 0, axis, 0, 0], [batch, parts, cells, 1, rows, columns]);
    const fixed = new Float32Array(cells * rows * columns);
    for (let i = 0; i < fixed.length; i++) {
      const [cell, row, column] = [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns];
      const within = axis === 0 ? Math.floor(cell / kernelWidth) : cell % kernelWidth;
      fixed[i] = (axis === 0 ? row : column) * strides[axis]! - pads[axis]! + within * dilations[axis]!;
    }
    const all = tensor(x.device, fixed, { shape: [cells, rows, columns] });
    return add(reshape(own, [batch, parts, cells, rows, columns]), all);
  };
  const size = channels / parts;
  const images = transpose(reshape(x, [batch, parts, size, height, width]), [0, 1, 3, 4, 2]);
  const begin = counting(x, batch * parts, height * width, [batch, parts, 1, 1, 1]);
  const values = sampled(reshape(images, [batch * parts * height * width, size]), begin, [place(0), place(1)], {
    sizes: [height, width],
    mode: "linear",
    padding: "zeros",
    borders: [],
  });
  const kept = mask === undefined ? values : mul(values, reshape(mask, [batch, parts, cells, rows, columns, 1]));
  // [batch, parts, cells, rows, columns, size] as columns of a product: [batch, rows, columns, channels, cells].
  const patches = reshape(transpose(kept, [0, 3, 4, 1, 5, 2]), [batch * rows * columns, channels * cells]);
  const kernel = reshape(w, [outputs, inner * cells]);
  const products =
    groups === 1
      ? matmul(patches, kernel, { transposeB: true })
      : concat(
          split(patches, groups, 1).map((part, g) => matmul(part, split(kernel, groups, 0)[g]!, { transposeB: true })),
          1,
        );
  const y = reshape(products, [batch, rows, columns, outputs]);
  return call.like(0, fromLast(bias === undefined ? y : add(y, bias)));
}

/** Blocks [N, C * block, count] added where they stand in images [N, C, ...]. */
function fromBlocks(call: OperatorCall): Value {
  const x = call.float(0);
  const [image, block] = [call.host(1), call.host(2)];
  const rank = image.length;
  const all = (name: string, count: number, standard: number) =>
    call.numbers(name) ?? new Array<number>(count).fill(standard);
  const [strides, dilations, pads] = [all("strides", rank, 1), all("dilations", rank, 1), all("pads", 2 * rank, 0)];
  const counts = image.map(
    (n, k) => Math.floor((n + pads[k]! + pads[rank + k]! - dilations[k]! * (block[k]! - 1) - 1) / strides[k]!) + 1,
  );
  const [batch, width, length] = x.shape as [number, number, number];
  const cells = sizeOf(block);
  if (x.rank !== 3 || width % cells !== 0 || length !== sizeOf(counts)) {
    call.refuse(`must have blocks [N, C * ${cells}, ${sizeOf(counts)}], has [${x.shape}]`);
  }
  const steps = stridesOf(image);
  const places = new Int32Array(cells * length);
  const digits = (i: number, sizes: readonly number[]) => {
    const own = stridesOf(sizes);
    return sizes.map((n, k) => Math.floor(i / own[k]!) % n);
  };
  for (let cell = 0; cell < cells; cell++) {
    const within = digits(cell, block);
    for (let i = 0; i < length; i++) {
      const at = digits(i, counts).map((n, k) => n * strides[k]! - pads[k]! + within[k]! * dilations[k]!);
      // What lies outside of the image is left out.
      const inside = at.every((n, k) => n >= 0 && n < image[k]!);
      places[cell * length + i] = inside ? at.reduce((sum, n, k) => sum + n * steps[k]!, 0) : -1;
    }
  }
  const rows = reshape(x, [batch, width / cells, cells * length]);
  const y = addedRows(rows, tensor(x.device, places), [batch, width / cells, sizeOf(image)], 2);
  return call.like(0, reshape(y, [batch, width / cells, ...image]));
}

export const sampling: Operators = {
  GridSample: gridSampled,
  AffineGrid: affineGrid,
  RoiAlign: boxes,
  DeformConv: deformed,
  Col2Im: fromBlocks,
};
