// Attention with masks: Keras's numbers (attention.py), gradients, both devices, and which shapes a mask may have.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { noGrad } from "../../src/autograd/tape.js";
import { fromKerasConfig, toKerasConfig } from "../../src/nn/formats/keras.js";
import { multiHeadAttention } from "../../src/nn/layers/attention.js";
import type { FunctionalConfig } from "../../src/nn/model-config.js";
import type { Device } from "../../src/tensor/device.js";
import { randomKey } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose } from "../support.js";

interface MaskedCase {
  readonly what: string;
  readonly inputs: readonly Shape[];
  readonly values: readonly number[][];
  readonly mask: number[][][] | null;
  readonly causal: boolean;
  readonly weights: readonly (readonly [Shape, number[]])[];
  readonly output: number[];
}

const cases: readonly MaskedCase[] = JSON.parse(readFileSync("test/nn/attention.json", "utf8"));

/** The layer of a case as a function of query and value. */
function attention({ mask, causal, weights, inputs }: MaskedCase) {
  const layer = multiHeadAttention({ numHeads: 2, keyDim: 3, useCausalMask: causal });
  const [querySize, valueSize] = inputs.map((shape) => shape.slice(1));
  const specs = layer.weights(querySize!, valueSize!);
  return (query: Tensor, value: Tensor): Tensor => {
    const { device } = query;
    const named = specs.map(({ name }, i) => {
      const [shape, numbers] = weights[i]!;
      return [name, tensor(device, numbers, { shape })];
    });
    const given = [query, value, ...(mask === null ? [] : [value, tensor(device, mask)])];
    const context = { training: false, key: () => randomKey(1, "layer"), omitActivation: false, inputs: given };
    return layer.call(query, Object.fromEntries(named), context);
  };
}

const computed = (masked: MaskedCase, device: Device) => {
  const [query, value] = masked.inputs.map((shape, i) => tensor(device, masked.values[i]!, { shape }));
  return noGrad(() => attention(masked)(query!, value!)).data();
};

describe("on the reference", () => {
  it.each(cases)("$what gives Keras's numbers", async (masked) => {
    expectClose(await computed(masked, cpu), masked.output, { rtol: 1e-9 });
  });

  it.each(cases)("gradients with $what", async (masked) => {
    const given = masked.inputs.map((shape, i) => ({ shape, values: Float64Array.from(masked.values[i]!) }));
    await gradcheck(attention(masked) as (...inputs: Tensor[]) => Tensor, given);
  });
});

describeProfiles((device) => {
  it.each(cases)("$what gives Keras's numbers", async (masked) => {
    expectClose(await computed(masked, device()), masked.output, { rtol: 1e-5 });
  });

  it("has queries that may attend to nothing attend to everything alike", async () => {
    const [first] = cases;
    const mask = first!.mask!.map((rows) => rows.map((row) => row.map(() => 0)));
    const output = Array.from(await computed({ ...first!, mask }, device()));
    // [2, 4, 5]: four queries with one answer.
    const ofFirst = output.map((_, i) => output[20 * Math.floor(i / 20) + (i % 5)]!);
    expectClose(output, ofFirst, { rtol: 1e-6 });
    expect(output[0]).not.toBeCloseTo(output[20]!, 3);
  });
});

it("refuses masks of other sizes", () => {
  const layer = multiHeadAttention({ numHeads: 2, keyDim: 3 });
  const [query, value]: Shape[] = [
    [4, 5],
    [3, 2],
  ];
  for (const mask of [
    [4, 3],
    [1, 3],
    [4, 1],
    [1, 1],
  ]) {
    expect(layer.outputShape(query!, value!, value!, mask)).toEqual([4, 5]);
  }
  for (const mask of [[3, 4], [4, 2], [4], [2, 4, 3]]) {
    expect(() => layer.outputShape(query!, value!, value!, mask)).toThrow("perhaps a key [S, D''] and a mask [T, S]");
  }
});

describe("in Keras's words", () => {
  const [masked, causal] = JSON.parse(readFileSync("test/nn/attention-models.json", "utf8"));

  it("a mask is an argument by name, and the key is the value where there is none", () => {
    const config = fromKerasConfig(masked, "file") as FunctionalConfig;
    expect(config.calls).toEqual([{ layer: "attention", inputs: [0, 1, 1, 2] }]);
    const again = fromKerasConfig(toKerasConfig(config), "file");
    expect(again).toEqual(config);
  });

  it("a causal mask is said by the call", () => {
    const config = fromKerasConfig(causal, "file") as FunctionalConfig;
    expect(config.layers[0]!.config["useCausalMask"]).toBe(true);
    const written = toKerasConfig(config).config["layers"] as { config: object; inbound_nodes: { kwargs: object }[] }[];
    expect(written.at(-1)!.inbound_nodes[0]!.kwargs).toEqual({ use_causal_mask: true });
    expect(written.at(-1)!.config).not.toHaveProperty("use_causal_mask");
    expect(fromKerasConfig(toKerasConfig(config), "file")).toEqual(config);
  });
});
