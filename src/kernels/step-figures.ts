// What a training step leaves for the host: its loss and how many samples it classified correctly. They stand in one
// row of a small table that is read every so many steps. Correct samples are counted per invocation, without atomics or
// barriers: the host adds the counts.
import { defineKernel } from "../tensor/kernel.js";
import { workgroupLanes } from "../webgpu/family.js";
import { isNan, typed } from "./ieee.js";

/** Invocations that share the samples, and counts per row. */
export const COUNT_LANES = 64;
/** Columns of the table that the step's figures take: the loss, then the counts. */
export const FIGURE_COLUMNS = 1 + COUNT_LANES;

const nan = (x: string) => typed(isNan(x), "f32");

export interface StepFiguresParams {
  /** Row to write. */
  readonly row: number;
  /** Columns of the table, of which the first are written; default FIGURE_COLUMNS. */
  readonly columns?: number;
  /**
   * What counts as correct: "classes": the first maximum of prediction [N, C] is the class id (target i32 [N]) or the
   * first maximum of the target (f32 [N, C]); "binary": prediction [N, 1] > threshold as target > 1/2; "none": nothing.
   * Where prediction or target has a NaN, the sample is not correct.
   */
  readonly accuracy: "classes" | "binary" | "none";
  readonly threshold: number;
}

/** Index of the first maximum of `columns` elements from `start`; -1 where one is NaN. */
function firstMaximum(data: ArrayLike<number>, start: number, columns: number): number {
  let best = 0;
  for (let c = 0; c < columns; c++) {
    if (Number.isNaN(data[start + c])) return -1;
    if (data[start + c]! > data[start + best]!) best = c;
  }
  return best;
}

/**
 * Inputs [loss f32 scalar] and, unless accuracy is "none", prediction and target; outputs [table f32 [rows, columns]].
 */
export const stepFiguresKernel = defineKernel<StepFiguresParams>({
  name: "stepFigures",
  cpu: ({ inputs: [loss, prediction, target], outputs: [table], params }) => {
    const { row, columns: pitch = FIGURE_COLUMNS, accuracy, threshold } = params;
    const start = row * pitch;
    table!.data.fill(0, start, start + FIGURE_COLUMNS);
    table!.data[start] = loss!.data[0]!;
    if (accuracy === "none") return;
    const rows = prediction!.shape[0]!;
    const columns = prediction!.size / Math.max(1, rows);
    const classOf = (n: number) =>
      target!.dtype === "f32" ? firstMaximum(target!.data, n * columns, columns) : target!.data[n]!;
    for (let n = 0; n < rows; n++) {
      const found = accuracy === "binary" ? 0 : firstMaximum(prediction!.data, n * columns, columns);
      const [value, goal] = [prediction!.data[n]!, target!.data[n]!];
      const correct =
        accuracy === "binary"
          ? value > threshold === goal > 0.5 && !Number.isNaN(value) && !Number.isNaN(goal)
          : found >= 0 && found === classOf(n);
      if (correct) table!.data[start + 1 + (n % COUNT_LANES)]! += 1;
    }
  },
  webgpu: ({ inputs: [loss, prediction, target], outputs: [table], params, profile, dispatch }) => {
    const lanes = workgroupLanes(profile, COUNT_LANES);
    const { row, columns: pitch = FIGURE_COLUMNS, accuracy, threshold } = params;
    const rows = accuracy === "none" ? 0 : prediction!.shape[0]!;
    const soft = target?.dtype === "f32";
    const correct = {
      none: "false",
      binary: `(prediction[n] > u.threshold) == (f32(goal[n]) > 0.5) && !${nan("prediction[n]")} && !${nan("f32(goal[n])")}`,
      classes: `sameClass(predictionMaximum(n), ${soft ? "goalMaximum(n)" : "i32(goal[n])"})`,
    }[accuracy];
    const maximum = (name: string) => /* wgsl */ `
fn ${name}Maximum(n: u32) -> i32 {
  let start = n * u.columns;
  var best = start;
  for (var c = start; c < start + u.columns; c++) {
    if (${nan(`${name}[c]`)}) { return -1; }
    if (${name}[c] > ${name}[best]) { best = c; }
  }
  return i32(best - start);
}`;
    dispatch({
      key: `${accuracy}${soft ? " soft" : ""}`,
      program: () => ({
        workgroupSize: [lanes],
        declarations:
          accuracy === "classes"
            ? `${maximum("prediction")}${soft ? maximum("goal") : ""}
fn sameClass(found: i32, goal: i32) -> bool { return found >= 0 && found == goal; }`
            : "",
        body: /* wgsl */ `
  let counter = group.x * ${lanes}u + lane;
  var count = 0.0;
  for (var n = counter; n < u.rows; n += ${COUNT_LANES}u) { if (${correct}) { count += 1.0; } }
  let start = u.start;
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
      sizes: { start: row * pitch, rows, columns: rows === 0 ? 0 : prediction!.size / rows },
      numbers: { threshold },
      workgroups: [COUNT_LANES / lanes],
    });
  },
});
