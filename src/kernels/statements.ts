// Kernels of a user's own (autograd/custom-kernel.ts) on WebGPU: statements that run once for each element of a result.
import type { GpuCall } from "../webgpu/program.js";
import { rolledLoop } from "./rolled.js";

/** What the statements know as `u.NAME`. */
export interface StatementParams {
  readonly numbers: Readonly<Record<string, number>>;
  readonly sizes: Readonly<Record<string, number>>;
}

interface Statements {
  /** Of the inputs, in their order. */
  readonly names: readonly string[];
  readonly wgsl: string;
  readonly declarations: string;
}

/** Runs the statements for each element. */
export function dispatchStatements(call: GpuCall<StatementParams>, { names, wgsl, declarations }: Statements): void {
  const [y] = call.outputs;
  const loop = rolledLoop(call.profile, y!.size);
  call.dispatch({
    key: `${wgsl}\n${declarations}`,
    program: () => ({ workgroupSize: loop.workgroupSize, declarations, body: loop.body(wgsl) }),
    bindings: [
      ...names.map((each, k) => ({ name: each, view: call.inputs[k]!, type: call.inputs[k]!.dtype })),
      { name: "y", view: y!, type: y!.dtype, access: "read_write" as const },
    ],
    sizes: { ...loop.sizes, ...call.params.sizes },
    numbers: call.params.numbers,
    workgroups: loop.workgroups,
  });
}
