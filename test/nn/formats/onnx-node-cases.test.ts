// All of ONNX's node cases that have tensors of numbers, on the reference and on both kernel families.
import { describe, expect, it } from "vitest";
import { operatorNamed } from "../../../src/nn/formats/onnx/operators/index.js";
import type { Device } from "../../../src/tensor/device.js";
import { cpu, describeProfiles } from "../../support.js";
import { type NodeCase, nodeCases, operatorsOf, runNodeCase } from "./onnx-node-cases.js";

/** Cases that are known to fail; the test fails when one of them passes. */
const failing = new Set([
  // Computed in float32 and not rounded in between; bfloat16 has 8 bits.
  "test_cast_FLOAT_to_BFLOAT16",
  "test_castlike_FLOAT_to_BFLOAT16_expanded",
  "test_castlike_FLOAT_to_BFLOAT16",
  "test_celu_bfloat16",
  "test_attention_3d_causal_bf16_expanded",
  "test_attention_4d_attn_mask_causal_bf16_expanded",
  "test_attention_4d_causal_bf16_expanded",
  "test_attention_4d_causal_padded_kv_bf16_expanded",
  "test_attention_4d_gqa_with_past_and_present_fp16_expanded",
  "test_attention_4d_padded_kv_bf16_expanded",
  "test_celu_bfloat16_expanded",
  // Along one axis or two.
  "test_convtranspose_3d",
  // Masks are those of another generator of random numbers.
  "test_training_dropout",
  "test_training_dropout_default",
  "test_training_dropout_default_mask",
  "test_training_dropout_mask",
  // Only sums, or elements that are put in their places once.
  "test_scatter_elements_with_reduction_max",
  "test_scatter_elements_with_reduction_min",
  "test_scatter_elements_with_reduction_mul",
  "test_scatternd_max",
  "test_scatternd_max_with_element_indices",
  "test_scatternd_min",
  "test_scatternd_min_with_element_indices",
  "test_scatternd_multiply",
]);
/** Whose middle part loses digits in float32: log(1 + e^x) for a negative x. */
const failingInFloat32 = new Set(["test_mish_expanded"]);

/** Operators that a network of floats, convolutional or not, an autoencoder or a transformer's encoder is made of. */
const NETWORKS = `
  Abs Add And ArgMax AveragePool BatchNormalization Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose CumSum
  DepthToSpace Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm GlobalAveragePool GlobalMaxPool
  Greater GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less
  Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mul Neg Not Or PRelu Pad Pow Range Reciprocal ReduceL2 ReduceMax
  ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round Selu Shape Sigmoid Sign Size Slice Softmax Softplus Softsign
  SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Upsample Where
`.split(/\s+/);

const known = nodeCases.filter((each) => each.leftOut === undefined && operatorsOf(each).every(operatorNamed));
const SIMPLE = ["float32", "int32", "int64", "bool"];
const ofNetworks = known.filter(
  ({ operator, inputs, outputs, name }) =>
    NETWORKS.includes(operator) &&
    !name.startsWith("test_training_dropout") &&
    [...inputs, ...outputs].every(({ type, shape }) => SIMPLE.includes(type) && shape.length <= 4),
);

const isFailing = ({ name }: NodeCase, device: Device) =>
  failing.has(name) || (device.kind === "webgpu" && failingInFloat32.has(name));

async function failuresOf(cases: readonly NodeCase[], device: Device): Promise<string[]> {
  const failures: string[] = [];
  for (const each of cases) {
    const expected = isFailing(each, device);
    const error = await runNodeCase(each, device).then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    if (error !== undefined && !expected) failures.push(`${each.name}: ${error.message}`);
    if (error === undefined && expected) failures.push(`${each.name}: passes, though it is listed as failing`);
  }
  return failures;
}

describe("ONNX's node cases", () => {
  it("has those of the operators of networks, all of which pass", () => {
    expect(ofNetworks.filter((each) => isFailing(each, cpu))).toEqual([]);
    expect(ofNetworks.length).toBeGreaterThanOrEqual(431);
    expect(new Set(ofNetworks.map(({ operator }) => operator)).size).toBeGreaterThanOrEqual(76);
  });

  it("gives the results on the reference", async () => {
    const failures = await failuresOf(known, cpu);
    const passed = known.length - known.filter((each) => isFailing(each, cpu)).length - failures.length;
    console.log(
      `ONNX node cases: ${passed} pass, ${known.length} attempted, ${nodeCases.length} in all; of networks ${ofNetworks.length}`,
    );
    expect(failures).toEqual([]);
  }, 300_000);

  describeProfiles((device) => {
    it("gives the results", async () => {
      expect(await failuresOf(known, device())).toEqual([]);
    }, 600_000);
  });
});
