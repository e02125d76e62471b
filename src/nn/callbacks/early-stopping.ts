// Ends training when a figure no longer improves. It is Keras's EarlyStopping, also in its corners. The best weights
// come back at the end of training even when patience lasted. Training never stops after the very first epoch.
import { object, optional } from "valibot";
import { anyNumber, count, parse } from "../../io/json.js";
import { boolean, checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { Snapshot } from "../snapshot.js";
import { type Callback, type MonitorOptions, monitored, monitorRules, monitorSign } from "./callback.js";

export interface EarlyStoppingOptions extends MonitorOptions {
  /** Epochs without improvement that are borne; default 0. */
  readonly patience?: number;
  /** Smaller changes are no improvement; default 0. */
  readonly minDelta?: number;
  /** Patience starts anew only when the figure is better than this. */
  readonly baseline?: number;
  /** Brings back the weights of the best epoch at the end; default false. */
  readonly restoreBestWeights?: boolean;
  /** Epochs before it count for nothing; default 0. */
  readonly startFromEpoch?: number;
}

const storedState = object({ best: optional(anyNumber), bestEpoch: count, wait: count }, "an object");

const rules: Rules<EarlyStoppingOptions> = {
  ...monitorRules,
  patience: integer({ from: 0 }),
  minDelta: number(),
  baseline: number(),
  restoreBestWeights: boolean,
  startFromEpoch: integer({ from: 0 }),
};

export function earlyStopping(given: EarlyStoppingOptions = {}): Callback {
  const options = checkOptions("earlyStopping", given, rules);
  const { monitor = "val_loss", mode = "auto", patience = 0, minDelta = 0, baseline } = options;
  const { restoreBestWeights = false, startFromEpoch = 0 } = options;
  const sign = monitorSign("earlyStopping", monitor, mode);
  const improves = (value: number, reference: number | undefined) =>
    !Number.isNaN(value) && (reference === undefined || sign * value - Math.abs(minDelta) > sign * reference);
  const bestWeights = new Snapshot();
  let best: number | undefined;
  let bestEpoch = 0;
  let wait = 0;

  return {
    name: "earlyStopping",
    onTrainBegin() {
      bestWeights.dispose();
      best = undefined;
      bestEpoch = 0;
      wait = 0;
    },
    onEpochEnd(epoch, logs, { model, stop }) {
      const value = monitored("earlyStopping", monitor, logs);
      if (epoch < startFromEpoch) return;
      const weights = model.namedTensors();
      if (restoreBestWeights && bestWeights.copies.size === 0) {
        bestWeights.take(weights);
        bestEpoch = epoch;
      }
      wait++;
      if (improves(value, best)) {
        best = value;
        bestEpoch = epoch;
        if (restoreBestWeights) bestWeights.take(weights);
        if (baseline === undefined || improves(value, baseline)) wait = 0;
        return;
      }
      if (wait >= patience && epoch > 0) {
        stop(`${monitor} has not improved for ${wait} epochs; best in epoch ${bestEpoch + 1}: ${best}`);
      }
    },
    onTrainEnd(_, { model }) {
      bestWeights.restore(model.namedTensors());
    },
    dispose: () => bestWeights.dispose(),
    exportState: () => ({ values: { best, bestEpoch, wait }, tensors: bestWeights.copies }),
    importState(values, tensors) {
      ({ best, bestEpoch, wait } = parse(storedState, values, "earlyStopping"));
      bestWeights.take(tensors);
    },
  };
}
