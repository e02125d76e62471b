// Optimizers: they change parameters in place from their gradients and keep slots (momenta) of the same shape per
// parameter. Defaults are Keras's. The arithmetic is in kernels/optimizer.ts.
import { full, zerosLike } from "../autograd/ops/create.js";
import { equal, where } from "../autograd/ops/elementwise.js";
import { noGrad } from "../autograd/tape.js";
import { copyKernel } from "../kernels/copy.js";
import { type AdamParams, adamKernel, NOT_BEGUN, sgdKernel } from "../kernels/optimizer.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import {
  anyOf,
  boolean,
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
import { checkDevice, requireTensor, requireTensors, runInto, type Tensor, tensorRule } from "../tensor/tensor.js";
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
}

const optimizerRules: Rules<OptimizerOptions> = {
  learningRate: anyOf(number({ from: 0 }), scheduleRule),
  emaMomentum: number({ from: 0, below: 1 }),
};

/** Options with every default in its place. */
type Complete<Options> = Required<Omit<Options, "emaMomentum">> & Pick<OptimizerOptions, "emaMomentum">;

export abstract class Optimizer {
  private finished = 0;
  private schedule: Schedule;
  private readonly initialSchedule: Schedule;
  private readonly settings: Readonly<Record<string, unknown>>;
  private readonly emaMomentum: number | undefined;
  /** Names of the slots that every parameter has. */
  private readonly slotNames: readonly string[];
  /** Slots of each parameter, and what no longer frees them with it. */
  private readonly slots = new Map<Tensor, { readonly tensors: readonly Tensor[]; readonly release: () => void }>();
  /** Parameters that a step has changed: their slots may be there before, from a checkpoint. */
  private readonly met = new Set<Tensor>();
  /** Parameters that hold their averages, see swapAverages. */
  private readonly swapped = new Set<Tensor>();

  protected constructor(
    readonly name: string,
    options: Complete<OptimizerOptions>,
    slotNames: readonly string[],
  ) {
    const { learningRate, ...settings } = options;
    const { emaMomentum } = settings;
    this.settings = settings;
    this.emaMomentum = emaMomentum;
    this.slotNames = emaMomentum === undefined ? slotNames : [...slotNames, AVERAGE];
    this.schedule = typeof learningRate === "number" ? constantRate(learningRate) : learningRate;
    this.initialSchedule = this.schedule;
  }

  /** Finished steps. */
  get iterations(): number {
    return this.finished;
  }

  /** @throws UsageError for what is no number of steps */
  set iterations(value: number) {
    check(this.name, "iterations", value, integer({ from: 0 }));
    this.finished = value;
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
   * One step: changes each parameter in place. Without `gradients`, those that backward() left in `.grad` are used and
   * cleared; parameters without one stay as they are. With `scaling`, gradients are divided by its scale, and nothing
   * changes where one is not finite.
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
    const state = updates.flatMap(([parameter]) => [parameter, ...this.slotsOf(parameter)]);
    const found = updates.map(([, gradient]) => gradient);
    scaling?.check(found);
    const changed = updates.map(([parameter]) => parameter);
    // Asked anew for every step that is replayed.
    this.update([...found, ...(scaling?.inputs ?? [])], state, () => {
      if (this.averagesInUse(changed)) {
        throw new UsageError(
          `${this.name}: a step would change the averages, which swapAverages has put in the parameters' place; call it again before`,
        );
      }
      return {
        learningRate: this.learningRate,
        step: this.iterations + 1,
        scaled: scaling !== undefined,
        ...(this.emaMomentum !== undefined && { newAverage: 1 - this.emaMomentum }),
      };
    });
    device.everyTime(() => {
      this.finished++;
    });
    if (gradients !== undefined) return;
    for (const [parameter, gradient] of updates) {
      gradient.dispose();
      parameter.grad = null;
    }
  }

  /**
   * Changes `state`, which is [parameter, ...slots] for each gradient in turn; if scaled, a loss scaling's inputs
   * follow the gradients. Kernels take their params as functions: rate and step number change from step to step.
   */
  protected abstract update(gradients: readonly Tensor[], state: readonly Tensor[], params: () => StepParams): void;

  /** Whether it was made with emaMomentum. */
  get keepsAverages(): boolean {
    return this.emaMomentum !== undefined;
  }

