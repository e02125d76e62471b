// The public names of `nn`: layers, initialisers, models, callbacks, files. Losses and optimizers have namespaces of
// their own (`loss`, `optim`).
export type { ActivationName } from "./activations.js";
export {
  Architecture,
  type ArchitectureOptions,
  architecture,
  architectureFromConfig,
  type BuildOptions,
  compose,
  type FunctionalConfig,
  fromConfig,
  type GraphOptions,
  type ModelConfig,
  model,
  type PlacedCall,
  type PlacedLayer,
  type SequentialConfig,
  sequential,
} from "./architecture.js";
export * from "./callbacks/index.js";
export {
  encodeModel,
  type LoadModelOptions,
  loadModel,
  loadWeights,
  type ModelFile,
  readModelFile,
  type SaveOptions,
  saveModel,
  type TrainingState,
} from "./checkpoint.js";
export type { EvaluateOptions, Evaluation, Predictions, PredictOptions } from "./evaluate.js";
export type { BatchFigures } from "./figures.js";
export { encodeKerasModel, type SaveKerasOptions, saveKerasModel } from "./formats/keras-h5.js";
export { type GraphInput, type GraphNode, type InputOptions, input } from "./graph.js";
export type { History, Timing } from "./history.js";
export {
  constant,
  glorotNormal,
  glorotUniform,
  heNormal,
  heUniform,
  type Initializer,
  type InitializerName,
  lecunNormal,
  lecunUniform,
  normal,
  ones,
  uniform,
  zeros,
} from "./initializers.js";
export type { CallableLayer, CallContext, Layer, LayerConfig, LayerOptions, WeightSpec } from "./layer.js";
export { type BatchNormOptions, batchNorm } from "./layers/batch-norm.js";
export { type Conv2dOptions, conv2d } from "./layers/conv2d.js";
export { activation, type DropoutOptions, dropout, flatten, reshape } from "./layers/core.js";
export { type DenseOptions, dense, type KernelOptions } from "./layers/dense.js";
export { add, average, type ConcatenateOptions, concatenate, maximum, multiply } from "./layers/merging.js";
export { avgPool2d, globalAvgPool2d, maxPool2d, type Pool2dOptions } from "./layers/pooling.js";
export type { LossFunction } from "./loss.js";
export { LossScaler, type LossScalingOptions } from "./loss-scaling.js";
export type { Metric, MetricOption } from "./metrics/metric.js";
export {
  type ApplyOptions,
  BoundLayer,
  type CallOptions,
  type LayerOutput,
  type Model,
  type ModelWeight,
} from "./model.js";
export type { InputData, LabelledData, Samples } from "./samples.js";
export { Sequential, type SequentialOptions } from "./sequential.js";
export type { ParameterCount } from "./summary.js";
export type { AugmentContext, CheckpointOptions, FitOptions, Perturb, PerturbContext } from "./training/options.js";
