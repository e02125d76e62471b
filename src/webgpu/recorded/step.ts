// Recorded steps: the dispatches of a step with their bind groups, parameters and memory. They are kept so that the
// step can be submitted again without the JavaScript that made it. When all of a step is recorded, its memory is
// planned. A buffer serves one tensor after the other within the step, and nobody else until the step is disposed.
import type { RecordedStep, Storage } from "../../tensor/device.js";
import { DeviceError } from "../../tensor/errors.js";
import type { Tensor } from "../../tensor/tensor.js";
import {
  boundViews,
  buffersOf,
  type DispatchCommand,
  encode,
  type ParameterBlock,
  type ParameterPlace,
  parameterPlace,
  partPlaces,
  withSharedAccess,
} from "../commands.js";
import type { TuningProfile } from "../family.js";
import type { Content } from "../faults.js";
import type { BufferPool, PooledBuffer } from "../pool.js";
import { type Dispatch, type GpuView, programKey } from "../program.js";
import type { Programs } from "../programs.js";
import type { Queue } from "../queue.js";
import { endingEarly } from "./early.js";
import { COUNTERS_BYTES, type Group, groupsOf } from "./groups.js";
import { StepMemory } from "./memory.js";
import { isStale, type Steady, steadyCommands } from "./steady.js";

/** A storage of the WebGPU device, as far as a step must know it. */
export interface PlannedStorage extends Storage {
  readonly buffer: PooledBuffer;
  readonly content: Content;
}

/** The device of a recorded step. */
export interface StepDevice {
  readonly gpu: GPUDevice;
  readonly profile: TuningProfile;
  readonly pool: BufferPool;
  readonly programs: Programs;
  readonly queue: Queue;
}

/** Kernel of merged dispatches. */
const MERGED = "merged";
/** A step of more operations takes so long, where merging means to compile for seconds, that launches do not matter. */
const MOST_FLOPS = 5e9;
/** A program that was not in the driver's cache takes longer. */
const CACHED_MS = 500;

/** Writes merged programs; there from the first step on that is merged. */
let writer: typeof import("./merged-text.js") | undefined;

const isSingle = (group: Group) => group.length === 1 && group[0]!.length === 1;

/** A step while it is recorded, and afterwards what runs it again. */
export class GpuStep implements RecordedStep {
  /**
   * Runs after which a step is taken to be one of many and merged programs are compiled for it. Where the first of them
   * was not in the driver's cache, the others are compiled after `uncached` runs. On lavapipe they take it some 20 s of
   * one core.
   */
  static mergeAfter = { cached: 100, uncached: 2000 };
  /** Steps whose merged programs are being compiled. */
  static merging = 0;
  readonly commands: DispatchCommand[] = [];
  private readonly memory: StepMemory;
  outputs: readonly Tensor[] = [];
  /** Host side of the step, in its order: side effects, and parameters asked for anew. */
  private readonly host: (() => void)[] = [];
  /** Made before the step: it must be where it was for the step to run again. */
  private readonly external = new Map<PlannedStorage, PooledBuffer>();
  private readonly made = new Set<PlannedStorage>();
  /** Values that the host wrote into memory of the step, and those among them that kernels overwrite. */
  private readonly written = new Map<PooledBuffer, ArrayBufferView<ArrayBuffer>>();
  private readonly rewritten = new Map<PooledBuffer, ArrayBufferView<ArrayBuffer>>();
  /** What every run overwrites, and the kernel that does so last. */
  private readonly changed = new Map<PlannedStorage, string>();
  private parametersChange = false;
  private uploaded = false;
  private runs = 0;
  /** Commands whose results stay the same from run to run, unless somebody changes what they read. */
  private steady: Steady = { commands: [], sources: new Map() };
  /** The others in an order of the same results, those that can be one in a group. */
  private groups: readonly Group<DispatchCommand>[] = [];
  private moving: readonly DispatchCommand[] = [];
  /** Counters of each group of several stages. */
  private counters: PooledBuffer | undefined;
  /** The groups as one command each, once those are compiled; results have the same bits. */
  private merged: readonly DispatchCommand[] | undefined;
  private awaitingRuns: { readonly runs: number; readonly settled: () => void } | undefined;
  /** Where the parameters that change stand: for a command that was merged a second time. */
  private readonly places = new Map<DispatchCommand, ParameterPlace[]>();
  private parameterMemory: ReturnType<Programs["parameterMemory"]> | undefined;
  private disposed = false;

