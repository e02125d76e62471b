// y = x, bit for bit, for tensors of equal size and any dtype: snapshots of weights.
import { defineKernel } from "../tensor/kernel.js";
import { stream } from "./stream.js";

/** Inputs [x], outputs [y]. */
export const copyKernel = defineKernel<Record<never, never>>({
  name: "copy",
  cpu: ({ inputs: [x], outputs: [y] }) => y!.data.set(x!.data),
  webgpu: (call) =>
    stream(call, {
      key: "",
      bindings: [
        { name: "x", view: call.inputs[0]!, type: "vec4u" },
        { name: "y", view: call.outputs[0]!, type: "vec4u", access: "read_write" },
      ],
      statement: "y[i] = x[i];",
    }),
});
