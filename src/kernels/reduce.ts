// Reductions over any set of axes: sum, sum of squares, mean, max, min; and argmax over one axis.
//
// Adjacent axes of one kind collapse, so that a pass sees x [outer, reduce, inner] -> y [outer, inner]; reduced axes
// that are not adjacent take one pass each, innermost first. A long reduced axis with few results is split into `parts`
// chunks, each summed by other invocations. A second pass reduces their partial results [outer, parts, inner]. The
// order of additions depends only on the shape and the profile: no atomics. A NaN is the maximum and the minimum of
// whatever it is among, and the first one is argmax's; WGSL's max and min, which may drop it, go along with its bits.
//
// Two code shapes:
// - row (inner = 1, profile "software"): a subgroup walks a row in vec4 steps, then one subgroupAdd / Max / Min. On
//   lavapipe 100 times faster than a shared-memory tree, because there a barrier costs as much as thousands of
//   additions.
// - tile: a workgroup is rowLanes x (size / rowLanes) invocations; an invocation walks down a column (vec4 along inner
//   where inner % 4 = 0) in steps of rowLanes, then a shared-memory tree adds the row lanes. rowLanes = 1 needs no
//   tree.
import type { DType } from "../tensor/dtype.js";
import { type CpuView, defineKernel, WGSL_TYPE } from "../tensor/kernel.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { subgroupLanes, workgroupLanes } from "../webgpu/family.js";
import { type Binding, type GpuCall, type GpuView, MAX_WORKGROUPS, sliceOf } from "../webgpu/program.js";
import { type FloatType, ieeeFunctions } from "./ieee.js";
import { CHAIN, longLoop, ONE } from "./long-sums.js";
import { rolledLoop } from "./rolled.js";

export type Reduction = "sum" | "sumSquares" | "mean" | "max" | "min";

/** How two values become one; "squares" adds the squares of what it reads. */
type Combiner = "sum" | "squares" | "max" | "min";

const combinerOf = (reduction: Reduction): Combiner =>
  reduction === "mean" ? "sum" : reduction === "sumSquares" ? "squares" : reduction;

/** What combines partial results. */
const pairing = (combiner: Combiner) => (combiner === "squares" ? "sum" : combiner);

export interface ReduceParams {
  readonly reduction: Reduction;
  /** Sorted, distinct, non-negative. */
  readonly axes: readonly number[];
}

/** One pass: x [outer, reduce, inner] -> y [outer, inner]. */
export interface ReducePass {
  readonly outer: number;
  readonly reduce: number;
  readonly inner: number;
}

/**
 * The passes that reduce `axes` of `shape`, in order: innermost reduced axes first. At least one, maybe of reduce = 1.
 */
export function reducePasses(shape: Shape, axes: readonly number[]): ReducePass[] {
  const kept = shape.filter((_, axis) => !axes.includes(axis));
  if (sizeOf(shape) === 0) return [{ outer: sizeOf(kept), reduce: 0, inner: 1 }];
  const groups: { reduced: boolean; size: number }[] = [];
  shape.forEach((size, axis) => {
    if (size === 1) return;
    const reduced = axes.includes(axis);
    const last = groups.at(-1);
    if (last?.reduced === reduced) last.size *= size;
    else groups.push({ reduced, size });
  });
  const passes: ReducePass[] = [];
  let inner = 1;
  for (let g = groups.length - 1; g >= 0; g--) {
    const { reduced, size } = groups[g]!;
    if (!reduced) inner *= size;
    else
      passes.push({
        outer: groups.slice(0, g).reduce((product, group) => product * group.size, 1),
        reduce: size,
        inner,
      });
  }
  return passes.length > 0 ? passes : [{ outer: sizeOf(shape), reduce: 1, inner: 1 }];
}

