// Two-dimensional pooling: maxima or means over sliding windows, and their gradients.
//
// x [N, H, W, C], y [N, OH, OW, C]: y[n, oy, ox, c] = max or mean of x[n, oy sh - top + ky, ox sw - left + kx, c] over the
// window's cells (ky, kx) that lie inside the image; padding never takes part. The first maximum in row-major order of
// the window gets the gradient. Windows and strides are part of the code, sizes are parameters; vec4 along C where
// C % 4 = 0. A maximum may be activated before it is stored, which is the same as activating x, as activations increase.
//
// Gradient of the maximum:
// - windows that do not overlap (stride >= window): the image is cut into blocks of one stride, each holding at most one
//   window. One pass finds the maximum of a block's window anew and writes all of the block's cells. Nothing is stored.
// - overlapping windows: one pass over the outputs writes which cell was the maximum, a second gathers for every input
//   cell from the windows that contain it.
// The gradient of the mean gathers in both cases.
import { ShapeError } from "../tensor/errors.js";
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import type { GpuCall, GpuView } from "../tensor/webgpu-program.js";
import {
  activationCpu,
  activationGradientCpu,
  activationGradientWgsl,
  activationWgsl,
  type FusedActivation,
  isLinear,
} from "./activation.js";
import { boxLoop } from "./box.js";
import { type Padding, type Pair, positivePair, type WindowAxis, windowAxis } from "./conv2d/geometry.js";

export interface Pool2dOptions {
  /** Window, [height, width] or one number for both. */
  readonly poolSize: Pair;
  /** Distance between windows; by default the window's size. */
  readonly strides?: Pair;
  /** "valid" (default), "same", or [[top, bottom], [left, right]] smaller than the window. */
  readonly padding?: Padding;
}

export interface Pool2dParams {
  readonly kind: "max" | "mean";
  /** Of the pooled values; only for maxima. */
  readonly activation: FusedActivation;
  /** Vertical and horizontal axis; dilation 1, padding smaller than the window. */
  readonly y: WindowAxis;
  readonly x: WindowAxis;
}

/** Windows over images of [height, width]. */
export function pool2dParams(
  op: string,
  kind: Pool2dParams["kind"],
  image: readonly [number, number],
  options: Pool2dOptions,
  activation: FusedActivation = "linear",
): Pool2dParams {
  const window = positivePair(op, "poolSize", options.poolSize);
  const strides = positivePair(op, "strides", options.strides ?? window);
  const { padding = "valid" } = options;
  const along = (axis: 0 | 1) => {
    const sizes = { input: image[axis], kernel: window[axis], stride: strides[axis], dilation: 1 };
    const around = typeof padding === "string" ? padding : padding[axis];
    if (typeof around !== "string" && around.some((n) => n >= sizes.kernel)) {
      throw new ShapeError(
        `${op}: padding must be smaller than the window, got [${around.join(", ")}] for a window of ${sizes.kernel}`,
      );
    }
    return windowAxis(op, sizes, around);
  };
  return { kind, activation, y: along(0), x: along(1) };
}

/** First and one past the last input position of window `o` along an axis. */
function span({ input, kernel, stride, padding }: WindowAxis, o: number): [number, number] {
  const start = o * stride - padding;
  return [Math.max(start, 0), Math.min(start + kernel, input)];
}

/** Visits every window: the index of its output element, and the indices of its input elements in row-major order. */
function forEachWindow(
  channels: number,
  { y, x }: Pool2dParams,
  outputs: CpuView,
  visit: (output: number, cells: readonly number[]) => void,
): void {
  for (let o = 0; o < outputs.size; o++) {
    const c = o % channels;
    const ox = Math.floor(o / channels) % x.output;
    const oy = Math.floor(o / channels / x.output) % y.output;
    const n = Math.floor(o / channels / x.output / y.output);
    const cells: number[] = [];
    const [fromY, toY] = span(y, oy);
    const [fromX, toX] = span(x, ox);
    for (let row = fromY; row < toY; row++) {
      for (let column = fromX; column < toX; column++) {
        cells.push(((n * y.input + row) * x.input + column) * channels + c);
      }
    }
    visit(o, cells);
  }
}

/** Windows of at most this many cells, all inside the image, are unrolled; more loads in a body compile and run slowly. */
const UNROLLED_CELLS = 9;

function unrolls({ y, x }: Pool2dParams): boolean {
  const inside = [y, x].every((a) => a.padding === 0 && (a.output - 1) * a.stride + a.kernel <= a.input);
  return inside && y.kernel * x.kernel <= UNROLLED_CELLS;
}

