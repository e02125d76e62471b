// What the WebGPU device records: compiled programs, dispatches and copies, and the block of uniform memory that holds
// the dispatches' parameters. Shared by work that is submitted once and by recorded steps that are submitted again.
import type { DeviceError } from "../tensor/errors.js";
import type { Content, Fault } from "./faults.js";
import type { PooledBuffer } from "./pool.js";
import { type Binding, type Dispatch, type GpuView, overlap, type ProgramText } from "./program.js";
import type { DispatchTimer } from "./timer.js";

/** Most parameters of a dispatch, of four bytes each, and the bytes of their binding. */
export const MOST_PARAMETERS = 256;
export const PARAMETER_BINDING = 4 * MOST_PARAMETERS;

/** The layout of every dispatch's parameters. */
export const PARAMETER_LAYOUT: GPUBindGroupLayoutDescriptor = {
  // GPUShaderStage.COMPUTE, which Node has only once Dawn is loaded.
  entries: [{ binding: 0, visibility: 4, buffer: { type: "uniform", hasDynamicOffset: true } }],
};

/** How a program uses a binding. */
export type Access = "read" | "read_write";

/** The layout of a program's bindings. */
export function bindGroupEntries(accesses: readonly Access[]): GPUBindGroupLayoutEntry[] {
  return accesses.map((access, binding) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type: access === "read_write" ? "storage" : "read-only-storage" },
  }));
}

/** A compiled (or compiling) WGSL program with its bind group cache. */
export interface Program {
  readonly key: string;
  readonly kernel: string;
  readonly text: ProgramText;
  /** WGSL, with what is generated around the text. */
  readonly code: string;
  /** Of its bindings. */
  readonly accesses: readonly Access[];
  readonly descriptor: GPUComputePipelineDescriptor;
  readonly layout: GPUBindGroupLayout;
  readonly parameterNames: number;
  readonly bindGroups: Map<string, GPUBindGroup>;
  pipeline: GPUComputePipeline | undefined;
  /** The driver has compiled it, too, as far as that is known. */
  prepared?: boolean;
  /** Settles (never rejects) when the pipeline is there or `fault` is set. */
  ready: Promise<void>;
  /** Why there is no pipeline. */
  fault: Fault | undefined;
}

/** A call of a kernel: what its dispatches do together. */
export interface KernelCall {
  readonly kernel: string;
  readonly inputs: readonly GpuView[];
  readonly outputs: readonly GpuView[];
  /** See Kernel.flops. */
  readonly flops: (() => number) | undefined;
  dispatches: number;
  /** What its inputs held when it was made, and its outputs; and what its outputs hold afterwards. */
  readonly reads: readonly Content[];
  readonly writes: readonly Content[];
  /** Set once a dispatch of it cannot run. */
  error?: DeviceError | undefined;
}

export interface DispatchCommand {
  readonly kind: "dispatch";
  readonly call: KernelCall;
  readonly dispatch: Dispatch;
  readonly program: Program;
  /** There once the memory of its views is. */
  bindGroup: GPUBindGroup | undefined;
  /** Names the views that the bind group binds. */
  readonly bound: string;
  /** In the parameter block; -1 without parameters. */
  readonly parameterOffset: number;
}

/** What a dispatch binds. */
export const buffersOf = ({ dispatch }: DispatchCommand): PooledBuffer[] =>
  dispatch.bindings.map(({ view }) => view.buffer);

/** Bytes in a parameter block at which a dispatch's sizes and its numbers begin. */
export interface ParameterPlace {
  readonly sizes: number;
  readonly numbers: number;
}

const lengthOf = (values: Readonly<Record<string, number>> | undefined) => Object.keys(values ?? {}).length;

/** Where the parameters of a dispatch stand that has them to itself. */
export function parameterPlace({ dispatch, parameterOffset }: DispatchCommand): ParameterPlace {
  return { sizes: parameterOffset, numbers: parameterOffset + 4 * lengthOf(dispatch.sizes) };
}

/**
 * Where the parameters of each part of a merged dispatch stand (recorded/merged-text.ts): sizes part by part, then
 * numbers.
 */
export function partPlaces(merged: DispatchCommand, parts: readonly DispatchCommand[]): ParameterPlace[] {
  let { sizes, numbers } = parameterPlace(merged);
  return parts.map(({ dispatch }) => {
    const place = { sizes, numbers };
    sizes += 4 * lengthOf(dispatch.sizes);
    numbers += 4 * lengthOf(dispatch.numbers);
    return place;
  });
}

