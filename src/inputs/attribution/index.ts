// The attributions, by the names that they are called by: one file each, and a line here. Beside them stand what
// enlarges their maps, and what judges them.
export type { Baseline } from "./attribution.js";
export { type DeletionCurve, type DeletionCurveOptions, deletionCurve } from "./deletion-curve.js";
export { type GradCamOptions, gradCam } from "./grad-cam.js";
export { guidedBackprop } from "./guided-backprop.js";
export { inputTimesGradient } from "./input-times-gradient.js";
export {
  type IntegratedGradients,
  type IntegratedGradientsOptions,
  integratedGradients,
} from "./integrated-gradients.js";
export { type InterpolateOptions, interpolate } from "./interpolate.js";
export { type OcclusionOptions, occlusion } from "./occlusion.js";
export { type SaliencyOptions, saliency } from "./saliency.js";
export { type SmoothGradOptions, smoothGrad } from "./smooth-grad.js";
