// Gradients with their norm limited, that of each or that of all: g c / max(|g|, c). The norm is the root of the sum of
// squares; where it is infinite or NaN all that it limits becomes NaN. Nothing is waited for.
import { defineKernel } from "../tensor/kernel.js";
import { workgroupLanes } from "../webgpu/family.js";
import { type GpuView, sliceOf } from "../webgpu/program.js";
import { dispatchReduce } from "./reduce.js";
import { bindableGroups, rolledSegments } from "./rolled.js";

export interface ClipGradientsParams {
  /** The largest norm, c > 0. */
  readonly most: number;
  /** Whether the norm is that of all gradients together. */
  readonly together: boolean;
  /** Whether the scale of a loss scaling follows the gradients: they are divided by it first. */
  readonly scaled: boolean;
}

/** Elements from one tensor's sum of squares to the next: slices begin at multiples of 64. */
const PITCH = 64;

function partsOf<View>(inputs: readonly View[], scaled: boolean) {
  return scaled ? { gradients: inputs.slice(0, -1), scale: inputs.at(-1) } : { gradients: inputs, scale: undefined };
}

/** Factor of what has this norm, which is not divided by the scale yet. */
function factorOf(norm: number, scale: number, most: number): number {
  return Number.isFinite(norm) ? most / (scale * Math.max(norm / scale, most)) : Number.NaN;
}

/** Inputs: gradients, f32 of any shapes, and [scale] if scaled. Outputs: one for each gradient. */
export const clipGradientsKernel = defineKernel<ClipGradientsParams>({
  name: "clipGradients",
  cpu({ inputs, outputs, params: { most, together, scaled } }) {
    const { gradients, scale } = partsOf(inputs, scaled);
    const squares = gradients.map(({ data }) => {
      let sum = 0;
      for (const g of data) sum += g * g;
      return sum;
    });
    const all = squares.reduce((a, b) => a + b, 0);
    gradients.forEach(({ data }, k) => {
      const factor = factorOf(Math.sqrt(together ? all : squares[k]!), scale?.data[0] ?? 1, most);
      for (let i = 0; i < data.length; i++) outputs[k]!.data[i] = data[i]! * factor;
    });
  },
  webgpu(call) {
    const { inputs, outputs, profile, params } = call;
    const { most, together, scaled } = params;
    const { gradients, scale } = partsOf(inputs, scaled);
    const count = gradients.length;
    const squares = call.scratch({ shape: [count * PITCH], dtype: "f32" });
    const factors = call.scratch({ shape: [count], dtype: "f32" });
    for (const [k, gradient] of gradients.entries()) {
      const to = sliceOf(squares, k * PITCH, 1);
      dispatchReduce(call, "squares", gradient, to, { outer: 1, reduce: gradient.size, inner: 1 });
    }
    const lanes = workgroupLanes(profile, 64);
    const sum = /* wgsl */ `var square = 0f;
  for (var i = 0u; i < u.count; i++) { square += squares[i * ${PITCH}u]; }`;
    call.dispatch({
      key: `${together ? "all" : "each"}${scaled ? " scaled" : ""}`,
      program: () => ({
        workgroupSize: [lanes],
        body: /* wgsl */ `
  ${together ? sum : ""}
  for (var k = lane; k < u.count; k += ${lanes}u) {
    ${together ? "" : `let square = squares[k * ${PITCH}u];`}
    let scale = ${scaled ? "scale[0]" : "1f"};
    let factor = u.most / (scale * max(sqrt(square) / scale, u.most));
    let bits = bitcast<u32>(square);
    factors[k] = select(factor, bitcast<f32>(bits | 0x7fc00000u), (bits & 0x7f800000u) == 0x7f800000u);
  }`,
      }),
      bindings: [
        { name: "squares", view: squares, type: "f32" },
        { name: "factors", view: factors, type: "f32", access: "read_write" },
        ...(scale === undefined ? [] : [{ name: "scale", view: scale, type: "f32" }]),
      ],
      sizes: { count },
      numbers: { most },
      workgroups: [1],
    });
    const pairs = gradients.map((gradient, k): GpuView[] => [gradient, outputs[k]!]);
    for (const group of bindableGroups(profile, pairs, 1)) {
      const loop = rolledSegments(
        profile,
        group.map(({ views: [gradient] }) => Math.ceil(gradient!.size / 4)),
      );
      call.dispatch({
        key: `multiply ${group.length}`,
        program: () => ({
          workgroupSize: loop.workgroupSize,
          body: loop.body((k) => `y${k}[i] = g${k}[i] * factors[u.tensor${k}];`),
        }),
        bindings: [
          { name: "factors", view: factors, type: "f32" },
          ...group.flatMap(({ views: [gradient, clipped] }, k) => [
            { name: `g${k}`, view: gradient!, type: "vec4f" },
            { name: `y${k}`, view: clipped!, type: "vec4f", access: "read_write" as const },
          ]),
        ],
        sizes: { ...loop.sizes, ...Object.fromEntries(group.map(({ tensor }, k) => [`tensor${k}`, tensor])) },
        workgroups: loop.workgroups,
      });
    }
  },
});
