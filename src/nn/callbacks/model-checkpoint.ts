// Saves the model after epochs: each under its own name, or the best one. For resuming an interrupted training use
// fit's own `checkpoint` option, which also holds the optimizer and the callbacks.
import { object, optional } from "valibot";
import { anyNumber, parse } from "../../io/json.js";
import { UsageError } from "../../tensor/errors.js";
import { boolean, checkOptions, type Rules, text } from "../../tensor/options.js";
import { saveModel } from "../checkpoint.js";
import {
  type Callback,
  type EpochLogs,
  type MonitorOptions,
  monitored,
  monitorRules,
  monitorSign,
} from "./callback.js";

export interface ModelCheckpointOptions extends MonitorOptions {
  /** File name; `{epoch:02d}` (from 1) and figures such as `{val_loss:.2f}` are filled in. */
  readonly path: string;
  /** Only when the monitored figure is the best so far; default false. */
  readonly saveBestOnly?: boolean;
  /** Writes weights that are infinite or NaN, too; by default they end the training with an error. */
  readonly allowNonFinite?: boolean;
}

const storedState = object({ best: optional(anyNumber) }, "an object");

const rules: Rules<ModelCheckpointOptions> = {
  ...monitorRules,
  path: text,
  saveBestOnly: boolean,
  allowNonFinite: boolean,
};

export function modelCheckpoint(given: ModelCheckpointOptions): Callback {
  const options = checkOptions("modelCheckpoint", given, rules, ["path"]);
  const { path, saveBestOnly = false, monitor = "val_loss", mode = "auto", allowNonFinite = false } = options;
  const sign = saveBestOnly ? monitorSign("modelCheckpoint", monitor, mode) : 1;
  let best: number | undefined;

  return {
    name: "modelCheckpoint",
    onTrainBegin() {
      best = undefined;
    },
    async onEpochEnd(epoch, logs, { model }) {
      if (saveBestOnly) {
        const value = monitored("modelCheckpoint", monitor, logs);
        // NaN is never the best.
        if (Number.isNaN(value) || (best !== undefined && !(sign * value > sign * best))) return;
        best = value;
      }
      await saveModel(fillTemplate(path, { epoch: epoch + 1, ...logs }), model, { allowNonFinite });
    },
    exportState: () => ({ values: { best } }),
    importState(values) {
      ({ best } = parse(storedState, values, "modelCheckpoint"));
    },
  };
}

/**
 * Fills `{name}`, `{name:02d}` (whole number, padded with zeros) and `{name:.2f}` (decimals).
 * @throws UsageError for a name that is not there
 */
export function fillTemplate(template: string, values: EpochLogs): string {
  return template.replace(/\{(\w+)(?::(0(\d+)d|\.(\d+)f))?\}/g, (_, name: string, format, width, decimals) => {
    const value = values[name];
    if (value === undefined) {
      throw new UsageError(`modelCheckpoint: {${name}} must be one of ${Object.keys(values).join(", ")}`);
    }
    if (format === undefined) return String(value);
    return decimals === undefined ? String(value).padStart(Number(width), "0") : value.toFixed(Number(decimals));
  });
}
