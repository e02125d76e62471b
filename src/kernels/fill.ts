// y[i] = value, for y of any shape and dtype.
import { deviceArray } from "../tensor/dtype.js";
import { defineKernel } from "../tensor/kernel.js";
import { stream } from "./stream.js";

export interface FillParams {
  readonly value: number;
}

/** Inputs none, outputs [y]. */
export const fillKernel = defineKernel<FillParams>({
  name: "fill",
  cpu: ({ outputs: [y], params }) => {
    y!.data.fill(params.value);
  },
  webgpu: (call) => {
    const y = call.outputs[0]!;
    // Bits, so that one program serves every dtype and keeps NaN and -0.
    const [bits] = new Uint32Array(deviceArray(y.dtype, [call.params.value]).buffer);
    stream(call, {
      key: "",
      bindings: [{ name: "y", view: y, type: "vec4u", access: "read_write" }],
      statement: "y[i] = vec4u(u.bits);",
      sizes: () => ({ bits: bits! }),
    });
  },
});
