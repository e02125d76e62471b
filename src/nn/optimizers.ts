// Optimizers: they change parameters in place from their gradients and keep slots (momenta) of the same shape per
// parameter. Defaults are Keras's. The arithmetic is in kernels/optimizer.ts.
import { zerosLike } from "../autograd/ops/create.js";
import { copyKernel } from "../kernels/copy.js";
import { type AdamParams, adamKernel, sgdKernel } from "../kernels/optimizer.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { keep } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";
import { constantRate, type Schedule } from "./schedules.js";

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

/** What every optimizer takes. */
export interface OptimizerOptions {
  readonly learningRate?: number | Schedule;
  /**
   * Keeps a moving average a of every parameter w, as Keras's use_ema: after each step a <- emaMomentum a + (1 -
   * emaMomentum) w, from the first step's w on; `swapAverages` takes it into use. Often better than the last step's
   * parameters where the rate does not fall, in a training of many more than 1 / (1 - emaMomentum) steps. In [0, 1), Keras's
   * default 0.99; by default there is no average.
   */
  readonly emaMomentum?: number;
}

/** Options with every default in its place. */
type Complete<Options> = Required<Omit<Options, "emaMomentum">> & Pick<OptimizerOptions, "emaMomentum">;

export abstract class Optimizer {
  /** Finished steps. */
  iterations = 0;
  private schedule: Schedule;
  private readonly initialSchedule: Schedule;
  private readonly settings: Readonly<Record<string, unknown>>;
  private readonly emaMomentum: number | undefined;
  /** Names of the slots that every parameter has. */
  private readonly slotNames: readonly string[];
  private readonly slots = new Map<Tensor, Tensor[]>();
  /** Parameters that a step has changed: their slots may be there before, from a checkpoint. */
  private readonly met = new Set<Tensor>();

  protected constructor(
    readonly name: string,
    options: Complete<OptimizerOptions>,
    slotNames: readonly string[],
  ) {
    const { learningRate, ...settings } = options;
    const { emaMomentum } = settings;
    if (emaMomentum !== undefined && !(emaMomentum >= 0 && emaMomentum < 1)) {
      throw new UsageError(`${name}: emaMomentum must be in [0, 1), got ${emaMomentum}`);
    }
    this.settings = settings;
    this.emaMomentum = emaMomentum;
    this.slotNames = emaMomentum === undefined ? slotNames : [...slotNames, AVERAGE];
    this.schedule = typeof learningRate === "number" ? constantRate(learningRate) : learningRate;
    this.initialSchedule = this.schedule;
    if (!(this.learningRate >= 0)) {
      throw new UsageError(`${name}: learningRate must be a number from 0, got ${this.learningRate}`);
    }
  }

  /** Learning rate of the next step. */
  get learningRate(): number {
    return this.schedule.at(this.iterations);
  }

