// Convolution of images of one channel, bias, maximum of 2 x 2 windows and activation in one pass, and its gradients.
//
//   z[n, oy, ox, co] = bias[co] + sum_{ky, kx} x[n, oy + ky, ox + kx] * kernel[ky, kx, co]
//   y[n, py, px, co] = act(max over the cells (cy, cx) of z[n, 2 py + cy, 2 px + cx, co])
//   winner[n, py, px, co / 4]: which cell 2 cy + cx was the first maximum, two bits for each of four channels
//   dkernel[ky, kx, co] = sum_{n, py, px} x[n, 2 py + cy + ky, 2 px + cx + kx] * dz[n, py, px, co] at the winning (cy, cx)
//   dbias[co] = sum dz, dz = dy * act'(y)
//
// x [N, H, W, 1], kernel [kh, kw, 1, Cout], Cout % 4 = 0; y, dy [N, PH, PW, Cout]. Here the convolution's output would be
// by far the largest tensor and its arithmetic the least: it is never stored. An invocation has four channels (a quad),
// keeps their kernel (or its gradient) in registers, and walks along rows of windows with a patch of (kh + 1) x (kw + 1)
// pixels, of which two columns are new at each step. Quads run fastest over invocations, so that no lane idles whatever
// their number. Not for overlapping windows, strides or padding: those are conv2d.ts and pool2d.ts one after the other.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import type { TuningProfile } from "../tensor/webgpu-profile.js";
import { type Binding, type GpuCall, GRID_INDEX, gridOf } from "../tensor/webgpu-program.js";
import {
  activationCpu,
  activationGradientCpu,
  activationGradientWgsl,
  activationWgsl,
  type FusedActivation,
} from "./activation.js";
import { boxLoop } from "./box.js";
import { type Conv2dGeometry, convolutionFlops, outputShape, type WindowAxis } from "./conv2d/geometry.js";
import { collectKernelSums, splitRows } from "./conv2d/kernel-sums.js";
import { conv2dReference, kernelGradientReference } from "./conv2d/reference.js";
import type { Pool2dParams } from "./pool2d.js";
import { repeat } from "./subgroup-tile.js";

export interface ConvPoolParams {
  /** Of the convolution, cropped to what the windows read: its output is 2 PH x 2 PW. */
  readonly geometry: Conv2dGeometry;
  readonly activation: FusedActivation;
}

/** A kernel and its patch must stay in registers. */
const MOST_TAPS = 9;

/** Whether these kernels compute the convolution (cropped to what the windows read) and the pooling. */
export function fitsConvPool(geometry: Conv2dGeometry, pool: Pool2dParams): boolean {
  const fits = (a: WindowAxis, window: WindowAxis) =>
    a.stride === 1 &&
    a.dilation === 1 &&
    a.padding === 0 &&
    a.output + a.kernel - 1 <= a.input &&
    window.kernel === 2 &&
    window.stride === 2 &&
    window.padding === 0 &&
    window.output * 2 === a.output;
  return (
    geometry.inputs === 1 &&
    geometry.outputs % 4 === 0 &&
    geometry.y.kernel * geometry.x.kernel <= MOST_TAPS &&
    fits(geometry.y, pool.y) &&
    fits(geometry.x, pool.x)
  );
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

/** Inputs: x, kernel and, if there is one, bias. Outputs: y and, if wanted, winner. */
export const convPoolKernel = defineKernel<ConvPoolParams>({
  name: "convPool",
  flops: ({ geometry }) => convolutionFlops(geometry),
  cpu({ inputs: [x, kernel, bias], outputs: [y, winner], params: { geometry, activation } }) {
    const z = temporary(outputShape(geometry));
    conv2dReference(geometry, x!, kernel!, bias, z, (value) => value);
    const act = activationCpu(activation);
    winner?.data.fill(0);
    eachWindow(geometry, (at, cells, word, shift) => {
      const values = cells.map((cell) => z.data[cell]!);
      const most = values.reduce((a, b) => Math.max(a, b));
      y!.data[at] = act(most);
      if (winner) winner.data[word]! |= Math.max(0, values.indexOf(most)) << shift;
    });
  },
  webgpu(call) {
    const { geometry, activation } = call.params;
    const [x, kernel, bias] = call.inputs;
    const [y, winner] = call.outputs;
    const rows = geometry.batch * (geometry.y.output / 2);
    const quads = geometry.outputs / 4;
    const { size, runs } = walk(call.profile, rows, quads);
    const taps = tapsOf(geometry);
    // The bias, equal in all cells, is added to the maximum.
    const sums = CELLS.flatMap(({ cy, cx }, cell) =>
      taps.map(({ ky, kx }, t) => {
        const pixel = `p${cy + ky}_${cx + kx}`;
        return t === 0 ? `var z${cell} = w0 * ${pixel};` : `z${cell} = fma(w${t}, vec4f(${pixel}), z${cell});`;
      }),
    ).join("\n");
    call.dispatch({
      key: `forward ${geometry.y.kernel}x${geometry.x.kernel} ${activation} ${bias !== undefined} ${winner !== undefined}`,
      program: () => ({
        workgroupSize: [size],
        declarations: activationWgsl(activation, "vec4f"),
        body: /* wgsl */ `
  let item = ${GRID_INDEX} * ${size}u + lane;
  let quad = item % u.quads;
  let run = item / u.quads;
  ${repeat(taps.length, (t) => `let w${t} = weights[${t}u * u.quads + quad];`)}
  ${bias ? "let shift = bias[quad];" : ""}
  ${overWindows(
    geometry,
    /* wgsl */ `
      ${sums}
      var best = z0;
      ${winner ? "var cell = vec4u();" : ""}
      ${[1, 2, 3]
        .map((k) => `${winner ? `cell = select(cell, vec4u(${k}u), z${k} > best);` : ""} best = max(best, z${k});`)
        .join("\n")}
      pooled[at] = activation(best${bias ? " + shift" : ""});
      ${winner ? "winner[at] = cell.x | (cell.y << 2u) | (cell.z << 4u) | (cell.w << 6u);" : ""}`,
  )}`,
      }),
      bindings: [
        { name: "image", view: x!, type: "f32" },
        { name: "weights", view: kernel!, type: "vec4f" },
        ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
        { name: "pooled", view: y!, type: "vec4f", access: "read_write" },
        ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
      ],
      sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows },
      workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
    });
  },
});

