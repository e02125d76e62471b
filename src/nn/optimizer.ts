// What an optimizer is: it changes parameters in place from their gradients and keeps slots (momenta) of the same shape
// per parameter. Gradients may be clipped, and gathered over several steps. optimizers.ts has those that there are;
// their arithmetic is in kernels/optimizer-rules.ts.
import { full } from "../autograd/ops/create.js";
import { equal, where } from "../autograd/ops/elementwise.js";
import { noGrad } from "../autograd/tape.js";
import { clipGradientsKernel } from "../kernels/clip-gradients.js";
import { copyKernel } from "../kernels/copy.js";
import { accumulateKernel, NOT_BEGUN } from "../kernels/optimizer.js";
import type { RuleParams } from "../kernels/optimizer-rules.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import type { Kernel } from "../tensor/kernel.js";
import {
  anyOf,
  callable,
  check,
  checkOptions,
  integer,
  listOf,
  number,
  type Rule,
  type Rules,
} from "../tensor/options.js";
import { keep, refusePromise, scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import {
  checkDevice,
  requireTensor,
  requireTensors,
  runInto,
  runMany,
  type Tensor,
  tensorRule,
} from "../tensor/tensor.js";
import { constantRate, type Schedule, scheduleRule } from "./schedules.js";

/** An optimizer's kind and settings, as JSON. */
export interface OptimizerConfig {
  readonly name: string;
  readonly schedule: { readonly name: string; readonly [setting: string]: number | boolean | string };
  readonly [setting: string]: unknown;
}

/** A loss scaling's part in a step, see LossScaler. */
export interface StepScaling {
  /** The gradients' factor, [], and whether any gradient is not finite, u32 [1]. */
  readonly inputs: readonly [scale: Tensor, nonFinite: Tensor];
  /** Looks through the step's gradients, before it. */
  readonly check: (gradients: readonly Tensor[]) => void;
}

const scalingRules: Rules<StepScaling> = { inputs: listOf(tensorRule, { from: 2, to: 2 }), check: callable };

/** What every optimizer takes. */
export interface OptimizerOptions {
  readonly learningRate?: number | Schedule;
  /**
   * Keeps a moving average a of every parameter w, as Keras's use_ema: after each step a <- emaMomentum a + (1 -
   * emaMomentum) w, from the w after the first step that changes it on; `swapAverages` takes it into use. Often better
   * than the last step's parameters where the rate does not fall, in a training of many more than 1 / (1 - emaMomentum)
   * steps. In [0, 1), Keras's default 0.99; by default there is no average.
   */
  readonly emaMomentum?: number;
  /** Largest norm of each parameter's gradient g: g clipNorm / max(|g|, clipNorm). One of the three limits at most. */
  readonly clipNorm?: number;
  /** Largest norm of all gradients together. */
  readonly globalClipNorm?: number;
  /** Largest magnitude of a gradient's elements. */
  readonly clipValue?: number;
  /**
   * Calls of `step` whose gradients make one change of the parameters, by their mean; default 1. Limits are those of
   * the mean. `iterations`, which learning rates follow, counts changes; what is gathered stays from one epoch to the
   * next.
   */
  readonly gradientAccumulationSteps?: number;
}

const limit = number({ above: 0 });

export const optimizerRules: Rules<OptimizerOptions> = {
  learningRate: anyOf(number({ from: 0 }), scheduleRule),
  emaMomentum: number({ from: 0, below: 1 }),
  clipNorm: limit,
  globalClipNorm: limit,
  clipValue: limit,
  gradientAccumulationSteps: integer({ from: 1 }),
};

/** Without a default. */
type Optional = "emaMomentum" | "clipNorm" | "globalClipNorm" | "clipValue" | "gradientAccumulationSteps";

/** Options with every default in its place. */
export type Complete<Options extends OptimizerOptions> = Required<Omit<Options, Optional>> & Pick<Options, Optional>;

/** What an optimizer is made of, besides its options. */
export interface OptimizerKind {
  readonly name: string;
  /** Initial value of each slot that a parameter has, by name, in the kernel's order. */
  readonly slots: Readonly<Record<string, number>>;
  /** Its params are the options, and what changes from step to step. */
  // biome-ignore lint/suspicious/noExplicitAny: each kind has options of its own
  readonly kernel: Kernel<any>;
}

export class Optimizer {
  readonly name: string;
  /** Calls of `step` that make one change of the parameters. */
  readonly gradientAccumulationSteps: number;
  private finished = 0;
  private schedule: Schedule;
  private readonly initialSchedule: Schedule;
  private readonly settings: Omit<OptimizerOptions, "learningRate">;
  private readonly kernel: OptimizerKind["kernel"];
  /** Slots that every parameter has, with their initial values: the kernel's, then GATHERED. */
  private readonly slotValues: readonly (readonly [name: string, value: number])[];
  /** Slots of each parameter, and what no longer frees them with it. */
  private readonly slots = new Map<Tensor, { readonly tensors: readonly Tensor[]; readonly release: () => void }>();
  /** Parameters that a step has changed: their slots may be there before, from a checkpoint. */
  private readonly met = new Set<Tensor>();
  /** Parameters that hold their averages, see swapAverages. */
  private readonly swapped = new Set<Tensor>();

  constructor(
    { name, slots, kernel }: OptimizerKind,
    { learningRate, ...settings }: OptimizerOptions & { readonly learningRate: number | Schedule },
  ) {
    const limits = (["clipNorm", "globalClipNorm", "clipValue"] as const).filter(
      (each) => settings[each] !== undefined,
    );
    if (limits.length > 1) {
      throw new UsageError(`${name}: takes one of clipNorm, globalClipNorm and clipValue, got ${limits.join(" and ")}`);
    }
    const { emaMomentum, gradientAccumulationSteps = 1 } = settings;
    this.name = name;
    this.kernel = kernel;
    this.settings = settings;
    this.gradientAccumulationSteps = gradientAccumulationSteps;
    this.slotValues = [
      ...Object.entries(slots),
      ...(emaMomentum === undefined ? [] : [[AVERAGE, NOT_BEGUN] as const]),
      ...(gradientAccumulationSteps === 1 ? [] : [[GATHERED, 0] as const]),
    ];
    this.schedule = typeof learningRate === "number" ? constantRate(learningRate) : learningRate;
    this.initialSchedule = this.schedule;
  }

  /** Finished calls of `step`. */
  get steps(): number {
    return this.finished;
  }

  /** @throws UsageError for what is no number of steps */
  set steps(value: number) {
    check(this.name, "steps", value, integer({ from: 0 }));
    this.finished = value;
  }

  /** Steps whose gradients wait for the parameters' next change. */
  get gathered(): number {
    return this.finished % this.gradientAccumulationSteps;
  }

  /** Finished changes of the parameters: as many as steps, unless gradients are gathered over several. */
  get iterations(): number {
    return Math.floor(this.finished / this.gradientAccumulationSteps);
  }

  /** Nothing is gathered then. @throws UsageError for what is no number of steps */
  set iterations(value: number) {
    check(this.name, "iterations", value, integer({ from: 0 }));
    this.finished = value * this.gradientAccumulationSteps;
  }

  /** Learning rate of the next step. @throws UsageError where a schedule gives what is no rate */
  get learningRate(): number {
    const rate = this.schedule.at(this.iterations);
    if (rate >= 0 && rate < Number.POSITIVE_INFINITY) return rate;
    refusePromise(this.name, rate, `the schedule "${this.schedule.name}"`, "its at(step) gives the rate itself");
    throw new UsageError(
      `${this.name}: the schedule "${this.schedule.name}" must give rates from 0, gave ${rate} after ${this.iterations} steps`,
    );
  }

  /** @throws UsageError where a schedule sets the rate, and for what is none */
  set learningRate(value: number) {
    check(this.name, "learningRate", value, number({ from: 0 }));
    if (this.schedule.name !== "constant") {
      throw new UsageError(
        `${this.name}: its learning rate follows the schedule ${this.schedule.name}; it cannot be set`,
      );
    }
    this.schedule = constantRate(value);
  }

  /**
   * One step: changes each parameter in place, or gathers gradients for that. Without `gradients`, those that
   * backward() left in `.grad` are used and cleared; parameters without one stay as they are. With `scaling`, gradients
   * are divided by its scale, and nothing changes where one is not finite.
   * @throws UsageError when no parameter has a gradient, and where one holds its average
   */
  step(parameters: readonly Tensor[], gradients?: readonly Tensor[], scaling?: StepScaling): void {
    requireTensors(this.name, "parameters", parameters);
    if (gradients !== undefined) requireTensors(this.name, "gradients", gradients);
    if (scaling !== undefined) checkOptions(this.name, scaling, scalingRules, ["inputs", "check"]);
    const updates = gradients === undefined ? gradientsOf(parameters) : pairs(this.name, parameters, gradients);
    if (updates.length === 0) {
      throw new UsageError(
        `${this.name}: no parameter has a gradient; call backward(loss) first, with layers that are trainable`,
      );
    }
    const { device } = updates[0]![0];
    for (const [parameter, gradient] of updates) {
      for (const t of [parameter, gradient]) checkDevice(this.name, device, t);
      if (!sameShape(gradient.shape, parameter.shape)) {
        throw new ShapeError(
          `${this.name}: a gradient must have its parameter's shape ${formatShape(parameter.shape)}, got ${formatShape(gradient.shape)}`,
        );
      }
      if (parameter.dtype === "f32" && gradient.dtype === "f32") continue;
      throw new ShapeError(
        `${this.name}: parameters and gradients must be f32, got ${parameter.dtype} and ${gradient.dtype}`,
      );
    }
    this.meet(updates.map(([parameter]) => parameter));
    const found = updates.map(([, gradient]) => gradient);
    scaling?.check(found);
    scope(() =>
      this.change(
        updates.map(([parameter]) => parameter),
        found,
        scaling?.inputs,
      ),
    );
    device.everyTime(() => {
      this.finished++;
    });
    if (gradients !== undefined) return;
    for (const [parameter, gradient] of updates) {
      gradient.dispose();
      parameter.grad = null;
    }
  }

  /** Changes parameters by gradients that have a loss scaling's factor, if it is given. */
  private change(parameters: readonly Tensor[], given: readonly Tensor[], scaling?: StepScaling["inputs"]): void {
    const { clipNorm, globalClipNorm, emaMomentum } = this.settings;
    const { gradientAccumulationSteps: count } = this;
    let gradients = given;
    /** What of the scaling still applies to them. */
    let applies: RuleParams["scaling"] = scaling && "scale";
    if (count > 1) {
      const sums = parameters.map((parameter) => this.slotsOf(parameter).at(-1)!);
      // Params are asked for anew in every step that is replayed.
      runInto(accumulateKernel, [...gradients, ...(scaling ?? [])], sums, () => ({
        ...{ first: this.gathered === 0, share: 1 / count },
        ...(scaling && { scaling: "scale" as const }),
      }));
      gradients = sums;
      applies &&= "guard";
    }
    const most = clipNorm ?? globalClipNorm;
    if (most !== undefined) {
      const scaled = applies === "scale";
      const inputs = [...gradients, ...(scaled ? [scaling![0]] : [])];
      const params = { most, together: clipNorm === undefined, scaled };
      gradients = runMany(clipGradientsKernel, inputs, gradients, params);
      applies &&= "guard";
    }
    const now = applies;
    const inputs = [...gradients, ...(now === undefined ? [] : now === "scale" ? scaling! : [scaling![1]])];
    const state = parameters.flatMap((parameter) => {
      const slots = this.slotsOf(parameter);
      return [parameter, ...(count > 1 ? slots.slice(0, -1) : slots)];
    });
    runInto(this.kernel, inputs, state, () => {
      if (this.averagesInUse(parameters)) {
        throw new UsageError(
          `${this.name}: a step would change the averages, which swapAverages has put in the parameters' place; call it again before`,
        );
      }
      return {
        ...this.settings,
        ...{ learningRate: this.learningRate, step: this.iterations + 1, scaling: now },
        ...(emaMomentum !== undefined && { newAverage: 1 - emaMomentum }),
        ...(count > 1 && { due: this.gathered === count - 1 }),
      };
    });
  }

  /** Whether it was made with emaMomentum. */
  get keepsAverages(): boolean {
    return this.settings.emaMomentum !== undefined;
  }

  /**
   * Exchanges the parameters with their moving averages, such as to measure or save a model; a second call takes it
   * back, for training to go on: a step in between is an error. Running statistics of batch normalisation are no
   * parameters and stay the last step's.
   * @throws UsageError without emaMomentum, and for a parameter that no step has changed
   */
  swapAverages(parameters: readonly Tensor[]): void {
    const index = this.slotValues.findIndex(([name]) => name === AVERAGE);
    if (index < 0) {
      throw new UsageError(`${this.name}: keeps no averages of the parameters; make it with emaMomentum, such as 0.99`);
    }
    requireTensors(`${this.name}: swapAverages`, "parameters", parameters);
    // Models put together may share some.
    const different = [...new Set(parameters)];
    const averages = different.map((parameter) => this.slots.get(parameter)?.tensors[index]);
    const without = different.find((_, i) => averages[i] === undefined);
    if (without !== undefined || this.iterations === 0) {
      throw new UsageError(
        `${this.name}: no step has changed ${without === undefined ? "any parameter" : `a parameter of shape ${formatShape(without.shape)}`}: there is no average of it yet`,
      );
    }
    for (const [i, parameter] of different.entries()) {
      const average = averages[i]!;
      noGrad(() =>
        scope(() => {
          // Where all steps were left out, the parameter is its own average.
          const fresh = equal(average, NOT_BEGUN);
          const [taken, given] = [where(fresh, parameter, average), where(fresh, average, parameter)];
          runInto(copyKernel, [taken], [parameter], {});
          runInto(copyKernel, [given], [average], {});
        }),
      );
      parameter.storage.changed("swapAverages");
      if (!this.swapped.delete(parameter)) this.swapped.add(parameter);
    }
  }

  /** Whether any of the parameters holds its average, see `swapAverages`. */
  averagesInUse(parameters: readonly Tensor[]): boolean {
    return this.swapped.size > 0 && parameters.some((parameter) => this.swapped.has(parameter));
  }

  /** The slots of a parameter by name; made where there are none yet. They are freed with the parameter. */
  slotTensors(parameter: Tensor): { readonly name: string; readonly tensor: Tensor }[] {
    requireTensor(this.name, "parameter", parameter);
    return this.slotsOf(parameter).map((tensor, i) => ({ name: this.slotValues[i]![0], tensor }));
  }

  /**
   * Places those of the parameters that no step has changed side by side, and their slots: one kernel changes all of
   * them.
   */
  private meet(parameters: readonly Tensor[]): void {
    const fresh = parameters.filter((parameter) => !this.met.has(parameter));
    if (fresh.length === 0) return;
    const storagesOf = (tensors: readonly Tensor[]) => tensors.map(({ storage }) => storage);
    const { device } = fresh[0]!;
    device.placeTogether(storagesOf(fresh));
    const slots = fresh.map((parameter) => this.slotsOf(parameter));
    this.slotValues.forEach((_, i) => {
      device.placeTogether(storagesOf(slots.map((own) => own[i]!)));
    });
    for (const parameter of fresh) this.met.add(parameter);
  }

  private slotsOf(parameter: Tensor): readonly Tensor[] {
    const known = this.slots.get(parameter);
    if (known !== undefined) return known.tensors;
    const { device, shape } = parameter;
    const tensors = this.slotValues.map(([, value]) => keep(full(device, shape, value)));
    const release = parameter.onDispose(() => {
      for (const slot of tensors) slot.dispose();
      this.slots.delete(parameter);
      this.met.delete(parameter);
      this.swapped.delete(parameter);
    });
    this.slots.set(parameter, { tensors, release });
    return tensors;
  }

  /** Kind and settings, as it was made. */
  config(): OptimizerConfig {
    const { name, config } = this.initialSchedule;
    return { name: this.name, schedule: { name, ...config }, ...this.settings };
  }

  /**
   * Continues after `steps` steps with parameters and slots as they are now, at a learning rate that may have been set
   * since the start.
   */
  resumeAt(steps: number, learningRate: number): void {
    this.steps = steps;
    this.swapped.clear();
    if (this.schedule.name === "constant") this.learningRate = learningRate;
  }

  /** Frees the slots; those of a parameter that is disposed of go with it. */
  dispose(): void {
    for (const { tensors, release } of this.slots.values()) {
      release();
      for (const slot of tensors) slot.dispose();
    }
    this.slots.clear();
    this.met.clear();
    this.swapped.clear();
  }
}

export const optimizerRule: Rule = {
  expected: "an optimizer, such as optim.adam()",
  accepts: (value) => value instanceof Optimizer,
};

/** Slot of the moving average, the last of the kernel's. */
const AVERAGE = "average";
/** Slot of gradients that are gathered. */
const GATHERED = "gathered";

type Pair = readonly [parameter: Tensor, gradient: Tensor];

/** Parameters with a gradient of their own, each once: models put together may share them. */
function gradientsOf(parameters: readonly Tensor[]): Pair[] {
  return [...new Set(parameters)].flatMap((parameter) =>
    parameter.grad === null ? [] : [[parameter, parameter.grad] as const],
  );
}

function pairs(optimizer: string, parameters: readonly Tensor[], gradients: readonly Tensor[]): Pair[] {
  if (gradients.length !== parameters.length || new Set(parameters).size !== parameters.length) {
    throw new UsageError(
      `${optimizer}: needs one gradient for each of different parameters, got ${gradients.length} for ${parameters.length} (${new Set(parameters).size} different)`,
    );
  }
  return parameters.map((parameter, i) => [parameter, gradients[i]!]);
}
