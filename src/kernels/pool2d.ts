// Two-dimensional pooling: maxima or means over sliding windows, and their gradients.
//
// With x [N, H, W, C] and y [N, OH, OW, C], over the window's cells (ky, kx) that lie inside the image:
//
//   y[n, oy, ox, c] = max or mean of x[n, oy sh - top + ky, ox sw - left + kx, c]
//
// Padding never takes part. The first maximum in row-major order of the window gets the gradient. A NaN is larger than
// all that is none, and of several NaNs the last wins, as in PyTorch. Windows and strides are part of the code, sizes
// are parameters; vec4 along C where C % 4 = 0. A maximum may be activated before it is stored, which is the same as
// activating x, as activations increase.
//
// Where a gradient will be wanted, the pass that finds the maxima also writes which cell of each window it was:
// `winner`, a byte a window where C % 4 = 0. So the gradient reads neither x nor its maxima again. Gradients gather for
// every input cell from the windows that contain it; windows that tile the image (stride = window) write their cells
// instead.
import type { Spec } from "../tensor/dtype.js";
import { ShapeError } from "../tensor/errors.js";
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import type { Rules } from "../tensor/options.js";
import type { Shape } from "../tensor/shape.js";
import type { GpuCall, GpuView } from "../webgpu/program.js";
import {
  activationCpu,
  activationGradientCpu,
  activationGradientWgsl,
  activationWgsl,
  type FusedActivation,
  isLinear,
} from "./activation.js";
import { boxLoop } from "./box.js";
import {
  type Padding,
  type Pair,
  paddingRule,
  pairRule,
  positivePair,
  type WindowAxis,
  windowAxis,
} from "./conv2d/geometry.js";
import { isNan, typed } from "./ieee.js";

export interface Pool2dOptions {
  /** Window, [height, width] or one number for both. */
  readonly poolSize: Pair;
  /** Distance between windows; by default the window's size. */
  readonly strides?: Pair;
  /** "valid" (default), "same", or [[top, bottom], [left, right]] smaller than the window. */
  readonly padding?: Padding;
}

export const pool2dRules: Rules<Pool2dOptions> = { poolSize: pairRule, strides: pairRule, padding: paddingRule };

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

/** A cell of a window: index of its element, and its row-major position in the window with padding. */
interface Cell {
  readonly at: number;
  readonly position: number;
}

/** Whether a cell takes its window from the best before it. */
export const winsWindow = (value: number, best: number) => value > best || Number.isNaN(value);

/** Visits every window: the index of its output element, and its cells in row-major order. */
function forEachWindow(
  channels: number,
  { y, x }: Pool2dParams,
  outputs: CpuView,
  visit: (output: number, cells: readonly Cell[]) => void,
): void {
  for (let o = 0; o < outputs.size; o++) {
    const c = o % channels;
    const ox = Math.floor(o / channels) % x.output;
    const oy = Math.floor(o / channels / x.output) % y.output;
    const n = Math.floor(o / channels / x.output / y.output);
    const cells: Cell[] = [];
    const [fromY, toY] = span(y, oy);
    const [fromX, toX] = span(x, ox);
    for (let row = fromY; row < toY; row++) {
      for (let column = fromX; column < toX; column++) {
        const at = ((n * y.input + row) * x.input + column) * channels + c;
        const down = row + y.padding - oy * y.stride;
        cells.push({ at, position: down * x.kernel + column + x.padding - ox * x.stride });
      }
    }
    visit(o, cells);
  }
}

/**
 * Windows of at most this many cells, all inside the image, are unrolled; more loads in a body compile and run slowly.
 */
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

/** Cells up to which a position fits into a byte. */
const BYTE_CELLS = 255;

/** Whether the winners of four channels share a u32. */
const packs = (channels: number, { y, x }: Pool2dParams) => channels % 4 === 0 && y.kernel * x.kernel <= BYTE_CELLS;

/** Which cell of each window of y [N, OH, OW, C] was the maximum: position in the window with padding. */
export function winnerSpec(shape: Shape, params: Pool2dParams): Spec {
  const channels = shape.at(-1)!;
  return { shape: [...shape.slice(0, -1), packs(channels, params) ? channels / 4 : channels], dtype: "u32" };
}

