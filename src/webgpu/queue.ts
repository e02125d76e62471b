// What a device still has to do: commands are recorded and handed over in large submits. What goes wrong with one is
// booked on the call that it belongs to (faults.ts).
import { wait } from "../runtime/runtime.js";
import { type Counters, countKernel } from "../tensor/device.js";
import { DeviceError } from "../tensor/errors.js";
import {
  type Command,
  type DispatchCommand,
  encode,
  type KernelCall,
  PARAMETER_BINDING,
  ParameterBlock,
} from "./commands.js";
import type { CompileAhead } from "./compile-ahead.js";
import { attempt, callError, type Fault, type FaultSink } from "./faults.js";
import { FirstRun } from "./first-run.js";
import type { BufferPool } from "./pool.js";
import { isCompiling, type Programs } from "./programs.js";
import type { Placeable } from "./recorded/memory.js";
import type { DispatchTimer } from "./timer.js";

/** Commands after which recorded work is submitted without being asked, so that the adapter does not idle. */
const COMMANDS_PER_SUBMIT = 96;
/** Bytes of dispatch parameters per submit, but for first runs of steps. */
const PARAMETER_BYTES = 65536;

export class Queue {
  /** Of the commands that are recorded and not handed over yet. */
  readonly parameters: ParameterBlock;
  /** Times what is submitted, while it is there. */
  timer: DispatchTimer | undefined;
  /** The memory of what is recorded, while a step runs for the first time. */
  firstRun: FirstRun | undefined;
  private parameterMemory: ReturnType<Programs["parameterMemory"]>;
  private commands: Command[] = [];
  private number = 1;
  /** What no call caused that is known; raised at the next one. */
  private failure: Error | undefined;
  /** Errors of calls whose results nobody has read so far; raised by sync and flush. */
  private readonly unread = new Set<DeviceError>();
  /** Some call failed since the device was opened. */
  private hasFailed = false;
  private closed = false;

  constructor(
    private readonly gpu: GPUDevice,
    private readonly faults: FaultSink,
    private readonly programs: Programs,
    private readonly counters: Counters,
    private readonly compileAhead: CompileAhead | undefined,
  ) {
    this.parameters = new ParameterBlock(gpu.limits.minUniformBufferOffsetAlignment, PARAMETER_BYTES);
    this.parameterMemory = programs.parameterMemory(PARAMETER_BYTES);
    faults.report = ({ code, reason }) => this.fail(new DeviceError(code, `webgpu: ${reason}`));
    faults.lost = (info) =>
      this.fail(new DeviceError("DEVICE_LOST", `webgpu: the device was lost (${info.reason}): ${info.message}`));
  }

