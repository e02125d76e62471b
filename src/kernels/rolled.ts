// The shape of streaming kernels: every invocation walks many elements in a rolled loop. On lavapipe long loops in
// workgroups of one subgroup are twice as fast as one element an invocation (0.38 against 0.78 ns an element); hardware
// gets 256 invocations a workgroup and short walks. At least a few workgroups remain for the cores to share.
import { type TuningProfile, workgroupLanes } from "../webgpu/family.js";
import { type GpuView, GRID_INDEX, gridOf, sliceOf } from "../webgpu/program.js";

export interface RolledLoop {
  readonly workgroupSize: readonly [number];
  readonly workgroups: readonly [number, number];
  /** Parameters `count` and `trips` that the loop reads. */
  readonly sizes: { readonly count: number; readonly trips: number };
  /** WGSL that runs `statement` for each index `i` in [0, count). */
  readonly body: (statement: string) => string;
}

/** A loop over `count` items (vec4s, rows, ...), at most `longest` of them an invocation's. */
export function rolledLoop(profile: TuningProfile, count: number, longest = 128): RolledLoop {
  const software = profile.family === "software";
  const size = workgroupLanes(profile, 256);
  const most = Math.min(longest, software ? 128 : 2);
  const share = software ? 16 : 1024;
  const trips = Math.max(1, Math.min(most, Math.ceil(count / (size * share))));
  return {
    workgroupSize: [size],
    workgroups: gridOf(Math.ceil(count / (size * trips))),
    sizes: { count, trips },
    body: (statement) => /* wgsl */ `
  let first = ${GRID_INDEX} * ${size}u * u.trips;
  let end = min(first + ${size}u * u.trips, u.count);
  for (var i = first + lane; i < end; i += ${size}u) {
    ${statement}
  }`,
  };
}

/**
 * A loop over the items of several lists, one list after the other: a workgroup may work on the end of one and the
 * next.
 */
export interface RolledSegments extends Omit<RolledLoop, "body" | "sizes"> {
  readonly sizes: Readonly<Record<string, number>>;
  /** WGSL that runs `statement(k)` for each index `i` of list k. */
  readonly body: (statement: (k: number) => string) => string;
}

export function rolledSegments(profile: TuningProfile, counts: readonly number[], longest?: number): RolledSegments {
  let total = 0;
  const starts = [0, ...counts.map((count) => (total += count))];
  const { workgroupSize, workgroups, sizes } = rolledLoop(profile, total, longest);
  const [size] = workgroupSize;
  return {
    workgroupSize,
    workgroups,
    sizes: { trips: sizes.trips, ...Object.fromEntries(starts.map((start, k) => [`start${k}`, start])) },
    body: (statement) => /* wgsl */ `
  let first = ${GRID_INDEX} * ${size}u * u.trips;
  let end = first + ${size}u * u.trips;
  ${counts
    .map(
      (_, k) => /* wgsl */ `
  for (var at = max(first, u.start${k}) + lane; at < min(end, u.start${k + 1}); at += ${size}u) {
    let i = at - u.start${k};
    ${statement(k)}
  }`,
    )
    .join("")}`,
  };
}

/** [start, count] pieces of `size` elements of which each fits a binding of the adapter. */
export function slices(profile: TuningProfile, size: number): [number, number][] {
  const most = Math.floor(profile.maxBindingBytes / 256) * 64;
  const pieces: [number, number][] = [];
  for (let start = 0; start < size; start += most) pieces.push([start, Math.min(most, size - start)]);
  return pieces;
}

/** Most tensors a dispatch: each may take three of its parameters (where it starts, its size, a factor). */
const MOST_TENSORS = 16;

/** A tensor's views (itself and what goes along with it, all of one size), by its place in the list. */
export interface BoundTensor {
  readonly tensor: number;
  readonly views: readonly GpuView[];
}

/**
 * Tensors in groups that a dispatch can bind beside `others` more bindings. A tensor larger than a binding is cut into
 * slices, no two of them in one group.
 */
export function bindableGroups(
  profile: TuningProfile,
  tensors: readonly (readonly GpuView[])[],
  others: number,
): BoundTensor[][] {
  const groups: BoundTensor[][] = [];
  let group: BoundTensor[] = [];
  const close = () => {
    if (group.length > 0) groups.push(group);
    group = [];
  };
  tensors.forEach((views, tensor) => {
    const most = Math.min(MOST_TENSORS, Math.floor((profile.maxStorageBuffers - others) / views.length));
    const pieces = slices(profile, views[0]!.size);
    for (const [start, count] of pieces) {
      if (start > 0 || group.length === most) close();
      group.push({ tensor, views: pieces.length === 1 ? views : views.map((view) => sliceOf(view, start, count)) });
    }
  });
  close();
  return groups;
}