/** Index in x of every cell of the window at [oy, ox], row-major; for windows inside the image. */
function cellsOf({ y, x }: Pool2dParams): string[] {
  return Array.from({ length: y.kernel * x.kernel }, (_, k) => {
    const [ky, kx] = [Math.floor(k / x.kernel), k % x.kernel];
    return `((n * u.height + oy * ${y.stride} + ${ky}) * u.width + ox * ${x.stride} + ${kx}) * u.channels + c`;
  });
}

/** Bounds `top`, `bottom`, `left`, `right` (u32) of the window at [oy, ox], clipped to the image. */
const bounds = ({ y, x }: Pool2dParams) => /* wgsl */ `
    let top = max(oy * ${y.stride}, ${y.padding}u) - ${y.padding};
    let bottom = min(oy * ${y.stride} + ${y.kernel} - ${y.padding}, u.height);
    let left = max(ox * ${x.stride}, ${x.padding}u) - ${x.padding};
    let right = min(ox * ${x.stride} + ${x.kernel} - ${x.padding}, u.width);`;

/** Index in x of the cell [row, column], and in dy of the window [oy, ox]. */
const CELL = "((n * u.height + row) * u.width + column) * u.channels + c";
const WINDOW = "((n * u.out_height + oy) * u.out_width + ox) * u.channels + c";

/** Types in WGSL: of values, of counters, of conditions. */
interface Types {
  readonly v: "f32" | "vec4f";
  readonly vu: "u32" | "vec4u";
  readonly vb: "bool" | "vec4<bool>";
}

/**
 * Runs a statement for each `n`, `ROW`, `COLUMN`, `c` of a box [N, height, width, C or C / 4]; `i` is the linear index.
 * The last view is written, the others are read.
 */
