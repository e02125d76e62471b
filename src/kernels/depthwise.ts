// Depthwise convolution with small kernels, and its two gradients, for channels in fours: each channel by itself.
//
//   y[n, oy, ox, c]   = sum_{ky, kx} x[n, oy s - p + ky, ox s - p + kx, c] kernel[ky, kx, c]
//   dx[n, iy, ix, c]  = sum of dy[n, oy, ox, c] kernel[ky, kx, c] over oy s - p + ky = iy, likewise x
//   dkernel[ky, kx, c] = sum_{n, oy, ox} x[n, oy s - p + ky, ox s - p + kx, c] dy[n, oy, ox, c]
//
// There is so little to compute that loads decide. An invocation has four channels (vec4f), a strip of a few columns
// and a segment of rows, which it walks down. Every row is loaded once; what it adds to the rows of the result around
// it stays in registers. L = ceil(kh / s) rows of the result meet one block of s rows:
//
//   forward:   block t of x, rows t s - p + r for r < s, goes into rows t - j of y with ky = j s + r, j < L
//   gradients: the same, read the other way round
//
// So a pixel takes one store and, at stride 1 and four columns, 1.5 loads instead of 9. The naive kernels of
// grouped-conv2d.ts compute the same, and everything else.
import type { TuningProfile } from "../webgpu/family.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import { activationWgsl, type FusedActivation } from "./activation.js";
import { boxLoop } from "./box.js";
import type { Conv2dGeometry, WindowAxis } from "./conv2d/geometry.js";
import { dispatchReduce } from "./reduce.js";

const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const lines = (parts: readonly string[]) => parts.join("\n      ");

/** Largest kernel, whose elements an invocation has in registers, and largest stride. */
const MOST_TAPS = 25;
const MOST_STRIDE = 2;

/** Whether these kernels compute a depthwise convolution of `outputs` channels. */
export function isSmall({ outputs, y, x }: Conv2dGeometry): boolean {
  const fits = ({ kernel, stride, dilation }: WindowAxis) =>
    dilation === 1 && stride <= MOST_STRIDE && stride <= kernel;
  return outputs % 4 === 0 && fits(y) && fits(x) && y.kernel * x.kernel <= MOST_TAPS && y.kernel <= 5;
}

/** What is in the text of a program. */
interface Form {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  /** Columns of y in a strip. */
  readonly columns: number;
  /** Rows of y that a block of s rows of x meets. */
  readonly overlap: number;
}

function formOf({ y, x }: Conv2dGeometry): Form {
  // Up to a dozen loads in a loop's body, and few products: more are slower each, and compile in the square of that.
  const most = y.kernel * x.kernel > 9 ? 2 : 4;
  const columns = x.stride === 1 && y.stride === 1 ? most : 2;
  return {
    kernel: [y.kernel, x.kernel],
    stride: [y.stride, x.stride],
    columns,
    overlap: Math.ceil(y.kernel / y.stride),
  };
}

const keyOf = ({ kernel, stride }: Form) => `${kernel.join("x")} / ${stride.join("x")}`;

/** Invocations that keep an adapter busy, and rows that make up for those at a segment's ends. */
const BUSY = { software: 1024, hardware: 1 << 16 };
const LEAST_ROWS = { software: 8, hardware: 4 };

/** Segments of rows, so that there are enough invocations: how many, and rows of each. */
function segmentsOf({ family }: TuningProfile, rows: number, others: number) {
  const wanted = Math.ceil(BUSY[family] / Math.max(1, others));
  const length = Math.max(LEAST_ROWS[family], Math.ceil(rows / wanted));
  return { count: Math.ceil(rows / length), length };
}

/**
 * WGSL that loads the kernel into w0_0, w0_1, ... A row comes in at the end and moves up, so that few loads stand in
 * the text: a compiler of a processor makes dozens of branches of each. The number of rows is a parameter, or it would
 * be unrolled.
 */
function loadKernel([kh, kw]: readonly [number, number], channel: string, flipped = false): string {
  const at = (kx: number) => (flipped ? `${kh * kw - 1 - kx}u - ky * ${kw}u` : `ky * ${kw}u + ${kx}u`);
  return lines([
    ...range(kh).flatMap((ky) => range(kw).map((kx) => `var w${ky}_${kx} = vec4f();`)),
    "for (var ky = 0u; ky < u.kernelHeight; ky++) {",
    ...range(kh - 1).flatMap((ky) => range(kw).map((kx) => `w${ky}_${kx} = w${ky + 1}_${kx};`)),
    ...range(kw).map((kx) => `w${kh - 1}_${kx} = kernel[(${at(kx)}) * u.channels + ${channel}];`),
    "}",
  ]);
}

/** Sizes of a convolution that reads `source` and gives `target`, as parameters. */
interface Walk {
  readonly source: readonly [number, number];
  readonly target: readonly [number, number];
  readonly padding: readonly [number, number];
}