/** Inputs: x, dy, y, winner. Outputs: dkernel [kh, kw, 1, Cout] and, if wanted, dbias [Cout]. */
export const convPoolKernelGradientKernel = defineKernel<ConvPoolParams>({
  name: "convPoolKernelGradient",
  flops: ({ geometry }) => convolutionFlops(geometry),
  cpu({ inputs: [x, dy, y, winner], outputs: [dkernel, dbias], params }) {
    const dz = temporary(outputShape(params.geometry));
    unpoolReference(params, dy!, y!, winner!, dz);
    kernelGradientReference(params.geometry, x!, dz, dkernel!, dbias);
  },
  webgpu(call) {
    const { geometry, activation } = call.params;
    const rows = geometry.batch * (geometry.y.output / 2);
    const quads = geometry.outputs / 4;
    const { size, runs } = walk(call.profile, rows, quads);
    const taps = tapsOf(geometry);
    collectKernelSums({ ...call, params: geometry }, runs.count, (kernelSums, biasSums) => {
      call.dispatch({
        key: `kernel gradient ${geometry.y.kernel}x${geometry.x.kernel} ${activation} ${biasSums !== undefined}`,
        program: () => ({
          workgroupSize: [size],
          declarations: activationGradientWgsl(activation, "vec4f"),
          body: /* wgsl */ `
  let item = ${GRID_INDEX} * ${size}u + lane;
  let quad = item % u.quads;
  let run = item / u.quads;
  ${repeat(taps.length, (t) => `var d${t} = vec4f();`)}
  ${biasSums ? "var biasSum = vec4f();" : ""}
  ${overWindows(
    geometry,
    /* wgsl */ `
      ${PASSED_BACK}
      ${biasSums ? "biasSum += dz;" : ""}
      // Each channel's winning pixel: first the column, for all rows of the patch, then the row.
      let right = (cell & vec4u(1u)) == vec4u(1u);
      let below = cell >= vec4u(2u);
      ${repeat(geometry.y.kernel + 1, (r) =>
        repeat(geometry.x.kernel, (c) => `let h${r}_${c} = select(vec4f(p${r}_${c}), vec4f(p${r}_${c + 1}), right);`),
      )}
      ${taps.map(({ ky, kx }, t) => `d${t} = fma(dz, select(h${ky}_${kx}, h${ky + 1}_${kx}, below), d${t});`).join("\n")}`,
  )}
  if (run >= u.runs) { return; }
  ${repeat(taps.length, (t) => `kernelSums[(run * ${taps.length}u + ${t}u) * u.quads + quad] = d${t};`)}
  ${biasSums ? "biasSums[run * u.quads + quad] = biasSum;" : ""}`,
        }),
        bindings: [
          { name: "image", view: call.inputs[0]!, type: "f32" },
          ...gradientBindings(call),
          { name: "kernelSums", view: kernelSums, type: "vec4f", access: "read_write" },
          ...(biasSums ? [{ name: "biasSums", view: biasSums, type: "vec4f", access: "read_write" } as const] : []),
        ],
        sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows, runs: runs.count },
        workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
      });
    });
  },
});