/** Types in WGSL: of values, of positions. */
interface Types {
  readonly v: "f32" | "vec4f";
  readonly vu: "u32" | "vec4u";
}

const winnerText = (vu: Types["vu"]) =>
  vu === "u32"
    ? "fn pack(position: u32) -> u32 { return position; } fn unpack(packed: u32) -> u32 { return packed; }"
    : /* wgsl */ `fn pack(p: vec4u) -> u32 { return p.x | (p.y << 8) | (p.z << 16) | (p.w << 24); }
fn unpack(packed: u32) -> vec4u { return (vec4u(packed) >> vec4u(0, 8, 16, 24)) & vec4u(255); }`;

/** A view by its name in the WGSL text; those that are written are given apart. */
type Views = Readonly<Record<string, GpuView>>;

/**
 * Runs a statement for each `n`, `ROW`, `COLUMN`, `c` of a box [N, height, width, C or C / 4]; `i` is the linear index.
 */
function overBox(
  call: GpuCall<Pool2dParams>,
  key: string,
  box: { readonly names: readonly [string, string]; readonly sizes: readonly [number, number] },
  { read, written }: { readonly read: Views; readonly written: Views },
  statement: (types: Types) => string,
): void {
  const { kind, activation, y, x } = call.params;
  const [batch, , , depth] = Object.values(written)[0]!.shape as [number, number, number, number];
  const vectorised = packs(depth, call.params);
  const channels = vectorised ? depth / 4 : depth;
  const types: Types = vectorised ? { v: "vec4f", vu: "vec4u" } : { v: "f32", vu: "u32" };
  const loop = boxLoop(call.profile, [batch, ...box.sizes, channels]);
  const bind = (views: Views, access: "read" | "read_write") =>
    Object.entries(views).map(([name, view]) => ({
      name,
      view,
      type: view.dtype === "u32" ? "u32" : types.v,
      access,
    }));
  call.dispatch({
    key: `${kind} ${activation} ${key} ${[y, x].map((a) => `${a.kernel}/${a.stride}+${a.padding}`)} ${unrolls(call.params)}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      declarations: [
        activationWgsl(activation, types.v),
        activationGradientWgsl(activation, types.v),
        winnerText(types.vu),
      ].join("\n"),
      body: loop.body(
        `let n = c0; let ${box.names[0]} = c1; let ${box.names[1]} = c2; let c = c3;\n${statement(types)}`,
      ),
    }),
    bindings: [...bind(read, "read"), ...bind(written, "read_write")],
    sizes: { ...loop.sizes, height: y.input, width: x.input, out_height: y.output, out_width: x.output, channels },
    workgroups: loop.workgroups,
  });
}

const overWindows = ({ y, x }: Pool2dParams) => ({ names: ["oy", "ox"], sizes: [y.output, x.output] }) as const;
const overCells = ({ y, x }: Pool2dParams) => ({ names: ["row", "column"], sizes: [y.input, x.input] }) as const;

/** WGSL of the position of [row, column] in the window [oy, ox] with padding. */
const positionText = ({ y, x }: Pool2dParams) =>
  `(row + ${y.padding} - oy * ${y.stride}) * ${x.kernel} + column + ${x.padding} - ox * ${x.stride}`;

/** Inputs [x], outputs [y] and, for maxima whose gradient is wanted, [y, winner]. */
export const pool2dKernel = defineKernel<Pool2dParams>({
  name: "pool2d",
  cpu({ inputs: [x], outputs: [y, winner], params }) {
    const channels = x!.shape[3]!;
    const activate = activationCpu(params.activation);
    winner?.data.fill(0);
    forEachWindow(channels, params, y!, (o, cells) => {
      if (params.kind === "mean") {
        y!.data[o] = cells.reduce((sum, { at }) => sum + x!.data[at]!, 0) / cells.length;
        return;
      }
      const best = cells.reduce((a, b) => (winsWindow(x!.data[b.at]!, x!.data[a.at]!) ? b : a));
      y!.data[o] = activate(x!.data[best.at]!);
      if (winner === undefined) return;
      const [word, shift] = packs(channels, params) ? [o >> 2, (o & 3) * 8] : [o, 0];
      winner.data[word] = (winner.data[word]! | (best.position << shift)) >>> 0;
    });
  },
  webgpu(call) {
    const { params } = call;
    const [y, winner] = call.outputs as [GpuView, GpuView?];
    const views = { read: { x: call.inputs[0]! }, written: { y, ...(winner && { winner }) } };
    const unrolled = unrolls(params);
    if (params.kind === "mean") {
      overBox(call, "forward", overWindows(params), views, ({ v }) => {
        if (unrolled) {
          const cells = cellsOf(params).map((at) => `x[${at}]`);
          return `y[i] = (${cells.join(" + ")}) * ${1 / cells.length};`;
        }
        return /* wgsl */ `${bounds(params)}
    var total = ${v}(0);
    for (var row = top; row < bottom; row++) {
      for (var column = left; column < right; column++) { total += x[${CELL}]; }
    }
    y[i] = total / f32((bottom - top) * (right - left));`;
      });
      return;
    }
    const key = winner === undefined ? "forward" : "forward and winner";
    overBox(call, key, overWindows(params), views, ({ v, vu }) => {
      const take = (value: string, position: string) => /* wgsl */ `{
      let value = ${value};
      let won = (value > best) | ${typed(isNan("value"), v)};
      ${winner === undefined ? "" : `position = select(position, ${vu}(${position}), won);`} best = select(best, value, won); }`;
      const store = `y[i] = activation(best);${winner === undefined ? "" : " winner[i] = pack(position);"}`;
      const first = (at: string, position: string) =>
        `var best = x[${at}];${winner === undefined ? "" : ` var position = ${vu}(${position});`}`;
      if (unrolled) {
        const [start, ...cells] = cellsOf(params) as [string, ...string[]];
        return `${first(start, "0u")}\n${cells.map((at, k) => take(`x[${at}]`, `${k + 1}u`)).join("\n")}\n${store}`;
      }
      return /* wgsl */ `${bounds(params)}
    var row = top;
    var column = left;
    ${first(CELL, positionText(params))}
    for (; row < bottom; row++) {
      for (column = left; column < right; column++) { ${take(`x[${CELL}]`, positionText(params))} }
    }
    ${store}`;
    });
  },
});

/** Inputs [x, winner] of a maximum, outputs [y]: of each window the cell that won. */
export const pool2dPickKernel = defineKernel<Pool2dParams>({
  name: "pool2dPick",
  cpu({ inputs: [x, winner], outputs: [y], params }) {
    const channels = x!.shape[3]!;
    forEachWindow(channels, params, y!, (o, cells) => {
      const position = positionOf(winner!, o, channels, params);
      y!.data[o] = x!.data[cells.find((cell) => cell.position === position)!.at]!;
    });
  },
  webgpu(call) {
    const { params } = call;
    const [x, winner] = call.inputs as [GpuView, GpuView];
    const views = { read: { x, winner }, written: { y: call.outputs[0]! } };
    // Channels that share a word may have won in different cells.
    const cell = (
      position: string,
      c: string,
      at: string,
    ) => /* wgsl */ `x[((n * u.height + oy * ${params.y.stride} + ${position} / ${params.x.kernel} - ${params.y.padding}) * u.width
      + ox * ${params.x.stride} + ${position} % ${params.x.kernel} - ${params.x.padding}) * u.channels + ${c}]${at}`;
    overBox(call, "pick", overWindows(params), views, ({ v }) =>
      v === "f32"
        ? `let position = unpack(winner[i]); y[i] = ${cell("position", "c", "")};`
        : `let position = unpack(winner[i]);
    y[i] = vec4f(${["x", "y", "z", "w"].map((lane) => cell(`position.${lane}`, "c", `.${lane}`)).join(",\n      ")});`,
    );
  },
});

/** Where in its window, padding included, the winner of output element `o` is. */
function positionOf(winner: CpuView, o: number, channels: number, params: Pool2dParams): number {
  return packs(channels, params) ? (winner.data[o >> 2]! >>> ((o & 3) * 8)) & BYTE_CELLS : winner.data[o]!;
}

/** Gradient of window `at` before its activation, in WGSL. */
const gradientAt = ({ activation }: Pool2dParams, at: string) =>
  isLinear(activation) ? `dy[${at}]` : `activationGradient(dy[${at}], y[${at}])`;

/** Inputs [dy, winner] (max; with an activation [dy, winner, y]) or [dy] (mean), outputs [dx]. */
export const pool2dGradientKernel = defineKernel<Pool2dParams>({
  name: "pool2dGradient",
  cpu({ inputs: [dy, winner, y], outputs: [dx], params }) {
    const channels = dx!.shape[3]!;
    const through = activationGradientCpu(params.activation);
    dx!.data.fill(0);
    forEachWindow(channels, params, dy!, (o, cells) => {
      if (params.kind === "mean") {
        for (const { at } of cells) dx!.data[at]! += dy!.data[o]! / cells.length;
        return;
      }
      const position = positionOf(winner!, o, channels, params);
      const best = cells.find((cell) => cell.position === position)!;
      dx!.data[best.at]! += through(dy!.data[o]!, y?.data[o] ?? 0);
    });
  },
  webgpu(call) {
    const { params } = call;
    const [dy, winner, y] = call.inputs as [GpuView, GpuView?, GpuView?];
    const views = {
      read: { dy, ...(winner && { winner }), ...(y && { y }) },
      written: { dx: call.outputs[0]! },
    };
    if (unrolls(params) && params.y.stride === params.y.kernel && params.x.stride === params.x.kernel) {
      tiledGradient(call, views);
    } else if (params.kind === "mean") {
      gather(call, views, () => "dy[at] / f32((bottom - top) * (right - left))");
    } else {
      const gradient = gradientAt(params, "at");
      gather(
        call,
        views,
        ({ v, vu }) => `select(${v}(0), ${gradient}, unpack(winner[at]) == ${vu}(${positionText(params)}))`,
      );
    }
  },
});

interface GradientViews {
  readonly read: Views;
  readonly written: { readonly dx: GpuView };
}

/** Windows that tile the image from its corner on, unrolled; then zeros for the rows and columns that are left over. */
function tiledGradient(call: GpuCall<Pool2dParams>, views: GradientViews): void {
  const { params } = call;
  const cells = cellsOf(params);
  overBox(call, "tiled", overWindows(params), views, ({ v, vu }) => {
    if (params.kind === "mean") {
      return `let share = dy[i] * ${1 / cells.length}; ${cells.map((at) => `dx[${at}] = share;`).join(" ")}`;
    }
    return /* wgsl */ `
    let gradient = ${gradientAt(params, "i")};
    let position = unpack(winner[i]);
    ${cells.map((at, k) => `dx[${at}] = select(${v}(0), gradient, position == ${vu}(${k}));`).join("\n    ")}`;
  });
  const [bottom, right] = [params.y, params.x].map((a) => a.input - a.output * a.stride) as [number, number];
  const cellsLeft = bottom * params.x.input + right * (params.y.input - bottom);
  // The rows below the last window, then what is to the right of it.
  const rest = { names: ["none", "k"], sizes: [1, cellsLeft] } as const;
  overBox(
    call,
    `rest ${right}`,
    rest,
    { read: {}, written: views.written },
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

/** dx[n, row, column, c] = sum of `term` over the windows [oy, ox] that contain the cell, whose index in dy is `at`. */
function gather(call: GpuCall<Pool2dParams>, views: GradientViews, term: (types: Types) => string): void {
  const { params } = call;
  const first = ({ kernel, stride, padding }: WindowAxis, cell: string) =>
    `select((${cell} + ${padding} - ${kernel}) / ${stride} + 1, 0u, ${cell} + ${padding} < ${kernel})`;
  const last = ({ stride, padding }: WindowAxis, cell: string, count: string) =>
    `min((${cell} + ${padding}) / ${stride}, ${count} - 1)`;
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
