// Functions as what is differentiated: value and gradients of fn at inputs, by the tape.
import { KilogradError, UsageError } from "../tensor/errors.js";
import { boolean, callable, check, checkOptions, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape } from "../tensor/shape.js";
import { requireResult, requireTensor, type Tensor } from "../tensor/tensor.js";
import {
  backpropagate,
  fromSeed,
  isRecording,
  leavesOf,
  linked,
  markDerived,
  notRecorded,
  owned,
  type Pass,
  requireHistory,
  seedGradient,
  toDifferentiate,
  wantsGraph,
  withRecording,
  zerosFor,
} from "./tape.js";

/** What valueAndGrad and grad take besides the function. */
export interface GradOptions {
  /**
   * Gives zeros for an input that the output does not depend on, instead of an error (PyTorch's allow_unused, which
   * gives None). Default false.
   */
  readonly allowUnused?: boolean;
  /**
   * Records how value and gradients are computed, so that they have derivatives themselves (PyTorch's create_graph). By
   * default true inside of what is being differentiated, such as a function given to grad or the loss of a training
   * step, else false.
   */
  readonly createGraph?: boolean;
}

const gradRules: Rules<GradOptions> = { allowUnused: boolean, createGraph: boolean };

/**
 * Value and gradients of `fn` at `inputs`: `valueAndGrad((x) => loss(x))(image)` gives `{ value, grad, grads }` with
 * one gradient per input (`grad` is the first). `fn` must return a scalar. Nothing else is differentiated: model
 * weights cost no gradient kernel. Intermediate tensors are freed. Also inside noGrad, which concerns what is around
 * it.
 *
 * Inside of what is differentiated itself, and with `createGraph`, value and gradients have derivatives:
 * `grad((x) => sum(grad(f)(x)))`. Elsewhere to ask for one is an error. detach() makes them constants.
 * @throws KilogradError `NO_GRADIENT` where the output does not depend on an input, unless `allowUnused`
 */
export function valueAndGrad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  options?: GradOptions,
): (...inputs: Inputs) => { value: Tensor; grad: Tensor; grads: { [K in keyof Inputs]: Tensor } } {
  return differentiated("valueAndGrad", fn, options);
}

/** Gradient of `fn` with respect to its first input; see `valueAndGrad`. */
export function grad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  options?: GradOptions,
): (...inputs: Inputs) => Tensor {
  const both = differentiated("grad", fn, options);
  return (...inputs) => scope(() => both(...inputs).grad);
}

/** valueAndGrad under another name, for messages. */
export function differentiated<Inputs extends readonly Tensor[]>(
  op: string,
  fn: (...inputs: Inputs) => Tensor,
  options: GradOptions = {},
) {
  check(op, "fn", fn, callable);
  const { allowUnused = false, createGraph } = checkOptions(op, options, gradRules);
  return (...inputs: Inputs) =>
    scope(() => {
      const trace = traced(op, fn, inputs, createGraph);
      const grads = pulledBack(trace, { allowUnused });
      const value = tracedValue(trace);
      return { value, grad: grads[0]!, grads: grads as unknown as { [K in keyof Inputs]: Tensor } };
    });
}

/** A function that ran with its inputs as leaves. */
export interface Trace {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  readonly leaves: readonly Tensor[];
  readonly output: Tensor;
  /** What else with requiresGrad the output and the inputs depend on, where somebody may ask for such derivatives. */
  readonly others: ReadonlySet<Tensor>;
  /** Whether gradients shall have derivatives, and there is something that they could be for. */
  readonly createGraph: boolean;
}

/** Runs `fn`, recorded. */
export function traced<Inputs extends readonly Tensor[]>(
  op: string,
  fn: (...inputs: Inputs) => Tensor,
  inputs: Inputs,
  createGraph?: boolean,
): Trace {
  requireInputs(op, inputs);
  const wanted = wantsGraph(createGraph);
  const leaves = inputs.map((input) => leafOf(input, wanted));
  const output: unknown = withRecording(true, () => toDifferentiate(() => fn(...(leaves as unknown as Inputs))));
  requireResult(op, output);
  requireHistory(op, "what fn returns,", output);
  // Read before the tape is freed.
  const others = isRecording() ? leavesOf([output, ...inputs], new Set(leaves)) : new Set<Tensor>();
  // They are this trace's leaves and nobody else's.
  for (const leaf of leaves) if (leaf.node === null) leaf.requiresGrad = false;
  return { op, inputs, leaves, output, others, createGraph: wanted && others.size > 0 };
}

export interface PullOptions {
  /** Of the output; by default 1 for a scalar. */
  readonly gradient?: Tensor;
  readonly allowUnused?: boolean;
  readonly retainTape?: boolean;
}

/** What a traced function gave, with its history where the trace says so. */
export function tracedValue({ op, output, others, createGraph }: Trace): Tensor {
  if (createGraph) return linked(output, output);
  const value = output.alias();
  markDerived(notRecorded(`${op}()`), [value], others);
  return value;
}

/** Gradients, one per input, of what was traced, with their histories where the trace says so. */
export function pulledBack(
  { op, inputs, leaves, output, others, ...trace }: Trace,
  { gradient, allowUnused = true, retainTape = trace.createGraph }: PullOptions,
): Tensor[] {
  const createGraph = trace.createGraph && isRecording();
  const refused = new Set([...(isRecording() ? others : []), ...(gradient === undefined ? [] : leavesOf([gradient]))]);
  const seed = seedGradient(op, output, gradient);
  const grads = withRecording(createGraph, () => {
    const pass: Pass = { caller: op, targets: new Set(leaves), retainTape, createGraph };
    const found = fromSeed(seed, (dy) => backpropagate(output, dy, pass));
    const unused = leaves.findIndex((leaf) => !found.has(leaf));
    if (unused >= 0 && !allowUnused) {
      throw new KilogradError(
        "NO_GRADIENT",
        `${op}: the output does not depend on input ${unused} ${formatShape(inputs[unused]!.shape)} (or not by what is recorded: noGrad, detach and integers end it); pass { allowUnused: true } for zeros`,
      );
    }
    return leaves.map((leaf) => owned(found.get(leaf) ?? zerosFor(leaf)));
  });
  if (!createGraph) markDerived(notRecorded(`${op}()`), grads, refused);
  return grads;
}

/** @throws UsageError, DisposedError unless there are inputs, all of them f32 */
export function requireInputs(op: string, inputs: readonly Tensor[]): void {
  if (inputs.length === 0) throw new UsageError(`${op}: needs at least one input, got none`);
  inputs.forEach((input, i) => {
    requireTensor(op, `input ${i}`, input);
    if (input.dtype === "f32") return;
    throw new UsageError(
      `${op}: inputs must be f32, input ${i} is ${input.dtype} ${formatShape(input.shape)}, and integers have no gradients; have fn use it without it being an input`,
    );
  });
}

/** Another handle on an input, to be differentiated with respect to; with the input's history where that is wanted. */
export function leafOf(input: Tensor, withHistory: boolean): Tensor {
  if (withHistory && input.tracked) return linked(input, input);
  const leaf = input.alias();
  leaf.requiresGrad = true;
  return leaf;
}
