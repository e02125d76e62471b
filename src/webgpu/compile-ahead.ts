// Compiling on a second core. The driver lavapipe compiles a program when it first runs, on the one thread that takes
// work from a device's queue. That takes seconds for the first step of a model, while other cores idle. So a second
// device runs the same programs, last first, over no workgroups. What it has compiled, the first device finds in the
// driver's cache on disk, and where the two meet, both are done. With a warm cache nothing of this begins.
import { DeviceError } from "../tensor/errors.js";
import { bindGroupEntries, PARAMETER_BINDING, PARAMETER_LAYOUT, type Program } from "./commands.js";
import { listen } from "./faults.js";

/** A submit whose programs are still running after this time is compiling them. */
const PATIENCE_MS = 250;
/** Fewer new programs than this are not worth a device. */
const LEAST_PROGRAMS = 4;

/** Dawn's Node bindings need the adapter as long as the device. */
export interface SecondDevice {
  readonly adapter: GPUAdapter;
  readonly device: GPUDevice;
}

export class CompileAhead {
  private readonly seen = new Set<Program>();
  private helper: SecondDevice | undefined;
  private working: Promise<void> = Promise.resolve();
  private ended = false;

  /**
   * @param open another device on the same adapter, with the same features and limits
   * @param note told why compiling ahead ended, should it fail: work goes on without it
   */
  constructor(
    private readonly open: () => Promise<SecondDevice>,
    private readonly note: (message: string) => void,
  ) {}

  /** Programs were submitted, in this order; `finished` settles when they have run. */
  submitted(programs: Iterable<Program>, finished: () => Promise<unknown>): void {
    const fresh = [...new Set(programs)].filter((program) => !this.seen.has(program));
    for (const program of fresh) this.seen.add(program);
    if (this.ended || fresh.length < LEAST_PROGRAMS) return;
    void this.work(async () => {
      let running = true;
      const end = () => {
        running = false;
      };
      finished().then(end, end);
      await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
      await this.compile(fresh.reverse(), () => running);
    });
  }

  /** Compiles programs before they are submitted. Whether they are in the cache then; never rejects. */
  async prepare(programs: readonly Program[]): Promise<boolean> {
    const fresh = programs.filter((program) => !this.seen.has(program));
    for (const program of fresh) this.seen.add(program);
    await this.work(() => this.compile(fresh, () => true));
    return !this.ended;
  }

  /** One after the other. */
  private work(compile: () => Promise<void>): Promise<void> {
    this.working = this.working.then(async () => {
      try {
        await compile();
      } catch (error) {
        if (!this.ended) this.note(`compiling on a second core ended: ${(error as Error).message}`);
        this.ended = true;
      } finally {
        this.helper?.device.destroy();
        this.helper = undefined;
      }
    });
    return this.working;
  }

  destroy(): void {
    this.ended = true;
    this.helper?.device.destroy();
  }

  /** As long as it is `wanted`. */
  private async compile(programs: readonly Program[], wanted: () => boolean): Promise<void> {
    if (programs.length === 0 || !wanted() || this.ended) return;
    this.helper = await this.open();
    const { device } = this.helper;
    let failure: string | undefined;
    listen(device).report = ({ reason }) => {
      failure ??= reason;
    };
    if (this.ended) return;
    for (const program of programs) {
      if (!wanted() || this.ended) return;
      // One at a time: where the other device has come to, the rest is left out.
      await runOverNothing(device, program);
      if (failure !== undefined) throw new DeviceError("VALIDATION", `${program.kernel}: ${failure}`);
    }
  }
}

/** What a driver compiles, and how to bind it. */
export type DriverProgram = Pick<Program, "code" | "accesses" | "parameterNames">;

/**
 * Has a program compiled by the driver, which does that when it first runs: settles when it has run over no workgroups.
 */
export async function runOverNothing(device: GPUDevice, program: DriverProgram): Promise<void> {
  const { STORAGE, UNIFORM, INDIRECT } = GPUBufferUsage;
  const memory = (usage: number) => device.createBuffer({ size: PARAMETER_BINDING, usage });
  const buffers = [memory(INDIRECT), memory(UNIFORM), ...program.accesses.map(() => memory(STORAGE))] as const;
  const [noWorkgroups, parameters, ...bound] = buffers; // Zeros.
  const layout = device.createBindGroupLayout({ entries: bindGroupEntries(program.accesses) });
  const parameterLayout = device.createBindGroupLayout(PARAMETER_LAYOUT);
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({
      bindGroupLayouts: program.parameterNames > 0 ? [layout, parameterLayout] : [layout],
    }),
    compute: { module: device.createShaderModule({ code: program.code }), entryPoint: "main" },
  });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
  pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
  if (program.parameterNames > 0) {
    const resource = { buffer: parameters, size: PARAMETER_BINDING };
    pass.setBindGroup(1, device.createBindGroup({ layout: parameterLayout, entries: [{ binding: 0, resource }] }), [0]);
  }
  // Directly, a dispatch of none would be left out before it reaches the driver.
  pass.dispatchWorkgroupsIndirect(noWorkgroups, 0);
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  for (const buffer of buffers) buffer.destroy();
}
