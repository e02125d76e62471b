// GPU devices that are used one after the other. What Dawn holds for a device (threads, compiled programs) comes back
// when the garbage collector finds it, which sees no need. So a device that is given back is kept for the next that is
// opened alike, which finds the programs compiled, too.
import type { GpuSource } from "../runtime/runtime.js";
import type { Program } from "./commands.js";
import { listen } from "./faults.js";

/** A GPU device with what stays with it from one use to the next. */
export interface SharedGpu {
  /** Dawn's Node bindings need the adapter, and what it came from, as long as the device. */
  readonly adapter: GPUAdapter;
  readonly source: GpuSource;
  readonly gpu: GPUDevice;
  readonly programs: Map<string, Program>;
  readonly layouts: Map<string, GPUBindGroupLayout>;
}

/** Devices that nobody uses, by what they were opened with, the longest idle first. */
const idle = new Map<string, SharedGpu>();
/** As many as one program uses in turns: two profiles, or a device and the one that it is compared with. */
const MOST_IDLE = 2;

/** A device that was opened so, and given back. */
export function takeIdle(key: string): SharedGpu | undefined {
  const known = idle.get(key);
  idle.delete(key);
  return known;
}

/** Keeps a device without memory of its last use, or destroys it. */
export function giveBack(key: string, shared: SharedGpu): void {
  const { gpu, programs } = shared;
  for (const [name, program] of programs) {
    program.bindGroups.clear();
    // What is still being compiled would report to whoever needed it.
    if (program.pipeline === undefined) programs.delete(name);
  }
  const sink = listen(gpu);
  sink.report = undefined;
  sink.lost = () => {
    if (idle.get(key) === shared) idle.delete(key);
  };
  idle.get(key)?.gpu.destroy();
  idle.delete(key);
  idle.set(key, shared);
  const [oldest] = idle;
  if (idle.size <= MOST_IDLE || oldest === undefined) return;
  idle.delete(oldest[0]);
  oldest[1].gpu.destroy();
}
