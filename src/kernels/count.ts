// How often each value occurs among integers: bins of histograms, cells of confusion matrices. Counts are whole
// numbers, so that the order in which invocations add to them does not matter.
import { defineKernel } from "../tensor/kernel.js";
import { fillKernel } from "./fill.js";
import { stream } from "./stream.js";

/** Inputs [x i32, any shape], outputs [counts u32 [bins]]; values outside [0, bins) are not counted. */
export const countKernel = defineKernel<Record<never, never>>({
  name: "count",
  cpu: ({ inputs: [x], outputs: [counts] }) => {
    counts!.data.fill(0);
    for (const value of x!.data) if (value >= 0 && value < counts!.size) counts!.data[value]! += 1;
  },
  webgpu: (call) => {
    const { inputs, outputs } = call;
    const [x, counts] = [inputs[0]!, outputs[0]!];
    fillKernel.webgpu({ ...call, inputs: [], params: { value: 0 } });
    stream(call, {
      key: "",
      bindings: [{ name: "x", view: x, type: "vec4i" }],
      tables: [{ name: "counts", view: counts, type: "atomic<u32>", access: "read_write" }],
      // The last vec4 may be more than the tensor.
      statement: /* wgsl */ `
    let values = x[i];
    for (var c = 0u; c < 4u; c++) {
      if (4u * i + c < u.size && values[c] >= 0 && u32(values[c]) < u.bins) { atomicAdd(&counts[values[c]], 1u); }
    }`,
      sizes: (start) => ({ size: x.size - start, bins: counts.size }),
    });
  },
});
