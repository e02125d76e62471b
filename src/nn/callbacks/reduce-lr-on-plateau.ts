// Lowers the learning rate when a figure no longer improves. Keras's ReduceLROnPlateau.
import { object, optional } from "valibot";
import { anyNumber, count, parse } from "../../io/json.js";
import { checkOptions, integer, number, type Rules } from "../../tensor/options.js";
import { type Callback, type MonitorOptions, monitored, monitorRules, monitorSign } from "./callback.js";

export interface ReduceLrOnPlateauOptions extends MonitorOptions {
  /** What the rate is multiplied by, below 1; default 0.1. */
  readonly factor?: number;
  /** Epochs without improvement that are borne; default 10. */
  readonly patience?: number;
  /** Smaller changes are no improvement; default 1e-4. */
  readonly minDelta?: number;
  /** Epochs after a reduction in which none is counted; default 0. */
  readonly cooldown?: number;
  /** The rate never falls below it; default 0. */
  readonly minLearningRate?: number;
}

const storedState = object({ best: optional(anyNumber), wait: count, cooling: count }, "an object");

const rules: Rules<ReduceLrOnPlateauOptions> = {
  ...monitorRules,
  factor: number({ above: 0, below: 1 }),
  patience: integer({ from: 0 }),
  minDelta: number({ from: 0 }),
  cooldown: integer({ from: 0 }),
  minLearningRate: number({ from: 0 }),
};

export function reduceLrOnPlateau(given: ReduceLrOnPlateauOptions = {}): Callback {
  const options = checkOptions("reduceLrOnPlateau", given, rules);
  const { monitor = "val_loss", mode = "auto", factor = 0.1, patience = 10, minDelta = 1e-4 } = options;
  const { cooldown = 0, minLearningRate = 0 } = options;
  const sign = monitorSign("reduceLrOnPlateau", monitor, mode);
  let best: number | undefined;
  let wait = 0;
  let cooling = 0;

  return {
    name: "reduceLrOnPlateau",
    onTrainBegin() {
      best = undefined;
      wait = 0;
      cooling = 0;
    },
    onEpochEnd(_, logs, { optimizer }) {
      const value = monitored("reduceLrOnPlateau", monitor, logs);
      if (cooling > 0) {
        cooling--;
        wait = 0;
      }
      if (!Number.isNaN(value) && (best === undefined || sign * value - minDelta > sign * best)) {
        best = value;
        wait = 0;
      } else if (cooling === 0 && ++wait >= patience && optimizer.learningRate > minLearningRate) {
        optimizer.learningRate = Math.max(optimizer.learningRate * factor, minLearningRate);
        cooling = cooldown;
        wait = 0;
      }
    },
    exportState: () => ({ values: { best, wait, cooling } }),
    importState(values) {
      ({ best, wait, cooling } = parse(storedState, values, "reduceLrOnPlateau"));
    },
  };
}
