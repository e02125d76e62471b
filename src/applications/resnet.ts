// Residual networks (He et al. 2015): torchvision's of basic blocks, Keras's and torchvision's of bottlenecks, and the
// small ones for CIFAR-10.
import type { Architecture } from "../nn/architecture.js";
import type { GraphNode } from "../nn/graph.js";
import { batchNorm } from "../nn/layers/batch-norm.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { activation } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { add } from "../nn/layers/merging.js";
import { zeroPadding2d } from "../nn/layers/padding.js";
import { globalAvgPool2d, maxPool2d } from "../nn/layers/pooling.js";
import { oneOf } from "../tensor/options.js";
import { type ApplicationOptions, applicationRules, averaged, between, completed, widthRule } from "./parts.js";

export interface ResNetOptions extends ApplicationOptions {
  /** Channels of the first stage, which every stage doubles; default as published. */
  readonly width?: number;
}

export interface ResNet50Options extends ResNetOptions {
  /**
   * Whose layers and names: Keras's has biases in convolutions, and strides in the first of a block; torchvision's has
   * neither bias, and strides in the second. Default "keras".
   */
  readonly variant?: "keras" | "torchvision";
}

const rules = { ...applicationRules, width: widthRule };
const of = (name: string) => ({ name, inputShape: [224, 224, 3], classes: 1000 }) as const;

/** The first layers of both: a quarter of the height and width. Zeros never win, since all values are from 0. */
function stem(
  picture: GraphNode,
  width: number,
  useBias: boolean,
  names: Readonly<Record<"conv" | "bn" | "relu", string>>,
  norm: Norm,
) {
  let x = zeroPadding2d({ padding: 3, name: "conv1_pad" })(picture);
  x = conv2d({ filters: width, kernelSize: 7, strides: 2, useBias, name: names.conv })(x);
  x = activation("relu", { name: names.relu })(norm(names.bn)(x));
  x = zeroPadding2d({ padding: 1, name: "pool1_pad" })(x);
  return maxPool2d({ poolSize: 3, strides: 2, name: "pool1_pool" })(x);
}

type Norm = (name: string) => ReturnType<typeof batchNorm>;

/** torchvision's momentum is the share of the new statistics, 0.1. */
const torchNorm: Norm = (name) => batchNorm({ epsilon: 1e-5, momentum: 0.9, name });
const kerasNorm: Norm = (name) => batchNorm({ epsilon: 1.001e-5, name });

/** A convolution with torchvision's padding: as many zeros on each side. */
function torchConv(x: GraphNode, filters: number, kernelSize: number, strides: number, name: string): GraphNode {
  const zeros = (kernelSize - 1) / 2;
  const padding = [
    [zeros, zeros],
    [zeros, zeros],
  ] as const;
  return conv2d({ filters, kernelSize, strides, padding, useBias: false, name })(x);
}

/** What the shortcut adds: the input, or what fits of it. */
function torchShortcut(x: GraphNode, filters: number, strides: number, name: string): GraphNode {
  if (strides === 1 && x.shape[2] === filters) return x;
  return torchNorm(`${name}.downsample.1`)(torchConv(x, filters, 1, strides, `${name}.downsample.0`));
}

const relu = (name: string) => activation("relu", { name });

function basicBlock(x: GraphNode, filters: number, strides: number, name: string): GraphNode {
  let y = torchNorm(`${name}.bn1`)(torchConv(x, filters, 3, strides, `${name}.conv1`));
  y = relu(`${name}.relu1`)(y);
  y = torchNorm(`${name}.bn2`)(torchConv(y, filters, 3, 1, `${name}.conv2`));
  return relu(`${name}.relu`)(add({ name: `${name}.add` })([y, torchShortcut(x, filters, strides, name)]));
}

function torchBottleneck(x: GraphNode, filters: number, strides: number, name: string): GraphNode {
  let y = torchNorm(`${name}.bn1`)(torchConv(x, filters, 1, 1, `${name}.conv1`));
  y = relu(`${name}.relu1`)(y);
  y = torchNorm(`${name}.bn2`)(torchConv(y, filters, 3, strides, `${name}.conv2`));
  y = relu(`${name}.relu2`)(y);
  y = torchNorm(`${name}.bn3`)(torchConv(y, 4 * filters, 1, 1, `${name}.conv3`));
  return relu(`${name}.relu`)(add({ name: `${name}.add` })([y, torchShortcut(x, 4 * filters, strides, name)]));
}

function kerasBottleneck(x: GraphNode, filters: number, strides: number, name: string): GraphNode {
  const conv = (given: GraphNode, part: number, count: number, kernelSize: number, stride: number) => {
    const padding = kernelSize === 1 ? "valid" : "same";
    const y = conv2d({ filters: count, kernelSize, strides: stride, padding, name: `${name}_${part}_conv` })(given);
    return kerasNorm(`${name}_${part}_bn`)(y);
  };
  const shortcut = name.endsWith("block1") ? conv(x, 0, 4 * filters, 1, strides) : x;
  let y = relu(`${name}_1_relu`)(conv(x, 1, filters, 1, strides));
  y = relu(`${name}_2_relu`)(conv(y, 2, filters, 3, 1));
  y = conv(y, 3, 4 * filters, 1, 1);
  return relu(`${name}_out`)(add({ name: `${name}_add` })([shortcut, y]));
}