  constructor(
    private readonly device: StepDevice,
    readonly parameters: ParameterBlock,
  ) {
    this.memory = new StepMemory(device.pool);
  }

  get valid(): boolean {
    if (this.disposed) return false;
    for (const [storage, buffer] of this.external) if (!storage.alive || storage.buffer !== buffer) return false;
    return true;
  }

  /** A storage was allocated within the step. */
  allocated(storage: PlannedStorage): void {
    this.made.add(storage);
  }

  /** A kernel reads or writes a storage. */
  uses(storage: PlannedStorage): void {
    if (!this.made.has(storage)) this.external.set(storage, storage.buffer);
  }

  /** A kernel overwrites a storage, in every run. */
  changes(storage: PlannedStorage, kernel: string): void {
    this.changed.set(storage, kernel);
  }

  /** The host is about to write into a storage. @throws DeviceError where the step did not make it */
  mustOwn(storage: PlannedStorage): void {
    if (this.made.has(storage)) return;
    throw new DeviceError(
      "VALIDATION",
      "record: a recorded step must not write host values into a tensor made before it; pass them as its inputs",
    );
  }

  /**
   * The host wrote into a storage of the step. Its buffer keeps these values: it serves no other tensor of the step.
   */
  wrote(storage: PlannedStorage, values: ArrayBufferView<ArrayBuffer>): void {
    this.written.set(storage.buffer, values);
  }

  acquire(bytes: number): PooledBuffer {
    return this.memory.acquire(bytes);
  }

  /** Memory that nothing in the step needs any more; what the step made goes back with the step. */
  release(buffer: PooledBuffer): void {
    if (!buffer.planned) this.device.pool.release(buffer);
  }

  /** Lays out side by side what the step made; false where that cannot be. */
  join(views: readonly GpuView[]): boolean {
    return !views.some(({ buffer }) => this.written.has(buffer)) && this.memory.join(views, this.commands);
  }

  /** A kernel overwrites a buffer. */
  overwrites(buffer: PooledBuffer): void {
    const values = this.written.get(buffer);
    if (values !== undefined) this.rewritten.set(buffer, values);
  }

  /** A host side effect of the step. */
  everyTime(effect: () => void): void {
    this.host.push(effect);
  }

  /**
   * The parameters of the dispatches recorded since `first` change: `again` makes them anew, with the scratch views of
   * the first time.
   */
  reparameterise(
    first: number,
    scratch: readonly GpuView[],
    again: (scratch: () => GpuView, dispatch: (dispatch: Dispatch) => void) => void,
  ): void {
    const commands = this.commands.slice(first);
    for (const command of commands) this.places.set(command, [parameterPlace(command)]);
    this.parametersChange = true;
    this.host.push(() => {
      let [nextScratch, next] = [0, 0];
      again(
        () => scratch[nextScratch++]!,
        (given) => {
          const dispatch = withSharedAccess(given);
          const [x, y = 1, z = 1] = dispatch.workgroups;
          if (x * y * z === 0) return;
          const command = commands[next++];
          const [oldX, oldY = 1, oldZ = 1] = command?.dispatch.workgroups ?? [0];
          if (
            command === undefined ||
            programKey(command.program.kernel, dispatch) !== command.program.key ||
            boundViews(dispatch) !== command.bound ||
            x !== oldX ||
            y !== oldY ||
            z !== oldZ
          ) {
            throw new DeviceError(
              "VALIDATION",
              `record: changing params of "${commands[0]?.program.kernel}" changed its dispatches; only its numbers may change`,
            );
          }
          if (command.parameterOffset < 0) return;
          for (const place of this.places.get(command)!) this.parameters.write(place, dispatch);
        },
      );
    });
  }

