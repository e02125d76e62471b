// Streaming kernels over same-sized buffers, vec4 by vec4, in slices where a buffer exceeds a binding: fill, random
// numbers, dropout, optimizer steps. Not for broadcasting or moving elements (elementwise.ts, transform.ts).
import { type Binding, type GpuCall, sliceOf } from "../webgpu/program.js";
import { rolledLoop, slices } from "./rolled.js";

export interface Stream {
  /** Names the program's code shape within its kernel; see Dispatch. */
  readonly key: string;
  /** Same-sized views with vec4 types. */
  readonly bindings: readonly Binding[];
  /** Bindings that every slice sees whole: tables, scalars. */
  readonly tables?: readonly Binding[];
  /** WGSL for the vec4 at index `i` of the bindings. */
  readonly statement: string;
  readonly declarations?: string;
  /** u32 parameters of the slice that begins at element `start`. */
  readonly sizes?: (start: number) => Readonly<Record<string, number>>;
  readonly numbers?: Readonly<Record<string, number>>;
}

/** Runs `statement` for every vec4 of the bindings. */
export function stream(call: GpuCall<unknown>, { bindings, tables = [], ...text }: Stream): void {
  const { size } = bindings[0]!.view;
  for (const [start, count] of slices(call.profile, size)) {
    const loop = rolledLoop(call.profile, Math.ceil(count / 4));
    call.dispatch({
      key: text.key,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        declarations: text.declarations ?? "",
        body: loop.body(text.statement),
      }),
      bindings: [
        ...bindings.map((b) => (count === size ? b : { ...b, view: sliceOf(b.view, start, count) })),
        ...tables,
      ],
      sizes: { ...loop.sizes, ...text.sizes?.(start) },
      numbers: text.numbers ?? {},
      workgroups: loop.workgroups,
    });
  }
}
