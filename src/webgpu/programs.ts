// The compiled programs of a device, and what they bind. A program compiles asynchronously from the moment at which it
// is first asked for; whoever runs it waits for that.
import { collectGarbage } from "../runtime/runtime.js";
import { DeviceError } from "../tensor/errors.js";
import {
  type Access,
  bindGroupEntries,
  boundViews,
  type Command,
  type DispatchCommand,
  type KernelCall,
  MOST_PARAMETERS,
  PARAMETER_BINDING,
  PARAMETER_LAYOUT,
  type ParameterBlock,
  type Program,
} from "./commands.js";
import type { CompileAhead } from "./compile-ahead.js";
import { attempt, callError, type FaultSink } from "./faults.js";
import { type Dispatch, overlap, positionOf, programKey, programSource } from "./program.js";
import type { SharedGpu } from "./shared.js";

/** Bind groups kept per program; beyond that the program's cache starts anew. */
const BIND_GROUPS_PER_PROGRAM = 512;
/**
 * Bind groups kept for all programs together; beyond that all caches start anew. lavapipe maps a page for each, and
 * Linux gives a process 65,530 maps.
 */
const MOST_BIND_GROUPS = 8192;
/** Bind groups after which those are collected that nobody has any more: V8 sees a few bytes, and takes its time. */
const BIND_GROUPS_OF_GARBAGE = 16_384;
/** Made in this process since then. */
let bindGroupsMade = 0;
/**
 * Bind groups that may be made within one turn of the event loop on an adapter that maps a page for each: what is
 * collected comes back in a later turn.
 */
const BIND_GROUPS_OF_TURN = 45_000;
/** Made in this turn, in this process. */
let madeInTurn = 0;

/** What the programs of a device are compiled with. */
export interface ProgramsOptions {
  readonly compileAhead?: CompileAhead | undefined;
  /** WebGPU reports what is wrong with a call some time after it, as browsers do; Dawn in Node does so at once. */
  readonly reportsLater?: boolean;
  /** The driver maps a page of memory for each bind group, as lavapipe does. */
  readonly mapsPages?: boolean;
  /** What its GPU device brings along from an earlier use. */
  readonly shared?: Pick<SharedGpu, "programs" | "layouts">;
}

export class Programs {
  private readonly known: Map<string, Program>;
  private readonly layouts: Map<string, GPUBindGroupLayout>;
  private readonly parameterLayout: GPUBindGroupLayout;
  private readonly compileAhead: CompileAhead | undefined;
  private cachedBindGroups = 0;
  private readonly reportsLater: boolean;
  private readonly mapsPages: boolean;

  constructor(
    private readonly gpu: GPUDevice,
    private readonly faults: FaultSink,
    { shared, compileAhead, reportsLater = false, mapsPages = false }: ProgramsOptions,
  ) {
    this.mapsPages = mapsPages;
    this.known = shared?.programs ?? new Map();
    this.layouts = shared?.layouts ?? new Map();
    this.compileAhead = compileAhead;
    this.reportsLater = reportsLater;
    this.parameterLayout = gpu.createBindGroupLayout(PARAMETER_LAYOUT);
  }

  /** What was compiled so far. */
  get all(): readonly Program[] {
    return [...this.known.values()];
  }

  /** Gets a dispatch ready to be encoded, its parameters in their block, but for its bind group. */
  command(call: KernelCall, dispatch: Dispatch, parameters: ParameterBlock): DispatchCommand {
    const program = this.programOf(call, dispatch);
    const parameterOffset = parameters.append(dispatch, program.parameterNames);
    const bound = boundViews(dispatch);
    return { kind: "dispatch", call, dispatch, program, bindGroup: undefined, bound, parameterOffset };
  }

  /** Binds the views of a command, which have their places. */
  bind(command: DispatchCommand): void {
    command.bindGroup = this.bindGroupOf(command);
  }

  /** The bind group of a command, kept for the next that binds the same. */
  cachedBindGroup(command: DispatchCommand): GPUBindGroup {
    const { program, bound } = command;
    let bindGroup = program.bindGroups.get(bound);
    if (bindGroup === undefined) {
      if (program.bindGroups.size >= BIND_GROUPS_PER_PROGRAM) this.forgetBindGroups([program]);
      if (this.cachedBindGroups >= MOST_BIND_GROUPS) this.forgetBindGroups(this.known.values());
      bindGroup = this.bindGroupOf(command);
      program.bindGroups.set(bound, bindGroup);
      this.cachedBindGroups++;
    }
    return bindGroup;
  }

  private forgetBindGroups(programs: Iterable<Program>): void {
    for (const { bindGroups } of programs) {
      this.cachedBindGroups -= bindGroups.size;
      bindGroups.clear();
    }
  }

  private bindGroupOf({ call, program, dispatch }: DispatchCommand): GPUBindGroup {
    checkAliases(program.kernel, dispatch);
    if (++madeInTurn === 1) {
      setTimeout(() => {
        madeInTurn = 0;
      });
    }
    if (madeInTurn > BIND_GROUPS_OF_TURN && this.mapsPages) {
      throw new DeviceError(
        "LIMIT",
        `webgpu: ${BIND_GROUPS_OF_TURN} sets of buffers were bound without a wait, and the driver has no more; await a result or device.sync() now and then`,
      );
    }
    if (++bindGroupsMade > BIND_GROUPS_OF_GARBAGE) {
      bindGroupsMade = 0;
      collectGarbage();
    }
    const { value, fault } = attempt(this.faults, () =>
      this.gpu.createBindGroup({
        label: program.key,
        layout: program.layout,
        entries: dispatch.bindings.map(({ view }, binding) => ({
          binding,
          resource: { buffer: view.buffer.gpu, offset: positionOf(view), size: view.byteLength },
        })),
      }),
    );
    if (fault !== undefined) throw callError(call, fault);
    return value;
  }

