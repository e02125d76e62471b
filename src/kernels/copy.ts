// Copies bit for bit, of any dtype: whole tensors (snapshots of weights) and rows of a table.
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

/**
 * table[row, :] = x, bit for bit: what steps leave to be read together later. Inputs [x, n elements], outputs
 * [table, rows of n elements], of one dtype.
 */
export const storeRowKernel = defineKernel<{ readonly row: number }>({
  name: "storeRow",
  cpu: ({ inputs: [x], outputs: [table], params: { row } }) => table!.data.set(x!.data, row * x!.size),
  webgpu: ({ inputs: [x], outputs: [table], params: { row }, profile, dispatch }) => {
    // On software adapters every kernel has workgroups of one subgroup: a recorded step merges only equal ones.
    const lanes = profile.family === "software" ? 8 : 64;
    dispatch({
      key: "",
      program: () => ({
        workgroupSize: [lanes],
        body: "if (global.x < u.columns) { table[u.row * u.columns + global.x] = x[global.x]; }",
      }),
      bindings: [
        { name: "x", view: x!, type: "u32" },
        { name: "table", view: table!, type: "u32", access: "read_write" },
      ],
      sizes: { row, columns: x!.size },
      workgroups: [Math.ceil(x!.size / lanes)],
    });
  },
});