/** target = conv(source, kernel): y of x, and at stride 1 dx of dy, with the kernel turned around. */
function convolve<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  views: { readonly source: GpuView; readonly kernel: GpuView; readonly target: GpuView; readonly bias?: GpuView },
  { flipped = false, activation = "linear" }: { readonly flipped?: boolean; readonly activation?: FusedActivation },
): void {
  const { batch, outputs, y, x } = geometry;
  const form = formOf(geometry);
  const { kernel, stride, columns, overlap } = form;
  const [kh, kw] = kernel;
  const [sy, sx] = stride;
  const walk: Walk = flipped
    ? {
        ...{ source: [y.output, x.output], target: [y.input, x.input] },
        padding: [kh - 1 - y.padding, kw - 1 - x.padding],
      }
    : { source: [y.input, x.input], target: [y.output, x.output], padding: [y.padding, x.padding] };
  const channels = outputs / 4;
  const strips = Math.ceil(walk.target[1] / columns);
  const segments = segmentsOf(call.profile, walk.target[0], batch * strips * channels);
  const loop = boxLoop(call.profile, [batch, segments.count, strips, channels]);
  const read = (columns - 1) * sx + kw;
  const { bias } = views;
  const value = (sum: string) => {
    const z = bias === undefined ? sum : `${sum} + shift`;
    return activation === "linear" ? z : `activation(${z})`;
  };
  call.dispatch({
    key: `${keyOf(form)}${flipped ? " flipped" : ""} ${activation} ${bias !== undefined}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      ...(activation !== "linear" && { declarations: activationWgsl(activation, "vec4f") }),
      body: loop.body(/* wgsl */ `
    ${loadKernel(kernel, "c3", flipped)}
    ${bias === undefined ? "" : "let shift = bias[c3];"}
    let column = c2 * ${columns}u;
    // u32 arithmetic wraps: what lies before the first row or column is huge.
    ${lines(range(read).map((i) => `let i${i} = column * ${sx}u - u.paddingX + ${i}u; let ok${i} = i${i} < u.sourceWidth;`))}
    let begin = c1 * u.segment;
    let end = min(begin + u.segment, u.targetHeight);
    let image = c0 * u.sourceHeight;
    ${lines(range(overlap).flatMap((a) => range(columns).map((c) => `var sum${a}_${c} = vec4f();`)))}
    for (var t = begin; t < end + ${overlap - 1}u; t++) {
      ${lines(
        range(sy).map(
          (r) => /* wgsl */ `{
        let iy = t * ${sy}u + ${r}u - u.paddingY;
        let row = (image + iy) * u.sourceWidth;
        let inside = iy < u.sourceHeight;
        ${lines(range(read).map((i) => `let x${i} = select(vec4f(), source[(row + i${i}) * u.channels + c3], inside && ok${i});`))}
        ${lines(
          range(overlap).flatMap((a) => {
            const ky = (overlap - 1 - a) * sy + r;
            if (ky >= kh) return [];
            return range(columns).map((c) => {
              const products = range(kw).map((kx) => `x${c * sx + kx} * w${ky}_${kx}`);
              return `sum${a}_${c} += ${products.join(" + ")};`;
            });
          }),
        )}
      }`,
        ),
      )}
      if (t >= begin + ${overlap - 1}u) {
        let to = ((c0 * u.targetHeight + t - ${overlap - 1}u) * u.targetWidth + column) * u.channels + c3;
        ${lines(range(columns).map((c) => `if (column + ${c}u < u.targetWidth) { result[to + ${c}u * u.channels] = ${value(`sum0_${c}`)}; }`))}
      }
      ${lines(
        range(overlap).flatMap((a) =>
          range(columns).map((c) => `sum${a}_${c} = ${a + 1 < overlap ? `sum${a + 1}_${c}` : "vec4f()"};`),
        ),
      )}
    }`),
    }),
    bindings: [
      { name: "source", view: views.source, type: "vec4f" },
      { name: "kernel", view: views.kernel, type: "vec4f" },
      ...(bias === undefined ? [] : [{ name: "bias", view: bias, type: "vec4f" } as const]),
      { name: "result", view: views.target, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      ...{ channels, kernelHeight: kh },
      segment: segments.length,
      ...{ sourceHeight: walk.source[0], sourceWidth: walk.source[1] },
      ...{ targetHeight: walk.target[0], targetWidth: walk.target[1] },
      ...{ paddingY: walk.padding[0], paddingX: walk.padding[1] },
    },
    workgroups: loop.workgroups,
  });
}

/** y = activation(conv + bias) of x [N, H, W, C], kernel [kh, kw, C] and perhaps bias [C]. */
export function depthwiseForward<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  {
    x,
    kernel,
    bias,
    y,
  }: { readonly x: GpuView; readonly kernel: GpuView; readonly bias?: GpuView; readonly y: GpuView },
  activation: FusedActivation,
): void {
  convolve(call, geometry, { source: x, kernel, target: y, ...(bias && { bias }) }, { activation });
}

/** dx of dy [N, OH, OW, C] and kernel [kh, kw, C]. */
export function depthwiseInputGradient<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  { dy, kernel, dx }: { readonly dy: GpuView; readonly kernel: GpuView; readonly dx: GpuView },
): void {
  const { batch, outputs, y, x } = geometry;
  if (y.stride === 1 && x.stride === 1) {
    convolve(call, geometry, { source: dy, kernel, target: dx }, { flipped: true });
    return;
  }
  const form = formOf(geometry);
  const { columns, overlap } = form;
  const [kh, kw] = form.kernel;
  const [sy, sx] = form.stride;
  const across = Math.ceil(kw / sx);
  const channels = outputs / 4;
  // Strips and blocks begin where windows do, up to the padding before the first pixel.
  const strips = Math.ceil((x.input + x.padding) / (columns * sx));
  const blocks = Math.ceil((y.input + y.padding) / sy);
  const segments = segmentsOf(call.profile, blocks, batch * strips * channels);
  const loop = boxLoop(call.profile, [batch, segments.count, strips, channels]);
  const wide = columns * sx;
  const read = columns + across - 1;
  const cells = range(sy).flatMap((r) => range(wide).map((c) => [r, c] as const));
  /** Products of column c, row r of a block j before: dy column i of those read is across - 1 before the strip. */
  const products = (j: number, r: number, c: number) => {
    const ky = j * sy + r;
    if (ky >= kh) return [];
    return range(across).flatMap((i) => {
      const kx = i * sx + (c % sx);
      return kx < kw ? [`y${Math.floor(c / sx) - i + across - 1} * w${ky}_${kx}`] : [];
    });
  };
  call.dispatch({
    key: keyOf(form),
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    ${loadKernel(form.kernel, "c3")}
    let column = c2 * ${columns}u;
    // u32 arithmetic wraps: what lies before the first row or column is huge.
    ${lines(range(read).map((i) => `let o${i} = column + ${i}u - ${across - 1}u; let ok${i} = o${i} < u.outputWidth;`))}
    let begin = c1 * u.segment;
    let end = min(begin + u.segment, u.blocks);
    ${lines(range(overlap).flatMap((a) => cells.map(([r, c]) => `var sum${a}_${r}_${c} = vec4f();`)))}
    for (var t = begin - ${overlap - 1}u; t != end; t++) {
      let row = (c0 * u.outputHeight + t) * u.outputWidth;
      let inside = t < u.outputHeight;
      ${lines(range(read).map((i) => `let y${i} = select(vec4f(), dy[(row + o${i}) * u.channels + c3], inside && ok${i});`))}
      ${lines(
        range(overlap).flatMap((j) =>
          cells.flatMap(([r, c]) => {
            const sum = products(j, r, c);
            return sum.length === 0 ? [] : [`sum${j}_${r}_${c} += ${sum.join(" + ")};`];
          }),
        ),
      )}
      if (t - begin < u.segment) {
        ${lines(
          cells.map(
            ([r, c]) => /* wgsl */ `{
          let iy = t * ${sy}u + ${r}u - u.paddingY; let ix = column * ${sx}u + ${c}u - u.paddingX;
          if (iy < u.inputHeight && ix < u.inputWidth) {
            dx[((c0 * u.inputHeight + iy) * u.inputWidth + ix) * u.channels + c3] = sum0_${r}_${c};
          }
        }`,
          ),
        )}
      }
      ${lines(
        range(overlap).flatMap((a) =>
          cells.map(([r, c]) => `sum${a}_${r}_${c} = ${a + 1 < overlap ? `sum${a + 1}_${r}_${c}` : "vec4f()"};`),
        ),
      )}
    }`),
    }),
    bindings: [
      { name: "dy", view: dy, type: "vec4f" },
      { name: "kernel", view: kernel, type: "vec4f" },
      { name: "dx", view: dx, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      ...{ channels, kernelHeight: kh },
      ...{ segment: segments.length, blocks },
      ...{ inputHeight: y.input, inputWidth: x.input, outputHeight: y.output, outputWidth: x.output },
      ...{ paddingY: y.padding, paddingX: x.padding },
    },
    workgroups: loop.workgroups,
  });
}