type Block = typeof basicBlock;

/** Stages of blocks, each of twice the channels and, from the second on, half the height and width. */
function stages(
  x: GraphNode,
  width: number,
  counts: readonly number[],
  block: Block,
  nameOf: (stage: number, i: number) => string,
) {
  let y = x;
  for (const [stage, count] of counts.entries()) {
    for (let i = 0; i < count; i++) {
      y = block(y, width * 2 ** stage, i === 0 && stage > 0 ? 2 : 1, nameOf(stage, i));
    }
  }
  return y;
}

function torchResNet(owner: string, options: ResNetOptions, counts: readonly number[], block: Block): Architecture {
  const given = completed(owner, options, rules, of(owner.toLowerCase()));
  const { width = 64 } = given;
  return between(
    given,
    (picture) => {
      const x = stem(picture, width, false, { conv: "conv1", bn: "bn1", relu: "relu" }, torchNorm);
      return stages(x, width, counts, block, (stage, i) => `layer${stage + 1}.${i}`);
    },
    averaged(given, "avgpool", "fc"),
  );
}

/**
 * torchvision's ResNet-18; 11,699,112 parameters, of which 11,689,512 are trained. Layers have torchvision's names.
 * @throws UsageError for options that it does not have
 * @example
 * const model = resNet18({ inputShape: [64, 64, 3], classes: 5, width: 16 }).build({ device, seed: 1 });
 */
export const resNet18 = (options: ResNetOptions = {}): Architecture =>
  torchResNet("resNet18", options, [2, 2, 2, 2], basicBlock);

/**
 * ResNet-50: Keras's with 25,636,712 parameters, for BGR pictures less their channels' means, or torchvision's with
 * 25,610,152.
 * @throws UsageError for options that it does not have
 * @example
 * const features = resNet50({ inputShape: [64, 64, 3], includeTop: false, pooling: "avg" });
 */
export function resNet50(options: ResNet50Options = {}): Architecture {
  const { variant = "keras", ...rest } = completed<ResNet50Options>(
    "resNet50",
    options,
    { ...rules, variant: oneOf("keras", "torchvision") },
    of("resnet50"),
  );
  const counts = [3, 4, 6, 3];
  if (variant === "torchvision") return torchResNet("resNet50", rest, counts, torchBottleneck);
  const { width = 64 } = rest;
  return between(
    rest,
    (picture) => {
      const x = stem(picture, width, true, { conv: "conv1_conv", bn: "conv1_bn", relu: "conv1_relu" }, kerasNorm);
      return stages(x, width, counts, kerasBottleneck, (stage, i) => `conv${stage + 2}_block${i + 1}`);
    },
    averaged(rest, "avg_pool"),
  );
}

/** The network for CIFAR-10 of 6 n + 2 layers, with convolutions of 1 x 1 in two shortcuts, as in Keras's example. */
function cifarResNet(owner: string, options: ResNetOptions, n: number): Architecture {
  const published = { name: owner.toLowerCase(), inputShape: [32, 32, 3], classes: 10 } as const;
  const given = completed(owner, options, rules, published);
  const { width = 16 } = given;
  const weights = { kernelInitializer: "heNormal", kernelL2: 1e-4 } as const;
  const conv = (x: GraphNode, filters: number, kernelSize: number, strides: number) =>
    conv2d({ filters, kernelSize, strides, padding: "same", ...weights })(x);
  const block: Block = (x, filters, strides) => {
    let y = activation("relu")(batchNorm()(conv(x, filters, 3, strides)));
    y = batchNorm()(conv(y, filters, 3, 1));
    return activation("relu")(add()([strides === 1 ? x : conv(x, filters, 1, strides), y]));
  };
  return between(
    given,
    (picture) => {
      const x = activation("relu")(batchNorm()(conv(picture, width, 3, 1)));
      return stages(x, width, [n, n, n], block, () => "");
    },
    (x) => {
      const { classes: units, classifierActivation } = given;
      return dense({ units, activation: classifierActivation, kernelInitializer: "heNormal" })(globalAvgPool2d()(x));
    },
  );
}

/**
 * ResNet-8 for pictures [32, 32, 3], as MLPerf Tiny has it; 78,666 parameters.
 * @throws UsageError for options that it does not have
 * @example
 * const model = resNet8().build({ device, seed: 1 });
 */
export const resNet8 = (options: ResNetOptions = {}): Architecture => cifarResNet("resNet8", options, 1);

/**
 * ResNet-20 for pictures [32, 32, 3], as Keras's example has it; 274,442 parameters.
 * @throws UsageError for options that it does not have
 * @example
 * const model = resNet20().build({ device, seed: 1 });
 */
export const resNet20 = (options: ResNetOptions = {}): Architecture => cifarResNet("resNet20", options, 3);