  /**
   * Exchanges the parameters with their moving averages, such as to measure or save a model; a second call takes it
   * back, for training to go on: a step in between is an error. Running statistics of batch normalisation are no
   * parameters and stay the last step's.
   * @throws UsageError without emaMomentum, and for a parameter that no step has changed
   */
  swapAverages(parameters: readonly Tensor[]): void {
    const index = this.slotNames.indexOf(AVERAGE);
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
    return this.slotsOf(parameter).map((tensor, i) => ({ name: this.slotNames[i]!, tensor }));
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
    this.slotNames.forEach((_, i) => {
      device.placeTogether(storagesOf(slots.map((own) => own[i]!)));
    });
    for (const parameter of fresh) this.met.add(parameter);
  }

  private slotsOf(parameter: Tensor): readonly Tensor[] {
    const known = this.slots.get(parameter);
    if (known !== undefined) return known.tensors;
    const tensors = this.slotNames.map((name) => {
      const { device, shape } = parameter;
      return keep(name === AVERAGE ? full(device, shape, NOT_BEGUN) : zerosLike(parameter));
    });
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
   * Continues after `iterations` steps with parameters and slots as they are now, at a learning rate that may have been
   * set since the start.
   */
  resumeAt(iterations: number, learningRate: number): void {
    this.iterations = iterations;
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

/** Slot of the moving average, the last. */
const AVERAGE = "average";

/** What a step hands to an optimizer's kernel, besides its own settings. */
type StepParams = Pick<AdamParams, "learningRate" | "step" | "scaled" | "newAverage">;

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

export interface SgdOptions extends OptimizerOptions {
  /** Default 0.01. */
  readonly learningRate?: number | Schedule;
  /** Default 0. */
  readonly momentum?: number;
  /** Default false. */
  readonly nesterov?: boolean;
  /** Each step shrinks the parameters by learningRate * weightDecay of themselves; default 0. */
  readonly weightDecay?: number;
}

class Sgd extends Optimizer {
  constructor(private readonly options: Complete<SgdOptions>) {
    super("sgd", options, options.momentum === 0 ? [] : ["momentum"]);
  }

  protected update(gradients: readonly Tensor[], state: readonly Tensor[], params: () => StepParams): void {
    runInto(sgdKernel, gradients, state, () => ({ ...this.options, ...params() }));
  }
}

const sgdRules: Rules<SgdOptions> = {
  ...optimizerRules,
  momentum: number({ from: 0, below: 1 }),
  nesterov: boolean,
  weightDecay: number({ from: 0 }),
};

/** Stochastic gradient descent: w -= learningRate * g, with momentum v <- momentum v - learningRate g, w += v. */
export function sgd(options: SgdOptions = {}): Optimizer {
  const given = checkOptions("sgd", options, sgdRules);
  return new Sgd({ learningRate: 0.01, momentum: 0, nesterov: false, weightDecay: 0, ...given });
}

export interface AdamOptions extends OptimizerOptions {
  /** Default 0.001. */
  readonly learningRate?: number | Schedule;
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-7. */
  readonly epsilon?: number;
}

export interface AdamWOptions extends AdamOptions {
  /** Each step shrinks the parameters by learningRate * weightDecay of themselves; default 0.004. */
  readonly weightDecay?: number;
}

class Adam extends Optimizer {
  constructor(
    name: string,
    private readonly options: Complete<AdamWOptions>,
  ) {
    super(name, options, ["momentum", "velocity"]);
  }

  protected update(gradients: readonly Tensor[], state: readonly Tensor[], params: () => StepParams): void {
    runInto(adamKernel, gradients, state, () => ({ ...this.options, ...params() }));
  }
}

const adamDefaults = { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 } as const;

const adamRules: Rules<AdamOptions> = {
  ...optimizerRules,
  beta1: number({ from: 0, below: 1 }),
  beta2: number({ from: 0, below: 1 }),
  epsilon: number({ above: 0 }),
};

/** Adam (Kingma, Ba, 2015). */
export function adam(options: AdamOptions = {}): Optimizer {
  if (Object.hasOwn(Object(options), "weightDecay")) {
    throw new UsageError("adam: has no weightDecay; use adamW, whose decay is decoupled from the gradient");
  }
  return new Adam("adam", { ...adamDefaults, ...checkOptions("adam", options, adamRules), weightDecay: 0 });
}

/** Adam with decoupled weight decay (Loshchilov, Hutter, 2019). */
export function adamW(options: AdamWOptions = {}): Optimizer {
  const given = checkOptions("adamW", options, { ...adamRules, weightDecay: number({ from: 0 }) });
  return new Adam("adamW", { ...adamDefaults, weightDecay: 0.004, ...given });
}