/** Neutral elements; the integer ones are the ends of the type's range. */
const IDENTITY: Record<Exclude<Combiner, "squares">, Record<DType, number>> = {
  sum: { f32: 0, i32: 0, u32: 0 },
  max: { f32: Number.NEGATIVE_INFINITY, i32: -(2 ** 31), u32: 0 },
  min: { f32: Number.POSITIVE_INFINITY, i32: 2 ** 31 - 1, u32: 2 ** 32 - 1 },
};

/**
 * y = sum, sum of squares (f32 only), mean (f32 only), max or min of x over axes. The shape of x is any, that of y the
 * kept axes (whether with or without the reduced ones as 1 is the caller's choice). The dtypes are f32, i32, u32;
 * integer sums wrap.
 */
export const reduceKernel = defineKernel<ReduceParams>({
  name: "reduce",
  cpu({ inputs: [x], outputs: [y], params: { reduction, axes } }) {
    const passes = reducePasses(x!.shape, axes);
    let from: CpuView["data"] = x!.data;
    passes.forEach(({ outer, reduce, inner }, index) => {
      const square = reduction === "sumSquares" && index === 0;
      const combiner = pairing(combinerOf(reduction));
      const to = index === passes.length - 1 ? y!.data : from.slice(0, outer * inner);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          let total = IDENTITY[combiner][x!.dtype];
          for (let r = 0; r < reduce; r++) {
            const element = from[(o * reduce + r) * inner + i]!;
            const value = square ? element * element : element;
            total =
              combiner === "sum" ? total + value : combiner === "max" ? Math.max(total, value) : Math.min(total, value);
          }
          to[o * inner + i] = total;
        }
      }
      from = to;
    });
    if (reduction === "mean") for (let i = 0; i < y!.size; i++) y!.data[i]! /= x!.size / y!.size;
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const [y] = call.outputs as [GpuView];
    const { reduction, axes } = call.params;
    const passes = reducePasses(x.shape, axes);
    let from = x;
    passes.forEach((pass, index) => {
      const last = index === passes.length - 1;
      const to = last ? y : call.scratch({ shape: [pass.outer * pass.inner], dtype: x.dtype });
      const scale = last && reduction === "mean" ? y.size / x.size : 1;
      const combiner = combinerOf(reduction);
      dispatchReduce(call, index === 0 ? combiner : pairing(combiner), from, to, pass, scale);
      from = to;
    });
  },
});

/** What a pass reduces instead of `x[i]`, f32: for kernels that compute elements and need their sums. */
export interface ReduceMap {
  /** Names the code shape. */
  readonly key: string;
  /** WGSL that declares `fn mapped(i: u32) -> T`, called once for each element; T is `type`. */
  readonly declarations: (type: "f32" | "vec4f") => string;
  /** What it reads and writes at `i` besides `x`. */
  readonly views: readonly Omit<Binding, "type">[];
}

/**
 * Records one pass for any kernel that has [outer, reduce, inner] to reduce: to = scale * combiner(from). Views larger
 * than a binding are read in slices; not with a map.
 */