function overBox(
  call: GpuCall<Pool2dParams>,
  key: string,
  box: { readonly names: readonly [string, string]; readonly sizes: readonly [number, number] },
  views: Readonly<Record<string, GpuView>>,
  statement: (types: Types) => string,
): void {
  const { kind, activation, y, x } = call.params;
  const [batch, , , depth] = Object.values(views)[0]!.shape as [number, number, number, number];
  const width = depth % 4 === 0 ? 4 : 1;
  const channels = depth / width;
  const types: Types =
    width === 4 ? { v: "vec4f", vu: "vec4u", vb: "vec4<bool>" } : { v: "f32", vu: "u32", vb: "bool" };
  const loop = boxLoop(call.profile, [batch, ...box.sizes, channels]);
  const names = Object.keys(views);
  call.dispatch({
    key: `${kind} ${activation} ${key} ${[y, x].map((a) => `${a.kernel}/${a.stride}+${a.padding}`)} ${unrolls(call.params)}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: `${activationWgsl(activation, types.v)}\n${activationGradientWgsl(activation, types.v)}`,
      body: loop.body(
        `let n = c0; let ${box.names[0]} = c1; let ${box.names[1]} = c2; let c = c3;\n${statement(types)}`,
      ),
    }),
    bindings: names.map((name, index) => ({
      name,
      view: views[name]!,
      type: views[name]!.dtype === "u32" ? types.vu : types.v,
      access: index === names.length - 1 ? "read_write" : "read",
    })),
    sizes: { ...loop.sizes, height: y.input, width: x.input, out_height: y.output, out_width: x.output, channels },
    workgroups: loop.workgroups,
  });
}

const overWindows = ({ y, x }: Pool2dParams) => ({ names: ["oy", "ox"], sizes: [y.output, x.output] }) as const;
const overCells = ({ y, x }: Pool2dParams) => ({ names: ["row", "column"], sizes: [y.input, x.input] }) as const;

/** Inputs [x], outputs [y]. */
export const pool2dKernel = defineKernel<Pool2dParams>({
  name: "pool2d",
  cpu({ inputs: [x], outputs: [y], params }) {
    forEachWindow(x!.shape[3]!, params, y!, (o, cells) => {
      const values = cells.map((cell) => x!.data[cell]!);
      const total = values.reduce(params.kind === "max" ? (a, b) => Math.max(a, b) : (a, b) => a + b);
      y!.data[o] = params.kind === "max" ? activationCpu(params.activation)(total) : total / values.length;
    });
  },
  webgpu(call) {
    const { params } = call;
    const combine = (a: string, b: string) => (params.kind === "max" ? `max(${a}, ${b})` : `${a} + ${b}`);
    overBox(call, "forward", overWindows(params), { x: call.inputs[0]!, y: call.outputs[0]! }, ({ v }) => {
      if (unrolls(params)) {
        const cells = cellsOf(params).map((at) => `x[${at}]`);
        const total = cells.reduce(combine);
        return `y[i] = ${params.kind === "max" ? `activation(${total})` : `(${total}) * ${1 / cells.length}`};`;
      }
      return /* wgsl */ `${bounds(params)}
    var total = ${params.kind === "max" ? `x[((n * u.height + top) * u.width + left) * u.channels + c]` : `${v}(0)`};
    for (var row = top; row < bottom; row++) {
      for (var column = left; column < right; column++) { total = ${combine("total", `x[${CELL}]`)}; }
    }
    y[i] = ${params.kind === "max" ? "activation(total)" : "total / f32((bottom - top) * (right - left))"};`;
    });
  },
});

/** Views that the gradient of the maximum reads; `y` where there is an activation to go back through. */
function maximumViews({ inputs: [dy, x, y], params }: GpuCall<Pool2dParams>) {
  return { dy: dy!, x: x!, ...(!isLinear(params.activation) && { y: y! }) };
}

/** Gradient of window `at` before its activation. */
const gradientAt = ({ activation }: Pool2dParams, at: string) =>
  isLinear(activation) ? `dy[${at}]` : `activationGradient(dy[${at}], y[${at}])`;

/** Inputs [dy, x] (max; with an activation [dy, x, y]) or [dy] (mean), outputs [dx]. */
export const pool2dGradientKernel = defineKernel<Pool2dParams>({
  name: "pool2dGradient",
  cpu({ inputs: [dy, x, y], outputs: [dx], params }) {
    const through = activationGradientCpu(params.activation);
    dx!.data.fill(0);
    forEachWindow(dx!.shape[3]!, params, dy!, (o, cells) => {
      if (params.kind === "mean") {
        for (const cell of cells) dx!.data[cell]! += dy!.data[o]! / cells.length;
      } else {
        const best = cells.reduce((a, b) => (x!.data[b]! > x!.data[a]! ? b : a));
        dx!.data[best]! += through(dy!.data[o]!, y?.data[o] ?? 0);
      }
    });
  },
  webgpu(call) {
    const { kind, y, x } = call.params;
    if (unrolls(call.params) && y.stride === y.kernel && x.stride === x.kernel) tiledGradient(call);
    else if (kind === "mean") meanGradient(call);
    else if (y.stride < y.kernel || x.stride < x.kernel) overlappingGradient(call);
    else blockGradient(call);
  },
});

/** Windows that tile the image from its corner on, unrolled; then zeros for the rows and columns that are left over. */
function tiledGradient(call: GpuCall<Pool2dParams>): void {
  const { params } = call;
  const dx = call.outputs[0]!;
  const views = params.kind === "max" ? { ...maximumViews(call), dx } : { dy: call.inputs[0]!, dx };
  const cells = cellsOf(params);
  overBox(call, "tiled", overWindows(params), views, ({ v, vb }) => {
    if (params.kind === "mean") {
      return `let share = dy[i] * ${1 / cells.length}; ${cells.map((at) => `dx[${at}] = share;`).join(" ")}`;
    }
    return /* wgsl */ `
    ${cells.map((at, k) => `let x${k} = x[${at}];`).join("\n    ")}
    let best = ${cells.map((_, k) => `x${k}`).reduce((a, b) => `max(${a}, ${b})`)};
    let gradient = ${gradientAt(params, "i")};
    var free = ${vb}(true);
    ${cells
      .map((at, k) => `dx[${at}] = select(${v}(0), gradient, free & (x${k} == best)); free = free & (x${k} != best);`)
      .join("\n    ")}`;
  });
  const [bottom, right] = [params.y, params.x].map((a) => a.input - a.output * a.stride) as [number, number];
  const cellsLeft = bottom * params.x.input + right * (params.y.input - bottom);
  // The rows below the last window, then what is to the right of it.
  const rest = { names: ["none", "k"], sizes: [1, cellsLeft] } as const;
  overBox(
    call,
    `rest ${right}`,
    rest,
    { dx },
    ({ v }) => /* wgsl */ `
    var row = u.out_height * ${params.y.stride} + k / u.width;
    var column = k % u.width;
    if (row >= u.height) {
      let beside = k - (u.height - u.out_height * ${params.y.stride}) * u.width;
      row = beside / ${Math.max(1, right)};
      column = u.out_width * ${params.x.stride} + beside % ${Math.max(1, right)};
    }
    dx[${CELL}] = ${v}(0);`,
  );
}

/** Non-overlapping windows. A block [oy, ox] is one stride in each direction and holds at most one window. */
function blockGradient(call: GpuCall<Pool2dParams>): void {
  const { y: rows, x: columns } = call.params;
  const sizes = [rows, columns].map((a) => Math.ceil((a.input + a.padding) / a.stride)) as [number, number];
  overBox(
    call,
    "blocks",
    { names: ["oy", "ox"], sizes },
    { ...maximumViews(call), dx: call.outputs[0]! },
    ({ v, vb }) => /* wgsl */ `${bounds(call.params)}
    let covered = oy < u.out_height && ox < u.out_width;
    var gradient = ${v}(0);
    var best = gradient;
    if (covered) {
      gradient = ${gradientAt(call.params, WINDOW)};
      best = x[((n * u.height + top) * u.width + left) * u.channels + c];
      for (var row = top; row < bottom; row++) {
        for (var column = left; column < right; column++) { best = max(best, x[${CELL}]); }
      }
    }
    var free = ${vb}(true);
    let block_bottom = min((oy + 1) * ${rows.stride} - ${rows.padding}, u.height);
    let block_right = min((ox + 1) * ${columns.stride} - ${columns.padding}, u.width);
    for (var row = top; row < block_bottom; row++) {
      for (var column = left; column < block_right; column++) {
        let at = ${CELL};
        let taken = free & (x[at] == best) & ${vb}(covered && row < bottom && column < right);
        dx[at] = select(${v}(0), gradient, taken);
        free = free & !taken;
      }
    }`,
  );
}

/** Each window's first maximum as its position in the window with padding, then a gather of the windows that agree. */
function overlappingGradient(call: GpuCall<Pool2dParams>): void {
  const { dy, x, ...activated } = maximumViews(call);
  const { y: rows, x: columns } = call.params;
  const winner = call.scratch({ shape: dy.shape, dtype: "u32" });
  const position = `(row + ${rows.padding} - oy * ${rows.stride}) * ${columns.kernel} + column + ${columns.padding} - ox * ${columns.stride}`;
  overBox(
    call,
    "winners",
    overWindows(call.params),
    { x, winner },
    ({ vu }) => /* wgsl */ `${bounds(call.params)}
    var row = top;
    var column = left;
    var best = x[${CELL}];
    var position = ${vu}(${position});
    for (; row < bottom; row++) {
      for (column = left; column < right; column++) {
        let value = x[${CELL}];
        position = select(position, ${vu}(${position}), value > best);
        best = max(best, value);
      }
    }
    winner[i] = position;`,
  );
  const gradient = gradientAt(call.params, "at");
  gather(
    call,
    { winner, ...activated },
    ({ v, vu }) => `select(${v}(0), ${gradient}, winner[at] == ${vu}(${position}))`,
  );
}

function meanGradient(call: GpuCall<Pool2dParams>): void {
  gather(call, {}, () => /* wgsl */ `dy[at] / f32((bottom - top) * (right - left))`);
}

/** dx[n, row, column, c] = sum of `term` over the windows [oy, ox] that contain the cell, whose index in dy is `at`. */
function gather(
  call: GpuCall<Pool2dParams>,
  more: Readonly<Record<string, GpuView>>,
  term: (types: Types) => string,
): void {
  const { params } = call;
  const first = ({ kernel, stride, padding }: WindowAxis, cell: string) =>
    `select((${cell} + ${padding} - ${kernel}) / ${stride} + 1, 0u, ${cell} + ${padding} < ${kernel})`;
  const last = ({ stride, padding }: WindowAxis, cell: string, count: string) =>
    `min((${cell} + ${padding}) / ${stride}, ${count} - 1)`;
  const views = { dy: call.inputs[0]!, ...more, dx: call.outputs[0]! };
  overBox(
    call,
    "gather",
    overCells(params),
    views,
    (types) => /* wgsl */ `
    var total = ${types.v}(0);
    for (var oy = ${first(params.y, "row")}; oy <= ${last(params.y, "row", "u.out_height")}; oy++) {
      for (var ox = ${first(params.x, "column")}; ox <= ${last(params.x, "column", "u.out_width")}; ox++) {
        let at = ${WINDOW};
        ${params.kind === "mean" ? bounds(params) : ""}
        total += ${term(types)};
      }
    }
    dx[i] = total;`,
  );
}
