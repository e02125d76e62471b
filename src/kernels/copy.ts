// Copies bit for bit, of any dtype: whole tensors (snapshots of weights) and rows of a table.
import { defineKernel } from "../tensor/kernel.js";
import { workgroupLanes } from "../webgpu/family.js";
import { GRID_INDEX, gridOf } from "../webgpu/program.js";
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

export interface StoreRowParams {
  readonly row: number;
  /** Columns of the table; by default as many as x has elements. */
  readonly columns?: number;
  /** Column that x begins at; default 0. */
  readonly first?: number;
}

/**
 * table[row, first + i] = x[i], bit for bit: what steps leave to be read together later. Inputs [x, n elements],
 * outputs [table [rows, columns]], of one dtype.
 */
export const storeRowKernel = defineKernel<StoreRowParams>({
  name: "storeRow",
  cpu: ({ inputs: [x], outputs: [table], params: { row, columns = x!.size, first = 0 } }) =>
    table!.data.set(x!.data, row * columns + first),
  webgpu: ({ inputs: [x], outputs: [table], params, profile, dispatch }) => {
    const { row, columns = x!.size, first = 0 } = params;
    const lanes = workgroupLanes(profile, 64);
    dispatch({
      key: "",
      program: () => ({
        workgroupSize: [lanes],
        body: /* wgsl */ `
  let i = ${GRID_INDEX} * ${lanes}u + lane;
  if (i < u.count) { table[u.start + i] = x[i]; }`,
      }),
      bindings: [
        { name: "x", view: x!, type: "u32" },
        { name: "table", view: table!, type: "u32", access: "read_write" },
      ],
      sizes: { start: row * columns + first, count: x!.size },
      workgroups: gridOf(Math.ceil(x!.size / lanes)),
    });
  },
});
