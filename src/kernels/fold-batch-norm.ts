// Batch normalisation with frozen statistics as part of what it follows: of y = x * kernel + bias, with output channels
// c along the last axis of the kernel, and s = gamma / sqrt(variance + epsilon),
//
//   (y[.., c] - mean[c]) s[c] + beta[c] = x * (kernel[.., c] s[c]) + (bias[c] - mean[c]) s[c] + beta[c]
//
// A dispatch that reads and writes a kernel takes the place of one that reads and writes a whole result.
import { defineKernel } from "../tensor/kernel.js";
import type { Binding, GpuView } from "../webgpu/program.js";
import { boxLoop } from "./box.js";

export interface FoldBatchNormParams {
  readonly epsilon: number;
  /** What there is, in the order of the inputs; gamma is 1, and beta and bias are 0 where they are missing. */
  readonly given: readonly ("gamma" | "beta" | "bias")[];
}

/** Those inputs that may be missing, by their names. */
const named = <View>(inputs: readonly View[], { given }: FoldBatchNormParams) =>
  Object.fromEntries(given.map((name, k) => [name, inputs[k]!])) as Partial<Record<"gamma" | "beta" | "bias", View>>;

/**
 * Inputs: kernel [..., C], mean and variance [C], and of gamma, beta and bias [C] what there is. A kernel may have
 * several axes in the place of C. Outputs: kernel as it was, bias [C].
 */
export const foldBatchNormKernel = defineKernel<FoldBatchNormParams>({
  name: "foldBatchNorm",
  cpu({ inputs: [kernel, mean, variance, ...others], outputs: [folded, shift], params }) {
    const { gamma, beta, bias } = named(others, params);
    const channels = shift!.size;
    const scale = (c: number) => (gamma?.data[c] ?? 1) / Math.sqrt(variance!.data[c]! + params.epsilon);
    for (let i = 0; i < folded!.size; i++) folded!.data[i] = kernel!.data[i]! * scale(i % channels);
    for (let c = 0; c < channels; c++) {
      shift!.data[c] = ((bias?.data[c] ?? 0) - mean!.data[c]!) * scale(c) + (beta?.data[c] ?? 0);
    }
  },
  webgpu(call) {
    const [kernel, mean, variance, ...others] = call.inputs as [GpuView, GpuView, GpuView, ...GpuView[]];
    const [folded, shift] = call.outputs as [GpuView, GpuView];
    const { epsilon, given } = call.params;
    const width = shift.size % 4 === 0 ? 4 : 1;
    const type = width === 4 ? "vec4f" : "f32";
    const rows = kernel.size / shift.size;
    // A row more, for the bias.
    const loop = boxLoop(call.profile, [rows + 1, shift.size / width]);
    const views = { kernel, mean, variance, ...named(others, call.params) };
    const { gamma, beta, bias } = views;
    call.dispatch({
      key: `${type} ${given.join(" ")}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: loop.body(/* wgsl */ `
    let scale = ${gamma ? "gamma[c1]" : `${type}(1.0)`} / sqrt(variance[c1] + u.epsilon);
    if (c0 < u.rows) { folded[i] = kernel[i] * scale; }
    else { shift[c1] = (${bias ? "bias[c1] " : ""}- mean[c1]) * scale${beta ? " + beta[c1]" : ""}; }`),
      }),
      bindings: [
        ...Object.entries(views).map(([name, view]): Binding => ({ name, view, type })),
        { name: "folded", view: folded, type, access: "read_write" },
        { name: "shift", view: shift, type, access: "read_write" },
      ],
      sizes: { ...loop.sizes, rows },
      numbers: { epsilon },
      workgroups: loop.workgroups,
    });
  },
});
