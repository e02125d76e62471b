// Multi-head attention (Vaswani et al. 2017): for each of H heads, softmax(q k^T / sqrt(K)) v, of queries q [N, T, K],
// keys k [N, S, K] and values v [N, S, V] that are projections of the inputs. The heads' results are projected to the
// output. Weights have Keras's shapes: [D, H, K] and [H, K], for the output [H, V, D] and [D].
//
// A mask m [N, T, S] says what each query may attend to: 1 where it may, 0 where not. Other scores become -1e9, whose
// exponential is 0. So a query that may attend to nothing attends to everything alike, as in Keras in float32.
import { full } from "../../autograd/ops/create.js";
import { dropout as dropoutOp } from "../../autograd/ops/dropout.js";
import { greater, mul, where } from "../../autograd/ops/elementwise.js";
import { matmul } from "../../autograd/ops/matmul.js";
import { softmax } from "../../autograd/ops/softmax.js";
import { expandDims, reshape, transpose } from "../../autograd/ops/transform.js";
import type { Device } from "../../tensor/device.js";
import { DataError, ShapeError } from "../../tensor/errors.js";
import { boolean, integer, number } from "../../tensor/options.js";
import { formatShape, type Shape, sizeOf } from "../../tensor/shape.js";
import { type Tensor, tensor } from "../../tensor/tensor.js";
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
  /** Whether position t attends to none after it: to s <= t alone. Default false. */
  readonly useCausalMask?: boolean;
  /** Default "glorotUniform". */
  readonly kernelInitializer?: InitializerOption;
  /** Default "zeros". */
  readonly biasInitializer?: InitializerOption;
  /** Adds kernelL2 * sum(kernel^2) of each kernel to the training loss; default 0. */
  readonly kernelL2?: number;
}

const size = integer({ from: 1 });

/** The score of what is not attended to. */
const MASKED = -1e9;

/** [T, S]: 1 where s <= t. */
function causalMask(device: Device, queries: number, keys: number): Tensor {
  const values = Float32Array.from({ length: queries * keys }, (_, i) => Number(i % keys <= Math.floor(i / keys)));
  return tensor(device, values, { shape: [queries, keys] });
}

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
    ...{ useBias: boolean, useCausalMask: boolean },
    kernelInitializer: initializerRule,
    biasInitializer: initializerRule,
    kernelL2: number({ from: 0 }),
  },
  required: ["numHeads", "keyDim"],
  make(options) {
    const { numHeads, keyDim, valueDim = keyDim, dropout = 0, useBias = true, outputDim, kernelL2 = 0 } = options;
    const { useCausalMask = false } = options;
    const kernelInitializer = initializerOf(options.kernelInitializer ?? "glorotUniform");
    const biasInitializer = initializerOf(options.biasInitializer ?? "zeros");
    const outputs = (query: Shape) => outputDim ?? query[1]!;
    return {
      config: {
        ...{ numHeads, keyDim, valueDim, dropout, useBias, kernelInitializer, biasInitializer, kernelL2 },
        ...(outputDim !== undefined && { outputDim }),
        ...(useCausalMask && { useCausalMask }),
      },
      takesSeveral: true,
      outputShape(...shapes) {
        const [query, value, key = value, mask] = shapes;
        const fits = shapes.length <= 4 && shapes.every((shape) => shape.length === 2) && key?.[0] === value?.[0];
        const covers = mask === undefined || (query !== undefined && [1, query[0]].includes(mask[0]!));
        const named = mask === undefined || [1, key?.[0]].includes(mask[1]!);
        if (query !== undefined && value !== undefined && fits && covers && named) return [query[0]!, outputs(query)];
        throw new ShapeError(
          `needs a query [T, D], a value [S, D'] and perhaps a key [S, D''] and a mask [T, S], got ${shapes.map(formatShape).join(", ")}; attention of x to itself is attention([x, x])`,
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
        const [query, value = x, key = value, mask] = inputs;
        // Shorter than the scores, so cheaper to scale.
        const q = mul(projected(query!, weights["queryKernel"]!, weights["queryBias"]), 1 / Math.sqrt(keyDim));
        const k = projected(key, weights["keyKernel"]!, weights["keyBias"]);
        const v = projected(value, weights["valueKernel"]!, weights["valueBias"]);
        const masks = [
          ...(mask === undefined ? [] : [expandDims(mask, 1)]),
          ...(useCausalMask ? [causalMask(x.device, query!.shape[1]!, key.shape[1]!)] : []),
        ];
        const masked = (scores: Tensor, by: Tensor) => where(greater(by, 0), scores, full(x.device, [], MASKED));
        const scores = softmax(masks.reduce(masked, matmul(q, k, { transposeB: true })));
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
    namedInputs: ["attention_mask"],
    inputDefaults: { key: "value" },
    callSettings: { useCausalMask: "use_causal_mask" },
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
 * [N, T, D]. A fourth input is a mask [N, T, S] (or [N, 1, S], for padding): 1 where a query attends to a key, else 0.
 * @example
 * const y = nn.multiHeadAttention({ numHeads: 4, keyDim: 16, useCausalMask: true })([x, x]);
 * const padded = nn.multiHeadAttention({ numHeads: 4, keyDim: 16 })([x, x, x, mask]);
 */
export const multiHeadAttention = (options: MultiHeadAttentionOptions): CallableLayer => MultiHeadAttention(options);
