// Embedding: a row of weights for each id. ids [N, ...] to [N, ..., outputDim], embeddings [inputDim, outputDim].

import { full } from "../../autograd/ops/create.js";
import { cast, notEqual, where } from "../../autograd/ops/elementwise.js";
import { gather } from "../../autograd/ops/gather.js";
import { integer, number } from "../../tensor/options.js";
import type { Tensor } from "../../tensor/tensor.js";
import { initializerSetting, penaltySetting } from "../formats/keras-words.js";
import { type InitializerOption, initializerOf, initializerRule } from "../initializers.js";
import { type CallableLayer, defineLayer, type LayerOptions } from "../layer.js";

export interface EmbeddingOptions extends LayerOptions {
  /** Number of ids, which are from 0. */
  readonly inputDim: number;
  /** Numbers that stand for an id. */
  readonly outputDim: number;
  /** Default "uniform". */
  readonly embeddingsInitializer?: InitializerOption;
  /** Adds embeddingsL2 * sum(embeddings^2) to the training loss; default 0. */
  readonly embeddingsL2?: number;
}

/** Whole numbers of any dtype as i32; fractions are cut off, and NaN is an id of nothing. */
function idsOf(x: Tensor): Tensor {
  if (x.dtype !== "f32") return cast(x, "i32");
  return cast(where(notEqual(x, x), full(x.device, [], -1), x), "i32");
}

export const Embedding = defineLayer<EmbeddingOptions>({
  className: "Embedding",
  options: {
    inputDim: integer({ from: 1 }),
    outputDim: integer({ from: 1 }),
    embeddingsInitializer: initializerRule,
    embeddingsL2: number({ from: 0 }),
  },
  required: ["inputDim", "outputDim"],
  make({ inputDim, outputDim, embeddingsInitializer = "uniform", embeddingsL2 = 0 }) {
    const initializer = initializerOf(embeddingsInitializer);
    return {
      config: { inputDim, outputDim, embeddingsInitializer: initializer, embeddingsL2 },
      outputShape: (shape) => [...shape, outputDim],
      weights: () => [{ name: "embeddings", shape: [inputDim, outputDim], initializer, l2: embeddingsL2 }],
      call: (x, { embeddings }) => gather(embeddings!, idsOf(x)),
    };
  },
  keras: {
    settings: {
      ...{ inputDim: "input_dim", outputDim: "output_dim" },
      embeddingsInitializer: initializerSetting("embeddings_initializer"),
      embeddingsL2: penaltySetting("embeddings_regularizer"),
    },
    fixed: { mask_zero: false },
    written: { activity_regularizer: null, embeddings_constraint: null },
  },
});

/**
 * A row of weights for each id, 0 to inputDim - 1: [N, ...] to [N, ..., outputDim]. Ids may be floats, as inputs of
 * models are. An id that there is none of gives NaN.
 * @example
 * nn.sequential({ device, inputShape: [20] }, [nn.embedding({ inputDim: 1000, outputDim: 16 }), nn.globalAvgPool1d()]);
 */
export const embedding = (options: EmbeddingOptions): CallableLayer => Embedding(options);
