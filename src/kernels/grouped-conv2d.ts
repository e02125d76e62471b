// Convolution in groups of few channels, depthwise convolution among them, and its two gradients: every output channel
// sees only the input channels of its group. With I input and O output channels a group, output channel co of group
// g = floor(co / O), and iy = oy * stride - padding + ky * dilation, likewise ix:
//
//   y[n, oy, ox, co]        = act(bias[co] + sum_{ky, kx, ci < I} x[n, iy, ix, g I + ci] * kernel[ky, kx, ci, co])
//   dx[n, iy, ix, g I + ci] = sum_{ky, kx, co of g} dy[n, oy, ox, co] * kernel[ky, kx, ci, co]
//   dkernel[ky, kx, ci, co] = sum_{n, oy, ox} x[n, iy, ix, g I + ci] * dy[n, oy, ox, co]
//
// Depthwise: I = 1, and Keras's kernel [kh, kw, C, multiplier] has the memory of [kh, kw, 1, C multiplier].
//
// There is little to compute for what is loaded, so that channels are not tiled. An invocation has one of them, or four
// as a vec4f. It has four where they see the same inputs (O % 4 = 0) or each its own (I = O = 1, C % 4 = 0). An
// invocation has four neighbouring pixels, which share what it loads of the kernel: five loads for four products, and a
// quarter of the index arithmetic.
//
// A kernel's gradient sums over all pixels: it is cut into splits of rows (n, oy), which a second pass adds in order.
import { defineKernel } from "../tensor/kernel.js";
import type { GpuView } from "../webgpu/program.js";
import { activationCpu, activationWgsl, type FusedActivation } from "./activation.js";
import { boxLoop } from "./box.js";
import { type Conv2dGeometry, convolutionFlops, windowSizes } from "./conv2d/geometry.js";
import { splitRows } from "./conv2d/kernel-sums.js";
import { depthwiseForward, depthwiseInputGradient, depthwiseKernelGradient, isSmall } from "./depthwise.js";
import { longSum, ONE } from "./long-sums.js";
import { dispatchReduce } from "./reduce.js";
import { repeat } from "./subgroup-tile.js";

export interface GroupedConv2dParams {
  /** `inputs` are those of a group, `outputs` those of all. */
  readonly geometry: Conv2dGeometry;
  readonly groups: number;
}

export interface GroupedForwardParams extends GroupedConv2dParams {
  readonly activation: FusedActivation;
}

/** Visits the products: flat positions in x, kernel and y. */
function eachProduct(
  { geometry, groups }: GroupedConv2dParams,
  visit: (x: number, kernel: number, y: number) => void,
): void {
  const { batch, inputs, outputs, y, x } = geometry;
  const channels = groups * inputs;
  for (let pixel = 0; pixel < batch * y.output * x.output; pixel++) {
    const ox = pixel % x.output;
    const oy = Math.floor(pixel / x.output) % y.output;
    const n = Math.floor(pixel / x.output / y.output);
    for (let tap = 0; tap < y.kernel * x.kernel; tap++) {
      const iy = oy * y.stride - y.padding + Math.floor(tap / x.kernel) * y.dilation;
      const ix = ox * x.stride - x.padding + (tap % x.kernel) * x.dilation;
      if (iy < 0 || iy >= y.input || ix < 0 || ix >= x.input) continue;
      const at = ((n * y.input + iy) * x.input + ix) * channels;
      for (let co = 0; co < outputs; co++) {
        const first = Math.floor(co / (outputs / groups)) * inputs;
        for (let ci = 0; ci < inputs; ci++) {
          visit(at + first + ci, (tap * inputs + ci) * outputs + co, pixel * outputs + co);
        }
      }
    }
  }
}

const flops = ({ geometry }: GroupedConv2dParams) => convolutionFlops(geometry);

/** How channels are computed: four of their own inputs, four of common inputs, or one. */
type Form = "depthwise" | "vector" | "scalar";

function formOf({ geometry: { inputs, outputs }, groups }: GroupedConv2dParams): Form {
  const each = outputs / groups;
  if (inputs === 1 && each === 1 && outputs % 4 === 0) return "depthwise";
  return each % 4 === 0 ? "vector" : "scalar";
}