export function dispatchReduce(
  call: Pick<GpuCall<unknown>, "dispatch" | "scratch" | "profile">,
  combiner: Combiner,
  from: GpuView,
  to: GpuView,
  pass: ReducePass,
  scale = 1,
  map?: ReduceMap,
): void {
  const { outer, reduce, inner } = pass;
  const { maxBindingBytes } = call.profile;
  if (from.byteLength > maxBindingBytes && map === undefined) {
    // Windows of whole rows of the outermost axis, in multiples of 64 so that their starts are aligned.
    const [rows, rowSize] = outer > 1 ? [outer, reduce * inner] : [reduce, inner];
    const step = Math.floor(maxBindingBytes / (rowSize * 4 * 64)) * 64;
    if (step > 0) {
      const count = Math.ceil(rows / step);
      const pitch = Math.ceil(inner / 64) * 64;
      const partial = outer > 1 ? undefined : call.scratch({ shape: [count * pitch], dtype: from.dtype });
      for (let start = 0; start < rows; start += step) {
        const n = Math.min(step, rows - start);
        const source = sliceOf(from, start * rowSize, n * rowSize);
        if (partial === undefined) {
          const target = sliceOf(to, start * inner, n * inner);
          dispatchReduce(call, combiner, source, target, { outer: n, reduce, inner }, scale);
        } else {
          const target = sliceOf(partial, (start / step) * pitch, inner);
          dispatchReduce(call, combiner, source, target, { outer: 1, reduce: n, inner });
        }
      }
      if (partial !== undefined) {
        tile(call, pairing(combiner), partial, to, { outer: 1, reduce: count, inner, pitch }, 1, scale);
      }
      return;
    }
  }
  const software = call.profile.family === "software";
  const rows = software && inner === 1 && reduce >= 32 && map === undefined;
  // Enough workgroups to fill the device, each with enough to do that a second pass pays.
  const columns = outer * (inner % 4 === 0 ? inner / 4 : inner);
  const [wanted, shortest] = software
    ? rows
      ? [32 / outer, 4096]
      : [256 / columns, 1024]
    : inner > 1
      ? [(HARDWARE_WORKGROUPS * HARDWARE_SIZE) / LONG_ROW_LANES / columns, 8 * LONG_ROW_LANES]
      : [HARDWARE_WORKGROUPS / columns, 8 * HARDWARE_SIZE];
  const parts = Math.max(1, Math.min(Math.ceil(wanted), Math.floor(reduce / shortest)));
  const form = rows ? row : tile;
  if (parts === 1) {
    form(call, combiner, from, to, { ...pass, pitch: inner }, 1, scale, map);
    return;
  }
  const partial = call.scratch({ shape: [outer, parts, inner], dtype: from.dtype });
  form(call, combiner, from, partial, { ...pass, pitch: inner }, parts, 1, map);
  dispatchReduce(call, pairing(combiner), partial, to, { outer, reduce: parts, inner }, scale);
}

/** Invocations of a hardware workgroup, and workgroups that fill a large adapter. */
const HARDWARE_SIZE = 256;
const HARDWARE_WORKGROUPS = 1056;
/** Invocations of a hardware workgroup that walk down one column of several. */
const LONG_ROW_LANES = 32;

interface Source extends ReducePass {
  /** Elements from one row to the next. */
  readonly pitch: number;
}

/**
 * WGSL of the neutral element, of an element's part, of combining two and of the subgroup's reduction. Of maxima and
 * minima of floats, which may be NaN: `seen`, of vectors' components `bits`, is the largest magnitude, by which orNan
 * finds them.
 */
function combinerText(kind: Combiner, dtype: DType, type: string) {
  const combiner = pairing(kind);
  const identity = dtype === "f32" ? "u.identity" : `bitcast<${WGSL_TYPE[dtype]}>(u.identity)`;
  const ordered = dtype === "f32" && combiner !== "sum";
  const vector = type.startsWith("vec4");
  const bits = vector ? "vec4u" : "u32";
  const pair = (a: string, b: string) => (combiner === "sum" ? `${a} + ${b}` : `${combiner}(${a}, ${b})`);
  return {
    identity: `${type}(${identity})`,
    element: (x: string) => (kind === "squares" ? `${x} * ${x}` : x),
    declarations: ordered ? `${ieeeFunctions(type as FloatType)}\n${vector ? ieeeFunctions("f32", "1") : ""}` : "",
    pair,
    /** Combines results, each NaN where it should be. */
    join: (a: string, b: string) => (ordered ? `ieee${combiner === "max" ? "Max" : "Min"}(${a}, ${b})` : pair(a, b)),
    begin: `var total = ${type}(${identity});${ordered ? ` var seen = ${bits}();` : ""}`,
    /** Takes an element in. */
    take: (x: string) =>
      ordered
        ? `{ let taken = ${x}; total = ${combiner}(total, taken); seen = max(seen, magnitude(taken)); }`
        : `total = ${pair("total", x)};`,
    end: ordered ? "total = orNan(total, seen);" : "",
    /** Declares `all`, what a subgroup's vectors \`total\` come to. */
    across: `let half = ${pair("total.xy", "total.zw")};
    ${ordered ? "let both = max(seen.xy, seen.zw);\n    let most = subgroupMax(max(both.x, both.y));\n    " : ""}let all = ${
      ordered ? "orNan1(" : ""
    }${{ sum: "subgroupAdd", max: "subgroupMax", min: "subgroupMin" }[combiner]}(${pair("half.x", "half.y")})${ordered ? ", most)" : ""};`,
    scaled: (value: string) => (dtype === "f32" ? `${value} * u.scale` : value),
  };
}