export interface CopyCommand {
  readonly kind: "copy";
  readonly from: GPUBuffer;
  readonly fromOffset: number;
  readonly to: GPUBuffer;
  readonly toOffset: number;
  readonly bytes: number;
  /** Of what is read back; undefined where memory is moved, whatever it holds. */
  readonly content?: Content;
  /** Set once it cannot be had. */
  error?: DeviceError | undefined;
}

export type Command = DispatchCommand | CopyCommand;

/** Parameters of many dispatches, one uniform buffer's content. */
export class ParameterBlock {
  /** In use. */
  bytes = 0;
  private memory: ArrayBuffer;
  private u32: Uint32Array;
  private f32: Float32Array;

  constructor(
    private readonly alignment: number,
    capacity: number,
  ) {
    this.memory = new ArrayBuffer(capacity);
    this.u32 = new Uint32Array(this.memory);
    this.f32 = new Float32Array(this.memory);
  }

  /** The bytes in use, for an upload. */
  get data(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory, 0, this.bytes);
  }

  /** Adds a dispatch's parameters, `count` of them, and gives their offset; -1 where there are none. */
  append(dispatch: Dispatch, count: number): number {
    if (count === 0) return -1;
    const offset = this.bytes;
    this.bytes += Math.ceil((count * 4) / this.alignment) * this.alignment;
    if (this.bytes > this.memory.byteLength) this.grow();
    this.write({ sizes: offset, numbers: offset + 4 * lengthOf(dispatch.sizes) }, dispatch);
    return offset;
  }

  /** Overwrites a dispatch's parameters. */
  write(place: ParameterPlace, { sizes, numbers }: Dispatch): void {
    let word = place.sizes / 4;
    for (const name in sizes) this.u32[word++] = sizes[name]!;
    word = place.numbers / 4;
    for (const name in numbers) this.f32[word++] = numbers[name]!;
  }

  private grow(): void {
    const larger = new ArrayBuffer(2 * this.bytes);
    new Uint8Array(larger).set(new Uint8Array(this.memory));
    this.memory = larger;
    this.u32 = new Uint32Array(larger);
    this.f32 = new Float32Array(larger);
  }
}

/**
 * Encodes commands in order, dispatches in as few passes as there can be, unless a timer wants each in its own.
 * `parameters` binds the block that the dispatches' offsets refer to.
 */
export function encode(
  encoder: GPUCommandEncoder,
  commands: readonly Command[],
  parameters: GPUBindGroup,
  timer: DispatchTimer | undefined,
): void {
  let pass: GPUComputePassEncoder | undefined;
  let current: Program | undefined;
  for (const command of commands) {
    if (command.kind === "copy") {
      pass?.end();
      pass = undefined;
      current = undefined;
      const { from, fromOffset, to, toOffset, bytes } = command;
      encoder.copyBufferToBuffer(from, fromOffset, to, toOffset, bytes);
      continue;
    }
    if (timer !== undefined && timer.each !== "pass") {
      pass?.end();
      pass = undefined;
      current = undefined;
    }
    pass ??= encoder.beginComputePass(timer?.pass(command));
    if (current !== command.program) {
      current = command.program;
      pass.setPipeline(command.program.pipeline!);
    }
    pass.setBindGroup(0, command.bindGroup!);
    if (command.parameterOffset >= 0) pass.setBindGroup(1, parameters, [command.parameterOffset]);
    const [x, y, z] = command.dispatch.workgroups;
    pass.dispatchWorkgroups(x, y, z);
  }
  pass?.end();
  timer?.endSubmit(encoder);
}

/**
 * The dispatch with one access for all that it binds of one buffer: WebGPU does not let a dispatch write into a buffer
 * that it binds for reading elsewhere. (Not for the same bytes twice, which is a mistake, see checkAliases.)
 */
export function withSharedAccess(dispatch: Dispatch): Dispatch {
  const { bindings } = dispatch;
  const isShared = ({ view, access }: Binding) =>
    access !== "read_write" &&
    bindings.some(
      (other) =>
        other.access === "read_write" && other.view.buffer.root === view.buffer.root && !overlap(other.view, view),
    );
  if (!bindings.some(isShared)) return dispatch;
  return {
    ...dispatch,
    bindings: bindings.map((binding) => (isShared(binding) ? { ...binding, access: "read_write" } : binding)),
  };
}

/** Names the views that a dispatch binds, in order. */
export function boundViews({ bindings }: Dispatch): string {
  let key = "";
  for (const { view } of bindings) key += `${view.buffer.id}+${view.byteOffset}:${view.byteLength},`;
  return key;
}
