// Times compute passes with timestamp queries. It takes passes as they are, which changes little (on llvmpipe 0.2 ms a
// pass), or each dispatch in a pass of its own. The latter shows where a step's time goes. Exact on Node only when the
// device was opened with { profiling: true }, which turns off Dawn's rounding of timestamps to 100 microseconds.
import { wait } from "../runtime/runtime.js";
import { formatShape, type Shape } from "../tensor/shape.js";
import type { DispatchCommand, KernelCall } from "./commands.js";

/** Time spent in calls of one kernel with the same shapes, since the timer was made. */
export interface KernelTime {
  readonly kernel: string;
  readonly inputs: readonly Shape[];
  readonly outputs: readonly Shape[];
  calls: number;
  dispatches: number;
  milliseconds: number;
  /** What the formula asks for; undefined for kernels that memory traffic decides. */
  flops: number | undefined;
  /** Inputs and outputs, once a call. */
  bytes: number;
  /** Milliseconds by code shape; see Dispatch. */
  readonly programs: Map<string, { readonly dispatches: number; readonly milliseconds: number }>;
}

const QUERIES = 4096;

type TimedDispatch = Pick<DispatchCommand, "call" | "program">;

export class DispatchTimer {
  private readonly queries: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly pending: { readonly staging: GPUBuffer; readonly dispatches: readonly TimedDispatch[] }[] = [];
  private dispatches: TimedDispatch[] = [];

  constructor(
    private readonly gpu: GPUDevice,
    /** What lies between two timestamps: a dispatch as it was recorded, or as it is launched (merged), or a pass. */
    readonly each: "dispatch" | "launch" | "pass",
  ) {
    this.queries = gpu.createQuerySet({ type: "timestamp", count: QUERIES });
    this.resolved = gpu.createBuffer({
      size: QUERIES * 8,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Descriptor of a pass that begins with this dispatch. */
  pass(dispatch: TimedDispatch): GPUComputePassDescriptor {
    const index = this.dispatches.length * 2;
    if (index + 2 > QUERIES) throw new RangeError(`internal: more than ${QUERIES / 2} passes in a timed submit`);
    this.dispatches.push(dispatch);
    return {
      timestampWrites: { querySet: this.queries, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 },
    };
  }

  /** Ends a submit: copies the timestamps so far, if the next submit might need their places. */
  endSubmit(encoder: GPUCommandEncoder): void {
    if (this.dispatches.length * 4 >= QUERIES) this.resolve(encoder);
  }

  private resolve(encoder: GPUCommandEncoder): void {
    const bytes = this.dispatches.length * 16;
    const staging = this.gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.resolveQuerySet(this.queries, 0, this.dispatches.length * 2, this.resolved, 0);
    encoder.copyBufferToBuffer(this.resolved, 0, staging, 0, bytes);
    this.pending.push({ staging, dispatches: this.dispatches });
    this.dispatches = [];
  }

  /** Times of kernels so far, longest first, with each dispatch timed; call after device.sync(). */
  async kernels(): Promise<KernelTime[]> {
    const times = new Map<string, KernelTime>();
    for await (const { call, program, milliseconds } of this.spans()) {
      const time = timeOf(times, call);
      const share = 1 / call.dispatches;
      time.calls += share;
      time.dispatches++;
      time.milliseconds += milliseconds;
      if (call.flops !== undefined) time.flops = (time.flops ?? 0) + call.flops() * share;
      time.bytes += bytesOf(call) * share;
      const shape = program.key.slice(call.kernel.length + 1).split("|")[0]!;
      const before = time.programs.get(shape) ?? { dispatches: 0, milliseconds: 0 };
      time.programs.set(shape, {
        dispatches: before.dispatches + 1,
        milliseconds: before.milliseconds + milliseconds,
      });
    }
    return [...times.values()].sort((a, b) => b.milliseconds - a.milliseconds);
  }

  /** Milliseconds in all; call after device.sync(). */
  async total(): Promise<number> {
    let sum = 0;
    for await (const { milliseconds } of this.spans()) sum += milliseconds;
    return sum;
  }

  private async *spans(): AsyncGenerator<TimedDispatch & { readonly milliseconds: number }> {
    if (this.dispatches.length > 0) {
      const encoder = this.gpu.createCommandEncoder();
      this.resolve(encoder);
      this.gpu.queue.submit([encoder.finish()]);
    }
    for (const { staging, dispatches } of this.pending.splice(0)) {
      await wait(staging.mapAsync(GPUMapMode.READ));
      const stamps = new BigUint64Array(staging.getMappedRange());
      for (const [i, { call, program }] of dispatches.entries()) {
        yield { call, program, milliseconds: Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1e6 };
      }
      staging.destroy();
    }
  }

  destroy(): void {
    this.queries.destroy();
    this.resolved.destroy();
    for (const { staging } of this.pending) staging.destroy();
  }
}

const bytesOf = ({ inputs, outputs }: KernelCall) =>
  4 * [...inputs, ...outputs].reduce((sum, { size }) => sum + size, 0);

/** Names what is added up: calls of a kernel with equal shapes. */
export function shapesKey({ kernel, inputs, outputs }: Pick<KernelTime, "kernel" | "inputs" | "outputs">): string {
  return [kernel, ...inputs.map(formatShape), "to", ...outputs.map(formatShape)].join(" ");
}

function timeOf(times: Map<string, KernelTime>, call: KernelCall): KernelTime {
  const { kernel } = call;
  const [inputs, outputs] = [call.inputs.map(({ shape }) => shape), call.outputs.map(({ shape }) => shape)];
  const key = shapesKey({ kernel, inputs, outputs });
  let time = times.get(key);
  if (time === undefined) {
    const nothing = { calls: 0, dispatches: 0, milliseconds: 0, flops: undefined, bytes: 0 };
    time = { kernel, inputs, outputs, ...nothing, programs: new Map() };
    times.set(key, time);
  }
  return time;
}
