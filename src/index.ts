/**
 * Devices and tensors, differentiable operations, and the namespaces `nn`, `optim`, `loss`, `metric`, `data` and `io`.
 * Nothing that is imported from here needs a module of Node: the same code runs in a browser. `kilograd/node` adds what
 * does.
 *
 * @module
 */
// What is not listed here is internal.
// What its declarations need of TypeScript's libraries, whatever a project lists as its own. Types of WebGPU are among
// those of the DOM from TypeScript 6 on; for earlier ones the package's types are in index-typescript-5.ts.
/// <reference lib="dom" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
import "./autograd/methods.js";

export {
  type CustomGradientOptions,
  type CustomResult,
  customGradient,
} from "./autograd/custom-gradient.js";
export { type CustomKernelOptions, customKernel, type KernelNumbers } from "./autograd/custom-kernel.js";
export { type DerivativeOptions, hessian, hvp, jacobian, type Pulled, vjp } from "./autograd/derivatives.js";
export { type GradOptions, grad, valueAndGrad } from "./autograd/differentiate.js";
export {
  type GradcheckInput,
  type GradcheckOptions,
  type GradcheckReport,
  gradcheck,
  gradgradcheck,
} from "./autograd/gradcheck.js";
export { type BatchNormOptions, batchNorm } from "./autograd/ops/batchnorm.js";
export { type ConvTranspose2dOptions, convTranspose2d } from "./autograd/ops/conv-transpose.js";
export { avgPool1d, type Conv1dOptions, conv1d, maxPool1d, type Pool1dOptions } from "./autograd/ops/conv1d.js";
export { type Conv2dOptions, conv2d } from "./autograd/ops/conv2d.js";
export { type ArangeOptions, arange, eye, full, ones, onesLike, zeros, zerosLike } from "./autograd/ops/create.js";
export { type DropoutOptions, dropout } from "./autograd/ops/dropout.js";
export { einsum } from "./autograd/ops/einsum.js";
export * from "./autograd/ops/elementwise.js";
export type { Operand } from "./autograd/ops/elementwise-rows.js";
export { gather, oneHot } from "./autograd/ops/gather.js";
export { type DepthwiseConv2dOptions, depthwiseConv2d } from "./autograd/ops/grouped-conv2d.js";
export { all, any, isFinite, isNan } from "./autograd/ops/logical.js";
export { type MatmulOptions, matmul } from "./autograd/ops/matmul.js";
export { prod, std, type VarianceOptions, variance } from "./autograd/ops/moments.js";
export { clipByNorm, type NormalizeOptions, type NormOptions, norm, normalize } from "./autograd/ops/norm.js";
export { type L2Term, l2Penalty } from "./autograd/ops/penalty.js";
export { avgPool2d, globalAvgPool2d, type MaxPool2dOptions, maxPool2d } from "./autograd/ops/pool2d.js";
export {
  type BernoulliOptions,
  type NormalOptions,
  randomBernoulli,
  randomCounters,
  randomNormal,
  randomUniform,
  type UniformOptions,
} from "./autograd/ops/random.js";
export {
  type ArgmaxOptions,
  argmax,
  logSumExp,
  max,
  mean,
  min,
  type ReduceOptions,
  sum,
  sumSquares,
} from "./autograd/ops/reduce.js";
export { type ResizeOptions, resize } from "./autograd/ops/resize.js";
export { type CumsumOptions, cumsum } from "./autograd/ops/scan.js";
export { type CrossEntropyOptions, logSoftmax, softmax, softmaxCrossEntropy } from "./autograd/ops/softmax.js";
export { argsort, type SortOptions, sort, type TopKOptions, topK } from "./autograd/ops/sort.js";
export { split, tile, unstack } from "./autograd/ops/tile.js";
export {
  concat,
  expandDims,
  flip,
  pad,
  reshape,
  slice,
  squeeze,
  stack,
  transpose,
} from "./autograd/ops/transform.js";
export { recompute } from "./autograd/recompute.js";
export { type BackwardOptions, backward, detach, isRecording, noGrad } from "./autograd/tape.js";
export * as data from "./data/index.js";
export * as io from "./io/index.js";
export type { Padding, Pair } from "./kernels/conv2d/geometry.js";
export type { Pool2dOptions } from "./kernels/pool2d.js";
export * as nn from "./nn/index.js";
export * as loss from "./nn/losses.js";
export * as metric from "./nn/metrics/index.js";
export * as optim from "./nn/optim.js";
export type { Axes, AxesOptions } from "./tensor/axes.js";
export type { CpuDevice } from "./tensor/cpu.js";
export type { Changing, Counters, Device, MemoryInfo, Precision } from "./tensor/device.js";
export type { DType, Spec, TypedArray } from "./tensor/dtype.js";
export { DataError, DeviceError, DisposedError, KilogradError, ShapeError, UsageError } from "./tensor/errors.js";
export type { Rule, Rules } from "./tensor/options.js";
export { type RandomKey, RandomStream, randomKey } from "./tensor/random.js";
export { keep, type Scoped, scope } from "./tensor/scope.js";
export type { Shape } from "./tensor/shape.js";
export {
  type FilledTensor,
  type HostTensor,
  type StepInput,
  StepPlan,
  type StepPlanOptions,
} from "./tensor/step-plan.js";
export { type NestedArray, Tensor, type TensorOptions, tensor } from "./tensor/tensor.js";
export type { WebGpuDevice } from "./webgpu/device.js";
export { type DeviceKind, type OpenDeviceOptions, openDevice } from "./webgpu/open-device.js";
export type { KernelTime } from "./webgpu/timer.js";
