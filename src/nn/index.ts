// The public names of `nn`: layers, initialisers, models, callbacks, files. Losses and optimizers have namespaces of
// their own (`loss`, `optim`).

export type { FileSource, FilesByName } from "../io/source.js";
export type { ActivationName } from "./activations.js";
export { type AdaptOptions, adapt } from "./adapt.js";
export {
  Architecture,
  type ArchitectureOptions,
  architecture,
  type BuildOptions,
  compose,
  type FunctionalConfig,
  type GraphOptions,
  type ModelConfig,
  model,
  type PlacedCall,
  type PlacedLayer,
  type SequentialConfig,
  sequential,
} from "./architecture.js";
export type { AnyIterable, Batches } from "./batches.js";
export * from "./callbacks/index.js";
export {
  encodeModel,
  encodeModelFiles,
  type LoadModelOptions,
  type LoadWeightsOptions,
  loadModel,
  loadWeights,
  type ModelFile,
  readModelFile,
  type SaveOptions,
  saveModel,
  type TrainingState,
} from "./checkpoint.js";
export { type ConfusionMatrixOptions, confusionMatrix } from "./confusion-matrix.js";
export { defineLayer } from "./define-layer.js";
export type { EvaluateOptions, Evaluation, Predictions, PredictOptions } from "./evaluate.js";
export type { BatchFigures, FigureSums } from "./figures.js";
export type { NameMap } from "./formats/format.js";
export type { Remarks } from "./formats/keras-remarks.js";
export type { FromKeras, Json, KerasSetting, KerasWords } from "./formats/keras-words.js";
export { architectureFromConfig, fromConfig } from "./from-config.js";
export { type GraphInput, type GraphNode, type GraphSource, type InputOptions, input } from "./graph.js";
export type { Head } from "./head.js";
export type { History, Timing } from "./history.js";
export {
  constant,
  glorotNormal,
  glorotUniform,
  heNormal,
  heUniform,
  type Initializer,
  type InitializerName,
  type InitializerOption,
  lecunNormal,
  lecunUniform,
  type NormalOptions,
  normal,
  ones,
  type ScalingInitializer,
  type UniformOptions,
  uniform,
  zeros,
} from "./initializers.js";
export {
  type EncodeKerasOptions,
  encodeKerasModel,
  type KerasTraining,
  type SaveKerasOptions,
  saveKerasModel,
} from "./keras-models.js";
export type {
  CallableLayer,
  CallContext,
  Layer,
  LayerClass,
  LayerConfig,
  LayerDefinition,
  LayerOptions,
  LayerParts,
  OnnxAttributes,
  OnnxCall,
  WeightOptions,
  WeightSpec,
} from "./layer.js";
export {
  type EluOptions,
  elu,
  type LeakyReluOptions,
  leakyRelu,
  type PreluOptions,
  prelu,
  type ReluOptions,
  relu,
  type SoftmaxOptions,
  softmax,
} from "./layers/advanced-activations.js";
export { type MultiHeadAttentionOptions, multiHeadAttention } from "./layers/attention.js";
export { type BatchNormOptions, batchNorm } from "./layers/batch-norm.js";
export { type Conv1dOptions, conv1d } from "./layers/conv1d.js";
export { type Conv2dOptions, conv2d } from "./layers/conv2d.js";
export { type Conv2dTransposeOptions, conv2dTranspose } from "./layers/conv2d-transpose.js";
export { activation, flatten } from "./layers/core.js";
export { type DenseOptions, dense, type KernelOptions } from "./layers/dense.js";
export {
  type DepthwiseConv2dOptions,
  depthwiseConv2d,
  type SeparableConv2dOptions,
  separableConv2d,
} from "./layers/depthwise-conv2d.js";
export { type DropoutOptions, dropout } from "./layers/dropout.js";
export { type EmbeddingOptions, embedding } from "./layers/embedding.js";
export { type GroupNormOptions, groupNorm, instanceNorm } from "./layers/group-norm.js";
export { type LayerNormOptions, layerNorm } from "./layers/layer-norm.js";
export {
  add,
  average,
  type ConcatenateOptions,
  concatenate,
  type DotOptions,
  dot,
  maximum,
  minimum,
  multiply,
  subtract,
} from "./layers/merging.js";
export {
  type GaussianNoiseOptions,
  gaussianDropout,
  gaussianNoise,
  type RateOptions,
  spatialDropout1d,
  spatialDropout2d,
} from "./layers/noise.js";
export {
  type Cropping1dOptions,
  type Cropping2dOptions,
  cropping1d,
  cropping2d,
  type Sides,
  type Sides2d,
  type ZeroPadding1dOptions,
  type ZeroPadding2dOptions,
  zeroPadding1d,
  zeroPadding2d,
} from "./layers/padding.js";
export {
  avgPool1d,
  avgPool2d,
  type GlobalPoolOptions,
  globalAvgPool1d,
  globalAvgPool2d,
  globalMaxPool1d,
  globalMaxPool2d,
  maxPool1d,
  maxPool2d,
  type Pool1dOptions,
  type Pool2dOptions,
} from "./layers/pooling.js";
export { type NormalizationOptions, normalization, type RescalingOptions, rescaling } from "./layers/preprocessing.js";
export { permute, repeatVector, reshape } from "./layers/reshape.js";
export {
  type ResizingOptions,
  resizing,
  type UpSampling1dOptions,
  type UpSampling2dOptions,
  upSampling1d,
  upSampling2d,
} from "./layers/resizing.js";
export type { ScaleOptions } from "./layers/standardize.js";
export type { LossFunction } from "./loss.js";
export { LossScaler, type LossScalingOptions } from "./loss-scaling.js";
export type { Metric, MetricOption, MetricTotals } from "./metrics/metric.js";
export {
  type ApplyOptions,
  BoundLayer,
  type CallAllOptions,
  type CallOptions,
  type LayerOutput,
  type Model,
  type ModelInput,
  type ModelWeight,
} from "./model.js";
export type { StoredLayer } from "./model-config.js";
export type { StoredSums } from "./model-file.js";
export type { ObjectiveOptions, PerOutput } from "./objective.js";
export type {
  InputBatch,
  InputData,
  IntegerArray,
  LabelledBatch,
  LabelledData,
  PerPart,
  Rows,
  Samples,
  XY,
} from "./samples.js";
export { Sequential, type SequentialOptions } from "./sequential.js";
export type { ParameterCount } from "./summary.js";
export type { TrainStepOptions } from "./train-step.js";
export type { AugmentContext, CheckpointOptions, FitOptions, Perturb, PerturbContext } from "./training/options.js";
