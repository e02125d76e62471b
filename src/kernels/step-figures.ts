// What a training step leaves for the host: its loss and how many samples it classified correctly, in one row of a small
// table that is read every so many steps. Correct samples are counted per invocation, without atomics or barriers: the
// host adds the counts.
import { defineKernel } from "../tensor/kernel.js";

/** Invocations that share the samples, and counts per row. */
export const COUNT_LANES = 64;
/** Columns of the table: the loss, then the counts. */
export const FIGURE_COLUMNS = 1 + COUNT_LANES;

export interface StepFiguresParams {
  /** Row to write. */
  readonly row: number;
  /**
   * What counts as correct: "classes": the first maximum of prediction [N, C] is the class id (target i32 [N]) or the
   * first maximum of the target (f32 [N, C]); "binary": prediction [N, 1] > threshold as target > 1/2; "none": nothing.
   */
  readonly accuracy: "classes" | "binary" | "none";
  readonly threshold: number;
}

/** Index of the first maximum of `columns` elements from `start`. */
function firstMaximum(data: ArrayLike<number>, start: number, columns: number): number {
  let best = 0;
  for (let c = 1; c < columns; c++) if (data[start + c]! > data[start + best]!) best = c;
  return best;
}

/** Inputs [loss f32 scalar] and, unless accuracy is "none", prediction and target; outputs [table f32 [rows, 65]]. */
export const stepFiguresKernel = defineKernel<StepFiguresParams>({
  name: "stepFigures",
  cpu: ({ inputs: [loss, prediction, target], outputs: [table], params: { row, accuracy, threshold } }) => {
    const start = row * FIGURE_COLUMNS;
    table!.data.fill(0, start, start + FIGURE_COLUMNS);
    table!.data[start] = loss!.data[0]!;
    if (accuracy === "none") return;
    const rows = prediction!.shape[0]!;
    const columns = prediction!.size / Math.max(1, rows);
    for (let n = 0; n < rows; n++) {
      const correct =
        accuracy === "binary"
          ? prediction!.data[n]! > threshold === target!.data[n]! > 0.5
          : firstMaximum(prediction!.data, n * columns, columns) ===
            (target!.dtype === "f32" ? firstMaximum(target!.data, n * columns, columns) : target!.data[n]!);
      if (correct) table!.data[start + 1 + (n % COUNT_LANES)]! += 1;
    }
  },
  webgpu: ({ inputs: [loss, prediction, target], outputs: [table], params, profile, dispatch }) => {
    // On software adapters every kernel has workgroups of one subgroup: a recorded step merges only equal ones.
    const lanes = profile.name === "software" ? 8 : COUNT_LANES;
    const { row, accuracy, threshold } = params;
    const rows = accuracy === "none" ? 0 : prediction!.shape[0]!;
    const soft = target?.dtype === "f32";
    const correct = {
      none: "false",
      binary: "(prediction[n] > u.threshold) == (f32(goal[n]) > 0.5)",
      classes: soft ? "predictionMaximum(n) == goalMaximum(n)" : "predictionMaximum(n) == u32(goal[n])",
    }[accuracy];
    const maximum = (name: string) => /* wgsl */ `
fn ${name}Maximum(n: u32) -> u32 {
  let start = n * u.columns;
  var best = start;
  for (var c = start + 1u; c < start + u.columns; c++) { if (${name}[c] > ${name}[best]) { best = c; } }
  return best - start;
}`;
    dispatch({
      key: `${accuracy}${soft ? " soft" : ""}`,
      program: () => ({
        workgroupSize: [lanes],
        declarations: accuracy === "classes" ? `${maximum("prediction")}${soft ? maximum("goal") : ""}` : "",
        body: /* wgsl */ `
  let counter = group.x * ${lanes}u + lane;
  var count = 0.0;
  for (var n = counter; n < u.rows; n += ${COUNT_LANES}u) { if (${correct}) { count += 1.0; } }
  let start = u.row * ${FIGURE_COLUMNS}u;
  table[start + 1u + counter] = count;
  if (counter == 0u) { table[start] = loss[0]; }`,
      }),
      bindings: [
        { name: "loss", view: loss!, type: "f32" },
        { name: "table", view: table!, type: "f32", access: "read_write" },
        ...(accuracy === "none"
          ? []
          : [
              { name: "prediction", view: prediction!, type: "f32" },
              { name: "goal", view: target!, type: target!.dtype },
            ]),
      ],
      sizes: { row, rows, columns: rows === 0 ? 0 : prediction!.size / rows },
      numbers: { threshold },
      workgroups: [COUNT_LANES / lanes],
    });
  },
});
