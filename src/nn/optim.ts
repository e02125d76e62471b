// The public names of `optim`: optimizers and learning rate schedules.
export {
  type AdamOptions,
  type AdamWOptions,
  adam,
  adamW,
  type Optimizer,
  type OptimizerConfig,
  type OptimizerOptions,
  type SgdOptions,
  sgd,
} from "./optimizers.js";
export {
  type CosineDecayOptions,
  constantRate,
  cosineDecay,
  type ExponentialDecayOptions,
  exponentialDecay,
  type Schedule,
  type StepDecayOptions,
  stepDecay,
} from "./schedules.js";
