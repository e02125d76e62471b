// Times every dispatch with timestamp queries: where a step's time goes. It gives each dispatch a pass of its own, so it is
// for looking, not for running. Exact on Node only when the device was opened with { profiling: true }, which turns off
// Dawn's rounding of timestamps to 100 microseconds.

/** Time spent in one program since the timer was made. */
export interface ProgramTime {
  readonly kernel: string;
  /** Code shape within the kernel; see Dispatch. */
  readonly program: string;
  calls: number;
  milliseconds: number;
}

const QUERIES = 4096;

export class DispatchTimer {
  private readonly queries: GPUQuerySet;
  private readonly resolved: GPUBuffer;
  private readonly pending: {
    readonly staging: GPUBuffer;
    readonly programs: readonly { kernel: string; key: string }[];
  }[] = [];
  private readonly times = new Map<string, ProgramTime>();
  private programs: { kernel: string; key: string }[] = [];

  constructor(private readonly gpu: GPUDevice) {
    this.queries = gpu.createQuerySet({ type: "timestamp", count: QUERIES });
    this.resolved = gpu.createBuffer({
      size: QUERIES * 8,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Descriptor of the pass for the next dispatch. */
  pass(kernel: string, key: string): GPUComputePassDescriptor {
    const index = this.programs.length * 2;
    if (index + 2 > QUERIES) throw new RangeError(`internal: more than ${QUERIES / 2} dispatches in a timed submit`);
    this.programs.push({ kernel, key });
    return {
      timestampWrites: { querySet: this.queries, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 },
    };
  }

  /** Ends a submit: records the copy of its timestamps. */
  resolve(encoder: GPUCommandEncoder): void {
    if (this.programs.length === 0) return;
    const bytes = this.programs.length * 16;
    const staging = this.gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.resolveQuerySet(this.queries, 0, this.programs.length * 2, this.resolved, 0);
    encoder.copyBufferToBuffer(this.resolved, 0, staging, 0, bytes);
    this.pending.push({ staging, programs: this.programs });
    this.programs = [];
  }

  /** Times so far, longest first; call after device.sync(). */
  async report(): Promise<ProgramTime[]> {
    for (const { staging, programs } of this.pending.splice(0)) {
      await staging.mapAsync(GPUMapMode.READ);
      const stamps = new BigUint64Array(staging.getMappedRange());
      for (const [i, { kernel, key }] of programs.entries()) {
        const time = this.times.get(key) ?? {
          kernel,
          program: key.slice(kernel.length + 1).split("|")[0]!,
          calls: 0,
          milliseconds: 0,
        };
        time.calls++;
        time.milliseconds += Number(stamps[2 * i + 1]! - stamps[2 * i]!) / 1e6;
        this.times.set(key, time);
      }
      staging.destroy();
    }
    return [...this.times.values()].sort((a, b) => b.milliseconds - a.milliseconds);
  }

  destroy(): void {
    this.queries.destroy();
    this.resolved.destroy();
    for (const { staging } of this.pending) staging.destroy();
  }
}
