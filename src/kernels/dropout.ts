// Inverted dropout: y = x mask, where the mask is 1 / (1 - rate) or, with probability `rate`, 0. It is a product, as in
// PyTorch: what is dropped is a zero with the sign of x, and NaN where x is NaN or infinite. The mask comes from
// counter-based random bits, so the gradient is the same kernel on dy with the same parameters, and no mask is stored.
import { defineKernel } from "../tensor/kernel.js";
import { bernoulliThreshold, forEachBits, RANDOM_BITS, type RandomParams, randomSizes } from "./random.js";
import { stream } from "./stream.js";

export interface DropoutParams extends RandomParams {
  /** Probability of dropping an element, in [0, 1), honoured to 2^-25. */
  readonly rate: number;
}

/** Inputs [x f32], outputs [y f32] of the same shape. */
export const dropoutKernel = defineKernel<DropoutParams>({
  name: "dropout",
  cpu: ({ inputs: [x], outputs: [y], params }) => {
    const threshold = bernoulliThreshold(params.rate);
    forEachBits(params, y!.size, (i, bits) => {
      y!.data[i] = bits >>> 8 < threshold ? x!.data[i]! * 0 : x!.data[i]! / (1 - params.rate);
    });
  },
  webgpu: (call) => {
    const { params } = call;
    stream(call, {
      key: "",
      bindings: [
        { name: "x", view: call.inputs[0]!, type: "vec4f" },
        { name: "y", view: call.outputs[0]!, type: "vec4f", access: "read_write" },
      ],
      declarations: RANDOM_BITS,
      statement: "y[i] = x[i] * select(vec4f(u.scale), vec4f(0.0), (randomBits(i) >> vec4u(8u)) < vec4u(u.threshold));",
      sizes: (start) => ({ ...randomSizes(params, start), threshold: bernoulliThreshold(params.rate) }),
      numbers: { scale: 1 / (1 - params.rate) },
    });
  },
});
