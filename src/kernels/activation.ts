// Activations that matrix products apply to their sums before storing them, and the step back through them. Only those
// whose derivative is known from the output are here: y = act(z), dz = dy * act'(z) written with y. Other activations
// are elementwise operations.
import { defineKernel } from "../tensor/kernel.js";
import type { GpuView } from "../tensor/webgpu-program.js";
import { dispatchReduce } from "./reduce.js";
import { stream } from "./stream.js";

interface ActivationRow {
  /** y from z; WGSL for f32 and vec4f alike (`T`). */
  readonly wgsl: string;
  readonly cpu: (z: number) => number;
  /** dz from dy and y; null where dz = dy. */
  readonly gradient: { readonly wgsl: string; readonly cpu: (dy: number, y: number) => number } | null;
}

const activations = {
  linear: { wgsl: "z", cpu: (z) => z, gradient: null },
  relu: {
    wgsl: "max(z, T(0))",
    cpu: (z) => Math.max(z, 0),
    gradient: { wgsl: "select(T(0), dy, y > T(0))", cpu: (dy, y) => (y > 0 ? dy : 0) },
  },
  tanh: {
    // Clamped: some drivers compute tanh from exponentials that overflow.
    wgsl: "tanh(clamp(z, T(-15), T(15)))",
    cpu: Math.tanh,
    gradient: { wgsl: "dy * (T(1) - y * y)", cpu: (dy, y) => dy * (1 - y * y) },
  },
  sigmoid: {
    wgsl: "T(1) / (T(1) + exp(-z))",
    cpu: (z) => 1 / (1 + Math.exp(-z)),
    gradient: { wgsl: "dy * y * (T(1) - y)", cpu: (dy, y) => dy * y * (1 - y) },
  },
} as const satisfies Record<string, ActivationRow>;

/** An activation that a matrix product or convolution can apply while it stores its result. */
export type FusedActivation = keyof typeof activations;

/** All fused activations. */
export const FUSED_ACTIVATIONS = Object.keys(activations) as readonly FusedActivation[];

const rowOf = (activation: FusedActivation): ActivationRow => activations[activation];

/** Declares WGSL `fn activation(z: T) -> T` for `type` "f32" or "vec4f". */
export function activationWgsl(activation: FusedActivation, type: "f32" | "vec4f"): string {
  return `fn activation(z: ${type}) -> ${type} { return ${rowOf(activation).wgsl.replaceAll("T(", `${type}(`)}; }`;
}

/** Declares WGSL `fn activationGradient(dy: T, y: T) -> T`, which gives dz, for `type` "f32" or "vec4f". */
export function activationGradientWgsl(activation: FusedActivation, type: "f32" | "vec4f"): string {
  const gradient = rowOf(activation).gradient?.wgsl ?? "dy";
  return `fn activationGradient(dy: ${type}, y: ${type}) -> ${type} { return ${gradient.replaceAll("T(", `${type}(`)}; }`;
}

/** dz from dy and y on the CPU. */
export function activationGradientCpu(activation: FusedActivation): (dy: number, y: number) => number {
  return rowOf(activation).gradient?.cpu ?? ((dy) => dy);
}

/** The activation on the CPU. */
export function activationCpu(activation: FusedActivation): (z: number) => number {
  return rowOf(activation).cpu;
}

/** Whether dz = dy, so that `activationGradientKernel` need not run. */
export function isLinear(activation: FusedActivation): boolean {
  return rowOf(activation).gradient === null;
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
