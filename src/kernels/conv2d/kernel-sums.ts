// The second half of a kernel gradient. Its sum over all output pixels is cut into splits of rows (n, oy) that are
// computed side by side. They are then added here in a fixed order, so that equal inputs give equal bits.
import { sizeOf } from "../../tensor/shape.js";
import type { Binding, GpuCall, GpuView } from "../../webgpu/program.js";
import { dispatchReduce } from "../reduce.js";
import { rolledLoop } from "../rolled.js";
import { type Conv2dGeometry, kernelShape } from "./geometry.js";
import { type ImageWindow, imagesOf, imageWindows } from "./windows.js";

/** `rows` cut into at least one and at most `wanted` splits of equal length; the last may be shorter. */
export function splitRows(rows: number, wanted: number): { readonly count: number; readonly rows: number } {
  const perSplit = Math.max(1, Math.ceil(rows / Math.max(1, Math.floor(wanted))));
  return { count: Math.max(1, Math.ceil(rows / perSplit)), rows: perSplit };
}

/** Splits of a call's rows, over windows of images that fit a binding. */
export interface KernelSplits {
  readonly windows: readonly ImageWindow[];
  /** Splits of every window. */
  readonly count: number;
  /** Rows of every split; those at the end of a window may have fewer or none. */
  readonly rows: number;
}

/** About `wanted` splits of a call's `rowsPerImage` rows an image, as far as their sums fit a binding. */
export function splitImages(call: GpuCall<Conv2dGeometry>, rowsPerImage: number, wanted: number): KernelSplits {
  const windows = imageWindows(call.profile, call.params.batch, call.inputs);
  const fitting = call.profile.maxBindingBytes / call.outputs[0]!.byteLength;
  return { windows, ...splitRows(windows[0]!.count * rowsPerImage, Math.min(wanted, fitting) / windows.length) };
}

/** Splits whose sums one invocation adds up on hardware. */
const FEW_SPLITS = 16;

/** Sums of splits, kernelSums [splits, kh, kw, Cin, Cout] and biasSums [splits, Cout]. */
export interface KernelSums {
  readonly kernelSums: GpuView;
  readonly biasSums: GpuView | undefined;
}

/** What a dispatch that sums over a window of images binds. Vectors are of four channels. */
export function kernelSumsBindings(
  { inputs: [activations, dy], params: { batch } }: GpuCall<Conv2dGeometry>,
  { vectorInput, vectorOutput }: { readonly vectorInput: boolean; readonly vectorOutput: boolean },
  window: ImageWindow,
  { kernelSums, biasSums }: KernelSums,
): Binding[] {
  const type = vectorOutput ? "vec4f" : "f32";
  return [
    { name: "activations", view: imagesOf(activations!, batch, window), type: vectorInput ? "vec4f" : "f32" },
    { name: "dy", view: imagesOf(dy!, batch, window), type },
    { name: "kernelSums", view: kernelSums, type, access: "read_write" },
    ...(biasSums ? [{ name: "biasSums", view: biasSums, type, access: "read_write" } as const] : []),
  ];
}

/**
 * Lets `record` compute the sums of every split (biasSums where the call has a second output) and adds them into the
 * outputs dkernel and dbias.
 */
export function collectKernelSums(
  call: GpuCall<Conv2dGeometry>,
  splits: number,
  record: (sums: KernelSums) => void,
): void {
  const [dkernel, dbias] = call.outputs as readonly [GpuView, GpuView | undefined];
  if (splits === 1) {
    record({ kernelSums: dkernel, biasSums: dbias });
    return;
  }
  const { outputs } = call.params;
  const kernelSums = call.scratch({ shape: [splits, sizeOf(kernelShape(call.params))], dtype: "f32" });
  const biasSums = dbias && call.scratch({ shape: [splits, outputs], dtype: "f32" });
  record({ kernelSums, biasSums });
  if (call.profile.family === "hardware" && splits > FEW_SPLITS) {
    // One invocation after the other would wait for its loads.
    const pass = (inner: number) => ({ outer: 1, reduce: splits, inner });
    dispatchReduce(call, "sum", kernelSums, dkernel, pass(dkernel.size));
    if (dbias && biasSums) dispatchReduce(call, "sum", biasSums, dbias, pass(outputs));
    return;
  }
  const width = outputs % 4 === 0 ? 4 : 1;
  const type = width === 4 ? "vec4f" : "f32";
  const kernelCount = dkernel.size / width;
  const loop = rolledLoop(call.profile, kernelCount + (dbias ? outputs / width : 0));
  const add = (name: string, index: string, count: string) => /* wgsl */ `
    var sum = ${name}Sums[${index}];
    for (var split = 1u; split < u.splits; split++) { sum += ${name}Sums[split * ${count} + ${index}]; }
    d${name}[${index}] = sum;`;
  call.dispatch({
    key: `sum ${type}`,
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(
        dbias
          ? `if (i < u.kernelCount) { ${add("kernel", "i", "u.kernelCount")} }
    else { let j = i - u.kernelCount; ${add("bias", "j", "(u.count - u.kernelCount)")} }`
          : add("kernel", "i", "u.kernelCount"),
      ),
    }),
    bindings: [
      { name: "kernelSums", view: kernelSums, type },
      { name: "dkernel", view: dkernel, type, access: "read_write" },
      ...(dbias && biasSums
        ? [
            { name: "biasSums", view: biasSums, type },
            { name: "dbias", view: dbias, type, access: "read_write" } as const,
          ]
        : []),
    ],
    sizes: { ...loop.sizes, kernelCount, splits },
    workgroups: loop.workgroups,
  });
}
