// Softmax and logSoftmax along an axis, and softmax cross-entropy, with their gradients.
//
// x [outer, R, inner]; with top = max_j x_j and total = sum_j exp(x_j - top):
//   softmax     y_j = exp(x_j - top) / total          dx_j = y_j (dy_j - sum_k y_k dy_k)
//   logSoftmax  y_j = x_j - top - log(total)          dx_j = dy_j - exp(y_j) sum_k dy_k
//   cross-entropy of logits x [N, C] with targets t:  loss = sum_j t_j (log(total) - (x_j - top))
//                                                     dx_j = (exp(x_j - top) / total * sum_k t_k - t_j) dy
// No exponent is positive, so nothing overflows. Cross-entropy keeps [top, total, sum of t, 0] per row for its gradient,
// not log(total) + top: at logits of 1e4 that sum would be good to 1e-3 only.
//
// A row is worked on by one invocation (short rows, and axes other than the last), by a subgroup, or by a workgroup.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import type { TuningProfile } from "../tensor/webgpu-profile.js";
import {
  type Binding,
  type GpuCall,
  type GpuView,
  MAX_WORKGROUPS,
  type ProgramText,
} from "../tensor/webgpu-program.js";

export interface SoftmaxParams {
  /** Non-negative. */
  readonly axis: number;
  readonly log: boolean;
}

/** Rows [outer, size, inner] along an axis: element j of row r is at floor(r / inner) * size * inner + r % inner + j * inner. */
function rowsOf(shape: readonly number[], axis: number) {
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  const [count, size, inner] = [product(shape.toSpliced(axis, 1)), shape[axis]!, product(shape.slice(axis + 1))];
  return { count, size, inner };
}

function forEachRow(x: CpuView, axis: number, visit: (cells: readonly number[], row: number) => void): void {
  const { count, size, inner } = rowsOf(x.shape, axis);
  for (let row = 0; row < count; row++) {
    const start = Math.floor(row / inner) * size * inner + (row % inner);
    visit(
      Array.from({ length: size }, (_, j) => start + j * inner),
      row,
    );
  }
}

/** In scope of a row program: what reduces a value over the row's invocations. */
interface RowText {
  /** WGSL that runs `statement` for every element `at` (and number `j`) of the row. */
  readonly each: (statement: string) => string;
  /** WGSL of the sum or maximum of `value` over the row's invocations. */
  readonly across: (combiner: "add" | "max", value: string) => string;
  /** Condition under which one invocation writes a row's result. */
  readonly once: string;
}

const HARDWARE_LANES = 64;
/** Rows of at least this many elements are shared by several invocations. */
const SHARED_ROW = 64;

interface RowKernel {
  readonly key: string;
  readonly bindings: readonly Binding[];
  readonly numbers?: Readonly<Record<string, number>>;
  readonly text: (row: RowText) => string;
}

/** Runs a text for every `row` of `shape` along `axis`; `start` is the index of the row's first element. */
function overRows(
  call: GpuCall<unknown>,
  shape: readonly number[],
  axis: number,
  { key, bindings, numbers = {}, text }: RowKernel,
): void {
  const { count, size, inner } = rowsOf(shape, axis);
  const software = call.profile.name === "software";
  const shared = inner === 1 && size >= SHARED_ROW;
  const lanes = software ? 8 : HARDWARE_LANES;
  const groups = shared ? count : Math.ceil(count / lanes);
  // Several rows an invocation on a software adapter, where a workgroup costs as much as six loads.
  const most = software ? Math.max(32, Math.ceil((count * size) / 2048)) : MAX_WORKGROUPS;
  call.dispatch({
    key: `${key} ${shared ? "shared" : "alone"}`,
    program: () => rowProgram(call.profile, shared, lanes, text),
    bindings,
    sizes: { count, size, inner },
    numbers,
    workgroups: [Math.min(groups, most, MAX_WORKGROUPS)],
  });
}

