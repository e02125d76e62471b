// Convolution, bias, maximum of 2 x 2 windows and activation, and its gradients.
//
//   z[n, oy, ox, co] = bias[co] + (x * kernel)[n, oy, ox, co]
//   y[n, py, px, co] = act(max over the cells (cy, cx) of z[n, 2 py + cy, 2 px + cx, co])
//
//   dz[n, oy, ox, co] = dy[n, py, px, co] * act'(y) in the cell that won, 0 in the others
//
// Maxima are compared before the bias is added. `winner[n, py, px, co / 4]` tells which cell 2 cy + cx was the first
// maximum or a NaN, in two bits for each of four channels. The convolution and the gradients dx, dkernel and dbias are
// as in conv2d.ts.
//
// x [N, H, W, Cin], kernel [kh, kw, Cin, Cout], Cout % 4 = 0; y, dy [N, PH, PW, Cout]. In one of three ways:
// - Winograd: the pooling and its gradient are part of the transforms (conv2d/winograd.ts).
// - Images of one channel, in one pass that stores no convolution result (conv2d/one-pass.ts).
// - Otherwise the convolution and the pooling one after the other, and back.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import type { TuningProfile } from "../webgpu/family.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { activationCpu, activationGradientCpu, activationGradientWgsl, activationWgsl } from "./activation.js";
import { boxLoop } from "./box.js";
import { type Conv2dGeometry, convolutionFlops, outputShape, type WindowAxis } from "./conv2d/geometry.js";
import { goesInOnePass, onePass } from "./conv2d/one-pass.js";
import { CELLS, maximumWgsl, PASSED_BACK, partOf, pooledGradientBindings } from "./conv2d/pool-cells.js";
import { conv2dReference, inputGradientReference, kernelGradientReference } from "./conv2d/reference.js";
import {
  type ConvolutionRoute,
  computeGradients,
  type ForwardViews,
  keptByName,
  keptSpecs,
  type Pooled,
  type PooledGradient,
  type Route,
  type WantedGradients,
} from "./conv2d/route.js";
import { routeOf } from "./conv2d/routes.js";
import type { Conv2dParams } from "./conv2d.js";
import { type Pool2dParams, winsWindow } from "./pool2d.js";
import { stream } from "./stream.js";

/** The geometry is the convolution's, cropped to what the windows read: its output is 2 PH x 2 PW. */
export type ConvPoolParams = Conv2dParams;

/** Whether these kernels compute the convolution (cropped to what the windows read) and the pooling. */
export function fitsConvPool(geometry: Conv2dGeometry, pool: Pool2dParams): boolean {
  const fits = (a: WindowAxis, window: WindowAxis) =>
    window.kernel === 2 && window.stride === 2 && window.padding === 0 && window.output * 2 === a.output;
  return geometry.outputs % 4 === 0 && fits(geometry.y, pool.y) && fits(geometry.x, pool.x);
}

/** [N, PH, PW, Cout]. */
export function pooledShape({ batch, y, x, outputs }: Conv2dGeometry): Shape {
  return [batch, y.output / 2, x.output / 2, outputs];
}

/** [N, PH, PW, Cout / 4], u32. */
export function winnerShape(geometry: Conv2dGeometry): Shape {
  return [...pooledShape(geometry).slice(0, 3), geometry.outputs / 4];
}

/** Visits each output: its index, that of its window's first cell in z, and where its two bits are. */
function eachWindow(
  geometry: Conv2dGeometry,
  visit: (at: number, cells: readonly number[], word: number, shift: number) => void,
): void {
  const { outputs, x } = geometry;
  const width = x.output / 2;
  const size = sizeOf(pooledShape(geometry));
  for (let i = 0; i < size; i++) {
    const channel = i % outputs;
    const column = Math.floor(i / outputs) % width;
    const row = Math.floor(i / outputs / width);
    const first = (row * 2 * x.output + column * 2) * outputs + channel;
    const below = first + x.output * outputs;
    visit(i, [first, first + outputs, below, below + outputs], i >> 2, 2 * (channel & 3));
  }
}

const temporary = (shape: Shape) =>
  ({ shape, dtype: "f32", size: sizeOf(shape), data: new Float64Array(sizeOf(shape)) }) satisfies CpuView;

