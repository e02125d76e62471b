// Reverse-mode automatic differentiation. Each differentiable operation records a node: its inputs, what its backward
// needs, and a function from the output's gradient to the inputs' gradients. Nothing is computed that nobody asked for.

import { addInto } from "../kernels/elementwise.js";
import type { Storage } from "../tensor/device.js";
import { DisposedError, KilogradError, ShapeError } from "../tensor/errors.js";
import { keep, register, scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { type TapeNode, Tensor, tensor } from "../tensor/tensor.js";

/** Gradient of each input, computed when called; null where none exists by nature (indices, labels). */
export type InputGradients = readonly ((() => Tensor) | null)[];

export interface RecordOptions {
  /** As it appears in errors, e.g. "conv2d". */
  readonly op: string;
  readonly inputs: readonly Tensor[];
  /** Tensors that `backward` reads; kept alive until it ran, whatever the user disposes. */
  readonly saved?: readonly Tensor[];
  /**
   * `dy` has the output's shape, `needed` says which inputs need a gradient. Called once, untracked; only the thunks of
   * those inputs are called.
   */
  readonly backward: (dy: Tensor, saved: readonly Tensor[], needed: readonly boolean[]) => InputGradients;
}

class OperationNode implements TapeNode {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  readonly backward: RecordOptions["backward"];
  private saved: readonly Tensor[] | undefined;

  constructor(options: RecordOptions) {
    this.op = options.op;
    this.inputs = options.inputs;
    this.backward = options.backward;
    // Outside every scope: a tape may outlive the scope that made its tensors.
    this.saved = untrackedAliases(options.saved ?? []);
    register(this);
  }

  take(): readonly Tensor[] {
    if (this.saved === undefined) {
      throw new DisposedError(
        `backward: the tape of "${this.op}" was freed, by an earlier backward() or at the end of its scope; compute the loss again, or pass { retainTape: true } to the first backward()`,
      );
    }
    return this.saved;
  }

  dispose(): void {
    for (const t of this.saved ?? []) t.dispose();
    this.saved = undefined;
  }
}

function untrackedAliases(tensors: readonly Tensor[]): Tensor[] {
  return tensors.map((t) => Tensor.unscoped(t.storage.retain(), t.shape, t.dtype));
}

let recording = true;

/** Runs `fn` without recording: no gradient flows through what it computes. */
export function noGrad<T>(fn: () => T): T {
  const before = recording;
  recording = false;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** Whether operations are being recorded (false inside noGrad and backward). */
export function isRecording(): boolean {
  return recording;
}

/** Puts `output` on the tape when an input is tracked; returns it. */
export function record(output: Tensor, options: RecordOptions): Tensor {
  if (recording && options.inputs.some((input) => input.tracked)) output.node = new OperationNode(options);
  return output;
}

/** The same values without history: gradients do not flow through it. */
export function detach(x: Tensor): Tensor {
  return x.alias();
}

/** Gradients of `output` with respect to `targets`; the caller owns them. Targets it does not depend on are absent. */
function backpropagate(
  output: Tensor,
  outputGradient: Tensor,
  targets: ReadonlySet<Tensor> | "leaves",
  retainTape: boolean,
): Map<Tensor, Tensor> {
  const isTarget = (t: Tensor) => (targets === "leaves" ? t.requiresGrad && t.node === null : targets.has(t));
  // Depth-first order over tensors; `needed` holds those from which a target is reached.
  const needed = new Set<Tensor>();
  const order: Tensor[] = [];
  const visited = new Set<Tensor>();
  const stack: { tensor: Tensor; next: number }[] = [{ tensor: output, next: 0 }];
  visited.add(output);
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const inputs = top.tensor.node?.inputs ?? [];
    if (top.next < inputs.length) {
      const input = inputs[top.next++]!;
      if (!visited.has(input)) {
        visited.add(input);
        stack.push({ tensor: input, next: 0 });
      }
      continue;
    }
    stack.pop();
    if (isTarget(top.tensor) || inputs.some((input) => needed.has(input))) needed.add(top.tensor);
    order.push(top.tensor);
  }

  const gradients = new Map<Tensor, Tensor>();
  const result = new Map<Tensor, Tensor>();
  const deliver = (to: Tensor, gradient: Tensor, op: string) => {
    if (!sameShape(gradient.shape, to.shape)) {
      throw new ShapeError(
        `internal: "${op}" gave a gradient of shape ${formatShape(gradient.shape)} for an input of shape ${formatShape(to.shape)}`,
      );
    }
    const before = gradients.get(to);
    gradients.set(to, before === undefined ? gradient : sumOf(before, gradient));
  };
  if (needed.has(output)) gradients.set(output, outputGradient.alias());
  for (const t of order.reverse()) {
    const dy = gradients.get(t);
    if (dy === undefined) continue;
    gradients.delete(t);
    if (isTarget(t)) result.set(t, dy.alias());
    const node = t.node as OperationNode | null;
    if (node !== null) {
      const parts = scope(() => {
        const wanted = node.inputs.map((input) => needed.has(input));
        const thunks = node.backward(dy, node.take(), wanted);
        return thunks.map((thunk, i) => (wanted[i] ? (thunk?.() ?? null) : null));
      });
      parts.forEach((gradient, i) => {
        if (gradient !== null) deliver(node.inputs[i]!, gradient, node.op);
      });
    }
    dy.dispose();
  }
  if (!retainTape) for (const t of order) (t.node as OperationNode | null)?.dispose();
  return result;
}

/** a + b, reusing the memory of `a` where nobody else sees it. */
function sumOf(a: Tensor, b: Tensor): Tensor {
  const sum = addInto(a, b);
  if (sum !== a) a.dispose();
  b.dispose();
  return sum;
}

export interface BackwardOptions {
  /** Gradient of the output, by default 1 for a scalar. */
  readonly gradient?: Tensor;
  /** Keeps the tape for another backward(). */
  readonly retainTape?: boolean;
}

/** Memory of the gradients that a running backward() starts from. */
const seeds = new WeakSet<Storage>();

/** Whether a gradient is known to be a single 1, as that of the loss itself is. */
export function isSeed(gradient: Tensor): boolean {
  return seeds.has(gradient.storage);
}

function seedGradient(op: string, output: Tensor, gradient: Tensor | undefined): Tensor {
  if (gradient !== undefined) {
    if (!sameShape(gradient.shape, output.shape)) {
      throw new ShapeError(
        `${op}: gradient must have the output's shape ${formatShape(output.shape)}, got ${formatShape(gradient.shape)}`,
      );
    }
    return gradient.alias();
  }
  if (output.size !== 1) {
    throw new ShapeError(
      `${op}: the output must be a scalar, it has shape ${formatShape(output.shape)}; reduce it with mean() or sum(), or pass { gradient }`,
    );
  }
  const seed = tensor(output.device, [1], { shape: output.shape });
  seeds.add(seed.storage);
  return seed;
}

/**
 * Adds the gradient of `output` to `.grad` of every leaf with `requiresGrad` that it depends on, and frees the tape.
 * @throws ShapeError when `output` is no scalar and no `gradient` is given; DisposedError on a second call.
 */
export function backward(output: Tensor, options: BackwardOptions = {}): void {
  if (!output.tracked) {
    throw new KilogradError(
      "NO_GRADIENT",
      "backward: the output does not depend on any tensor with requiresGrad = true (or was computed inside noGrad)",
    );
  }
  noGrad(() => {
    const seed = seedGradient("backward", output, options.gradient);
    const gradients = scope(() => backpropagate(output, seed, "leaves", options.retainTape ?? false));
    seeds.delete(seed.storage);
    seed.dispose();
    for (const [leaf, gradient] of gradients) {
      // A gradient lives as long as its leaf, whatever scope this runs in.
      leaf.grad = keep(leaf.grad === null ? gradient : sumOf(leaf.grad, gradient));
    }
  });
}

/**
 * Value and gradients of `fn` at `inputs`: `valueAndGrad((x) => loss(x))(image)` gives `{ value, grad, grads }` with one
 * gradient per input (`grad` is the first). `fn` must return a scalar. Nothing else is differentiated: model weights
 * cost no gradient kernel. Intermediate tensors are freed.
 */
export function valueAndGrad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
): (...inputs: Inputs) => { value: Tensor; grad: Tensor; grads: { [K in keyof Inputs]: Tensor } } {
  return (...inputs) =>
    scope(() => {
      const leaves = inputs.map((input) => {
        const leaf = input.alias();
        leaf.requiresGrad = true;
        return leaf;
      });
      const output = fn(...(leaves as unknown as Inputs));
      const { value, grads } = noGrad(() => {
        const seed = seedGradient("valueAndGrad", output, undefined);
        const found = backpropagate(output, seed, new Set(leaves), false);
        seeds.delete(seed.storage);
        return {
          value: output.alias(),
          grads: leaves.map((leaf) => found.get(leaf) ?? zerosFor(leaf)),
        };
      });
      return { value, grad: grads[0]!, grads: grads as unknown as { [K in keyof Inputs]: Tensor } };
    });
}

/** Gradient of `fn` with respect to its first input; see `valueAndGrad`. */
export function grad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
): (...inputs: Inputs) => Tensor {
  const both = valueAndGrad(fn);
  return (...inputs) =>
    scope(() => {
      const { grad: gradient } = both(...inputs);
      return gradient;
    });
}

function zerosFor(t: Tensor): Tensor {
  return tensor(t.device, new Float32Array(t.size), { shape: t.shape });
}