  /** Memory for so many bytes of parameters, and what binds it. */
  parameterMemory(bytes: number): { readonly buffer: GPUBuffer; readonly group: GPUBindGroup } {
    const buffer = this.gpu.createBuffer({
      size: bytes + PARAMETER_BINDING,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
    const group = this.gpu.createBindGroup({
      layout: this.parameterLayout,
      entries: [{ binding: 0, resource: { buffer, size: PARAMETER_BINDING } }],
    });
    return { buffer, group };
  }

  /** Compiles on this thread what commands need and is not there yet. */
  compileNow(commands: readonly Command[]): void {
    for (const command of commands) {
      if (command.kind !== "dispatch" || !isCompiling(command.program)) continue;
      const { program } = command;
      const { value, fault } = attempt(this.faults, () => this.gpu.createComputePipeline(program.descriptor));
      if (fault === undefined) program.pipeline = value;
      else program.fault = { ...fault, reason: doesNotCompile(program.key, fault.reason) };
    }
  }

  /**
   * Whether programs will run without being compiled by the driver first.
   * @throws DeviceError where one does not compile
   */
  async prepare(programs: readonly Program[]): Promise<boolean> {
    await Promise.all(programs.map(({ ready }) => ready));
    for (const { kernel, fault } of programs) {
      if (fault !== undefined) throw new DeviceError(fault.code, `${kernel}: ${fault.reason}`, { cause: fault.cause });
    }
    const prepared = this.compileAhead === undefined || (await this.compileAhead.prepare(programs));
    for (const program of programs) program.prepared = prepared;
    return prepared;
  }

  /** Whether the program of a kernel's dispatch is there, and prepared. */
  isPrepared(kernel: string, dispatch: Dispatch): boolean {
    return this.known.get(programKey(kernel, dispatch))?.prepared === true;
  }

  /** @throws DeviceError where its WGSL is wrong, as far as that is said at once */
  private programOf(call: KernelCall, dispatch: Dispatch): Program {
    const { kernel } = call;
    const key = programKey(kernel, dispatch);
    const known = this.known.get(key);
    if (known?.fault !== undefined) throw callError(call, known.fault);
    if (known !== undefined) return known;
    const text = dispatch.program();
    const code = programSource(dispatch, text);
    const parameterNames = Object.keys(dispatch.sizes ?? {}).length + Object.keys(dispatch.numbers ?? {}).length;
    if (parameterNames > MOST_PARAMETERS) {
      throw new DeviceError(
        "LIMIT",
        `internal: ${kernel} has ${parameterNames} parameters, at most ${MOST_PARAMETERS} fit`,
      );
    }
    const accesses = dispatch.bindings.map(({ access }) => access ?? "read");
    const layout = this.layoutOf(accesses);
    // What is said later of a text is to be told from the error of its pipeline, which does not tell.
    if (this.reportsLater) this.gpu.pushErrorScope("validation");
    const { value: module, fault } = attempt(this.faults, () => this.gpu.createShaderModule({ code, label: key }));
    const diagnosis = this.reportsLater ? this.gpu.popErrorScope() : undefined;
    if (fault !== undefined) throw callError(call, { ...fault, reason: doesNotCompile(key, fault.reason) });
    const descriptor: GPUComputePipelineDescriptor = {
      label: key,
      layout: this.gpu.createPipelineLayout({
        bindGroupLayouts: parameterNames > 0 ? [layout, this.parameterLayout] : [layout],
      }),
      compute: { module, entryPoint: "main" },
    };
    const program: Program = {
      key,
      kernel,
      text,
      code,
      accesses,
      descriptor,
      layout,
      parameterNames,
      bindGroups: new Map(),
      pipeline: undefined,
      ready: Promise.resolve(),
      fault: undefined,
    };
    const { stack } = new Error();
    program.ready = this.gpu.createComputePipelineAsync(descriptor).then(
      (pipeline) => {
        program.pipeline = pipeline;
      },
      async (cause: Error) => {
        const { message } = (await diagnosis) ?? cause;
        program.fault ??= { code: "VALIDATION", reason: doesNotCompile(key, message), cause, origin: { call, stack } };
      },
    );
    this.known.set(key, program);
    return program;
  }

  /** One bind group layout per sequence of access modes. */
  private layoutOf(accesses: readonly Access[]): GPUBindGroupLayout {
    const key = accesses.join();
    let layout = this.layouts.get(key);
    if (layout === undefined) {
      layout = this.gpu.createBindGroupLayout({ entries: bindGroupEntries(accesses) });
      this.layouts.set(key, layout);
    }
    return layout;
  }
}

export const isCompiling = ({ pipeline, fault }: Program): boolean => pipeline === undefined && fault === undefined;

const doesNotCompile = (key: string, message: string) => `its WGSL did not compile (${key}): ${message}`;

/**
 * WebGPU rejects a whole submit in which a dispatch writes a buffer that it also binds elsewhere: say which dispatch.
 */
function checkAliases(kernel: string, { bindings }: Dispatch): void {
  for (const { name, view, access } of bindings) {
    if (access !== "read_write") continue;
    const other = bindings.find((b) => b.name !== name && overlap(b.view, view));
    if (other !== undefined) {
      throw new DeviceError(
        "VALIDATION",
        `${kernel}: "${name}" is written and must not share memory with "${other.name}"; pass two tensors`,
      );
    }
  }
}
