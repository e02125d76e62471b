// Kernels that work row by row: x [outer, size, inner] has outer * inner rows of `size` elements along an axis. A
// kernel says what happens to a row; a row is worked on by one invocation (short rows, and axes other than the last),
// by a subgroup, or by a workgroup.
import type { CpuView } from "../tensor/kernel.js";
import { type TuningProfile, workgroupLanes } from "../webgpu/family.js";
import { type Binding, type GpuCall, type GpuView, MAX_WORKGROUPS, type ProgramText } from "../webgpu/program.js";

/**
 * Rows [outer, size, inner] along an axis: element j of row r is at floor(r / inner) * size * inner + r % inner + j *
 * inner.
 */
function rowsOf(shape: readonly number[], axis: number) {
  const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
  const [count, size, inner] = [product(shape.toSpliced(axis, 1)), shape[axis]!, product(shape.slice(axis + 1))];
  return { count, size, inner };
}

export function forEachRow(x: CpuView, axis: number, visit: (cells: readonly number[], row: number) => void): void {
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
export interface RowText {
  /** WGSL that runs `statement` for every element `at` (and number `j`) of the row. */
  readonly each: (statement: string) => string;
  /** WGSL of the sum or maximum of `value` over the row's invocations. */
  readonly across: (combiner: "add" | "max", value: string) => string;
  /**
   * WGSL of the sum over all rows of what each row's invocations agree on; after the loop over rows, for one workgroup.
   */
  readonly overall: (value: string) => string;
  /** Condition under which one invocation writes a row's result. */
  readonly once: string;
}

const HARDWARE_LANES = 64;
/** Rows of at least this many elements are shared by several invocations. */
const SHARED_ROW = 64;

export interface RowKernel {
  readonly key: string;
  readonly bindings: readonly Binding[];
  readonly numbers?: Readonly<Record<string, number>>;
  readonly text: (row: RowText) => string;
  /** Has one workgroup do all rows: statements before its loop over them, and after it. */
  readonly frame?: { readonly before: string; readonly after: (row: RowText) => string };
}

/** Runs a text for every `row` of `shape` along `axis`; `start` is the index of the row's first element. */
export function overRows(call: GpuCall<unknown>, shape: readonly number[], axis: number, rows: RowKernel): void {
  const { count, size, inner } = rowsOf(shape, axis);
  const software = call.profile.family === "software";
  const shared = inner === 1 && size >= SHARED_ROW;
  const lanes = workgroupLanes(call.profile, HARDWARE_LANES);
  const groups = shared ? count : Math.ceil(count / lanes);
  // Several rows an invocation on a software adapter, where a workgroup costs as much as six loads.
  const most = software ? Math.max(32, Math.ceil((count * size) / 2048)) : MAX_WORKGROUPS;
  call.dispatch({
    key: `${rows.key} ${shared ? "shared" : "alone"}`,
    program: () => rowProgram(call.profile, shared, lanes, rows),
    bindings: rows.bindings,
    sizes: { count, size, inner },
    numbers: rows.numbers ?? {},
    workgroups: [rows.frame === undefined ? Math.min(groups, most, MAX_WORKGROUPS) : 1],
  });
}

function rowProgram(profile: TuningProfile, shared: boolean, lanes: number, { text, frame }: RowKernel): ProgramText {
  const joins = shared || frame !== undefined;
  const subgroups = joins && profile.family === "software";
  const join: RowText["across"] = (combiner, value) =>
    subgroups ? `subgroup${combiner === "add" ? "Add" : "Max"}(${value})` : `${combiner}_across(lane, ${value})`;
  const row: RowText = {
    each: (statement) =>
      `for (var j = ${shared ? "lane" : "0u"}; j < u.size; j += ${shared ? lanes : 1}) { let at = start + j * u.inner; ${statement} }`,
    across: (combiner, value) => (shared ? join(combiner, value) : value),
    overall: (value) => (shared ? value : join("add", value)),
    once: shared ? "lane == 0" : "true",
  };
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
      joins && !subgroups
        ? `var<workgroup> values: array<f32, ${lanes}>;
${tree("add", "values[lane] + values[lane + rest]")}
${tree("max", "max(values[lane], values[lane + rest])")}`
        : "",
    body: /* wgsl */ `${frame?.before ?? ""}
  for (var row = ${shared ? "group.x" : `group.x * ${lanes} + lane`}; row < u.count; row += groups.x${shared ? "" : ` * ${lanes}`}) {
    let start = row / u.inner * u.size * u.inner + row % u.inner;
    ${text(row)}
  }
  ${frame?.after(row) ?? ""}`,
  };
}

/** Bindings of whole tensors. */
export const read = (name: string, view: GpuView): Binding => ({ name, view, type: view.dtype });
export const write = (name: string, view: GpuView): Binding => ({ name, view, type: view.dtype, access: "read_write" });