/** Inputs: x, kernel and, if there is one, bias. Outputs: y and, if wanted, winner and then the byproducts. */
export const convPoolKernel = defineKernel<ConvPoolParams>({
  name: "convPool",
  flops: ({ geometry }) => convolutionFlops(geometry),
  byproducts: ({ geometry, keeps }, profile) =>
    keeps?.length ? keptSpecs(pooledRouteOf(profile, geometry), keeps) : {},
  cpu({ inputs: [x, kernel, bias], outputs: [y, winner], params: { geometry, activation } }) {
    const z = temporary(outputShape(geometry));
    conv2dReference(geometry, x!, kernel!, undefined, z, (value) => value);
    const act = activationCpu(activation);
    winner?.data.fill(0);
    eachWindow(geometry, (at, cells, word, shift) => {
      const values = cells.map((cell) => z.data[cell]!);
      const won = values.reduce((best, value, k) => (winsWindow(value, values[best]!) ? k : best), 0);
      y!.data[at] = act(values[won]! + (bias?.data[at % geometry.outputs] ?? 0));
      if (winner) winner.data[word]! |= won << shift;
    });
  },
  webgpu(call) {
    const { geometry, activation, keeps } = call.params;
    const [x, kernel, bias] = call.inputs as readonly [GpuView, GpuView, GpuView | undefined];
    const [pooled, winner, ...kept] = call.outputs as readonly [GpuView, GpuView | undefined, ...GpuView[]];
    const views = { x, kernel, bias, activation, result: { pooled, winner }, kept: keptByName(keeps, kept) };
    pooledRouteOf(call.profile, geometry).forward(call, views);
  },
});

/**
 * Winners as pooling by itself keeps them (pool2d.ts): for each of four channels a byte, not two bits.
 * Inputs [winner u32], outputs [u32] of its shape.
 */
export const convPoolWinnersKernel = defineKernel<Record<never, never>>({
  name: "convPoolWinners",
  cpu({ inputs: [winner], outputs: [bytes] }) {
    winner!.data.forEach((w, i) => {
      bytes!.data[i] = (w & 3) | ((w & 12) << 6) | ((w & 48) << 12) | ((w & 192) << 18);
    });
  },
  webgpu(call) {
    stream(call, {
      key: "",
      bindings: [
        { name: "bytes", view: call.outputs[0]!, type: "vec4u", access: "read_write" },
        { name: "winner", view: call.inputs[0]!, type: "vec4u" },
      ],
      statement: `let w = winner[i];
      bytes[i] = (w & vec4u(3)) | ((w & vec4u(12)) << vec4u(6)) | ((w & vec4u(48)) << vec4u(12)) | ((w & vec4u(192)) << vec4u(18));`,
    });
  },
});

/** Which gradients a call computes; its outputs are theirs, in this order. That of the bias only with the kernel's. */
export interface WantedConvPoolGradients {
  readonly dx: boolean;
  readonly dkernel: boolean;
  readonly dbias: boolean;
}

/**
 * Inputs: x, kernel, dy, y, winner and what was kept, by the names in `keeps`. Outputs: dx [N, H, W, Cin], dkernel [kh,
 * kw, Cin, Cout], dbias [Cout], as wanted.
 */
function gradientsKernel(name: string) {
  return defineKernel<ConvPoolParams & { readonly wanted: WantedConvPoolGradients }>({
    name,
    flops: ({ geometry, wanted }) => (Number(wanted.dx) + Number(wanted.dkernel)) * convolutionFlops(geometry),
    cpu({ inputs: [x, kernel, dy, y, winner], outputs, params }) {
      const { dx, dkernel, dbias } = named(outputs, params.wanted);
      const dz = temporary(outputShape(params.geometry));
      unpoolReference(params, dy!, y!, winner!, dz);
      // A cell that did not win has no part, even of what is infinite.
      const options = { zerosHaveNoPart: true };
      if (dx) inputGradientReference(params.geometry, dz, kernel!, dx, options);
      if (dkernel) kernelGradientReference(params.geometry, x!, dz, dkernel, dbias, options);
    },
    webgpu(call) {
      const { geometry, activation, wanted, keeps } = call.params;
      const [x, kernel, dy, y, winner, ...kept] = call.inputs as readonly [
        ...[x: GpuView, kernel: GpuView, dy: GpuView, y: GpuView, winner: GpuView],
        ...GpuView[],
      ];
      computeGradients(call, pooledRouteOf(call.profile, geometry), {
        ...{ x, kernel, gradient: { dy, y, winner, activation } },
        ...named(call.outputs, wanted),
        kept: keptByName(keeps, kept),
      });
    },
  });
}

/** One kernel, under the names of what is wanted of it. */
export const convPoolInputGradientKernel = gradientsKernel("convPoolInputGradient");
export const convPoolKernelGradientKernel = gradientsKernel("convPoolKernelGradient");
export const convPoolGradientsKernel = gradientsKernel("convPoolGradients");

/** Outputs by what they are. */
function named<View>(outputs: readonly View[], { dx, dkernel, dbias }: WantedConvPoolGradients) {
  const rest = [...outputs];
  return {
    dx: dx ? rest.shift() : undefined,
    dkernel: dkernel ? rest.shift() : undefined,
    dbias: dbias ? rest.shift() : undefined,
  };
}