/** Pixels of a part of the sum over all, and parts that an invocation adds up: chains are short, see long-sums.ts. */
const PIXELS = 32;
const MOST_PARTS = 32;
/** Sums that are computed side by side, where there are as many. */
const SUMS = { software: 256, hardware: 1 << 15 };

/** dkernel [kh, kw, C] of x [N, H, W, C] and dy [N, OH, OW, C]. */
export function depthwiseKernelGradient<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  { x: source, dy, dkernel }: { readonly x: GpuView; readonly dy: GpuView; readonly dkernel: GpuView },
): void {
  const { batch, outputs, y, x } = geometry;
  const form = formOf(geometry);
  const { columns, overlap } = form;
  const [kh, kw] = form.kernel;
  const [sy, sx] = form.stride;
  const channels = outputs / 4;
  // A part is a segment of rows of one image, in a strip.
  const rows = PIXELS / columns;
  const segments = Math.ceil(y.output / rows);
  const strips = Math.ceil(x.output / columns);
  const parts = batch * segments * strips;
  const wanted = Math.ceil((parts * channels) / SUMS[call.profile.family]);
  const each = Math.max(1, Math.min(MOST_PARTS, wanted));
  const splits = Math.ceil(parts / each);
  const partial = splits === 1 ? dkernel : call.scratch({ shape: [splits, dkernel.size], dtype: "f32" });
  const loop = boxLoop(call.profile, [splits, channels]);
  const read = (columns - 1) * sx + kw;
  const taps = range(kh * kw).map((tap) => `${Math.floor(tap / kw)}_${tap % kw}`);
  call.dispatch({
    key: keyOf(form),
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    ${lines(taps.map((tap) => `var total${tap} = vec4f();`))}
    let last = min((c0 + 1u) * u.parts, u.allParts);
    for (var part = c0 * u.parts; part < last; part++) {
      let column = part % u.strips * ${columns}u;
      let begin = part / u.strips % u.segments * ${rows}u;
      let n = part / u.strips / u.segments;
      let end = min(begin + ${rows}u, u.outputHeight);
      // u32 arithmetic wraps: what lies before the first row or column is huge.
      ${lines(range(read).map((i) => `let i${i} = column * ${sx}u - u.paddingX + ${i}u; let ok${i} = i${i} < u.inputWidth;`))}
      ${lines(taps.map((tap) => `var sum${tap} = vec4f();`))}
      ${lines(range(overlap).flatMap((j) => range(columns).map((c) => `var y${j}_${c} = vec4f();`)))}
      for (var t = begin; t < end + ${overlap - 1}u; t++) {
        let to = ((n * u.outputHeight + t) * u.outputWidth + column) * u.channels + c1;
        let within = t < end;
        ${lines(
          range(columns).map(
            (c) => `y0_${c} = select(vec4f(), dy[to + ${c}u * u.channels], within && column + ${c}u < u.outputWidth);`,
          ),
        )}
        ${lines(
          range(sy).map(
            (r) => /* wgsl */ `{
          let iy = t * ${sy}u + ${r}u - u.paddingY;
          let row = (n * u.inputHeight + iy) * u.inputWidth;
          let inside = iy < u.inputHeight;
          ${lines(range(read).map((i) => `let x${i} = select(vec4f(), x[(row + i${i}) * u.channels + c1], inside && ok${i});`))}
          ${lines(
            range(overlap).flatMap((j) => {
              const ky = j * sy + r;
              if (ky >= kh) return [];
              return range(kw).map((kx) => {
                const products = range(columns).map((c) => `x${c * sx + kx} * y${j}_${c}`);
                return `sum${ky}_${kx} += ${products.join(" + ")};`;
              });
            }),
          )}
        }`,
          ),
        )}
        ${lines(
          range(overlap - 1)
            .reverse()
            .flatMap((j) => range(columns).map((c) => `y${j + 1}_${c} = y${j}_${c};`)),
        )}
      }
      ${lines(taps.map((tap) => `total${tap} += sum${tap};`))}
    }
    for (var ky = 0u; ky < u.kernelHeight; ky++) {
      let to = (c0 * u.kernelHeight + ky) * ${kw}u;
      ${lines(range(kw).map((kx) => `result[(to + ${kx}u) * u.channels + c1] = total0_${kx};`))}
      ${lines(range(kh - 1).flatMap((ky) => range(kw).map((kx) => `total${ky}_${kx} = total${ky + 1}_${kx};`)))}
    }`),
    }),
    bindings: [
      { name: "x", view: source, type: "vec4f" },
      { name: "dy", view: dy, type: "vec4f" },
      { name: "result", view: partial, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...loop.sizes,
      ...{ channels, kernelHeight: kh },
      ...{ parts: each, allParts: parts, segments, strips },
      ...{ inputHeight: y.input, inputWidth: x.input, outputHeight: y.output, outputWidth: x.output },
      ...{ paddingY: y.padding, paddingX: x.padding },
    },
    workgroups: loop.workgroups,
  });
  if (partial !== dkernel) {
    dispatchReduce(call, "sum", partial, dkernel, { outer: 1, reduce: splits, inner: dkernel.size });
  }
}
