// What a callback may do. Callbacks act on the figures that fit reports. All methods are optional. They may be async,
// but for onStepEnd, which is told of many steps at once, and exportState and importState.
import { UsageError } from "../../tensor/errors.js";
import { callable, object, oneOf, type Rule, type Rules, text } from "../../tensor/options.js";
import { refusePromise } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { History } from "../history.js";
import type { Model } from "../model.js";
import type { Optimizer } from "../optimizers.js";

/** Figures of an epoch: loss, accuracy, metrics by name, each also as val_NAME, and learning_rate. */
export type EpochLogs = Readonly<Record<string, number>>;

/** Figures of a step. */
export interface StepLogs {
  readonly epoch: number;
  /** From 0 in each epoch. */
  readonly stepInEpoch: number;
  /** Finished steps, one a batch, this one included. */
  readonly step: number;
  readonly loss: number;
  /** Running mean of the epoch so far. */
  readonly meanLoss: number;
  /** Running mean of the epoch so far, where accuracy is counted. */
  readonly meanAccuracy?: number;
  /** Other metrics of the epoch so far, by name. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** The training that a callback belongs to. */
export interface TrainingContext {
  readonly model: Model;
  readonly optimizer: Optimizer;
  readonly epochs: number;
  /** Undefined while it is not known how many batches an iterable gives. */
  readonly stepsPerEpoch: number | undefined;
  /** Of data in memory; undefined where batches come from an iterable. */
  readonly batchSize: number | undefined;
  readonly history: History;
  /** Ends training after the current epoch's (or step's) callbacks, with a reason for the history. */
  stop(reason: string): void;
}

/** What a callback must remember for a resumed training to go on as if nothing had happened. */
export interface CallbackState {
  /** JSON; infinities and NaN are kept. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly tensors?: ReadonlyMap<string, Tensor>;
}

export interface Callback {
  /** Its state is stored under this name: unique among the callbacks of a run. */
  readonly name: string;
  /** A non-finite loss ends training, with the layer that caused it as the reason. */
  readonly stopsOnNonFinite?: boolean;
  onTrainBegin?(context: TrainingContext): void | Promise<void>;
  onEpochBegin?(epoch: number, context: TrainingContext): void | Promise<void>;
  /** Must be synchronous: a promise is an error. */
  onStepEnd?(logs: StepLogs, context: TrainingContext): void;
  onEpochEnd?(epoch: number, logs: EpochLogs, context: TrainingContext): void | Promise<void>;
  /** Also after an interruption, but not after an error. */
  onTrainEnd?(history: History, context: TrainingContext): void | Promise<void>;
  /** Called last, whatever happened: frees what the callback holds. */
  dispose?(): void | Promise<void>;
  exportState?(): CallbackState;
  /** After onTrainBegin of a resumed training; the tensors are the callback's only during the call. */
  importState?(values: CallbackState["values"], tensors: ReadonlyMap<string, Tensor>): void;
}

/** Whether larger or smaller is better. */
export type MonitorMode = "min" | "max" | "auto";

export interface MonitorOptions {
  /** Figure to watch; default "val_loss". */
  readonly monitor?: string;
  /** "auto" (default) knows losses and the metrics of `metric`, by how the figure's name ends. */
  readonly mode?: MonitorMode;
}

/** What a synchronous method of a callback gave. @throws UsageError for a promise */
export function atOnce<T>({ name }: Callback, method: "onStepEnd" | "exportState" | "importState", result: T): T {
  refusePromise("fit", result, `${method} of callback "${name}"`, "await in onEpochEnd or onTrainEnd");
  return result;
}

const METHODS = [
  ...["onTrainBegin", "onEpochBegin", "onStepEnd", "onEpochEnd", "onTrainEnd"],
  ...["dispose", "exportState", "importState"],
];

export const callbackRule: Rule = {
  expected: "a callback with a name, whose methods are functions",
  accepts: (value) =>
    object.accepts(value) &&
    text.accepts((value as Callback).name) &&
    METHODS.every((name) => {
      const method = (value as Readonly<Record<string, unknown>>)[name];
      return method === undefined || callable.accepts(method);
    }),
};

export const monitorRules: Rules<MonitorOptions> = { monitor: text, mode: oneOf("min", "max", "auto") };

/** Ends of names of figures that should fall, and of those that should rise. */
const FALLING = /(loss|error)$/i;
const RISING = /(accuracy|precision|recall|f1Score|auc)$/i;

/** +1 where larger is better, -1 where smaller is. */
export function monitorSign(owner: string, monitor: string, mode: MonitorMode): 1 | -1 {
  if (mode === "min" || (mode === "auto" && FALLING.test(monitor))) return -1;
  if (mode === "max" || (mode === "auto" && RISING.test(monitor))) return 1;
  throw new UsageError(`${owner}: cannot tell whether "${monitor}" should rise or fall; give mode "min" or "max"`);
}

/** @throws UsageError when the figure is not there */
export function monitored(owner: string, monitor: string, logs: EpochLogs): number {
  const value = logs[monitor];
  if (value !== undefined) return value;
  const hint = monitor.startsWith("val_") ? "; give fit validationSplit or validationData" : "";
  throw new UsageError(`${owner}: monitor must be one of ${Object.keys(logs).join(", ")}, got "${monitor}"${hint}`);
}
