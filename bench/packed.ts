// Tasks as bytes, without anything of Node: what benchmarks in pages read, too.
import type { Task, TaskSpec } from "./workloads.js";

/** Beside task.json: inputs, targets, and weights one after the other. */
export const TASK_FILES = ["inputs", "targets", "weights.f32"] as const;

/** A task of its files' contents. */
export function taskOf(spec: TaskSpec, files: readonly [Uint8Array, Uint8Array, Uint8Array]): Task {
  const floats = spec.loss === "sigmoid" || spec.kind === "optimize";
  const [inputs, targets, weights] = files;
  return {
    spec,
    inputs: new Float32Array(inputs.buffer as ArrayBuffer, inputs.byteOffset, inputs.byteLength / 4),
    targets: new (floats ? Float32Array : Int32Array)(
      targets.buffer as ArrayBuffer,
      targets.byteOffset,
      targets.byteLength / 4,
    ),
    weights: unpacked(spec, weights),
  };
}

/** Arrays one after the other. */
export function packed(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

function unpacked({ weights }: TaskSpec, bytes: Uint8Array): Map<string, Float32Array> {
  let at = bytes.byteOffset;
  return new Map(
    weights.map(({ name, shape }) => {
      const values = new Float32Array(
        bytes.buffer as ArrayBuffer,
        at,
        shape.reduce((a, b) => a * b, 1),
      );
      at += values.byteLength;
      return [name, values];
    }),
  );
}