/** Whether the kernels of depthwise.ts compute it, which load each row once. */
const isDepthwise = (params: GroupedConv2dParams) => formOf(params) === "depthwise" && isSmall(params.geometry);

/** Types of x and of y and kernel, and the parameters that all three passes read; channels are in units of those. */
function layoutOf(params: GroupedConv2dParams) {
  const { geometry, groups } = params;
  const form = formOf(params);
  const width = form === "scalar" ? 1 : 4;
  return {
    form,
    xType: form === "depthwise" ? "vec4f" : "f32",
    yType: form === "scalar" ? "f32" : "vec4f",
    /** Of y, in units of its type. */
    outputs: geometry.outputs / width,
    sizes: {
      ...windowSizes(geometry),
      batch: geometry.batch,
      kernelHeight: geometry.y.kernel,
      groupInputs: geometry.inputs,
      groupOutputs: form === "depthwise" ? 1 : geometry.outputs / groups / width,
      channels: (groups * geometry.inputs) / (form === "depthwise" ? 4 : 1),
      outputs: geometry.outputs / width,
    },
  };
}

/** Neighbouring pixels of an invocation. */
const PIXELS = 4;

/** WGSL for each of them. */
const eachPixel = (emit: (s: number) => string) => repeat(PIXELS, emit);

/** WGSL: the first channel in x of what output `co` sees. */
const FIRST = "co / u.groupOutputs * u.groupInputs";