/** The route of a convolution, cropped to what the windows read, with its pooling. */
export function pooledRouteOf(profile: TuningProfile, geometry: Conv2dGeometry): Route<Pooled, PooledGradient> {
  const route = routeOf(profile, geometry);
  if (goesInOnePass(geometry)) return onePassRoute(geometry, route);
  return route.pooled ?? separateRoute(geometry, route);
}

/** The convolution and the pooling one after the other, and back. */
function separateRoute(geometry: Conv2dGeometry, route: ConvolutionRoute): Route<Pooled, PooledGradient> {
  const gradients = <P>(call: GpuCall<P>, views: WantedGradients<PooledGradient>) => {
    const dz = unpool(call, geometry, views.gradient);
    computeGradients(call, route, { ...views, gradient: { dz } });
  };
  return {
    name: `${route.name}, then pooling`,
    forward(call, views) {
      const z = call.scratch({ shape: outputShape(geometry), dtype: "f32" });
      const plain = { bias: undefined, activation: "linear", result: { y: z }, kept: {} } as const;
      route.forward(call, { ...views, ...plain });
      pool(call, geometry, z, views);
    },
    inputGradient: gradients,
    kernelGradient: gradients,
    gradients,
  };
}

/** The input gradient alone needs the convolution's. */
function onePassRoute(geometry: Conv2dGeometry, route: ConvolutionRoute): Route<Pooled, PooledGradient> {
  const { forward, kernelGradient } = onePass(geometry);
  const { inputGradient } = separateRoute(geometry, route);
  return {
    name: "one pass",
    forward,
    inputGradient,
    kernelGradient,
    gradients(call, { dx, kernel, ...views }) {
      kernelGradient(call, views);
      inputGradient(call, { dx, kernel, gradient: views.gradient, kept: views.kept });
    },
  };
}

/** pooled = act(max of the windows of z + bias). */
function pool<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  z: GpuView,
  { bias, activation, result: { pooled, winner } }: Omit<ForwardViews<Pooled>, "kept">,
): void {
  const [batch, height, width] = pooledShape(geometry) as [number, number, number];
  const loop = boxLoop(call.profile, [batch * height, width, geometry.outputs / 4]);
  call.dispatch({
    key: `pool ${activation} ${bias !== undefined} ${winner !== undefined}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationWgsl(activation, "vec4f"),
      body: loop.body(/* wgsl */ `
    let first = (c0 * 4u * u.extent1 + c1 * 2u) * u.extent2 + c2;
    ${CELLS.map(({ cy, cx }, k) => `let z${k} = sums[first + (${2 * cy}u * u.extent1 + ${cx}u) * u.extent2];`).join("\n    ")}
    ${maximumWgsl((k) => `z${k}`, { winner: winner !== undefined })}
    pooled[i] = activation(best${bias ? " + bias[c2]" : ""});
    ${winner ? "winner[i] = packed;" : ""}`),
    }),
    bindings: [
      { name: "sums", view: z, type: "vec4f" },
      ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
      { name: "pooled", view: pooled, type: "vec4f", access: "read_write" },
      ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
    ],
    sizes: loop.sizes,
    workgroups: loop.workgroups,
  });
}

/** dz [N, 2 PH, 2 PW, Cout], zero where a cell did not win. */
function unpool<P>(call: GpuCall<P>, geometry: Conv2dGeometry, gradient: PooledGradient): GpuView {
  const { activation } = gradient;
  const [batch, height, width] = pooledShape(geometry) as [number, number, number];
  const dz = call.scratch({ shape: outputShape(geometry), dtype: "f32" });
  const loop = boxLoop(call.profile, [batch * height, width, geometry.outputs / 4]);
  call.dispatch({
    key: `unpool ${activation}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: activationGradientWgsl(activation, "vec4f"),
      body: loop.body(/* wgsl */ `
let at = i;
${PASSED_BACK}
let first = (c0 * 4u * u.extent1 + c1 * 2u) * u.extent2 + c2;
${CELLS.map(
  ({ cy, cx }, cell) => `sums[first + ${2 * cy}u * u.extent1 * u.extent2 + ${cx}u * u.extent2] = ${partOf(cell)};`,
).join("\n    ")}`),
    }),
    bindings: [...pooledGradientBindings(gradient), { name: "sums", view: dz, type: "vec4f", access: "read_write" }],
    sizes: loop.sizes,
    workgroups: loop.workgroups,
  });
  return dz;
}

function unpoolReference(
  { geometry, activation }: Pick<ConvPoolParams, "geometry" | "activation">,
  dy: CpuView,
  y: CpuView,
  winner: CpuView,
  dz: CpuView,
) {
  const gradient = activationGradientCpu(activation);
  dz.data.fill(0);
  eachWindow(geometry, (at, cells, word, shift) => {
    dz.data[cells[(winner.data[word]! >> shift) & 3]!] = gradient(dy.data[at]!, y.data[at]!);
  });
}
