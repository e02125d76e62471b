// The metrics of `metric`. "accuracy" is named by its word alone: it is counted with the loss, see figures.ts.
import { checkOptions } from "../../tensor/options.js";
import { meanAbsoluteError as absoluteError, meanSquaredError as squaredError } from "../losses.js";
import { type MetricOptions, nameRules } from "./classes.js";
import { type Metric, meanPerSample } from "./metric.js";

export { type AucOptions, auc } from "./auc.js";
export {
  type F1Options,
  f1Score,
  type MetricOptions,
  precision,
  recall,
  type ThresholdOptions,
  type TopKOptions,
  topK,
} from "./classes.js";
export type { Metric, MetricOption } from "./metric.js";

/** Mean absolute difference of predictions and targets of one shape. Figure `meanAbsoluteError`. */
export function meanAbsoluteError(options: MetricOptions = {}): Metric {
  const { name = "meanAbsoluteError" } = checkOptions("meanAbsoluteError", options, nameRules);
  return meanPerSample(name, absoluteError.perSample);
}

/** Mean squared difference of predictions and targets of one shape. Figure `meanSquaredError`. */
export function meanSquaredError(options: MetricOptions = {}): Metric {
  const { name = "meanSquaredError" } = checkOptions("meanSquaredError", options, nameRules);
  return meanPerSample(name, squaredError.perSample);
}