/** Inputs x [N, H, W, groups I], kernel [kh, kw, I, Cout], perhaps bias [Cout]. Outputs y [N, OH, OW, Cout]. */
export const groupedConv2dKernel = defineKernel<GroupedForwardParams>({
  name: "groupedConv2d",
  flops,
  cpu({ inputs: [x, kernel, bias], outputs: [y], params }) {
    const [xs, weights, ys] = [x!.data, kernel!.data, y!.data];
    ys.fill(0);
    eachProduct(params, (xAt, kernelAt, yAt) => {
      ys[yAt]! += xs[xAt]! * weights[kernelAt]!;
    });
    const activation = activationCpu(params.activation);
    for (let i = 0; i < ys.length; i++) ys[i] = activation(ys[i]! + (bias?.data[i % bias.size] ?? 0));
  },
  webgpu(call) {
    const [x, kernel, bias] = call.inputs as [GpuView, GpuView, GpuView?];
    const y = call.outputs[0]!;
    const { geometry, activation } = call.params;
    if (isDepthwise(call.params)) {
      return depthwiseForward(call, geometry, { x, kernel, y, ...(bias && { bias }) }, activation);
    }
    const { form, xType, yType, outputs, sizes } = layoutOf(call.params);
    const strips = Math.ceil(geometry.x.output / PIXELS);
    const loop = boxLoop(call.profile, [geometry.batch, geometry.y.output, strips, outputs]);
    call.dispatch({
      key: `${form} ${activation} ${bias !== undefined}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        declarations: activationWgsl(activation, yType as "f32" | "vec4f"),
        body: loop.body(/* wgsl */ `
    let co = c3;
    let first = ${FIRST};
    let column = c2 * ${PIXELS}u;
    ${eachPixel((s) => `var total${s} = ${yType}(0.0);`)}
    for (var ky = 0u; ky < u.kernelHeight; ky++) {
      // u32 arithmetic wraps: a negative position is a huge one.
      let iy = c1 * u.strideY + ky * u.dilationY - u.paddingY;
      if (iy < u.inputHeight) {
        let row = (c0 * u.inputHeight + iy) * u.inputWidth;
        for (var kx = 0u; kx < u.kernelWidth; kx++) {
          let ix0 = column * u.strideX + kx * u.dilationX - u.paddingX;
          ${repeat(PIXELS - 1, (s) => `let ix${s + 1} = ix${s} + u.strideX;`)}
          ${eachPixel((s) => `let at${s} = (row + ix${s}) * u.channels + first;`)}
          let weight = (ky * u.kernelWidth + kx) * u.groupInputs * u.outputs + co;
          for (var ci = 0u; ci < u.groupInputs; ci++) {
            let w = kernel[weight + ci * u.outputs];
            ${eachPixel((s) => `total${s} = select(total${s}, total${s} + x[at${s} + ci] * w, ix${s} < u.inputWidth);`)}
          }
        }
      }
    }
    let to = ((c0 * u.outputHeight + c1) * u.outputWidth + column) * u.outputs + co;
    ${eachPixel((s) => `if (column + ${s}u < u.outputWidth) { y[to + ${s}u * u.outputs] = activation(total${s}${bias ? " + bias[co]" : ""}); }`)}`),
      }),
      bindings: [
        { name: "x", view: x, type: xType },
        { name: "kernel", view: kernel, type: yType },
        ...(bias === undefined ? [] : [{ name: "bias", view: bias, type: yType }]),
        { name: "y", view: y, type: yType, access: "read_write" },
      ],
      sizes: { ...loop.sizes, ...sizes },
      workgroups: loop.workgroups,
    });
  },
});

/** Inputs dy [N, OH, OW, Cout], kernel [kh, kw, I, Cout]. Outputs dx [N, H, W, groups I]. */
export const groupedInputGradientKernel = defineKernel<GroupedConv2dParams>({
  name: "groupedConv2dInputGradient",
  flops,
  cpu({ inputs: [dy, kernel], outputs: [dx], params }) {
    const [gradient, weights, sums] = [dy!.data, kernel!.data, dx!.data];
    sums.fill(0);
    eachProduct(params, (xAt, kernelAt, yAt) => {
      sums[xAt]! += gradient[yAt]! * weights[kernelAt]!;
    });
  },
  webgpu(call) {
    const [dy, kernel] = call.inputs as [GpuView, GpuView];
    const dx = call.outputs[0]!;
    const { geometry } = call.params;
    if (isDepthwise(call.params)) return depthwiseInputGradient(call, geometry, { dy, kernel, dx });
    const { form, xType, yType, sizes } = layoutOf(call.params);
    const strips = Math.ceil(geometry.x.input / PIXELS);
    const loop = boxLoop(call.profile, [geometry.batch, geometry.y.input, strips, sizes.channels]);
    const strided = geometry.y.stride * geometry.x.stride > 1;
    const product = (dy: string) => (form === "vector" ? `dot(${dy}, w)` : `${dy} * w`);
    const ox = (s: number) =>
      strided
        ? `let ox${s} = spanX${s} / u.strideX; let ok${s} = ox${s} < u.outputWidth && ox${s} * u.strideX == spanX${s};`
        : `let ox${s} = spanX${s}; let ok${s} = ox${s} < u.outputWidth;`;
    call.dispatch({
      key: `${form} ${strided}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `
    let first = c3 / u.groupInputs * u.groupOutputs;
    let column = c2 * ${PIXELS}u;
    ${eachPixel((s) => `var total${s} = ${xType}(0.0);`)}
    for (var ky = 0u; ky < u.kernelHeight; ky++) {
      // u32 arithmetic wraps: what lies before the first window is huge.
      let spanY = c1 + u.paddingY - ky * u.dilationY;
      let oy = spanY${strided ? " / u.strideY" : ""};
      if (oy < u.outputHeight${strided ? " && oy * u.strideY == spanY" : ""}) {
        let row = (c0 * u.outputHeight + oy) * u.outputWidth;
        for (var kx = 0u; kx < u.kernelWidth; kx++) {
          let spanX0 = column + u.paddingX - kx * u.dilationX;
          ${repeat(PIXELS - 1, (s) => `let spanX${s + 1} = spanX0 + ${s + 1}u;`)}
          ${eachPixel(ox)}
          ${eachPixel((s) => `let at${s} = (row + ox${s}) * u.outputs + first;`)}
          let weight = ((ky * u.kernelWidth + kx) * u.groupInputs + c3 % u.groupInputs) * u.outputs + first;
          for (var co = 0u; co < u.groupOutputs; co++) {
            let w = kernel[weight + co];
            ${eachPixel((s) => `total${s} = select(total${s}, total${s} + ${product(`dy[at${s} + co]`)}, ok${s});`)}
          }
        }
      }
    }
    let to = ((c0 * u.inputHeight + c1) * u.inputWidth + column) * u.channels + c3;
    ${eachPixel((s) => `if (column + ${s}u < u.inputWidth) { dx[to + ${s}u * u.channels] = total${s}; }`)}`),
      }),
      bindings: [
        { name: "dy", view: dy, type: yType },
        { name: "kernel", view: kernel, type: yType },
        { name: "dx", view: dx, type: xType, access: "read_write" },
      ],
      sizes: { ...loop.sizes, ...sizes },
      workgroups: loop.workgroups,
    });
  },
});

