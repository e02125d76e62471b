// What the architectures share: their options, the head behind the last feature map, and sizes that are rounded.

import { type ActivationName, activationRule } from "../nn/activations.js";
import { type Architecture, architecture } from "../nn/architecture.js";
import { type GraphNode, input } from "../nn/graph.js";
import { dense } from "../nn/layers/dense.js";
import { globalAvgPool2d, globalMaxPool2d } from "../nn/layers/pooling.js";
import { boolean, checkOptions, integer, listOf, number, oneOf, type Rules, text } from "../tensor/options.js";

export interface ApplicationOptions {
  /** [height, width, channels] of one picture; default the size that the network was published with. */
  readonly inputShape?: readonly [height: number, width: number, channels: number];
  /** Default as published: 1000 for networks of ImageNet. */
  readonly classes?: number;
  /** The classifier behind the features; default true. */
  readonly includeTop?: boolean;
  /** Without the classifier: what is made of the last feature map [h, w, C]; default "none". */
  readonly pooling?: "none" | "avg" | "max";
  /** Of the classifier; default "softmax". A loss finds the logits before it. */
  readonly classifierActivation?: ActivationName;
  /** Of the architecture; default Keras's, such as "mobilenetv2_1.00_224". */
  readonly name?: string;
}

export const applicationRules: Rules<ApplicationOptions> = {
  inputShape: listOf(integer({ from: 1, to: 2 ** 16 }), { from: 3, to: 3 }),
  classes: integer({ from: 1, to: 2 ** 24 }),
  includeTop: boolean,
  pooling: oneOf("none", "avg", "max"),
  classifierActivation: activationRule,
  name: text,
};

/** A factor of the channels. */
export const alphaRule = number({ above: 0, to: 16 });
/** A number of channels. */
export const widthRule = integer({ from: 1, to: 2 ** 16 });

/** What is published, where an option does not say otherwise. */
interface Published<Options> {
  readonly name: string | ((options: Options) => string);
  readonly inputShape: readonly [number, number, number];
  readonly classes: number;
}

/** Options with their defaults. @throws UsageError for unknown ones, or values that there cannot be */
export function completed<Options extends ApplicationOptions>(
  owner: string,
  given: Options,
  rules: Rules<Options>,
  published: Published<Options>,
) {
  const options = checkOptions(owner, given, rules);
  const { includeTop = true, pooling = "none", classifierActivation = "softmax" } = options;
  const { classes = published.classes, inputShape = published.inputShape } = options;
  const own = typeof published.name === "string" ? published.name : published.name(options);
  const name = options.name ?? own;
  return { ...options, ...{ includeTop, pooling, classifierActivation, name, inputShape, classes } };
}

type Completed = ReturnType<typeof completed<ApplicationOptions>>;

/** The architecture between a picture and what `body` and then `classifier` make of it. */
export function between(
  { name, inputShape, includeTop, pooling }: Completed,
  body: (x: GraphNode) => GraphNode,
  classifier: (x: GraphNode) => GraphNode,
): Architecture {
  const picture = input({ shape: inputShape, name: "input_layer" });
  const features = body(picture);
  const pooled = { none: (x: GraphNode) => x, avg: globalAvgPool2d(), max: globalMaxPool2d() }[pooling];
  return architecture({ name, inputs: picture, outputs: includeTop ? classifier(features) : pooled(features) });
}

/** Means of the channels, then a dense layer: the classifier of most networks. */
export const averaged =
  ({ classes, classifierActivation }: Completed, pool?: string, predictions = "predictions") =>
  (x: GraphNode): GraphNode =>
    dense({ units: classes, activation: classifierActivation, name: predictions })(
      globalAvgPool2d(pool === undefined ? {} : { name: pool })(x),
    );

/** The multiple of 8 next to `channels`, not more than a tenth below it. */
export function rounded(channels: number): number {
  const near = Math.max(8, Math.floor((channels + 4) / 8) * 8);
  return near < 0.9 * channels ? near + 8 : near;
}

/** Zeros around [h, w, C] before an odd kernel of stride 2, as TensorFlow's "same" has them. */
export function paddingBefore(x: GraphNode, kernelSize: number) {
  const after = Math.floor(kernelSize / 2);
  const sides = (size: number) => [after - (1 - (size % 2)), after] as const;
  return [sides(x.shape[0]!), sides(x.shape[1]!)] as const;
}
