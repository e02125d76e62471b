// Curves of a training for those who look on: the loss of each step, and of the validation data after each epoch.
import type { EpochLogs } from "../../../nn/callbacks/index.js";
import type { LiveState } from "./live.js";

/**
 * Parts of a callback that tell `live` of a training, where there is one.
 * @param watched what is looked at after each epoch
 */
export function liveCurves(live: LiveState | undefined, chart: string, watched = "validation") {
  let last = 0;
  return {
    onStepEnd(step: number, loss: number): void {
      last = step;
      live?.point(chart, "training", step, loss);
    },
    onEpochEnd(_epoch: number, logs: EpochLogs): void {
      if (logs["val_loss"] !== undefined) live?.point(chart, watched, last, logs["val_loss"]);
    },
  };
}