/** Inputs: x (not read), dy, y, winner. Output: dz [N, 2 PH, 2 PW, Cout], zero where a cell did not win. */
export const convPoolUnpoolKernel = defineKernel<ConvPoolParams>({
  name: "convPoolUnpool",
  cpu({ inputs: [, dy, y, winner], outputs: [dz], params }) {
    unpoolReference(params, dy!, y!, winner!, dz!);
  },
  webgpu(call) {
    const { geometry, activation } = call.params;
    const [batch, height, width] = pooledShape(geometry) as [number, number, number];
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
      ({ cy, cx }, cell) =>
        `sums[first + ${2 * cy}u * u.extent1 * u.extent2 + ${cx}u * u.extent2] = select(vec4f(), dz, cell == vec4u(${cell}u));`,
    ).join("\n    ")}`),
      }),
      bindings: [
        ...gradientBindings(call),
        { name: "sums", view: call.outputs[0]!, type: "vec4f", access: "read_write" },
      ],
      sizes: loop.sizes,
      workgroups: loop.workgroups,
    });
  },
});

function unpoolReference(
  { geometry, activation }: ConvPoolParams,
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

/** Cells of a window in row-major order. */
const CELLS = [0, 1, 2, 3].map((cell) => ({ cy: cell >> 1, cx: cell & 1 }));

/** Kernel elements in row-major order. */
function tapsOf({ y, x }: Conv2dGeometry) {
  return Array.from({ length: y.kernel * x.kernel }, (_, t) => ({ ky: Math.floor(t / x.kernel), kx: t % x.kernel }));
}

/** `dz` (vec4f) and `cell` (vec4u) of the window and quad at `at`. */
const PASSED_BACK = /* wgsl */ `
      let dz = activationGradient(gradients[at], values[at]);
      let cell = (vec4u(winner[at]) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(3u);`;

function gradientBindings({ inputs }: GpuCall<ConvPoolParams>): Binding[] {
  return [
    { name: "gradients", view: inputs[1]!, type: "vec4f" },
    { name: "values", view: inputs[2]!, type: "vec4f" },
    { name: "winner", view: inputs[3]!, type: "u32" },
  ];
}

/** Rows of windows (n, py) cut into runs, one invocation per run and quad. */
function walk(profile: TuningProfile, rows: number, quads: number) {
  const software = profile.name === "software";
  return { size: software ? 8 : 64, runs: splitRows(rows, Math.ceil((software ? 512 : 16384) / quads)) };
}

const sizesOf = ({ batch, y, x, outputs }: Conv2dGeometry) => ({
  quads: outputs / 4,
  rows: batch * (y.output / 2),
  height: y.output / 2,
  width: x.output / 2,
  imageHeight: y.input,
  imageWidth: x.input,
});

/**
 * WGSL that runs `statement` for each window of the rows of `run`: `at` is the index of its quad in the pooled tensors,
 * `pR_C` (f32) the pixel at row R and column C of its patch.
 */
function overWindows({ y, x }: Conv2dGeometry, statement: string): string {
  const kept = x.kernel - 1;
  const eachRow = (emit: (r: number) => string) => repeat(y.kernel + 1, emit);
  return /* wgsl */ `
  let end = min((run + 1u) * u.rowsPerRun, u.rows);
  for (var row = run * u.rowsPerRun; row < end; row++) {
    var pixel = (row / u.height * u.imageHeight + row % u.height * 2u) * u.imageWidth;
    ${eachRow((r) => repeat(kept, (c) => `var p${r}_${c} = image[pixel + ${r}u * u.imageWidth + ${c}u];`))}
    pixel += ${kept}u;
    var at = row * u.width * u.quads + quad;
    for (var column = 0u; column < u.width; column++) {
      ${eachRow((r) => [0, 1].map((c) => `let p${r}_${kept + c} = image[pixel + ${r}u * u.imageWidth + ${c}u];`).join("\n"))}
      ${statement}
      ${eachRow((r) => repeat(kept, (c) => `p${r}_${c} = p${r}_${c + 2};`))}
      pixel += 2u;
      at += u.quads;
    }
  }`;
}
