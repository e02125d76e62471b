// Activations that matrix products apply to their sums before storing them, and the step back through them. They are
// rows of the elementwise table whose derivative is known from the output: y = act(z), dz = dy * act'(z) written with
// y. Other activations are elementwise operations.
import { defineKernel } from "../tensor/kernel.js";
import { oneOf } from "../tensor/options.js";
import type { GpuView } from "../webgpu/program.js";
import { type UnaryRow, unaryTable } from "./elementwise-table.js";
import { type FloatType, typed } from "./ieee.js";
import { dispatchReduce } from "./reduce.js";
import { stream } from "./stream.js";

/** Null where y = z. Of the table's rows, only those whose WGSL calls no functions of its own may be here. */
const activations = {
  linear: null,
  relu: unaryTable.relu,
  relu6: unaryTable.relu6,
  tanh: unaryTable.tanh,
  sigmoid: unaryTable.sigmoid,
} as const satisfies Record<string, (UnaryRow & { readonly gradient: { readonly from: "y" } }) | null>;

/** An activation that a matrix product or convolution can apply while it stores its result. */
export type FusedActivation = keyof typeof activations;

/** All fused activations. */
export const FUSED_ACTIVATIONS = Object.keys(activations) as readonly FusedActivation[];

/** What an option of that may be. */
export const fusedActivationRule = oneOf(...FUSED_ACTIVATIONS);

/** Declares WGSL `fn activation(x: T) -> T` for `type` "f32" or "vec4f". */
export function activationWgsl(activation: FusedActivation, type: FloatType): string {
  return typed(`fn activation(x: T) -> T { return ${activations[activation]?.wgsl ?? "x"}; }`, type);
}

/** Declares WGSL `fn activationGradient(dy: T, y: T) -> T`, which gives dz, for `type` "f32" or "vec4f". */
export function activationGradientWgsl(activation: FusedActivation, type: FloatType): string {
  const gradient = activations[activation]?.gradient.wgsl ?? "dy";
  return typed(`fn activationGradient(dy: T, y: T) -> T { return ${gradient}; }`, type);
}

/** dz from dy and y on the CPU. */
export function activationGradientCpu(activation: FusedActivation): (dy: number, y: number) => number {
  return activations[activation]?.gradient.cpu ?? ((dy) => dy);
}

/** The activation on the CPU. */
export function activationCpu(activation: FusedActivation): (z: number) => number {
  return activations[activation]?.cpu ?? ((z) => z);
}

/** Whether dz = dy, so that `activationGradientKernel` need not run. */
export function isLinear(activation: FusedActivation): boolean {
  return activations[activation] === null;
}

/**
 * dz = dy * act'(z), with act' from y = act(z), and the sums of dz over all axes but the last where a bias needs them.
 * Inputs: dy, y (any shape [..., N]). Outputs: dz, same shape, and perhaps the sums [N].
 */
export const activationGradientKernel = defineKernel<{ readonly activation: FusedActivation }>({
  name: "activationGradient",
  cpu({ inputs: [dy, y], outputs: [dz, sums], params }) {
    const gradient = activationGradientCpu(params.activation);
    sums?.data.fill(0);
    for (let i = 0; i < dz!.size; i++) {
      dz!.data[i] = gradient(dy!.data[i]!, y!.data[i]!);
      if (sums !== undefined) sums.data[i % sums.size]! += dz!.data[i]!;
    }
  },
  webgpu(call) {
    const [dy, y] = call.inputs as readonly [GpuView, GpuView];
    const [dz, sums] = call.outputs as readonly [GpuView, GpuView?];
    const { activation } = call.params;
    const columns = sums?.size ?? 1;
    const pass = { outer: 1, reduce: dz.size / columns, inner: columns };
    if (sums !== undefined && dz.byteLength <= call.profile.maxBindingBytes) {
      dispatchReduce(call, "sum", dy, sums, pass, 1, {
        key: activation,
        declarations: (type) => /* wgsl */ `${activationGradientWgsl(activation, type)}
fn mapped(i: u32) -> ${type} { let dz = activationGradient(x[i], values[i]); outputs[i] = dz; return dz; }`,
        views: [
          { name: "values", view: y },
          { name: "outputs", view: dz, access: "read_write" },
        ],
      });
      return;
    }
    stream(call, {
      key: activation,
      declarations: activationGradientWgsl(activation, "vec4f"),
      bindings: [
        { name: "gradients", view: dy, type: "vec4f" },
        { name: "values", view: y, type: "vec4f" },
        { name: "outputs", view: dz, type: "vec4f", access: "read_write" },
      ],
      statement: "outputs[i] = activationGradient(gradients[i], values[i]);",
    });
    if (sums !== undefined) dispatchReduce(call, "sum", dz, sums, pass);
  },
});
