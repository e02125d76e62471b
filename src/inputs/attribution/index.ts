// The attributions, by the names that they are called by: one file each, and a line here.
export { inputTimesGradient } from "./input-times-gradient.js";
export {
  type IntegratedGradients,
  type IntegratedGradientsOptions,
  integratedGradients,
} from "./integrated-gradients.js";
export { type SaliencyOptions, saliency } from "./saliency.js";