function rowProgram(
  profile: TuningProfile,
  shared: boolean,
  lanes: number,
  text: (row: RowText) => string,
): ProgramText {
  const subgroups = shared && profile.subgroupSize !== undefined;
  const across: RowText["across"] = (combiner, value) =>
    !shared
      ? value
      : subgroups
        ? `subgroup${combiner === "add" ? "Add" : "Max"}(${value})`
        : `${combiner}_across(lane, ${value})`;
  const tree = (combiner: string, pair: string) => /* wgsl */ `
fn ${combiner}_across(lane: u32, value: f32) -> f32 {
  values[lane] = value;
  workgroupBarrier();
  for (var rest = ${lanes / 2}u; rest > 0; rest /= 2) {
    if (lane < rest) { values[lane] = ${pair}; }
    workgroupBarrier();
  }
  let result = values[0];
  workgroupBarrier();
  return result;
}`;
  return {
    workgroupSize: [lanes],
    subgroups,
    declarations:
      shared && !subgroups
        ? `var<workgroup> values: array<f32, ${lanes}>;
${tree("add", "values[lane] + values[lane + rest]")}
${tree("max", "max(values[lane], values[lane + rest])")}`
        : "",
    body: /* wgsl */ `
  for (var row = ${shared ? "group.x" : `group.x * ${lanes} + lane`}; row < u.count; row += groups.x${shared ? "" : ` * ${lanes}`}) {
    let start = row / u.inner * u.size * u.inner + row % u.inner;
    ${text({
      each: (statement) =>
        `for (var j = ${shared ? "lane" : "0u"}; j < u.size; j += ${shared ? lanes : 1}) { let at = start + j * u.inner; ${statement} }`,
      across,
      once: shared ? "lane == 0" : "true",
    })}
  }`,
  };
}

const read = (name: string, view: GpuView): Binding => ({ name, view, type: view.dtype });
const write = (name: string, view: GpuView): Binding => ({ name, view, type: view.dtype, access: "read_write" });

/** WGSL that defines `top` and `total` of a row. */
const topAndTotal = ({ each, across }: RowText) => /* wgsl */ `
    var top = x[start];
    ${each("top = max(top, x[at]);")}
    top = ${across("max", "top")};
    var total = 0.0;
    ${each("total += exp(x[at] - top);")}
    total = ${across("add", "total")};`;

/** Inputs [x], outputs [y] of the same shape. */
export const softmaxKernel = defineKernel<SoftmaxParams>({
  name: "softmax",
  cpu({ inputs: [x], outputs: [y], params: { axis, log } }) {
    forEachRow(x!, axis, (cells) => {
      const top = cells.reduce((m, at) => Math.max(m, x!.data[at]!), Number.NEGATIVE_INFINITY);
      const total = cells.reduce((s, at) => s + Math.exp(x!.data[at]! - top), 0);
      for (const at of cells) {
        const shifted = x!.data[at]! - top;
        y!.data[at] = log ? shifted - Math.log(total) : Math.exp(shifted) / total;
      }
    });
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const { axis, log } = call.params;
    overRows(call, x.shape, axis, {
      key: `log ${log}`,
      bindings: [read("x", x), write("y", call.outputs[0]!)],
      text: (row) => /* wgsl */ `${topAndTotal(row)}
    let log_total = log(total);
    ${row.each(`y[at] = ${log ? "x[at] - top - log_total" : "exp(x[at] - top) / total"};`)}`,
    });
  },
});

/** Inputs [dy, y], outputs [dx], all of one shape. */
export const softmaxGradientKernel = defineKernel<SoftmaxParams>({
  name: "softmaxGradient",
  cpu({ inputs: [dy, y], outputs: [dx], params: { axis, log } }) {
    forEachRow(y!, axis, (cells) => {
      const total = cells.reduce((s, at) => s + dy!.data[at]! * (log ? 1 : y!.data[at]!), 0);
      for (const at of cells) {
        const [g, v] = [dy!.data[at]!, y!.data[at]!];
        dx!.data[at] = log ? g - Math.exp(v) * total : v * (g - total);
      }
    });
  },
  webgpu(call) {
    const [dy, y] = call.inputs as [GpuView, GpuView];
    const { axis, log } = call.params;
    const bindings = [read("dy", dy), read("y", y), write("dx", call.outputs[0]!)];
    overRows(call, y.shape, axis, {
      key: `log ${log}`,
      bindings,
      text: ({ each, across }) => /* wgsl */ `
    var total = 0.0;
    ${each(`total += dy[at]${log ? "" : " * y[at]"};`)}
    total = ${across("add", "total")};
    ${each(`dx[at] = ${log ? "dy[at] - exp(y[at]) * total" : "y[at] * (dy[at] - total)"};`)}`,
    });
  },
});

