// A step that is run many times: recorded once per shapes of its inputs and replayed from then on, where the device can
// do that. What a replay saves is JavaScript: layers, tape, tensors, bind groups. Its results have the same bits.
import { type Device, deviceRule, type RecordedStep } from "./device.js";
import type { DType } from "./dtype.js";
import { ShapeError } from "./errors.js";
import { boolean, callable, check, checkOptions, type Rule, type Rules } from "./options.js";
import { keep, refusePromise, scope } from "./scope.js";
import { checkShape, formatShape, type Shape, sizeOf } from "./shape.js";
import { empty, requireTensors, type Tensor } from "./tensor.js";

/** Values on their way to the device. */
export interface HostTensor {
  readonly values: Float32Array | Int32Array | Uint32Array;
  readonly shape: Shape;
}

/** Values that come to a step in another way than from the host. */
export interface FilledTensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Overwrites the tensor, of this shape and dtype, that the step takes. */
  readonly fill: (input: Tensor) => void;
}

/** What a step takes. */
export type StepInput = HostTensor | FilledTensor;

export interface StepPlanOptions {
  /** Runs the function every time, without recording it. Default false. */
  readonly eager?: boolean;
  /**
   * Names what besides the inputs' shapes decides which kernels the step runs, e.g. which weights are trained: a step
   * is recorded per name.
   */
  readonly variant?: () => string;
}

const planRules: Rules<StepPlanOptions> = { eager: boolean, variant: callable };

const hostTensor: Rule = {
  expected: "{ values, shape } of a Float32Array, Int32Array or Uint32Array",
  accepts: (value) => {
    const { values } = Object(value) as Partial<HostTensor>;
    return values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint32Array;
  },
};

const isFilled = (value: StepInput): value is FilledTensor => typeof Object(value).fill === "function";

/** @throws UsageError, ShapeError unless the values are what the shape says */
function checkInput(value: StepInput, i: number): void {
  if (!isFilled(value)) check("StepPlan", `input ${i}`, value, hostTensor);
  checkShape("StepPlan", value.shape);
  if (isFilled(value) || sizeOf(value.shape) === value.values.length) return;
  throw new ShapeError(
    `StepPlan: input ${i} of shape ${formatShape(value.shape)} needs ${sizeOf(value.shape)} values, got ${value.values.length}`,
  );
}

/** Recorded steps that are kept; the one not run for the longest goes first. */
const MOST_RECORDED = 4;

interface Recording {
  readonly inputs: readonly Tensor[];
  runs: number;
  step: RecordedStep | undefined;
}

function dtypeOf(value: StepInput): DType {
  if (isFilled(value)) return value.dtype;
  return value.values instanceof Float32Array ? "f32" : value.values instanceof Int32Array ? "i32" : "u32";
}

/**
 * Runs `fn` on inputs that the host gives anew each time. `fn` may read and change tensors made before it, and must
 * keep no others than those it returns. It must declare what changes from step to step (see `Device.record`).
 */
export class StepPlan {
  private readonly recordings = new Map<string, Recording>();
  private eagerOutputs: readonly Tensor[] = [];

  constructor(
    private readonly device: Device,
    private readonly fn: (...inputs: Tensor[]) => readonly Tensor[],
    private readonly options: StepPlanOptions = {},
  ) {
    check("StepPlan", "device", device, deviceRule);
    check("StepPlan", "fn", fn, callable);
    checkOptions("StepPlan", options, planRules);
  }

  /** One step. The tensors it gives belong to the plan and are overwritten by the next. */
  run(...values: readonly StepInput[]): readonly Tensor[] {
    for (const [i, value] of values.entries()) checkInput(value, i);
    const recording = this.recordingOf(values);
    for (const [i, input] of recording.inputs.entries()) {
      const value = values[i]!;
      if (isFilled(value)) {
        value.fill(input);
      } else {
        this.device.write(input.storage, value.values);
        input.storage.changed("StepPlan.run");
      }
    }
    if (recording.step?.valid === false) {
      recording.step.dispose();
      recording.step = undefined;
    }
    if (recording.step !== undefined) {
      recording.step.run();
      return recording.step.outputs;
    }
    // The first time makes what outlives a step (the momenta of an optimizer) and has the kernels compiled.
    const compute = () => scope(() => this.outputsOf(recording.inputs)).map(keep);
    const isFirst = recording.runs++ === 0;
    if (!isFirst && !this.options.eager) recording.step = this.device.record(compute);
    if (recording.step !== undefined) return recording.step.outputs;
    for (const t of this.eagerOutputs) t.dispose();
    this.eagerOutputs = isFirst ? this.device.firstRun(compute) : compute();
    return this.eagerOutputs;
  }

  private outputsOf(inputs: readonly Tensor[]): readonly Tensor[] {
    const outputs = this.fn(...inputs);
    refusePromise("StepPlan", outputs);
    requireTensors("StepPlan", "what fn returns", outputs);
    return outputs;
  }

  private recordingOf(values: readonly StepInput[]): Recording {
    const shapes = values.map((value) => `${dtypeOf(value)}[${value.shape.join(",")}]`);
    const key = [...shapes, this.options.variant?.()].join(" ");
    let recording = this.recordings.get(key);
    if (recording === undefined) {
      const inputs = values.map((value) => keep(empty(this.device, value.shape, dtypeOf(value))));
      for (const { storage } of inputs) storage.renewed = true;
      recording = { inputs, runs: 0, step: undefined };
      const [oldest] = this.recordings;
      if (this.recordings.size >= MOST_RECORDED && oldest !== undefined) this.drop(...oldest);
    } else {
      this.recordings.delete(key);
    }
    this.recordings.set(key, recording);
    return recording;
  }

  private drop(key: string, { inputs, step }: Recording): void {
    this.recordings.delete(key);
    step?.dispose();
    for (const input of inputs) input.dispose();
  }

  /** Frees the inputs, the outputs and the memory of the recorded steps. */
  dispose(): void {
    for (const entry of [...this.recordings]) this.drop(...entry);
    for (const t of this.eagerOutputs) t.dispose();
    this.eagerOutputs = [];
  }
}
