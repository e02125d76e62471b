// Convolution and pooling of images of one channel, in one pass. Their convolution's output is by far the largest
// tensor and its arithmetic the least: it is never stored. An invocation has four channels (a quad) and keeps their
// kernel (or its gradient) in registers. It walks along rows of windows with a patch of (kh + 1) x (kw + 1) pixels. Two
// columns of the patch are new at each step. Quads run fastest over invocations, so that no lane idles whatever their
// number.
import { type TuningProfile, workgroupLanes } from "../../webgpu/family.js";
import { type GpuCall, GRID_INDEX, gridOf } from "../../webgpu/program.js";
import { activationGradientWgsl, activationWgsl } from "../activation.js";
import { chosen, repeat } from "../subgroup-tile.js";
import type { Conv2dGeometry, WindowAxis } from "./geometry.js";
import { collectKernelSums, splitRows } from "./kernel-sums.js";
import { CELLS, maximumWgsl, PASSED_BACK, pooledGradientBindings } from "./pool-cells.js";
import type { ForwardViews, KernelGradientViews, Pooled, PooledGradient, Route } from "./route.js";

/** A kernel and its patch must stay in registers. */
const MOST_TAPS = 9;

/** Whether a convolution, cropped to what its pooling windows read, can go in one pass. */
export function goesInOnePass({ inputs, y, x }: Conv2dGeometry): boolean {
  const fits = (a: WindowAxis) =>
    a.stride === 1 && a.dilation === 1 && a.padding === 0 && a.output + a.kernel - 1 <= a.input;
  return inputs === 1 && y.kernel * x.kernel <= MOST_TAPS && fits(y) && fits(x);
}

/** The passes that need no convolution result. */
export function onePass(geometry: Conv2dGeometry): Pick<Route<Pooled, PooledGradient>, "forward" | "kernelGradient"> {
  return {
    forward: (call, views) => forward(call, geometry, views),
    kernelGradient: (call, views) => kernelGradient(call, geometry, views),
  };
}

function forward<P>(call: GpuCall<P>, geometry: Conv2dGeometry, views: ForwardViews<Pooled>): void {
  const {
    x,
    kernel,
    bias,
    activation,
    result: { pooled, winner },
  } = views;
  const rows = geometry.batch * (geometry.y.output / 2);
  const quads = geometry.outputs / 4;
  const { size, runs, bound } = walk(call.profile, rows, quads);
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
var w: array<vec4f, ${taps.length}>;
for (var t = 0u; t < ${bound("u.taps", taps.length)}; t++) { w[t] = weights[t * u.quads + quad]; }
${repeat(taps.length, (t) => `let w${t} = w[${t}];`)}
${bias ? "let shift = bias[quad];" : ""}
${overWindows(
  geometry,
  /* wgsl */ `
    ${sums}
    ${maximumWgsl((k) => `z${k}`, { winner: winner !== undefined })}
    pooled[at] = activation(best${bias ? " + shift" : ""});
    ${winner ? "winner[at] = packed;" : ""}`,
)}`,
    }),
    bindings: [
      { name: "image", view: x, type: "f32" },
      { name: "weights", view: kernel, type: "vec4f" },
      ...(bias ? [{ name: "bias", view: bias, type: "vec4f" }] : []),
      { name: "pooled", view: pooled, type: "vec4f", access: "read_write" },
      ...(winner ? [{ name: "winner", view: winner, type: "u32", access: "read_write" } as const] : []),
    ],
    sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows, taps: taps.length },
    workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
  });
}

function kernelGradient<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  { x, gradient, dkernel, dbias }: KernelGradientViews<PooledGradient>,
): void {
  const { activation } = gradient;
  const rows = geometry.batch * (geometry.y.output / 2);
  const quads = geometry.outputs / 4;
  const { size, runs, bound } = walk(call.profile, rows, quads);
  const taps = tapsOf(geometry);
  collectKernelSums(
    { ...call, params: geometry, outputs: dbias ? [dkernel, dbias] : [dkernel] },
    runs.count,
    ({ kernelSums, biasSums }) => {
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
for (var t = 0u; t < ${bound("u.taps", taps.length)}; t++) {
  kernelSums[(run * u.taps + t) * u.quads + quad] = ${chosen("t", taps.length, (t) => `d${t}`)};
}
${biasSums ? "biasSums[run * u.quads + quad] = biasSum;" : ""}`,
        }),
        bindings: [
          { name: "image", view: x, type: "f32" },
          ...pooledGradientBindings(gradient),
          { name: "kernelSums", view: kernelSums, type: "vec4f", access: "read_write" },
          ...(biasSums ? [{ name: "biasSums", view: biasSums, type: "vec4f", access: "read_write" } as const] : []),
        ],
        sizes: { ...sizesOf(geometry), rowsPerRun: runs.rows, runs: runs.count, taps: taps.length },
        workgroups: gridOf(Math.ceil((runs.count * quads) / size)),
      });
    },
  );
}

/** Kernel elements in row-major order. */
function tapsOf({ y, x }: Conv2dGeometry) {
  return Array.from({ length: y.kernel * x.kernel }, (_, t) => ({ ky: Math.floor(t / x.kernel), kx: t % x.kernel }));
}

/**
 * Rows of windows (n, py) cut into runs, one invocation per run and quad; and how a loop over taps is bounded. A number
 * bounds it on hardware, which unrolls it. A parameter bounds it on software adapters, where many loads and stores take
 * long to compile.
 */
function walk(profile: TuningProfile, rows: number, quads: number) {
  const software = profile.family === "software";
  return {
    size: workgroupLanes(profile, 64),
    runs: splitRows(rows, Math.ceil((software ? 512 : 16384) / quads)),
    bound: (parameter: string, count: number) => (software ? parameter : `${count}u`),
  };
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