/** WGSL of the target of element `j` in a row, given targets "t" as ids [N] or as f32 [N, C]. */
const targetText = (targets: GpuView) =>
  targets.dtype === "f32" ? "t[at]" : `select(0.0, 1.0, ${targets.dtype}(j) == t[row])`;

function targetOf(targets: CpuView, row: number, j: number, at: number): number {
  return targets.dtype === "f32" ? targets.data[at]! : Number(targets.data[row] === j);
}

/**
 * Inputs [logits [N, C], targets: class ids i32 or u32 [N] or distributions f32 [N, C]], outputs [loss [N],
 * statistics [N, 4]]. An id that is no class gives NaN.
 */
export const softmaxCrossEntropyKernel = defineKernel<Record<never, never>>({
  name: "softmaxCrossEntropy",
  cpu({ inputs: [x, t], outputs: [loss, statistics] }) {
    forEachRow(x!, 1, (cells, row) => {
      const top = cells.reduce((m, at) => Math.max(m, x!.data[at]!), Number.NEGATIVE_INFINITY);
      const total = cells.reduce((s, at) => s + Math.exp(x!.data[at]! - top), 0);
      let weight = 0;
      let weighted = 0;
      for (const [j, at] of cells.entries()) {
        const target = targetOf(t!, row, j, at);
        weight += target;
        weighted += target * (x!.data[at]! - top);
      }
      if (t!.dtype !== "f32" && weight === 0) weight = Number.NaN;
      loss!.data[row] = weight * Math.log(total) - weighted;
      statistics!.data.set([top, total, weight, 0], row * 4);
    });
  },
  webgpu(call) {
    const [x, t] = call.inputs as [GpuView, GpuView];
    const [loss, statistics] = call.outputs as [GpuView, GpuView];
    const bindings: Binding[] = [
      read("x", x),
      read("t", t),
      write("loss", loss),
      { name: "statistics", view: statistics, type: "vec4f", access: "read_write" },
    ];
    overRows(call, x.shape, 1, {
      key: t.dtype,
      bindings,
      numbers: { invalid: Number.NaN },
      text: (row) => /* wgsl */ `${topAndTotal(row)}
    var weight = 0.0;
    var weighted = 0.0;
    ${row.each(`let target_j = ${targetText(t)}; weight += target_j; weighted += target_j * (x[at] - top);`)}
    weight = ${row.across("add", "weight")};
    weighted = ${row.across("add", "weighted")};
    ${t.dtype === "f32" ? "" : "if (weight == 0) { weight = u.invalid; }"}
    if (${row.once}) {
      loss[row] = weight * log(total) - weighted;
      statistics[row] = vec4f(top, total, weight, 0);
    }`,
    });
  },
});

/** Inputs [dy [N], logits [N, C], targets, statistics [N, 4]], outputs [dx [N, C]]. */
export const softmaxCrossEntropyGradientKernel = defineKernel<Record<never, never>>({
  name: "softmaxCrossEntropyGradient",
  cpu({ inputs: [dy, x, t, statistics], outputs: [dx] }) {
    forEachRow(x!, 1, (cells, row) => {
      const [top, total, weight] = [0, 1, 2].map((k) => statistics!.data[row * 4 + k]!) as [number, number, number];
      for (const [j, at] of cells.entries()) {
        const probability = Math.exp(x!.data[at]! - top) / total;
        dx!.data[at] = (probability * weight - targetOf(t!, row, j, at)) * dy!.data[row]!;
      }
    });
  },
  webgpu(call) {
    const [dy, x, t, statistics] = call.inputs as [GpuView, GpuView, GpuView, GpuView];
    const bindings: Binding[] = [
      read("dy", dy),
      read("x", x),
      read("t", t),
      { name: "statistics", view: statistics, type: "vec4f" },
      write("dx", call.outputs[0]!),
    ];
    overRows(call, x.shape, 1, {
      key: t.dtype,
      bindings,
      text: ({ each }) => /* wgsl */ `
    let s = statistics[row];
    let gradient = dy[row];
    ${each(`dx[at] = (exp(x[at] - s.x) / s.y * s.z - ${targetText(t)}) * gradient;`)}`,
    });
  },
});