  /** @throws UsageError where a schedule sets the rate */
  set learningRate(value: number) {
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
   * @throws UsageError when no parameter has a gradient
   */
  step(parameters: readonly Tensor[], gradients?: readonly Tensor[], scaling?: StepScaling): void {
    const updates = gradients === undefined ? gradientsOf(parameters) : pairs(this.name, parameters, gradients);
    if (updates.length === 0) {
      throw new UsageError(
        `${this.name}: no parameter has a gradient; call backward(loss) first, with layers that are trainable`,
      );
    }
    for (const [parameter, gradient] of updates) {
      if (sameShape(gradient.shape, parameter.shape)) continue;
      throw new ShapeError(
        `${this.name}: a gradient must have its parameter's shape ${formatShape(parameter.shape)}, got ${formatShape(gradient.shape)}`,
      );
    }
    this.meet(updates.map(([parameter]) => parameter));
    const state = updates.flatMap(([parameter]) => [parameter, ...this.slotsOf(parameter)]);
    const found = updates.map(([, gradient]) => gradient);
    scaling?.check(found);
    this.update([...found, ...(scaling?.inputs ?? [])], state, () => ({
      learningRate: this.learningRate,
      step: this.iterations + 1,
      scaled: scaling !== undefined,
      ...(this.emaMomentum !== undefined && { newAverage: this.iterations === 0 ? 1 : 1 - this.emaMomentum }),
    }));
    updates[0]![0].device.everyTime(() => {
      this.iterations++;
    });
    if (gradients !== undefined) return;
    for (const [parameter, gradient] of updates) {
      gradient.dispose();
      parameter.grad = null;
    }
  }

  /**
   * Changes `state`, which is [parameter, ...slots] for each gradient in turn; if scaled, a loss scaling's inputs follow the
   * gradients. Kernels take their params as functions: rate and step number change from step to step.
   */
  protected abstract update(gradients: readonly Tensor[], state: readonly Tensor[], params: () => StepParams): void;

  /** Whether it was made with emaMomentum. */
  get keepsAverages(): boolean {
    return this.emaMomentum !== undefined;
  }

  /**
   * Exchanges the parameters with their moving averages, such as to measure or save a model; a second call takes it back,
   * for training to go on. Running statistics of batch normalisation are no parameters and stay the last step's.
   * @throws UsageError without emaMomentum, and for a parameter that no step has changed
   */
  swapAverages(parameters: readonly Tensor[]): void {
    const index = this.slotNames.indexOf(AVERAGE);
    if (index < 0) {
      throw new UsageError(`${this.name}: keeps no averages of the parameters; make it with emaMomentum, such as 0.99`);
    }
    const averages = parameters.map((parameter) => this.slots.get(parameter)?.[index]);
    const without = parameters.find((_, i) => averages[i] === undefined);
    if (without !== undefined || this.iterations === 0) {
      throw new UsageError(
        `${this.name}: no step has changed ${without === undefined ? "any parameter" : `a parameter of shape ${formatShape(without.shape)}`}: there is no average of it yet`,
      );
    }
    for (const [i, parameter] of parameters.entries()) {
      const kept = empty(parameter.device, parameter.shape, parameter.dtype);
      runInto(copyKernel, [parameter], [kept], {});
      runInto(copyKernel, [averages[i]!], [parameter], {});
      runInto(copyKernel, [kept], [averages[i]!], {});
      parameter.storage.changed("swapAverages");
      kept.dispose();
    }
  }

  /** The slots of a parameter by name; made, as zeros, where there are none yet. */
  slotTensors(parameter: Tensor): { readonly name: string; readonly tensor: Tensor }[] {
    return this.slotsOf(parameter).map((tensor, i) => ({ name: this.slotNames[i]!, tensor }));
  }

  /** Places those of the parameters that no step has changed side by side, and their slots: one kernel changes all of them. */
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

  private slotsOf(parameter: Tensor): Tensor[] {
    let slots = this.slots.get(parameter);
    if (slots === undefined) {
      slots = this.slotNames.map(() => keep(zerosLike(parameter)));
      this.slots.set(parameter, slots);
    }
    return slots;
  }

  /** Kind and settings, as it was made. */
  config(): OptimizerConfig {
    const { name, config } = this.initialSchedule;
    return { name: this.name, schedule: { name, ...config }, ...this.settings };
  }

  /** Continues after `iterations` steps, at a learning rate that may have been set since the start. */
  resumeAt(iterations: number, learningRate: number): void {
    this.iterations = iterations;
    if (this.schedule.name === "constant") this.learningRate = learningRate;
  }

  /** Frees the slots. */
  dispose(): void {
    for (const slots of this.slots.values()) for (const slot of slots) slot.dispose();
    this.slots.clear();
    this.met.clear();
  }
}

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

/** Stochastic gradient descent: w -= learningRate * g, with momentum v <- momentum v - learningRate g, w += v. */
export function sgd(options: SgdOptions = {}): Optimizer {
  const { learningRate = 0.01, momentum = 0, nesterov = false, weightDecay = 0, ...average } = options;
  if (!(momentum >= 0 && momentum < 1)) throw new UsageError(`sgd: momentum must be in [0, 1), got ${momentum}`);
  return new Sgd({ learningRate, momentum, nesterov, weightDecay, ...average });
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

/** Adam (Kingma, Ba, 2015). */
export function adam(options: AdamOptions = {}): Optimizer {
  return new Adam("adam", { ...adamDefaults, ...options, weightDecay: 0 });
}

/** Adam with decoupled weight decay (Loshchilov, Hutter, 2019). */
export function adamW(options: AdamWOptions = {}): Optimizer {
  return new Adam("adamW", { ...adamDefaults, weightDecay: 0.004, ...options });
}