/** The parameters that depend on the dtype: f32 numbers, or the identity's bits. */
function combinerParameters(combiner: Combiner, dtype: DType, scale: number, long: boolean) {
  const identity = IDENTITY[pairing(combiner)][dtype];
  if (dtype !== "f32") return { sizes: { identity }, numbers: {} };
  return { sizes: {}, numbers: { identity, scale, ...(long && ONE) } };
}

/** Whether an invocation's sum of so many numbers is one in parts. */
const isLong = (combiner: Combiner, dtype: DType, count: number) =>
  dtype === "f32" && pairing(combiner) === "sum" && count > CHAIN;

/** WGSL of a loop whose statement takes elements into `total`, in parts if that is long. */
function totalOf(
  loop: { readonly index: string; readonly first: string; readonly end: string; readonly step: number },
  statement: string,
  { long, type, begin, end }: { long: boolean; type: string; begin: string; end: string },
) {
  const { index, first, step } = loop;
  if (!long) {
    return `${begin}
    for (var ${index} = ${first}; ${index} < ${loop.end}; ${index} += ${step}u) { ${statement} }
    ${end}`;
  }
  const parts = longLoop(["total"], type as "f32" | "vec4f", loop, statement);
  return `${parts.loop}
    let total = ${parts.values[0]};`;
}

/** x [outer, reduce] -> y [outer, parts]: a subgroup per part of a row, any alignment. */
function row(
  { dispatch, profile }: Pick<GpuCall<unknown>, "dispatch" | "profile">,
  combiner: Combiner,
  from: GpuView,
  to: GpuView,
  { outer, reduce }: Source,
  parts: number,
  scale: number,
): void {
  const scalar = WGSL_TYPE[from.dtype];
  const vector = `vec4${scalar[0]}`;
  const items = outer * parts;
  const chunk = Math.ceil(reduce / parts);
  const lanes = subgroupLanes(profile);
  const long = isLong(combiner, from.dtype, chunk / (4 * lanes));
  const { sizes, numbers } = combinerParameters(combiner, from.dtype, scale, long);
  dispatch({
    key: `row ${combiner}${long ? " long" : ""}`,
    program: () => {
      const { identity, element, begin, take, across, scaled, declarations } = combinerText(
        combiner,
        from.dtype,
        vector,
      );
      const walk = totalOf(
        { index: "v", first: "(first / 4u + lane)", end: "((last + 3u) / 4u)", step: lanes },
        `let index = v * 4 + vec4u(0, 1, 2, 3);
      ${take(`select(${identity}, ${element("x[v]")}, (index >= vec4u(first)) & (index < vec4u(last)))`)}`,
        { long, type: vector, begin, end: "" },
      );
      return {
        workgroupSize: [lanes],
        subgroups: true,
        declarations,
        body: /* wgsl */ `
  for (var item = group.x; item < u.items; item += groups.x) {
    let first = (item / u.parts) * u.reduce + (item % u.parts) * u.chunk;
    let last = min(first + u.chunk, (item / u.parts + 1) * u.reduce);
    ${walk}
    ${across}
    if (lane == 0) { y[item] = ${scaled("all")}; }
  }`,
      };
    },
    bindings: [
      { name: "x", view: from, type: vector },
      { name: "y", view: to, type: scalar, access: "read_write" },
    ],
    sizes: { items, parts, reduce, chunk, ...sizes },
    numbers,
    workgroups: [Math.min(items, MAX_WORKGROUPS, Math.max(32, Math.ceil((outer * reduce) / 4096)))],
  });
}

