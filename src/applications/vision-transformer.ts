// Vision transformer (Dosovitskiy et al. 2020) with torchvision's layers and names: patches as tokens, a token for the
// class before them, positions added, and blocks of attention and two dense layers.
import { ones } from "../autograd/ops/create.js";
import { add as addOp, mul } from "../autograd/ops/elementwise.js";
import { concat } from "../autograd/ops/transform.js";
import type { Architecture } from "../nn/architecture.js";
import { architecture } from "../nn/architecture.js";
import { type GraphNode, input } from "../nn/graph.js";
import { normal } from "../nn/initializers.js";
import { defineLayer } from "../nn/layer.js";
import { multiHeadAttention } from "../nn/layers/attention.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { dropout } from "../nn/layers/dropout.js";
import { layerNorm } from "../nn/layers/layer-norm.js";
import { add } from "../nn/layers/merging.js";
import { cropping1d } from "../nn/layers/padding.js";
import { reshape } from "../nn/layers/reshape.js";
import { ShapeError } from "../tensor/errors.js";
import { integer, number } from "../tensor/options.js";
import { formatShape, type Shape } from "../tensor/shape.js";
import { type ApplicationOptions, applicationRules, completed, widthRule } from "./parts.js";

export interface VisionTransformerOptions extends Omit<ApplicationOptions, "pooling"> {
  /** Height and width of a patch, which divide those of the picture; default 4. */
  readonly patchSize?: number;
  /** Blocks; default 6. */
  readonly layers?: number;
  /** Heads of a block's attention, which divide the width; default 3. */
  readonly heads?: number;
  /** Numbers of a token; default 192. */
  readonly width?: number;
  /** Numbers between a block's two dense layers; default 4 times the width. */
  readonly mlpWidth?: number;
  /** Share that is dropped of tokens while training; default 0. */
  readonly dropout?: number;
}

function requireTokens(shape: Shape): void {
  if (shape.length !== 2) throw new ShapeError(`needs tokens [T, C], got ${formatShape(shape)}`);
}

/** A token of weights [1, 1, C] before the others: [N, T, C] to [N, T + 1, C]. */
export const classToken = defineLayer({
  className: "ClassToken",
  make: () => ({
    gives: "summaries",
    outputShape(shape) {
      requireTokens(shape);
      return [shape[0]! + 1, shape[1]!];
    },
    weights: (shape) => [{ name: "token", shape: [1, 1, shape[1]!], initializer: "zeros" }],
    call: (x, { token }) => concat([mul(token!, ones(x.device, [x.shape[0]!, 1, 1])), x], 1),
  }),
  onnx({ inputs: [x], inputShapes, op, weight, integers }) {
    const batch = op("Shape", [x!], { start: { int: 0 }, end: { int: 1 } });
    const shape = op("Concat", [batch, integers([1, inputShapes[0]![1]!])], { axis: { int: 0 } });
    return op("Concat", [op("Expand", [weight("token"), shape]), x!], { axis: { int: 1 } });
  },
});

/** Adds weights [1, T, C] to tokens [N, T, C]. */
export const positionEmbedding = defineLayer({
  className: "PositionEmbedding",
  make: () => ({
    gives: "summaries",
    outputShape(shape) {
      requireTokens(shape);
      return shape;
    },
    weights: (shape) => [{ name: "embedding", shape: [1, ...shape], initializer: normal({ standardDeviation: 0.02 }) }],
    call: (x, { embedding }) => addOp(x, embedding!),
  }),
  onnx: ({ inputs: [x], op, weight }) => op("Add", [x!, weight("embedding")]),
});

/** x plus attention of its tokens to each other, then plus two dense layers of each token. */
function block(x: GraphNode, heads: number, mlpWidth: number, rate: number, name: string): GraphNode {
  const width = x.shape[1]!;
  const norm = (part: string) => layerNorm({ epsilon: 1e-6, name: `${name}.${part}` });
  const dropped = (given: GraphNode, part: string) =>
    rate > 0 ? dropout({ rate, name: `${name}.${part}` })(given) : given;
  const tokens = norm("ln_1")(x);
  const attention = multiHeadAttention({ numHeads: heads, keyDim: width / heads, name: `${name}.self_attention` });
  const y = add({ name: `${name}.add_1` })([dropped(attention([tokens, tokens]), "dropout"), x]);
  let z = dense({ units: mlpWidth, activation: "gelu", name: `${name}.mlp.0` })(norm("ln_2")(y));
  z = dense({ units: width, name: `${name}.mlp.3` })(dropped(z, "mlp.2"));
  return add({ name: `${name}.add_2` })([y, dropped(z, "mlp.4")]);
}

/**
 * A vision transformer, by default a small one for pictures [32, 32, 3]; 86,567,656 parameters as ViT-B/16, with
 * `{ inputShape: [224, 224, 3], classes: 1000, patchSize: 16, layers: 12, heads: 12, width: 768 }`. Without the
 * classifier it gives the class token.
 * @throws UsageError for options that it does not have, ShapeError where patches or heads do not divide
 * @example
 * const model = visionTransformer({ layers: 2, heads: 2, width: 32, classes: 5 }).build({ device, seed: 1 });
 */
export function visionTransformer(options: VisionTransformerOptions = {}): Architecture {
  const { pooling: _, ...common } = applicationRules;
  const rules = {
    ...common,
    ...{ patchSize: integer({ from: 1, to: 2 ** 12 }), layers: integer({ from: 1, to: 1024 }) },
    ...{ heads: integer({ from: 1, to: 1024 }), width: widthRule, mlpWidth: widthRule },
    dropout: number({ from: 0, below: 1 }),
  };
  const published = { name: "vision_transformer", inputShape: [32, 32, 3], classes: 10 } as const;
  const given = completed<VisionTransformerOptions>("visionTransformer", options, rules, published);
  const { inputShape, patchSize = 4, layers = 6, heads = 3, width = 192, dropout: rate = 0 } = given;
  const { mlpWidth = 4 * width, classes, classifierActivation, includeTop, name } = given;
  if (inputShape[0] % patchSize !== 0 || inputShape[1] % patchSize !== 0 || width % heads !== 0) {
    throw new ShapeError(
      `visionTransformer: patches must divide the picture, and heads the width, got patches of ${patchSize} in ${formatShape(inputShape)} and ${heads} heads of ${width}`,
    );
  }
  const picture = input({ shape: inputShape, name: "input_layer" });
  let x = conv2d({ filters: width, kernelSize: patchSize, strides: patchSize, name: "conv_proj" })(picture);
  x = reshape([x.shape[0]! * x.shape[1]!, width], { name: "tokens" })(x);
  x = classToken({ name: "class_token" })(x);
  x = positionEmbedding({ name: "encoder.pos_embedding" })(x);
  if (rate > 0) x = dropout({ rate, name: "encoder.dropout" })(x);
  for (let i = 0; i < layers; i++) x = block(x, heads, mlpWidth, rate, `encoder.layers.encoder_layer_${i}`);
  x = layerNorm({ epsilon: 1e-6, name: "encoder.ln" })(x);
  x = flatten({ name: "class" })(cropping1d({ cropping: [0, x.shape[0]! - 1], name: "first" })(x));
  if (includeTop) x = dense({ units: classes, activation: classifierActivation, name: "heads.head" })(x);
  return architecture({ name, inputs: picture, outputs: x });
}
