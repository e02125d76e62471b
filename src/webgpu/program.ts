// How a kernel talks to WebGPU: views of buffers, and dispatches of small WGSL programs. The binding declarations and
// the entry point are generated from a dispatch's description, so that a kernel's own text is only its formula.
import type { Spec } from "../tensor/dtype.js";
import { DeviceError } from "../tensor/errors.js";
import type { TuningProfile } from "./family.js";
import { type PooledBuffer, partBytes } from "./pool.js";

/**
 * A tensor (or part of one) as a kernel sees it: contiguous, row-major, four bytes an element. `byteLength` is padded
 * to a multiple of 16, so vec4 kernels may read and write up to three elements past `size`; those hold anything (never
 * reduce over them).
 */
export interface GpuView extends Spec {
  readonly size: number;
  readonly buffer: PooledBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** One bound buffer: `name` in the WGSL text is an `array<type>`. */
export interface Binding {
  readonly name: string;
  readonly view: GpuView;
  /** Element type in WGSL: "f32", "vec4f", "u32", "vec4u", "i32", "vec4i", ... */
  readonly type: string;
  /** "read" (default) or "read_write". */
  readonly access?: "read" | "read_write";
}

/** WGSL of a program, without bindings and entry point header. */
export interface ProgramText {
  /** Invocations per workgroup: [x, y?, z?]. */
  readonly workgroupSize: readonly [number, number?, number?];
  /**
   * Statements of the entry point. In scope: `global`, `local`, `group`, `groups` (vec3u: global_invocation_id,
   * local_invocation_id, workgroup_id, num_workgroups), `lane` (local_invocation_index, u32), the bindings by name and
   * the sizes and numbers as `u.NAME`.
   */
  readonly body: string;
  /** Functions, aliases, constants and `var<workgroup>` declarations. */
  readonly declarations?: string;
  /** Adds `enable subgroups;`. Of the software family alone. */
  readonly subgroups?: boolean;
  /** The lanes of a subgroup take the same way, though that cannot be seen from the text. */
  readonly unseenUniformity?: boolean;
  /**
   * Adds what programs on matrix units need: float16, the experimental extension, and in scope `subgroup` and
   * `subgroupLane` (subgroup_id, subgroup_invocation_id). Only where `profile.matrices` is there.
   */
  readonly subgroupMatrices?: boolean;
}

export interface Dispatch {
  /**
   * Names the program's code shape within its kernel, e.g. "tile32x64 relu". Dispatches of one kernel with equal keys,
   * binding types and parameter names must have equal text. Every key is a pipeline to compile: keep plain sizes out.
   */
  readonly key: string;
  /** Called once per distinct program. */
  readonly program: () => ProgramText;
  readonly bindings: readonly Binding[];
  /** u32 parameters, `u.NAME` in WGSL. Negative numbers arrive as two's complement: `i32(u.NAME)`. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** f32 parameters, `u.NAME` in WGSL. */
  readonly numbers?: Readonly<Record<string, number>>;
  /** Workgroups per dimension, each at most 65535 (see `gridOf`). */
  readonly workgroups: readonly [number, number?, number?];
}

/** What a kernel's WebGPU side is called with. */
export interface GpuCall<Params> {
  readonly inputs: readonly GpuView[];
  readonly outputs: readonly GpuView[];
  readonly params: Params;
  readonly profile: TuningProfile;
  /** Temporary memory for this call, recycled after it. */
  scratch(spec: Spec): GpuView;
  /** Constant data, uploaded once per device and kept: lookup tables. `key` names it within the kernel. */
  constant(key: string, make: () => Float32Array | Uint32Array | Int32Array): GpuView;
  /**
   * Tensors whose memory lies side by side in this order (`Device.placeTogether`) as one, with what lies between them.
   * In a step that is recorded or runs for the first time, results of its earlier kernels are laid out so, if they can
   * be. Undefined where they do not.
   */
  joined(views: readonly GpuView[]): GpuView | undefined;
  /** Records a dispatch. Nothing is recorded when a workgroup count is 0. */
  dispatch(dispatch: Dispatch): void;
}

/**
 * Elements of a tensor beyond which it is not placed beside others: a dispatch for it alone costs little in comparison.
 */
export const MOST_ELEMENTS_TOGETHER = 2 ** 20;

/** Most workgroups in one dimension of a dispatch (WebGPU's default limit, and every known adapter's). */
export const MAX_WORKGROUPS = 65535;

/**
 * A one-dimensional grid of any length, folded into two dimensions. In WGSL the linear workgroup index is `GRID_INDEX`,
 * which may exceed `count - 1` in the last row: guard where that matters.
 */
export function gridOf(count: number): [number, number] {
  if (count <= MAX_WORKGROUPS) return [count, 1];
  const rows = Math.ceil(count / MAX_WORKGROUPS);
  return [Math.ceil(count / rows), rows];
}

/** WGSL expression of the linear workgroup index of a grid made by `gridOf`. */
export const GRID_INDEX = "(group.y * groups.x + group.x)";

/** Elements [start, start + count) of a view as a view of its own; start must lie on a multiple of 64 elements. */
export function sliceOf(view: GpuView, start: number, count: number): GpuView {
  if (start % 64 !== 0 || start + count > view.size) {
    throw new DeviceError("LIMIT", `internal: slice [${start}, ${start + count}) of a view of ${view.size} elements`);
  }
  return {
    shape: [count],
    dtype: view.dtype,
    size: count,
    buffer: view.buffer,
    byteOffset: view.byteOffset + start * 4,
    byteLength: paddedBytes(count),
  };
}

/** Whether two views share memory. */
export function overlap(a: GpuView, b: GpuView): boolean {
  if (a.buffer.root !== b.buffer.root) return false;
  const [atA, atB] = [positionOf(a), positionOf(b)];
  return atA < atB + b.byteLength && atB < atA + a.byteLength;
}

/** Bytes from the beginning of its buffer's root. */
export const positionOf = ({ buffer, byteOffset }: GpuView): number => buffer.offset + byteOffset;

/** Whether a view is all of a part of a buffer, and the one before is all of the part before it. */
export function follows(before: GpuView, view: GpuView): boolean {
  const { whole } = view.buffer;
  return (
    whole !== undefined &&
    before.buffer.whole === whole &&
    before.byteOffset === 0 &&
    view.byteOffset === 0 &&
    before.buffer.offset + partBytes(before.byteLength) === view.buffer.offset
  );
}

/** Bytes of a buffer binding for `size` elements: a multiple of 16, at least 16. */
export function paddedBytes(size: number): number {
  return Math.max(16, Math.ceil(size / 4) * 16);
}

/** Identity of a program: kernel, key, and everything that the generated header depends on. */
export function programKey(kernel: string, dispatch: Dispatch): string {
  let key = `${kernel}/${dispatch.key}`;
  for (const { name, type, access } of dispatch.bindings)
    key += `|${name}:${type}${access === "read_write" ? "!" : ""}`;
  if (dispatch.sizes !== undefined) for (const name in dispatch.sizes) key += `,${name}`;
  if (dispatch.numbers !== undefined) for (const name in dispatch.numbers) key += `;${name}`;
  return key;
}

/** WGSL extensions of programs on matrix units. */
const MATRIX_EXTENSIONS = ["f16", "subgroups", "chromium_experimental_subgroup_matrix"];

/** Complete WGSL of a dispatch: bindings at group 0, parameters at group 1. */
export function programSource(dispatch: Dispatch, text = dispatch.program()): string {
  const fields = [
    ...Object.keys(dispatch.sizes ?? {}).map((name) => `${name}: u32,`),
    ...Object.keys(dispatch.numbers ?? {}).map((name) => `${name}: f32,`),
  ];
  const bindings = dispatch.bindings.map(
    ({ name, type, access }, index) =>
      `@group(0) @binding(${index}) var<storage, ${access ?? "read"}> ${name}: array<${type}>;`,
  );
  const [x, y = 1, z = 1] = text.workgroupSize;
  const enabled = [...(text.subgroups ? ["subgroups"] : []), ...(text.subgroupMatrices ? MATRIX_EXTENSIONS : [])];
  // Whether a fragment's address is uniform over the subgroup cannot be seen from its text either.
  const unseen = [
    ...(text.subgroupMatrices ? ["chromium.subgroup_matrix_uniformity"] : []),
    ...(text.unseenUniformity ? ["subgroup_uniformity"] : []),
  ];
  return /* wgsl */ `${unseen.map((rule) => `diagnostic(off, ${rule});\n`).join("")}${enabled
    .map((name) => `enable ${name};\n`)
    .join("")}${bindings.join("\n")}
${fields.length > 0 ? `struct Parameters { ${fields.join(" ")} }\n@group(1) @binding(0) var<uniform> u: Parameters;` : ""}
${text.declarations ?? ""}
@compute @workgroup_size(${x}, ${y}, ${z})
fn main(@builtin(global_invocation_id) global: vec3u, @builtin(local_invocation_id) local: vec3u,
        @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32${
          text.subgroupMatrices
            ? ",\n        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) subgroupLane: u32"
            : ""
        }) {
${text.body}
}
`;
}
