// Resizing of images [N, H, W, C] along height and width, and its adjoint, which is its gradient.
//
// Pixels are squares: the centre of output pixel o lies at p = (o + 1/2) input / output - 1/2 of the input, counted in
// input pixels. "nearest" takes the pixel that p lies in, "bilinear" weights the two (in two dimensions, four) next to
// it by their distance; beyond the first and last centre there is one. As Keras and PyTorch (align_corners=False,
// nearest-exact), without antialiasing. The position p is a fraction of integers, so both devices round alike:
//
//   p = ((2 o + 1) input - output) / (2 output),   y[o] = (1 - w) x[floor p] + w x[floor p + 1],   w = p - floor p
//
// A neighbour of weight 0 has no part: its NaN goes nowhere. The adjoint gathers: an input pixel asks the outputs
// within one input pixel of it for its weight. vec4 along C where C % 4 = 0.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import type { GpuCall } from "../webgpu/program.js";
import { boxLoop } from "./box.js";

export const INTERPOLATIONS = ["nearest", "bilinear"] as const;

export type Interpolation = (typeof INTERPOLATIONS)[number];

/** Sizes of an axis; 2 (input + 1) (output + 1) fits u32. */
export interface ResizeAxis {
  readonly input: number;
  readonly output: number;
}

export interface ResizeParams {
  readonly interpolation: Interpolation;
  readonly y: ResizeAxis;
  readonly x: ResizeAxis;
}

/** The input pixels that output pixel o is made of, and their weights, which are not 0. */
function sourcesOf({ input, output }: ResizeAxis, interpolation: Interpolation, o: number): [at: number, w: number][] {
  if (interpolation === "nearest") return [[Math.floor(((2 * o + 1) * input) / (2 * output)), 1]];
  const p = Math.max((2 * o + 1) * input - output, 0);
  const low = Math.floor(p / (2 * output));
  const w = (p % (2 * output)) / (2 * output);
  if (w === 0 || low === input - 1) return [[low, 1]];
  return [
    [low, 1 - w],
    [low + 1, w],
  ];
}

/** Calls `visit` with the flat positions of each output pixel's channel 0 and of a source of it, and the weight. */
function forEachSource(
  { y, x, interpolation }: ResizeParams,
  batch: number,
  visit: (output: number, source: number, weight: number) => void,
): void {
  for (let n = 0; n < batch; n++) {
    for (let oy = 0; oy < y.output; oy++) {
      for (let ox = 0; ox < x.output; ox++) {
        for (const [iy, wy] of sourcesOf(y, interpolation, oy)) {
          for (const [ix, wx] of sourcesOf(x, interpolation, ox)) {
            visit((n * y.output + oy) * x.output + ox, (n * y.input + iy) * x.input + ix, wy * wx);
          }
        }
      }
    }
  }
}

/** to = sum over sources of weight * from, one way or the other. */
function referenceOf(params: ResizeParams, from: CpuView, to: CpuView, adjoint: boolean): void {
  const [batch, , , channels] = to.shape as [number, number, number, number];
  to.data.fill(0);
  forEachSource(params, batch, (output, source, weight) => {
    const [read, write] = adjoint ? [output, source] : [source, output];
    for (let c = 0; c < channels; c++) to.data[write * channels + c]! += weight * from.data[read * channels + c]!;
  });
}

/** WGSL functions of one axis; u32, where 2 output may be large but no product exceeds what ResizeAxis says. */
const AXIS = /* wgsl */ `
struct Source { low: u32, high: u32, weight: f32 }
fn nearest(o: u32, input: u32, output: u32) -> Source {
  let at = (2u * o + 1u) * input / (2u * output);
  return Source(at, at, 0.0);
}
fn bilinear(o: u32, input: u32, output: u32) -> Source {
  let centre = (2u * o + 1u) * input;
  let p = select(0u, centre - output, centre > output);
  let low = p / (2u * output);
  let rest = p - low * 2u * output;
  return Source(low, min(low + 1u, input - 1u), select(f32(rest) / f32(2u * output), 0.0, low + 1u >= input));
}
fn firstOf(i: u32, input: u32, output: u32) -> u32 {
  let before = select(0u, output * (2u * i - 1u) / (2u * input), i > 0u);
  return select(0u, before - 1u, before > 0u);
}
fn endOf(i: u32, input: u32, output: u32) -> u32 { return min(output, output * (2u * i + 3u) / (2u * input) + 2u); }
fn shareOf(source: Source, i: u32) -> f32 {
  return select(0.0, 1.0 - source.weight, source.low == i)
    + select(0.0, source.weight, source.high == i && source.high != source.low);
}`;

