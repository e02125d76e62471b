// Multi-head attention (Vaswani et al. 2017): for each of H heads, softmax(q k^T / sqrt(K)) v, of queries q [N, T, K],
// keys k [N, S, K] and values v [N, S, V] that are projections of the inputs. The heads' results are projected to the
// output. Weights have Keras's shapes: [D, H, K] and [H, K], for the output [H, V, D] and [D].
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { mul } from "../../autograd/ops/elementwise.js";
import { matmul } from "../../autograd/ops/matmul.js";
import { softmax } from "../../autograd/ops/softmax.js";
import { reshape, transpose } from "../../autograd/ops/transform.js";
import { DataError, ShapeError } from "../../tensor/errors.js";
import { boolean, integer, number } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import type { Tensor } from "../../tensor/tensor.js";
import { initializerSetting, penaltySetting } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

export interface MultiHeadAttentionOptions extends LayerOptions {
  readonly numHeads: number;
  /** Size of a head's queries and keys. */
  readonly keyDim: number;
  /** Size of a head's values; default keyDim. */
  readonly valueDim?: number;
  /** Share of the attention that is dropped while training; default 0. */
  readonly dropout?: number;
  /** Default true. */
  readonly useBias?: boolean;
  /** Size of the output; default that of the query. */
  readonly outputDim?: number;
  /** Default "glorotUniform". */
  readonly kernelInitializer?: InitializerOption;
  /** Default "zeros". */
  readonly biasInitializer?: InitializerOption;
  /** Adds kernelL2 * sum(kernel^2) of each kernel to the training loss; default 0. */
  readonly kernelL2?: number;
}

const size = integer({ from: 1 });

/** [N, T, D] through a kernel [D, H, K]: [N, H, T, K]. */
function projected(x: Tensor, kernel: Tensor, bias: Tensor | undefined): Tensor {
  const [batch, length, inputs] = x.shape as [number, number, number];
  const [, heads, depth] = kernel.shape as [number, number, number];
  const rows = reshape(x, [batch * length, inputs]);
  const y = matmul(rows, reshape(kernel, [inputs, heads * depth]), bias && { bias: reshape(bias, [heads * depth]) });
  return transpose(reshape(y, [batch, length, heads, depth]), [0, 2, 1, 3]);
}