/** Sums that are computed side by side, where there are as many: a few workgroups a core, or what fills a large GPU. */
const SUMS = { software: 512, hardware: 1 << 18 };

/** Inputs x [N, H, W, groups I], dy [N, OH, OW, Cout]. Outputs dkernel [kh, kw, I, Cout]. */
export const groupedKernelGradientKernel = defineKernel<GroupedConv2dParams>({
  name: "groupedConv2dKernelGradient",
  flops,
  cpu({ inputs: [x, dy], outputs: [dkernel], params }) {
    const [xs, gradient, sums] = [x!.data, dy!.data, dkernel!.data];
    sums.fill(0);
    eachProduct(params, (xAt, kernelAt, yAt) => {
      sums[kernelAt]! += xs[xAt]! * gradient[yAt]!;
    });
  },
  webgpu(call) {
    const { geometry } = call.params;
    const { form, xType, yType, outputs, sizes } = layoutOf(call.params);
    const [x, dy] = call.inputs as [GpuView, GpuView];
    const dkernel = call.outputs[0]!;
    if (isDepthwise(call.params)) return depthwiseKernelGradient(call, geometry, { x, dy, dkernel });
    const taps = geometry.y.kernel * geometry.x.kernel;
    const sums = taps * geometry.inputs * outputs;
    const rows = geometry.batch * geometry.y.output;
    const splits = splitRows(rows, SUMS[call.profile.family] / sums);
    const partial = splits.count === 1 ? dkernel : call.scratch({ shape: [splits.count, dkernel.size], dtype: "f32" });
    const loop = boxLoop(call.profile, [splits.count, taps, geometry.inputs, outputs]);
    const total = longSum("total", yType as "f32" | "vec4f");
    call.dispatch({
      key: form,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `
    let ky = c1 / u.kernelWidth;
    let kx = c1 % u.kernelWidth;
    let co = c3;
    let channel = ${FIRST} + c2;
    ${total.begin}
    let endRow = min((c0 + 1u) * u.splitRows, u.batch * u.outputHeight);
    for (var row = c0 * u.splitRows; row < endRow; row++) {
      // u32 arithmetic wraps: a negative position is a huge one.
      let iy = row % u.outputHeight * u.strideY + ky * u.dilationY - u.paddingY;
      if (iy < u.inputHeight) {
        let at = (row / u.outputHeight * u.inputHeight + iy) * u.inputWidth;
        ${total.part}
        for (var ox = 0u; ox < u.outputWidth; ox++) {
          let ix = ox * u.strideX + kx * u.dilationX - u.paddingX;
          if (ix < u.inputWidth) {
            total += x[(at + ix) * u.channels + channel] * dy[(row * u.outputWidth + ox) * u.outputs + co];
          }
        }
        ${total.add}
      }
    }
    result[i] = ${total.value};`),
      }),
      bindings: [
        { name: "x", view: x, type: xType },
        { name: "dy", view: dy, type: yType },
        { name: "result", view: partial, type: yType, access: "read_write" },
      ],
      sizes: { ...loop.sizes, ...sizes, splitRows: splits.rows },
      numbers: ONE,
      workgroups: loop.workgroups,
    });
    if (partial !== dkernel) {
      dispatchReduce(call, "sum", partial, dkernel, { outer: 1, reduce: splits.count, inner: dkernel.size });
    }
  },
});