/** x [outer, reduce, pitch] -> y [outer, parts, inner]: an invocation per column, or rowLanes of them. */
function tile(
  { dispatch, profile }: Pick<GpuCall<unknown>, "dispatch" | "profile">,
  combiner: Combiner,
  from: GpuView,
  to: GpuView,
  { outer, reduce, inner, pitch }: Source,
  parts: number,
  scale: number,
  map?: ReduceMap,
): void {
  const scalar = WGSL_TYPE[from.dtype];
  const width = inner % 4 === 0 && pitch % 4 === 0 ? 4 : 1;
  const type = width === 4 ? `vec4${scalar[0]}` : scalar;
  const software = profile.family === "software";
  const chunk = Math.ceil(reduce / parts);
  const size = workgroupLanes(profile, HARDWARE_SIZE);
  const rowLanes =
    software || chunk < 16 ? 1 : chunk < 64 ? 8 : inner > 1 || chunk < 512 ? LONG_ROW_LANES : HARDWARE_SIZE;
  const columns = (outer * inner) / width;
  const tiles = Math.ceil(columns / (size / rowLanes));
  const items = tiles * parts;
  const perItem = size * Math.ceil(chunk / rowLanes);
  const long = isLong(combiner, from.dtype, chunk / rowLanes);
  const { sizes, numbers } = combinerParameters(combiner, from.dtype, scale, long);
  dispatch({
    key: `tile ${combiner} ${rowLanes}/${size} ${map?.key ?? ""}${long ? " long" : ""}`,
    program: () => {
      const { element, begin, take, end, join, scaled, declarations } = combinerText(combiner, from.dtype, type);
      const across = size / rowLanes;
      const at = "(outer * u.reduce + r) * u.pitch + inner";
      const walk = totalOf(
        { index: "r", first: `(part * u.chunk + lane / ${across})`, end: "last", step: rowLanes },
        take(map === undefined ? element(`x[${at}]`) : `mapped(${at})`),
        { long, type, begin, end },
      );
      return {
        workgroupSize: [size],
        declarations: `${rowLanes > 1 ? `var<workgroup> shared_totals: array<${type}, ${size}>;` : ""}
${declarations}${map?.declarations(width === 4 ? "vec4f" : "f32") ?? ""}`,
        body: /* wgsl */ `
  for (var item = group.x; item < u.items; item += groups.x) {
    let column = (item % u.tiles) * ${across} + lane % ${across};
    let part = item / u.tiles;
    let outer = column / u.inner;
    let inner = column % u.inner;
    let last = select(0u, min((part + 1) * u.chunk, u.reduce), column < u.columns);
    ${walk}
    ${
      rowLanes === 1
        ? ""
        : /* wgsl */ `shared_totals[lane] = total;
    workgroupBarrier();
    for (var rest = ${size / 2}u; rest >= ${across}; rest /= 2) {
      if (lane < rest) { shared_totals[lane] = ${join("shared_totals[lane]", "shared_totals[lane + rest]")}; }
      workgroupBarrier();
    }
    let result = shared_totals[lane];
    workgroupBarrier();`
    }
    if (column < u.columns && lane < ${across}) { y[(outer * u.parts + part) * u.inner + inner] = ${scaled(rowLanes === 1 ? "total" : "result")}; }
  }`,
      };
    },
    bindings: [
      { name: "x", view: from, type },
      { name: "y", view: to, type, access: "read_write" },
      ...(map?.views ?? []).map((binding) => ({ ...binding, type })),
    ],
    sizes: { items, tiles, parts, chunk, reduce, columns, inner: inner / width, pitch: pitch / width, ...sizes },
    numbers,
    workgroups: [
      Math.min(items, MAX_WORKGROUPS, software ? Math.max(32, Math.ceil((items * perItem) / 1024)) : MAX_WORKGROUPS),
    ],
  });
}

