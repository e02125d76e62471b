// L2 penalties of many tensors at once, and their gradients: sum_k factor_k sum(w_k^2). As many tensors a dispatch as
// one may bind, so that a model's penalty costs a few dispatches whatever its layers. The order of additions depends on
// the sizes and the profile only.
import { defineKernel } from "../tensor/kernel.js";
import { type GpuView, GRID_INDEX } from "../webgpu/program.js";
import { CHAIN } from "./long-sums.js";
import { dispatchReduce } from "./reduce.js";
import { bindableGroups, rolledSegments } from "./rolled.js";

export interface L2PenaltyParams {
  /** One for each tensor. */
  readonly factors: readonly number[];
}

const quads = ({ size }: GpuView) => Math.ceil(size / 4);
const perTensor = (name: string, values: readonly number[]) =>
  Object.fromEntries(values.map((value, k) => [`${name}${k}`, value]));

/** Inputs: w_k of any shapes, f32. Output: a scalar. */
export const l2PenaltyKernel = defineKernel<L2PenaltyParams>({
  name: "l2Penalty",
  cpu({ inputs, outputs: [y], params: { factors } }) {
    y!.data[0] = 0;
    inputs.forEach(({ data, size }, k) => {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += data[i]! * data[i]!;
      y!.data[0]! += factors[k]! * sum;
    });
  },
  webgpu(call) {
    const { profile, inputs, params } = call;
    const groups = bindableGroups(
      profile,
      inputs.map((view) => [view]),
      1,
    ).map((group) => ({
      group,
      loop: rolledSegments(
        profile,
        group.map(({ views: [w] }) => quads(w!)),
        CHAIN,
      ),
    }));
    const invocations = groups.map(({ loop }) => loop.workgroups[0] * loop.workgroups[1] * loop.workgroupSize[0]);
    const sums = call.scratch({ shape: [invocations.reduce((a, b) => a + b, 0)], dtype: "f32" });
    let first = 0;
    groups.forEach(({ group, loop }, index) => {
      const views = group.map(({ views: [w] }) => w!);
      call.dispatch({
        key: `sums ${group.length}`,
        program: () => ({
          workgroupSize: loop.workgroupSize,
          body: /* wgsl */ `
  var sum = vec4f();
  ${loop.body(
    (k) => /* wgsl */ `
    let w = select(vec4f(), w${k}[i], 4u * i + vec4u(0, 1, 2, 3) < vec4u(u.size${k}));
    sum += u.factor${k} * w * w;`,
  )}
  sums[u.first + ${GRID_INDEX} * ${loop.workgroupSize[0]}u + lane] = sum.x + sum.y + sum.z + sum.w;`,
        }),
        bindings: [
          ...views.map((view, k) => ({ name: `w${k}`, view, type: "vec4f" })),
          { name: "sums", view: sums, type: "f32", access: "read_write" },
        ],
        sizes: {
          ...loop.sizes,
          first,
          ...perTensor(
            "size",
            views.map(({ size }) => size),
          ),
        },
        numbers: perTensor(
          "factor",
          group.map(({ tensor }) => params.factors[tensor]!),
        ),
        workgroups: loop.workgroups,
      });
      first += invocations[index]!;
    });
    dispatchReduce(call, "sum", sums, call.outputs[0]!, { outer: 1, reduce: sums.size, inner: 1 });
  },
});

/** dw_k = 2 factor_k w_k dy. Inputs: dy (a scalar), w_k. Outputs: dw_k. */
export const l2PenaltyGradientKernel = defineKernel<L2PenaltyParams>({
  name: "l2PenaltyGradient",
  cpu({ inputs: [dy, ...tensors], outputs, params: { factors } }) {
    tensors.forEach(({ data, size }, k) => {
      for (let i = 0; i < size; i++) outputs[k]!.data[i] = 2 * factors[k]! * data[i]! * dy!.data[0]!;
    });
  },
  webgpu(call) {
    const { profile, outputs, params } = call;
    const [dy, ...tensors] = call.inputs as readonly [GpuView, ...GpuView[]];
    for (const group of bindableGroups(
      profile,
      tensors.map((w, k) => [w, outputs[k]!]),
      1,
    )) {
      const loop = rolledSegments(
        profile,
        group.map(({ views: [w] }) => quads(w!)),
      );
      call.dispatch({
        key: `${group.length}`,
        program: () => ({
          workgroupSize: loop.workgroupSize,
          body: loop.body((k) => `dw${k}[i] = (u.factor${k} * dy[0]) * w${k}[i];`),
        }),
        bindings: [
          { name: "dy", view: dy, type: "f32" },
          ...group.flatMap(({ views: [w, dw] }, k) => [
            { name: `w${k}`, view: w!, type: "vec4f" },
            { name: `dw${k}`, view: dw!, type: "vec4f", access: "read_write" as const },
          ]),
        ],
        sizes: loop.sizes,
        numbers: perTensor(
          "factor",
          group.map(({ tensor }) => 2 * params.factors[tensor]!),
        ),
        workgroups: loop.workgroups,
      });
    }
  },
});