  /** Ends the recording, whose function gave `outputs`, and submits the step for the first time. */
  complete(outputs: readonly Tensor[]): void {
    this.outputs = outputs;
    const returned = new Set(outputs.map((t) => t.storage));
    for (const storage of this.made) {
      if (storage.alive && !returned.has(storage)) {
        throw new DeviceError(
          "VALIDATION",
          `record: a recorded step must not keep tensors that it does not return (one of ${storage.size} elements is alive)`,
        );
      }
    }
    for (const storage of this.changed.keys()) if (!storage.alive) this.changed.delete(storage);
    const alive = [...this.made].flatMap((storage) => (storage.alive ? [storage.buffer] : []));
    this.steady = this.findSteady(alive);
    // In the order of the groups from the first time on: they decide what is needed at the same time.
    const steady = new Set(this.steady.commands);
    const others = this.commands.filter((command) => !steady.has(command));
    this.groups = this.findGroups(endingEarly(others, this.memory.passing(alive)));
    this.moving = this.groups.flat(2);
    this.commands.splice(0, this.commands.length, ...steady, ...this.moving);
    this.memory.place(
      this.groups.map((group) => group.flat().flatMap(buffersOf)),
      alive,
      [...this.written.keys(), ...this.steady.commands.flatMap(buffersOf)],
    );
    for (const command of this.commands) this.device.programs.bind(command);
    for (const [buffer, values] of this.written) this.device.gpu.queue.writeBuffer(buffer.gpu, buffer.offset, values);
    if (this.groups.some((group) => group.length > 1)) {
      this.counters = this.device.pool.acquire(COUNTERS_BYTES * this.groups.length);
      this.counters.planned = true;
    }
    const isThere = (group: Group<DispatchCommand>, k: number) =>
      isSingle(group) || this.device.programs.isPrepared(MERGED, this.mergedDispatch(k));
    if (writer !== undefined && this.groups.every(isThere)) this.merged = this.mergedCommands();
    this.bindParameters();
    this.submit(true);
  }

  private findSteady(outputs: readonly PooledBuffer[]): Steady {
    const { changed } = this;
    const before = new Map([...this.external].map(([storage, buffer]) => [buffer, storage]));
    return steadyCommands(this.commands, {
      isParameterised: (command) => this.places.has(command),
      sourceOf(buffer) {
        const storage = before.get(buffer);
        return storage === undefined || storage.renewed || changed.has(storage) ? undefined : storage;
      },
      outputs: new Set(outputs.map(({ root }) => root)),
    });
  }

  private findGroups(all: readonly DispatchCommand[]): Group<DispatchCommand>[] {
    const { profile } = this.device;
    const calls = [...new Set(all.map(({ call }) => call))];
    const flops = calls.reduce((sum, { flops }) => sum + (flops?.() ?? 0), 0);
    if (profile.workers !== undefined && flops > MOST_FLOPS) return all.map((command) => [[command]]);
    return groupsOf(all, profile);
  }

  private bindParameters(): void {
    // Submits that read the old one are done with it first.
    this.parameterMemory?.buffer.destroy();
    this.parameterMemory = this.device.programs.parameterMemory(this.parameters.bytes);
    this.uploaded = false;
  }

  private mergedDispatch(k: number): Dispatch {
    const counters: GpuView | undefined = this.counters && {
      ...{ shape: [COUNTERS_BYTES / 4], dtype: "u32", size: COUNTERS_BYTES / 4 },
      ...{ buffer: this.counters, byteOffset: COUNTERS_BYTES * k, byteLength: COUNTERS_BYTES },
    };
    return writer!.mergedDispatch(this.groups[k]!, this.device.profile, counters);
  }

