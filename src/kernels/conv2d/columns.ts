// Input gradient of a convolution with few input channels, such as an image's. A tile of channels would be nearly empty
// then. So taps and input channels together become the columns of one matrix product over output pixels. Each input
// element adds the columns that belong to it (col2im):
//
//   columns[n, oy, ox, (ky, kx, ci)] = sum_co dz[n, oy, ox, co] * kernel[ky, kx, ci, co]
//   dx[n, iy, ix, ci] = sum_{ky, kx} columns[n, oy, ox, (ky, kx, ci)] where iy = oy stride - padding + ky dilation
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import type { FusedActivation } from "../activation.js";
import { boxLoop } from "../box.js";
import { runWhole, stored } from "../matmul-subgroup.js";
import type { Conv2dGeometry, Gather, GatherAxis, GatherViews } from "./geometry.js";

/** With more input channels than this, they fill a tile by themselves. */
const FEW_CHANNELS = 4;

/** Computes a gather of either profile. */
export type GatherProgram = (
  call: GpuCall<Conv2dGeometry>,
  gather: Gather,
  views: GatherViews,
  activation: FusedActivation,
) => void;

/** The columns' width, a multiple of 4; those past kh * kw * Cin hold anything. */
function columnsOf({ y, x, inputs }: Conv2dGeometry): number {
  return 4 * Math.ceil((y.kernel * x.kernel * inputs) / 4);
}

/** Whether a call's input gradient goes by columns: few input channels, and everything fits a binding. */
export function goesByColumns({ params, profile }: GpuCall<Conv2dGeometry>): boolean {
  const { batch, inputs, outputs, y, x } = params;
  const elements = Math.max(y.output * x.output * Math.max(columnsOf(params), outputs), y.input * x.input * inputs);
  return inputs <= FEW_CHANNELS && 4 * batch * elements <= profile.maxBindingBytes;
}

/** Inputs dz and kernel, output dx. */
export function inputGradientByColumns(call: GpuCall<Conv2dGeometry>, gather: GatherProgram): void {
  const { batch, outputs, y, x } = call.params;
  const [dz, kernel] = call.inputs as readonly [GpuView, GpuView];
  const dx = call.outputs[0]!;
  const width = columnsOf(call.params);
  const columns = call.scratch({ shape: [batch, y.output, x.output, width], dtype: "f32" });
  if (call.profile.family === "software" && outputs % 4 === 0) {
    runWhole(call, {
      ...{ m: batch * y.output * x.output, n: width, k: outputs },
      ...{ a: stored(dz, outputs), b: stored(kernel, outputs, true), c: stored(columns, width) },
    });
  } else {
    gatherColumns(call, gather, { dz, kernel, columns });
  }
  addColumns(call, call.params, { columns, dx });
}

/** The columns as a gather of single pixels. */
function gatherColumns(
  call: GpuCall<Conv2dGeometry>,
  gather: GatherProgram,
  { dz, kernel, columns }: { readonly dz: GpuView; readonly kernel: GpuView; readonly columns: GpuView },
): void {
  const { batch, outputs, y, x } = call.params;
  const pointwise = (size: number): GatherAxis => ({
    source: size,
    target: size,
    taps: 1,
    scale: 1,
    offset: 0,
    step: 0,
    divisor: 1,
  });
  gather(
    call,
    {
      batch,
      y: pointwise(y.output),
      x: pointwise(x.output),
      sourceChannels: outputs,
      targetChannels: columnsOf(call.params),
      kernelStrides: { source: 1, target: outputs },
    },
    { source: dz, kernel, target: columns },
    "linear",
  );
}

/**
 * dx = the sum of the columns that belong to each element; columns [N, OH, OW, kh kw Cin, padded to a multiple of 4].
 */
function addColumns<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  { columns, dx }: { readonly columns: GpuView; readonly dx: GpuView },
): void {
  const { batch, inputs, y, x } = geometry;
  const width = columnsOf(geometry);
  const vector = inputs % 4 === 0 ? 4 : 1;
  const type = vector === 4 ? "vec4f" : "f32";
  const strided = y.stride * x.stride > 1;
  // Without strides and dilation the taps that meet the output are a range. With strides alone they are so far apart.
  // Otherwise each is asked.
  const range = !strided && y.dilation * x.dilation === 1;
  const loop = boxLoop(call.profile, [batch, y.input, x.input, inputs / vector]);
  const axes = {
    Y: { tap: "ky", at: "c1 + u.paddingY", output: "u.outputHeight", kernel: "u.kernelHeight" },
    X: { tap: "kx", at: "c2 + u.paddingX", output: "u.outputWidth", kernel: "u.kernelWidth" },
  } as const;
  const apart = strided && y.dilation * x.dilation === 1;
  const taps = (axis: "Y" | "X") => {
    const { tap, at, output, kernel } = axes[axis];
    if (apart)
      return `let last${axis} = (${at}) / u.stride${axis}; let first${axis} = ${at} - last${axis} * u.stride${axis};
    for (var step${axis} = 0u; first${axis} + step${axis} * u.stride${axis} < ${kernel}; step${axis}++)`;
    return range
      ? `for (var ${tap} = max(${at} + 1u, ${output}) - ${output}; ${tap} < min(${kernel}, ${at} + 1u); ${tap}++)`
      : `for (var ${tap} = 0u; ${tap} < ${kernel}; ${tap}++)`;
  };
  // u32 arithmetic wraps: a negative position is a huge one.
  const position = (axis: "Y" | "X") => {
    const { tap, at } = axes[axis];
    if (apart)
      return `let ${tap} = first${axis} + step${axis} * u.stride${axis}; let source${axis} = last${axis} - step${axis};`;
    const from = range ? `${at} - ${tap}` : `${at} - ${tap} * u.dilation${axis}`;
    return strided
      ? `let source${axis} = (${from}) / u.stride${axis}; let fits${axis} = source${axis} * u.stride${axis} == ${from};`
      : `let source${axis} = ${from};`;
  };
  const inside = `sourceY < u.outputHeight && sourceX < u.outputWidth${strided && !apart ? " && fitsY && fitsX" : ""}`;
  const column = "columns[at * u.columns + (ky * u.kernelWidth + kx) * u.inputs + c3]";
  call.dispatch({
    key: `columns ${vector} ${range ? "range" : apart ? "apart" : strided}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    var sum = ${type}();
    ${taps("Y")} {
      ${position("Y")}
      ${taps("X")} {
        ${position("X")}
        let at = (c0 * u.outputHeight + sourceY) * u.outputWidth + sourceX;
        sum += ${range ? column : `select(${type}(), ${column}, ${inside})`};
      }
    }
    dx[i] = sum;`),
    }),
    bindings: [
      { name: "columns", view: columns, type },
      { name: "dx", view: dx, type, access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      inputs: inputs / vector,
      columns: width / vector,
      outputHeight: y.output,
      outputWidth: x.output,
      kernelHeight: y.kernel,
      kernelWidth: x.kernel,
      paddingY: y.padding,
      paddingX: x.padding,
      strideY: y.stride,
      strideX: x.stride,
      dilationY: y.dilation,
      dilationX: x.dilation,
    },
    workgroups: loop.workgroups,
  });
}