export const MultiHeadAttention = defineLayer<MultiHeadAttentionOptions>({
  className: "MultiHeadAttention",
  options: {
    ...{ numHeads: size, keyDim: size, valueDim: size, outputDim: size },
    dropout: number({ from: 0, below: 1 }),
    useBias: boolean,
    kernelInitializer: initializerRule,
    biasInitializer: initializerRule,
    kernelL2: number({ from: 0 }),
  },
  required: ["numHeads", "keyDim"],
  make(options) {
    const { numHeads, keyDim, valueDim = keyDim, dropout = 0, useBias = true, outputDim, kernelL2 = 0 } = options;
    const kernelInitializer = initializerOf(options.kernelInitializer ?? "glorotUniform");
    const biasInitializer = initializerOf(options.biasInitializer ?? "zeros");
    const outputs = (query: Shape) => outputDim ?? query[1]!;
    return {
      config: {
        ...{ numHeads, keyDim, valueDim, dropout, useBias, kernelInitializer, biasInitializer, kernelL2 },
        ...(outputDim !== undefined && { outputDim }),
      },
      takesSeveral: true,
      outputShape(...shapes) {
        const [query, value, key = value] = shapes;
        const fits = shapes.length <= 3 && shapes.every((shape) => shape.length === 2) && key?.[0] === value?.[0];
        if (query !== undefined && value !== undefined && fits) return [query[0]!, outputs(query)];
        throw new ShapeError(
          `needs a query [T, D], a value [S, D'] and perhaps a key [S, D''], got ${shapes.map(formatShape).join(", ")}; attention of x to itself is attention([x, x])`,
        );
      },
      weights(query, value = query, key = value) {
        const projection = (name: string, inputs: number, depth: number) => kernel(name, [inputs, numHeads, depth], 1);
        const kernel = (name: string, shape: Shape, biasFrom: number) => [
          { name: `${name}Kernel`, shape, initializer: kernelInitializer, l2: kernelL2 },
          ...(useBias ? [{ name: `${name}Bias`, shape: shape.slice(biasFrom), initializer: biasInitializer }] : []),
        ];
        return [
          ...projection("query", query[1]!, keyDim),
          ...projection("key", key[1]!, keyDim),
          ...projection("value", value[1]!, valueDim),
          ...kernel("output", [numHeads, valueDim, outputs(query)], 2),
        ];
      },
      multiplyAdds(_, query, value = query, key = value) {
        const [queries, keys] = [query[0]!, key[0]!];
        const inner = queries * keys * (keyDim + valueDim) + queries * valueDim * outputs(query);
        return numHeads * (sizeOf(query) * keyDim + sizeOf(key) * keyDim + sizeOf(value) * valueDim + inner);
      },
      call(x, weights, { inputs, training, key: randomKey }) {
        const [query, value = x, key = value] = inputs;
        // Shorter than the scores, so cheaper to scale.
        const q = mul(projected(query!, weights["queryKernel"]!, weights["queryBias"]), 1 / Math.sqrt(keyDim));
        const k = projected(key, weights["keyKernel"]!, weights["keyBias"]);
        const v = projected(value, weights["valueKernel"]!, weights["valueBias"]);
        const scores = softmax(matmul(q, k, { transposeB: true }));
        const kept = training && dropout > 0 ? dropoutOp(scores, { rate: dropout, key: randomKey }) : scores;
        const heads = transpose(matmul(kept, v), [0, 2, 1, 3]);
        const [batch, length] = heads.shape as [number, number];
        const kernel = weights["outputKernel"]!;
        const bias = weights["outputBias"];
        const units = kernel.shape[2]!;
        const rows = reshape(heads, [batch * length, numHeads * valueDim]);
        const y = matmul(rows, reshape(kernel, [numHeads * valueDim, units]), bias && { bias });
        return reshape(y, [batch, length, units]);
      },
    };
  },
  keras: {
    settings: {
      ...{ numHeads: "num_heads", keyDim: "key_dim", valueDim: "value_dim", dropout: "dropout", useBias: "use_bias" },
      outputDim: {
        name: "output_shape",
        to: (value) => (value === undefined ? null : [value]),
        from(value, { where }) {
          const sizes = [value ?? []].flat();
          if (sizes.length <= 1) return sizes[0];
          throw new DataError(`${where}: output_shape must be of one size, is ${JSON.stringify(value)}`);
        },
      },
      kernelInitializer: initializerSetting("kernel_initializer"),
      biasInitializer: initializerSetting("bias_initializer"),
      kernelL2: penaltySetting("kernel_regularizer"),
    },
    fixedIfGiven: { use_gate: false, sliding_window: null },
    written: {
      ...{ attention_axes: null, bias_regularizer: null, activity_regularizer: null },
      ...{ kernel_constraint: null, bias_constraint: null },
    },
    weights: {
      ...{ queryKernel: "query/kernel", queryBias: "query/bias", keyKernel: "key/kernel", keyBias: "key/bias" },
      ...{ valueKernel: "value/kernel", valueBias: "value/bias" },
      ...{ outputKernel: "attention_output/kernel", outputBias: "attention_output/bias" },
    },
    parts: ["query_dense", "key_dense", "value_dense", "output_dense"],
    inputs: ["query", "value", "key"],
    check({ attention_axes: axes }, _, where) {
      // Of [N, T, D] there is one axis to attend along; Keras names it once it is built.
      if (axes === undefined || axes === null || `${axes}` === "1") return;
      throw new DataError(`${where}: attention_axes must be 1 or null, is ${JSON.stringify(axes)}`);
    },
  },
});

/**
 * Multi-head attention, called on a query [N, T, D], a value [N, S, D'] and, where it is not the value, a key: gives
 * [N, T, D].
 * @example
 * const y = nn.multiHeadAttention({ numHeads: 4, keyDim: 16 })([x, x]);
 */
export const multiHeadAttention = (options: MultiHeadAttentionOptions): CallableLayer => MultiHeadAttention(options);
