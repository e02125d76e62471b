// Loss scaling on the device, without a word to the host: whether all gradients are finite, and the scale of the next
// step.
import { defineKernel } from "../tensor/kernel.js";
import { sliceOf } from "../webgpu/program.js";
import { rolledSegments, slices } from "./rolled.js";

/** Most gradients a dispatch. */
const MOST_TENSORS = 32;

/**
 * Inputs: gradients, f32 of any shapes. Output nonFinite [1], f32 or u32: set to what is not 0, of f32 to 1, where any
 * element is infinite or NaN, else left.
 */
export const findNonFiniteKernel = defineKernel<Record<never, never>>({
  name: "findNonFinite",
  cpu: ({ inputs, outputs: [nonFinite] }) => {
    if (inputs.some(({ data }) => !data.every(Number.isFinite))) nonFinite!.data[0] = 1;
  },
  webgpu: ({ inputs, outputs: [nonFinite], profile, dispatch }) => {
    const most = Math.min(MOST_TENSORS, profile.maxStorageBuffers - 1);
    const pieces = inputs.flatMap((view) =>
      slices(profile, view.size).map(([start, count]) => (count === view.size ? view : sliceOf(view, start, count))),
    );
    for (let first = 0; first < pieces.length; first += most) {
      const views = pieces.slice(first, first + most);
      const loop = rolledSegments(
        profile,
        views.map(({ size }) => Math.ceil(size / 4)),
      );
      dispatch({
        key: `${views.length}`,
        program: () => ({
          workgroupSize: loop.workgroupSize,
          // By the bits: WGSL may take floats to be finite. What lies behind a tensor's end is not its.
          body: /* wgsl */ `
  var found = false;
  ${loop.body(
    (k) => /* wgsl */ `
    let special = (g${k}[i] & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
    found |= any(special & (4u * i + vec4u(0u, 1u, 2u, 3u) < vec4u(u.size${k})));`,
  )}
  if (found) { atomicStore(&nonFinite[0], bitcast<u32>(1f)); }`,
        }),
        bindings: [
          { name: "nonFinite", view: nonFinite!, type: "atomic<u32>", access: "read_write" },
          ...views.map((view, k) => ({ name: `g${k}`, view, type: "vec4u" })),
        ],
        sizes: { ...loop.sizes, ...Object.fromEntries(views.map(({ size }, k) => [`size${k}`, size])) },
        workgroups: loop.workgroups,
      });
    }
  },
});

export interface AdjustScaleParams {
  /** Factor of the scale after `interval` steps with finite gradients in a row. */
  readonly growth: number;
  readonly interval: number;
  /** Factor of the scale after a step without. */
  readonly backoff: number;
  /** The scale stays within. */
  readonly least: number;
  readonly most: number;
  /**
   * Of gradients that are gathered over several steps: whether this is the last of them. Before it nothing changes, and
   * nonFinite stays. Given where it is not every time.
   */
  readonly due?: boolean;
}

/**
 * Outputs, read and written: scale [], steps [2] = (finite steps since the scale changed, steps left out so far),
 * nonFinite [1], which becomes 0 again.
 */
export const adjustScaleKernel = defineKernel<AdjustScaleParams>({
  name: "adjustScale",
  cpu: ({ outputs: [scale, steps, nonFinite], params }) => {
    const { growth, interval, backoff, least, most, due = true } = params;
    if (!due) return;
    const found = nonFinite!.data[0] !== 0;
    const inARow = found ? 0 : steps!.data[0]! + 1;
    const grows = inARow >= interval;
    const factor = found ? backoff : grows ? growth : 1;
    scale!.data[0] = Math.min(Math.max(scale!.data[0]! * factor, least), most);
    steps!.data[0] = grows ? 0 : inARow;
    if (found) steps!.data[1]! += 1;
    nonFinite!.data[0] = 0;
  },
  webgpu: ({ outputs: [scale, steps, nonFinite], params, dispatch }) => {
    const { growth, interval, backoff, least, most, due } = params;
    dispatch({
      key: "",
      program: () => ({
        workgroupSize: [1],
        body: /* wgsl */ `
  ${due === undefined ? "" : "if (u.due == 0f) { return; }"}
  let found = nonFinite[0] != 0u;
  let inARow = select(steps[0] + 1f, 0f, found);
  let grows = inARow >= u.interval;
  let factor = select(select(1f, u.growth, grows), u.backoff, found);
  scale[0] = clamp(scale[0] * factor, u.least, u.most);
  steps[0] = select(inARow, 0f, grows);
  steps[1] += select(0f, 1f, found);
  nonFinite[0] = 0u;`,
      }),
      bindings: [
        { name: "scale", view: scale!, type: "f32", access: "read_write" },
        { name: "steps", view: steps!, type: "f32", access: "read_write" },
        { name: "nonFinite", view: nonFinite!, type: "u32", access: "read_write" },
      ],
      numbers: { growth, interval, backoff, least, most, ...(due !== undefined && { due: Number(due) }) },
      workgroups: [1],
    });
  },
});