  private mergedCommands(): DispatchCommand[] {
    return this.groups.map((group, k) => {
      if (isSingle(group)) return group[0]![0]!;
      const call = { kernel: MERGED, inputs: [], outputs: [], flops: undefined, dispatches: 1, reads: [], writes: [] };
      const command = this.device.programs.command(call, this.mergedDispatch(k), this.parameters);
      const parts = group.flat();
      this.device.programs.bind(command);
      partPlaces(command, parts).forEach((place, i) => void this.places.get(parts[i]!)?.push(place));
      return command;
    });
  }

  /** Merges what can be merged; the step runs as it was recorded until that is compiled. */
  private async merge(): Promise<void> {
    GpuStep.merging++;
    try {
      writer ??= await import("./merged-text.js");
      if (this.disposed) return;
      const merged = this.mergedCommands();
      this.bindParameters();
      const programs = merged.filter(({ call }) => call.kernel === MERGED).map(({ program }) => program);
      const [longest, ...others] = programs.toSorted((a, b) => b.code.length - a.code.length);
      if (longest === undefined) return;
      await Promise.all(programs.map(({ ready }) => ready));
      const begun = performance.now();
      let compiled = await this.device.programs.prepare([longest]);
      const cached = performance.now() - begun < CACHED_MS;
      if (!cached && !(await this.reaching(GpuStep.mergeAfter.uncached))) return;
      compiled &&= await this.device.programs.prepare(others);
      if (compiled) this.merged = merged;
    } finally {
      GpuStep.merging--;
    }
  }

  /** Whether there have been so many runs; settles when there have, or when there will be no more. */
  private async reaching(runs: number): Promise<boolean> {
    if (this.runs < runs && !this.disposed) {
      await new Promise<void>((settled) => {
        this.awaitingRuns = { runs, settled };
      });
    }
    return this.runs >= runs;
  }

  run(): void {
    if (!this.valid) throw new DeviceError("CLOSED", "record: memory of this step was freed; record it again");
    const { gpu, queue } = this.device;
    queue.beginStep();
    for (const { content } of this.external.keys()) if (content.error !== undefined) queue.raiseCall(content.error);
    if (++this.runs === GpuStep.mergeAfter.cached && this.merged === undefined)
      this.merge().catch((error: Error) => queue.fail(error));
    if (this.runs === this.awaitingRuns?.runs) this.awaitingRuns.settled();
    for (const act of this.host) act();
    for (const [storage, kernel] of this.changed) storage.changed(kernel);
    for (const [buffer, values] of this.rewritten) gpu.queue.writeBuffer(buffer.gpu, buffer.offset, values);
    this.submit();
  }

  /** Submits the commands of a run, and those that are steady where what they read has changed. */
  private submit(steadyToo = isStale(this.steady)): void {
    const { gpu, queue } = this.device;
    const { buffer, group } = this.parameterMemory!;
    if ((this.parametersChange || !this.uploaded) && this.parameters.bytes > 0) {
      this.uploaded = true;
      gpu.queue.writeBuffer(buffer, 0, this.parameters.data);
    }
    const { timer } = queue;
    // To be timed one by one they run one by one.
    const single = timer?.each === "dispatch" || this.merged === undefined;
    const moving = single ? this.moving : this.merged!;
    const commands = steadyToo ? [...this.steady.commands, ...moving] : moving;
    queue.submitStep(steadyToo ? this.commands : this.moving, commands.length, (encoder) => {
      if (!single && this.counters !== undefined) encoder.clearBuffer(this.counters.gpu);
      encode(encoder, commands, group, timer);
    });
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.awaitingRuns?.settled();
    for (const t of this.outputs) t.dispose();
    // Somebody may hold an alias.
    this.memory.dispose([...this.made].flatMap(({ alive, buffer }) => (alive ? [buffer] : [])));
    if (this.counters !== undefined) {
      this.counters.planned = false;
      this.device.pool.release(this.counters);
    }
    this.parameterMemory?.buffer.destroy();
  }
}