function dispatchResize(call: GpuCall<ResizeParams>, name: string, statement: string): void {
  const { y, x, interpolation } = call.params;
  const [from, to] = [call.inputs[0]!, call.outputs[0]!];
  const [batch, height, width, depth] = to.shape as [number, number, number, number];
  const vectors = depth % 4 === 0;
  const type = vectors ? "vec4f" : "f32";
  const channels = vectors ? depth / 4 : depth;
  const loop = boxLoop(call.profile, [batch, height, width, channels]);
  call.dispatch({
    key: `${name} ${interpolation} ${type}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: /* wgsl */ `${AXIS}
fn between(a: ${type}, b: ${type}, w: f32) -> ${type} { return select((1.0 - w) * a + w * b, a, w == 0.0); }`,
      body: loop.body(statement.replaceAll("SOURCE", interpolation).replaceAll("TYPE", type)),
    }),
    bindings: [
      { name: "source", view: from, type },
      { name: "result", view: to, type, access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      inputHeight: y.input,
      inputWidth: x.input,
      outputHeight: y.output,
      outputWidth: x.output,
      channels,
    },
    workgroups: loop.workgroups,
  });
}

/** Inputs [x [N, H, W, C]], outputs [y [N, OH, OW, C]]. */
export const resizeKernel = defineKernel<ResizeParams>({
  name: "resize",
  cpu: ({ inputs: [x], outputs: [y], params }) => referenceOf(params, x!, y!, false),
  webgpu: (call) =>
    dispatchResize(
      call,
      "forward",
      call.params.interpolation === "nearest"
        ? /* wgsl */ `
    let row = SOURCE(c1, u.inputHeight, u.outputHeight).low;
    let column = SOURCE(c2, u.inputWidth, u.outputWidth).low;
    result[i] = source[((c0 * u.inputHeight + row) * u.inputWidth + column) * u.channels + c3];`
        : /* wgsl */ `
    let rows = SOURCE(c1, u.inputHeight, u.outputHeight);
    let columns = SOURCE(c2, u.inputWidth, u.outputWidth);
    let top = (c0 * u.inputHeight + rows.low) * u.inputWidth;
    let bottom = (c0 * u.inputHeight + rows.high) * u.inputWidth;
    let left = columns.low * u.channels + c3;
    let right = columns.high * u.channels + c3;
    result[i] = between(
      between(source[top * u.channels + left], source[top * u.channels + right], columns.weight),
      between(source[bottom * u.channels + left], source[bottom * u.channels + right], columns.weight),
      rows.weight);`,
    ),
});

/** The adjoint. Inputs [dy [N, OH, OW, C]], outputs [dx [N, H, W, C]]. */
export const resizeGradientKernel = defineKernel<ResizeParams>({
  name: "resizeGradient",
  cpu: ({ inputs: [dy], outputs: [dx], params }) => referenceOf(params, dy!, dx!, true),
  webgpu: (call) =>
    dispatchResize(
      call,
      "adjoint",
      /* wgsl */ `
    var total = TYPE(0.0);
    let endY = endOf(c1, u.inputHeight, u.outputHeight);
    let endX = endOf(c2, u.inputWidth, u.outputWidth);
    for (var oy = firstOf(c1, u.inputHeight, u.outputHeight); oy < endY; oy++) {
      let shareY = shareOf(SOURCE(oy, u.inputHeight, u.outputHeight), c1);
      if (shareY > 0.0) {
        for (var ox = firstOf(c2, u.inputWidth, u.outputWidth); ox < endX; ox++) {
          let share = shareY * shareOf(SOURCE(ox, u.inputWidth, u.outputWidth), c2);
          if (share > 0.0) {
            total += share * source[((c0 * u.outputHeight + oy) * u.outputWidth + ox) * u.channels + c3];
          }
        }
      }
    }
    result[i] = total;`,
    ),
});
