// Checkpointing of a part of a model (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Its results
// between input and output are not kept for the backward pass but computed again there.
import { UsageError } from "../tensor/errors.js";
import { callable, check } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireResult, requireTensor, type Tensor } from "../tensor/tensor.js";
import { leafOf } from "./differentiate.js";
import { Draws } from "./draws.js";
import {
  type Backward,
  backpropagate,
  forget,
  isRecording,
  linked,
  newestNode,
  record,
  toDifferentiate,
  withRecording,
} from "./tape.js";

/**
 * `recompute(fn)(...inputs)` gives what `fn` gives, and the same gradients. It keeps only the inputs for the backward
 * pass, which runs `fn` again: a forward pass more for less memory. Gradients reach the inputs and every weight that
 * `fn` uses. `fn` must do the same again, with tensors that are still there. Random numbers are those of the first
 * time, keys given as functions included. The running statistics of batchNorm change once.
 *
 * @example const y = recompute((x) => block.call(x, { training: true }))(x);
 * @throws UsageError where `fn` gives no tensor, and in the backward pass where it gives another one than before
 */
export function recompute<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
): (...inputs: Inputs) => Tensor {
  check("recompute", "fn", fn, callable);
  const call = (inputs: readonly Tensor[]): Tensor => {
    const output: unknown = fn(...(inputs as unknown as Inputs));
    requireResult("recompute", output);
    return output;
  };
  return (...inputs) => {
    if (inputs.length === 0) throw new UsageError("recompute: needs at least one input, got none");
    inputs.forEach((input, i) => {
      requireTensor("recompute", `input ${i}`, input);
    });
    return scope(() => (isRecording() ? recomputed(call, inputs) : call(inputs)));
  };
}

function recomputed(call: (inputs: readonly Tensor[]) => Tensor, inputs: readonly Tensor[]): Tensor {
  const draws = new Draws();
  const since = newestNode();
  const leaves = inputs.map((input) => (input.tracked ? leafOf(input, false) : input.alias()));
  const output = toDifferentiate(() => draws.first(() => call(leaves)));
  // What fn took from around it, such as weights: the tape shows it.
  const weights = forget(output, since).filter((t) => !leaves.includes(t));
  const backward: Backward = (dy, saved, needed) => {
    let gradients: ReadonlyMap<Tensor, Tensor> | undefined;
    const again = inputs.map((_, i) => (needed[i] ? leafOf(saved[i]!, isRecording()) : linked(saved[i]!, saved[i]!)));
    const sources = [...again, ...weights];
    const compute = () => {
      for (const t of saved) t.checkPin();
      const createGraph = isRecording();
      const result = withRecording(true, () => toDifferentiate(() => draws.second(() => call(again))));
      // They are this pass's leaves and nobody else's.
      for (const t of again) if (t.node === null) t.requiresGrad = false;
      if (!sameShape(result.shape, output.shape)) {
        throw new UsageError(
          `recompute: fn must do the same again, it gave ${formatShape(output.shape)} and then ${formatShape(result.shape)}`,
        );
      }
      const targets = new Set(sources.filter((_, i) => needed[i]));
      return backpropagate(result, dy, { caller: "recompute", targets, retainTape: createGraph, createGraph });
    };
    return sources.map((source) => () => {
      gradients ??= compute();
      const gradient = gradients.get(source);
      if (gradient === undefined) {
        throw new UsageError(
          `recompute: fn must do the same again, but the second time its result did not depend on a tensor ${formatShape(source.shape)}`,
        );
      }
      return gradient;
    });
  };
  return record(output.alias(), {
    op: "recompute",
    inputs: [...inputs, ...weights],
    saved: [...inputs, ...weights],
    backward,
    derivable: true,
  });
}
