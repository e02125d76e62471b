// Reverse-mode automatic differentiation. Each differentiable operation records a node: its inputs, what its backward
// needs, and a function from the output's gradient to the inputs' gradients. Nothing is computed that nobody asked for.

import { copyKernel } from "../kernels/copy.js";
import { addInto } from "../kernels/elementwise.js";
import type { Storage } from "../tensor/device.js";
import { DisposedError, KilogradError, ShapeError, UsageError } from "../tensor/errors.js";
import { boolean, callable, check, checkOptions, type Rules } from "../tensor/options.js";
import { keep, refusePromise, register, scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireResult, requireTensor, run, type TapeNode, Tensor, tensor, tensorRule } from "../tensor/tensor.js";

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
  /**
   * Whether the derivative is zero wherever there is one, as that of floor: all of `backward` is null. Default false.
   */
  readonly constant?: boolean;
}

class OperationNode implements TapeNode {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  readonly backward: RecordOptions["backward"];
  /** State of the output's memory when it was computed; undefined where that memory is a leaf's. */
  readonly version: number | undefined;
  private saved: readonly Tensor[] | undefined;

  constructor(output: Tensor, options: RecordOptions) {
    this.op = options.op;
    this.inputs = options.inputs;
    this.backward = options.backward;
    const { storage } = output;
    // An alias has the history of what it is an alias of; a leaf's follows the leaf's changes.
    const whole = options.inputs.find((input) => input.storage === storage);
    this.version = whole === undefined ? storage.version : whole.node?.version;
    // Outside every scope: a tape may outlive the scope that made its tensors.
    this.saved = (options.saved ?? []).map((t) => pinned(t, options.op));
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

/** The same values for `op`'s backward, which must not have changed by then: see Tensor.pin. */
function pinned(t: Tensor, op: string): Tensor {
  const copy = Tensor.unscoped(t.storage.retain(), t.shape, t.dtype);
  copy.name = t.name;
  copy.pin = { op, version: t.storage.version };
  return copy;
}

/**
 * Stands where the history of a gradient would be: it was computed without being recorded. Whoever asks for a
 * derivative through it is told so. It holds no memory of a device.
 */
class GradientNode implements TapeNode {
  readonly version = undefined;
  constructor(
    readonly op: string,
    /** Leaves that it depends on. */
    readonly inputs: readonly Tensor[],
  ) {}

  refusal(caller: string): KilogradError {
    return new KilogradError(
      "NO_GRADIENT",
      `${caller}: the output depends on what ${this.op} gave, and derivatives of derivatives are not offered; detach() it to take it as a constant, or compute it outside of what is differentiated`,
    );
  }

  dispose(): void {}
}

let recording = true;

function withRecording<T>(on: boolean, fn: () => T): T {
  const before = recording;
  recording = on;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** Runs `fn` without recording: no gradient flows through what it computes. */
export function noGrad<T>(fn: () => T): T {
  check("noGrad", "fn", fn, callable);
  const result = withRecording(false, fn);
  refusePromise("noGrad", result);
  return result;
}

/** Whether operations are being recorded (false inside noGrad and backward). */
export function isRecording(): boolean {
  return recording;
}

/** @throws UsageError where a result was overwritten since it was computed: its history is not that of its values */
function requireHistory(op: string, role: string, { node, shape, storage }: Tensor): void {
  if (node?.version === undefined || node.version === storage.version) return;
  throw new UsageError(
    `${op}: ${role} ${formatShape(shape)} is the result of "${node.op}", but "${storage.changedBy}" has overwritten it since, and its gradient would be wrong; change a tensor that is not tracked, such as a detach()ed copy`,
  );
}

/**
 * Puts `output` on the tape when an input is tracked; returns it. Integers have no gradients.
 * @throws UsageError where an input was overwritten since it was computed: its history is not that of its values
 */
export function record(output: Tensor, options: RecordOptions): Tensor {
  if (!recording || output.dtype !== "f32") return output;
  let tracked = false;
  let derived: Set<Tensor> | undefined;
  for (const input of options.inputs) {
    const { node } = input;
    if (node === null) tracked ||= input.requiresGrad;
    else if (node instanceof GradientNode) {
      derived ??= new Set();
      for (const leaf of node.inputs) derived.add(leaf);
    } else {
      tracked = true;
      requireHistory(options.op, "its input", input);
    }
  }
  if (tracked) output.node = new OperationNode(output, options);
  // What is computed of gradients alone needs no tape: no derivative can go through it.
  else if (derived !== undefined && !options.constant) {
    const from = options.inputs.find(({ node }) => node instanceof GradientNode)!;
    output.node = new GradientNode(from.node!.op, [...derived]);
  }
  return output;
}

/** The same values without history: gradients do not flow through it. */
export function detach(x: Tensor): Tensor {
  requireTensor("detach", "x", x);
  return x.alias();
}

/** Leaves with requiresGrad that `outputs` depend on, but for `own`. */
function leavesOf(outputs: readonly Tensor[], own: ReadonlySet<Tensor>): Set<Tensor> {
  const leaves = new Set<Tensor>();
  const visited = new Set(outputs);
  for (const t of visited) {
    if (t.node !== null) for (const input of t.node.inputs) visited.add(input);
    else if (t.requiresGrad && !own.has(t)) leaves.add(t);
  }
  return leaves;
}

/** Has a derivative through `results` refused, where it would be one with respect to `leaves`. */
function markDerived(op: string, results: readonly Tensor[], leaves: ReadonlySet<Tensor>): void {
  if (leaves.size === 0) return;
  const node = new GradientNode(op, [...leaves]);
  for (const t of results) t.node = node;
}

/**
 * Gradients of `output` with respect to `targets`; the caller owns them. Targets it does not depend on are absent,
 * those that it depends on by operations without a slope, such as floor, have zeros.
 */
function backpropagate(
  caller: string,
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
    // It may be memory that the tape saved, handed on as it was.
    gradient.checkPin();
    gradient.pin = undefined;
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
    const node = t.node as OperationNode | GradientNode | null;
    if (node instanceof GradientNode) throw node.refusal(caller);
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
  if (!retainTape) for (const t of order) t.node?.dispose();
  for (const t of order) if (isTarget(t) && !result.has(t)) result.set(t, zerosFor(t));
  return result;
}

/** a + b, reusing the memory of `a` where nobody else sees it. */
function sumOf(a: Tensor, b: Tensor): Tensor {
  const sum = addInto(a, b);
  if (sum !== a) a.dispose();
  b.dispose();
  return sum;
}

/**
 * A gradient in memory of its own: where it passed through unchanged, several may share it, or have it of the caller.
 */
function owned(gradient: Tensor): Tensor {
  if (gradient.storage.exclusive) return gradient;
  const copy = run(copyKernel, [gradient], gradient, {});
  gradient.dispose();
  return copy;
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
    if (gradient.dtype !== "f32") {
      throw new ShapeError(`${op}: gradient must be f32, got ${gradient.dtype}; use cast(gradient, "f32")`);
    }
    if (!sameShape(gradient.shape, output.shape)) {
      throw new ShapeError(
        `${op}: gradient must have the output's shape ${formatShape(output.shape)}, got ${formatShape(gradient.shape)}`,
      );
    }
    if (gradient.device !== output.device) {
      throw new ShapeError(
        `${op}: gradient must be on the output's device, a ${output.device.kind} one, got one on another (${gradient.device.kind})`,
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

/** Runs `fn` on the gradient that a backward pass starts from, and frees it. */
function fromSeed<T>(seed: Tensor, fn: (seed: Tensor) => T): T {
  try {
    return fn(seed);
  } finally {
    seeds.delete(seed.storage);
    seed.dispose();
  }
}

const backwardRules: Rules<BackwardOptions> = { gradient: tensorRule, retainTape: boolean };

/**
 * Adds the gradient of `output` to `.grad` of every leaf with `requiresGrad` that it depends on, and frees the tape.
 * @throws ShapeError when `output` is no scalar and no `gradient` is given; DisposedError on a second call; UsageError
 * where a tensor that the gradient needs was changed since; KilogradError `NO_GRADIENT` where there is none, or none of
 * a gradient
 */
export function backward(output: Tensor, options: BackwardOptions = {}): void {
  requireTensor("backward", "output", output);
  const { gradient, retainTape = false } = checkOptions("backward", options, backwardRules);
  if (!output.tracked) {
    throw new KilogradError(
      "NO_GRADIENT",
      "backward: the output does not depend on any tensor with requiresGrad = true (or was computed inside noGrad)",
    );
  }
  requireHistory("backward", "the output", output);
  const derivable = recording;
  withRecording(false, () => {
    const gradients = fromSeed(seedGradient("backward", output, gradient), (seed) =>
      scope(() => backpropagate("backward", output, seed, "leaves", retainTape)),
    );
    const leaves = new Set(gradients.keys());
    for (const [leaf, found] of gradients) {
      for (const before of leaf.grad?.node?.inputs ?? []) leaves.add(before);
      // A gradient lives as long as its leaf, whatever scope this runs in.
      leaf.grad = keep(leaf.grad === null ? owned(found) : sumOf(leaf.grad, found));
    }
    const results = [...gradients.keys()].map(({ grad }) => grad!);
    if (derivable) markDerived("backward()", results, leaves);
  });
}

/** What valueAndGrad and grad take besides the function. */
export interface GradOptions {
  /**
   * Gives zeros for an input that the output does not depend on, instead of an error (PyTorch's allow_unused, which
   * gives None). Default false.
   */
  readonly allowUnused?: boolean;
}

const gradRules: Rules<GradOptions> = { allowUnused: boolean };

/**
 * Value and gradients of `fn` at `inputs`: `valueAndGrad((x) => loss(x))(image)` gives `{ value, grad, grads }` with
 * one gradient per input (`grad` is the first). `fn` must return a scalar. Nothing else is differentiated: model
 * weights cost no gradient kernel. Intermediate tensors are freed. Also inside noGrad, which concerns what is around
 * it.
 *
 * Value and gradients have no derivatives themselves: to ask for one is an error. detach() makes them constants.
 * @throws KilogradError `NO_GRADIENT` where the output does not depend on an input, unless `allowUnused`
 */
export function valueAndGrad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  options?: GradOptions,
): (...inputs: Inputs) => { value: Tensor; grad: Tensor; grads: { [K in keyof Inputs]: Tensor } } {
  return differentiated("valueAndGrad", fn, options);
}

function differentiated<Inputs extends readonly Tensor[]>(
  op: string,
  fn: (...inputs: Inputs) => Tensor,
  options: GradOptions = {},
) {
  check(op, "fn", fn, callable);
  const { allowUnused = false } = checkOptions(op, options, gradRules);
  return (...inputs: Inputs) => {
    if (inputs.length === 0) throw new UsageError(`${op}: needs at least one input, got none`);
    inputs.forEach((input, i) => {
      requireTensor(op, `input ${i}`, input);
      if (input.dtype === "f32") return;
      throw new UsageError(
        `${op}: inputs must be f32, input ${i} is ${input.dtype} ${formatShape(input.shape)}, and integers have no gradients; have fn use it without it being an input`,
      );
    });
    return scope(() => {
      const leaves = inputs.map((input) => {
        const leaf = input.alias();
        leaf.requiresGrad = true;
        return leaf;
      });
      const output: unknown = withRecording(true, () => fn(...(leaves as unknown as Inputs)));
      requireResult(op, output);
      requireHistory(op, "what fn returns,", output);
      const derivable = recording;
      const own = new Set(leaves);
      // Read before the tape is freed, and only where somebody may ask for a derivative of the results.
      const others = derivable ? leavesOf([output, ...inputs], own) : new Set<Tensor>();
      const { value, grads } = withRecording(false, () => {
        const found = fromSeed(seedGradient(op, output, undefined), (seed) =>
          backpropagate(op, output, seed, own, false),
        );
        const unused = leaves.findIndex((leaf) => !found.has(leaf));
        if (unused >= 0 && !allowUnused) {
          throw new KilogradError(
            "NO_GRADIENT",
            `${op}: the output does not depend on input ${unused} ${formatShape(inputs[unused]!.shape)} (or not by what is recorded: noGrad, detach and integers end it); pass { allowUnused: true } for zeros`,
          );
        }
        return { value: output.alias(), grads: leaves.map((leaf) => owned(found.get(leaf) ?? zerosFor(leaf))) };
      });
      markDerived(`${op}()`, [value, ...grads], others);
      return { value, grad: grads[0]!, grads: grads as unknown as { [K in keyof Inputs]: Tensor } };
    });
  };
}

/** Gradient of `fn` with respect to its first input; see `valueAndGrad`. */
export function grad<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  options?: GradOptions,
): (...inputs: Inputs) => Tensor {
  const both = differentiated("grad", fn, options);
  return (...inputs) => scope(() => both(...inputs).grad);
}

function zerosFor(t: Tensor): Tensor {
  return tensor(t.device, new Float32Array(t.size), { shape: t.shape });
}