  /** Number of the submit that the recorded commands will be part of. */
  get submitNumber(): number {
    return this.number;
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** Whether the device was lost. */
  get isLost(): boolean {
    return isLoss(this.failure);
  }

  add(command: Command): void {
    this.commands.push(command);
  }

  /**
   * A step runs for the first time from now on, until `settle`, or until something is handed over.
   * @param check see FirstRun
   */
  plan(pool: BufferPool, check: (bytes: number, used: number) => void): void {
    this.firstRun = new FirstRun(pool, this.commands.length, check);
  }

  /** Lays out side by side what a first run made; false where that cannot be. */
  join(views: readonly Placeable[]): boolean {
    return this.firstRun?.join(views, this.commands) === true;
  }

  /** Ends a first run: what it made gets its place, and its commands their bind groups. */
  settle(): void {
    const { firstRun } = this;
    if (firstRun === undefined) return;
    this.firstRun = undefined;
    try {
      this.commands = firstRun.place(this.commands);
      for (const command of this.commands) {
        if (command.kind === "dispatch" && command.bindGroup === undefined) this.programs.bind(command);
      }
    } catch (error) {
      this.drop(firstRun, error as DeviceError);
      throw error;
    } finally {
      firstRun.end(this.number);
    }
  }

  /** None of a first run's dispatches shall run. What they should have made is lost, what was there before stays. */
  private drop(run: FirstRun, error: DeviceError): void {
    this.hasFailed = true;
    this.commands = this.commands.filter((command, i) => {
      if (i < run.before || command.kind === "copy") return true;
      const { outputs, writes } = command.call;
      outputs.forEach(({ buffer }, k) => {
        if (run.has(buffer)) writes[k]!.error ??= error;
      });
      return false;
    });
  }

  /** Makes room for the parameters of one more dispatch: a submit holds a fixed number of bytes. */
  makeRoom(): void {
    if (this.firstRun === undefined && this.parameters.bytes + PARAMETER_BINDING > PARAMETER_BYTES)
      this.submitBlocking();
  }

  /** Hands over what is recorded where that is much, so that the adapter does not idle. */
  submitMuch(): void {
    if (this.firstRun === undefined && this.commands.length >= COMMANDS_PER_SUBMIT) this.submitIfReady();
  }

  /** Ends: what is recorded is not done any more, and what is said of a destroyed device is nobody's. */
  close(): void {
    this.closed = true;
    this.commands = [];
    this.firstRun = undefined;
    this.faults.report = undefined;
    this.faults.lost = undefined;
    this.parameterMemory.buffer.destroy();
  }

  /** Raises failures, and submits what was recorded before a step that is run again. */
  beginStep(): void {
    this.checkOpen();
    this.submitBlocking();
  }

  /** Hands over the commands of a recorded step, `encoded` of them; counts them as what they were recorded as. */
  submitStep(
    recorded: readonly DispatchCommand[],
    encoded: number,
    encodeStep: (encoder: GPUCommandEncoder) => void,
  ): void {
    const { fault } = attempt(this.faults, () => {
      const encoder = this.gpu.createCommandEncoder();
      encodeStep(encoder);
      this.gpu.queue.submit([encoder.finish()]);
    });
    // Nothing of it was executed.
    if (fault !== undefined) throw new DeviceError(fault.code, `record: the recorded step cannot run: ${fault.reason}`);
    for (const { program } of recorded) countKernel(this.counters, program.kernel);
    this.counters.dispatches += encoded - recorded.length;
    this.counters.submits++;
    this.number++;
  }

  checkOpen(): void {
    if (this.closed) throw new DeviceError("CLOSED", "webgpu device: used after destroy(); open a new device");
    this.raise();
  }

  fail(error: Error): void {
    this.failure ??= error;
  }

  /** Raises a failure of the device; a lost device stays failed, other errors are raised once. */
  raise(): void {
    const { failure } = this;
    if (failure === undefined) return;
    if (isLoss(failure)) this.commands = [];
    else this.failure = undefined;
    throw failure;
  }

  /** What ended a wait that WebGPU rejected. */
  waitFailure(what: string, cause: unknown): Error {
    return this.failure ?? new DeviceError("DEVICE_LOST", `webgpu: ${what} failed`, { cause });
  }

  /** Raises the error of a call, whoever asked for its results. */
  raiseCall(error: DeviceError): never {
    this.unread.delete(error);
    throw error;
  }

  /** A call threw: none of its dispatches shall run. What those wrote that were submitted already is lost. */
  abandon(call: KernelCall, { message }: Error): void {
    const { length } = this.commands;
    this.commands = this.commands.filter((command) => command.kind !== "dispatch" || command.call !== call);
    if (length - this.commands.length === call.dispatches) return;
    this.book(callError(call, { code: "VALIDATION", reason: message }), call);
    for (const content of call.writes) content.error ??= call.error;
  }

  /** Submits all recorded work, waiting only for pipelines that are still being compiled. Raises what went wrong. */
  async flush(): Promise<void> {
    await this.handOver();
    this.raiseUnread();
  }

  /** As flush, but errors of calls are left to those who read their results. */
  async handOver(): Promise<void> {
    this.raise();
    while (this.commands.length > 0) {
      const compiling = this.commands.flatMap((c) =>
        c.kind === "dispatch" && isCompiling(c.program) ? [c.program] : [],
      );
      if (compiling.length > 0) {
        await wait(Promise.all(compiling.map((program) => program.ready)));
        this.raise();
      } else {
        this.submit();
      }
    }
    this.raise();
  }

  async sync(): Promise<void> {
    await this.handOver();
    await wait(this.gpu.queue.onSubmittedWorkDone()).catch((cause: unknown) => {
      throw this.waitFailure("waiting for the queue", cause);
    });
    this.raise();
    this.raiseUnread();
  }

  /** Submits when nothing is left to compile; otherwise the next flush does. */
  submitIfReady(): boolean {
    const ready = this.commands.every((c) => c.kind !== "dispatch" || !isCompiling(c.program));
    if (ready) this.submit();
    return ready;
  }

  /** Submits now, compiling on this thread what is not there yet. */
  private submitBlocking(): void {
    this.programs.compileNow(this.commands);
    this.submit();
  }

  /** Raises the first error of a call whose results nobody read; the others go with it. */
  private raiseUnread(): void {
    const [first] = this.unread;
    this.unread.clear();
    if (first !== undefined) throw first;
  }

  private submit(): void {
    this.settle();
    if (this.commands.length === 0) return;
    if (this.parameters.bytes > this.parameterMemory.buffer.size - PARAMETER_BINDING) {
      this.parameterMemory.buffer.destroy();
      this.parameterMemory = this.programs.parameterMemory(this.parameters.bytes);
    }
    const commands = this.runnable(this.commands);
    this.commands = [];
    if (this.parameters.bytes > 0) this.gpu.queue.writeBuffer(this.parameterMemory.buffer, 0, this.parameters.data);
    // Nothing of a submit with a fault in it is executed: it is handed over call by call, to lose that one alone.
    if (this.handedOver(commands) !== undefined) {
      for (const part of byCall(commands)) {
        const rest = this.runnable(part);
        const fault = rest.length > 0 ? this.handedOver(rest) : undefined;
        if (fault !== undefined) this.lose(rest, fault);
      }
    }
    this.compileAhead?.submitted(
      commands.flatMap((command) => (command.kind === "dispatch" ? [command.program] : [])),
      () => this.gpu.queue.onSubmittedWorkDone(),
    );
    this.counters.submits++;
    this.parameters.bytes = 0;
    this.number++;
  }

  /** Encodes and submits; what is wrong with it, if anything is. */
  private handedOver(commands: readonly Command[]): Fault | undefined {
    return attempt(this.faults, () => {
      const encoder = this.gpu.createCommandEncoder();
      encode(encoder, commands, this.parameterMemory.group, this.timer);
      this.gpu.queue.submit([encoder.finish()]);
    }).fault;
  }

  /** The commands without those of calls that failed, or that need what such calls should have computed. */
  private runnable(commands: readonly Command[]): readonly Command[] {
    const failed = (command: Command) => command.kind === "dispatch" && command.program.fault !== undefined;
    if (!this.hasFailed && !commands.some(failed)) return commands;
    return commands.filter((command) => {
      if (command.kind === "copy") {
        if (command.content?.error !== undefined) command.error = command.content.error;
        return command.error === undefined;
      }
      const { call, program } = command;
      call.error ??= call.reads.find(({ error }) => error !== undefined)?.error;
      if (call.error === undefined && program.fault !== undefined) this.book(callError(call, program.fault), call);
      for (const content of call.writes) content.error ??= call.error;
      return call.error === undefined;
    });
  }

  /** The commands of one call could not be submitted. */
  private lose(commands: readonly Command[], fault: Fault): void {
    for (const command of commands) {
      if (command.kind === "copy") {
        command.error = new DeviceError(fault.code, `read: ${fault.reason}`);
        continue;
      }
      const { call } = command;
      if (call.error === undefined) this.book(callError(call, fault), call);
      for (const content of call.writes) content.error ??= call.error;
    }
  }

  /** A call failed, and its results will tell. */
  private book(error: DeviceError, call: KernelCall): void {
    call.error = error;
    this.hasFailed = true;
    this.unread.add(error);
  }
}

const isLoss = (error: Error | undefined) => error instanceof DeviceError && error.code === "DEVICE_LOST";

/** Runs of commands of one call; copies alone. */
function byCall(commands: readonly Command[]): Command[][] {
  const parts: Command[][] = [];
  let last: KernelCall | undefined;
  for (const command of commands) {
    const call = command.kind === "dispatch" ? command.call : undefined;
    if (call !== undefined && call === last) parts.at(-1)!.push(command);
    else parts.push([command]);
    last = call;
  }
  return parts;
}