/** Whether a value takes the place of the largest before it: it is larger, or the first NaN. */
export const exceeds = (value: number, top: number) => value > top || (Number.isNaN(value) && !Number.isNaN(top));

/** The same in WGSL, for floats; `isNan` of ieee.ts must be declared. */
export const exceedsWgsl = (value: string, top: string) => `(${value} > ${top} || (isNan(${value}) && !isNan(${top})))`;

export interface ArgmaxParams {
  /** Non-negative. */
  readonly axis: number;
}

/**
 * y = index of the first maximum along an axis, or of the first NaN. x [outer, reduce, inner] of any dtype, y i32
 * [outer, inner]. A long axis is cut into parts; candidates [outer, parts, inner] of the parts are compared in order.
 */
export const argmaxKernel = defineKernel<ArgmaxParams>({
  name: "argmax",
  cpu({ inputs: [x], outputs: [y], params: { axis } }) {
    const [pass] = reducePasses(x!.shape, [axis]) as [ReducePass];
    const { reduce, inner } = pass;
    for (let column = 0; column < y!.size; column++) {
      const start = Math.floor(column / inner) * reduce * inner + (column % inner);
      let best = 0;
      for (let r = 1; r < reduce; r++)
        if (exceeds(x!.data[start + r * inner]!, x!.data[start + best * inner]!)) best = r;
      y!.data[column] = best;
    }
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const [y] = call.outputs as [GpuView];
    const { outer, reduce, inner } = reducePasses(x.shape, [call.params.axis])[0]!;
    const floats = x.dtype === "f32";
    const columns = outer * inner;
    const parts = Math.max(1, Math.min(Math.ceil(4096 / columns), Math.floor(reduce / 64)));
    const candidates = parts === 1 ? y : call.scratch({ shape: [outer, parts, inner], dtype: "i32" });
    // The second round reads what it compares through the candidates of the first.
    const round = (rows: number, chunk: number, from: GpuView | undefined, to: GpuView) => {
      const share = Math.ceil(rows / chunk);
      const loop = rolledLoop(call.profile, columns * share);
      call.dispatch({
        key: from === undefined ? "first" : "second",
        program: () => ({
          workgroupSize: loop.workgroupSize,
          declarations: floats ? ieeeFunctions("f32") : "",
          body: loop.body(/* wgsl */ `
    let inner = i % u.inner;
    let part = (i / u.inner) % u.parts;
    let outer = i / u.inner / u.parts;
    let first_row = part * u.chunk;
    var best = ${from === undefined ? "first_row" : "u32(candidates[outer * u.rows * u.inner + inner])"};
    var top = x[(outer * u.reduce + best) * u.inner + inner];
    for (var row = first_row + 1; row < min(first_row + u.chunk, u.rows); row++) {
      let index = ${from === undefined ? "row" : "u32(candidates[(outer * u.rows + row) * u.inner + inner])"};
      let value = x[(outer * u.reduce + index) * u.inner + inner];
      if (${floats ? exceedsWgsl("value", "top") : "value > top"}) { top = value; best = index; }
    }
    y[i] = i32(best);`),
        }),
        bindings: [
          { name: "x", view: x, type: WGSL_TYPE[x.dtype] },
          ...(from === undefined ? [] : [{ name: "candidates", view: from, type: "i32" }]),
          { name: "y", view: to, type: "i32", access: "read_write" },
        ],
        sizes: { ...loop.sizes, rows, reduce, inner, chunk, parts: share },
        workgroups: loop.workgroups,
      });
    };
    round(reduce, Math.ceil(reduce / parts), undefined, candidates);
    if (parts > 1) round(Math.ceil(reduce / Math.ceil(reduce / parts)), reduce, candidates, y);
  },
});
