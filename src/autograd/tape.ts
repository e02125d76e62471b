// Reverse-mode automatic differentiation. Each differentiable operation records a node: its inputs, what its backward
// needs, and a function from the output's gradient to the inputs' gradients. Nothing is computed that nobody asked for.
//
// A backward pass is not recorded itself, unless gradients shall have derivatives (`createGraph`). Then nodes give the
// gradients of their inputs by recorded operations, with what they saved as part of the history (`derivable`).

import { copyKernel } from "../kernels/copy.js";
import { addInto, binaryKernels } from "../kernels/elementwise.js";
import type { Storage } from "../tensor/device.js";
import { DisposedError, KilogradError, ShapeError, UsageError } from "../tensor/errors.js";
import { boolean, callable, check, checkOptions, type Rules } from "../tensor/options.js";
import { keep, refusePromise, register, scope } from "../tensor/scope.js";
import { formatShape, type Shape, sameShape } from "../tensor/shape.js";
import { requireTensor, run, type TapeNode, Tensor, tensor, tensorRule } from "../tensor/tensor.js";

/** Gradient of each input, computed when called; null where none exists by nature (indices, labels). */
export type InputGradients = readonly ((() => Tensor | null) | null)[];

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
  readonly backward: Backward;
  /**
   * How gradients that shall have derivatives themselves are computed: as `backward`, but of operations that record
   * what they do. Of `saved`, what is an input or the output comes with its history; all else is a constant. True where
   * `backward` is made of such operations. By default a derivative of the gradient is an error that names the
   * operation.
   */
  readonly derivable?: true | Backward;
  /**
   * Whether the derivative is zero wherever there is one, as that of floor: all of `backward` is null. Default false.
   */
  readonly constant?: boolean;
}

export type Backward = (dy: Tensor, saved: readonly Tensor[], needed: readonly boolean[]) => InputGradients;

/** Nodes are numbered in the order in which they come to be. */
let newest = 0;

class OperationNode implements TapeNode {
  readonly op: string;
  readonly inputs: readonly Tensor[];
  readonly backward: Backward;
  readonly derivable: RecordOptions["derivable"];
  readonly serial = ++newest;
  /** State of the output's memory when it was computed; undefined where that memory is a leaf's. */
  readonly version: number | undefined;
  /** What of `saved` are handles on the history. */
  private readonly originals: readonly Tensor[];
  private saved: readonly Tensor[] | undefined;

  constructor(
    private readonly output: Tensor,
    options: RecordOptions,
  ) {
    this.op = options.op;
    this.inputs = options.inputs;
    this.backward = options.backward;
    this.derivable = options.derivable;
    this.originals = options.saved ?? [];
    const { storage } = output;
    // An alias has the history of what it is an alias of; a leaf's follows the leaf's changes.
    const whole = options.inputs.find((input) => input.storage === storage);
    this.version = whole === undefined ? storage.version : whole.node?.version;
    // Outside every scope: a tape may outlive the scope that made its tensors.
    this.saved = this.originals.map((t) => pinned(t, options.op));
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

  /** What was saved, with its history. */
  takeLinked(): readonly Tensor[] {
    return this.take().map((t, i) => {
      const original = this.originals[i]!;
      return original === this.output || this.inputs.includes(original) ? linked(t, original) : t;
    });
  }

  dispose(): void {
    for (const t of this.saved ?? []) t.dispose();
    this.saved = undefined;
  }
}

/** Stands in a handle on memory that has the history of another handle, which may have been disposed of. */
class LinkNode implements TapeNode {
  readonly serial = ++newest;
  readonly op: string;
  readonly inputs: readonly [Tensor];
  readonly version: number | undefined;

  constructor(original: Tensor) {
    this.op = original.node?.op ?? "alias";
    this.inputs = [original];
    this.version = original.node?.version;
    register(this);
  }

  dispose(): void {}
}

/** Another handle on the memory of `t` with the history of `original`, whose memory that is. */
export function linked(t: Tensor, original: Tensor): Tensor {
  const link = t.alias();
  if (recording && original.tracked) link.node = new LinkNode(original);
  return link;
}

/** The same values for `op`'s backward, which must not have changed by then: see Tensor.pin. */
function pinned(t: Tensor, op: string): Tensor {
  const copy = Tensor.unscoped(t.storage.retain(), t.shape, t.dtype);
  copy.name = t.name;
  copy.pin = { op, version: t.storage.version };
  return copy;
}

/** Why there is no derivative through a gradient: the message of the error of whoever asks for one. */
type Refusal = (caller: string) => string;

const REFUSED_HINT = "detach() it to take it as a constant, or compute it outside of what is differentiated";

/** Of what `op` gave without recording how. */
export const notRecorded =
  (op: string): Refusal =>
  (caller) =>
    `${caller}: the output depends on what ${op} gave without recording how, and derivatives of that are asked for; pass { createGraph: true } to ${op}, ${REFUSED_HINT}`;

/** Of the gradient of an operation that has no second derivative. */
const notDerivable =
  (op: string): Refusal =>
  (caller) =>
    `${caller}: the output depends on the gradient of "${op}", which has no derivative itself; ${REFUSED_HINT}`;

/**
 * Stands where the history of a gradient would be: it was computed without being recorded. Whoever asks for a
 * derivative through it is told so. It holds no memory of a device.
 */
class GradientNode implements TapeNode {
  readonly serial = ++newest;
  readonly op = "gradient";
  readonly version = undefined;
  constructor(
    readonly refusal: Refusal,
    /** Leaves that it depends on. */
    readonly inputs: readonly Tensor[],
  ) {}

  error(caller: string): KilogradError {
    return new KilogradError("NO_GRADIENT", this.refusal(caller));
  }

  dispose(): void {}
}

let recording = true;

export function withRecording<T>(on: boolean, fn: () => T): T {
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

/** How many functions around are being differentiated: gradients inside them have derivatives. */
let differentiating = 0;

/** Runs `fn`, whose result will be differentiated: gradients that it takes have derivatives themselves. */
export function toDifferentiate<T>(fn: () => T): T {
  differentiating++;
  try {
    return fn();
  } finally {
    differentiating--;
  }
}

/** Whether operations are being recorded (false inside noGrad, and in backward without createGraph). */
export function isRecording(): boolean {
  return recording;
}

/** @throws UsageError where a result was overwritten since it was computed: its history is not that of its values */
export function requireHistory(op: string, role: string, { node, shape, storage }: Tensor): void {
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
    const from = options.inputs.find(({ node }) => node instanceof GradientNode)!.node as GradientNode;
    output.node = new GradientNode(from.refusal, [...derived]);
  }
  return output;
}

/** The same elements, row-major, with another shape; shares memory with x, and has its history. */
export function renamed(op: string, x: Tensor, shape: Shape = x.shape): Tensor {
  const before = x.shape;
  return record(x.alias(shape), {
    op,
    inputs: [x],
    backward: (dy) => [() => renamed(op, dy, before)],
    derivable: true,
  });
}

/** The same values without history: gradients do not flow through it. */
export function detach(x: Tensor): Tensor {
  requireTensor("detach", "x", x);
  return x.alias();
}

/** Leaves with requiresGrad that `outputs` depend on, but for `own`. */
export function leavesOf(outputs: readonly Tensor[], own: ReadonlySet<Tensor> = new Set()): Set<Tensor> {
  const leaves = new Set<Tensor>();
  const visited = new Set(outputs);
  for (const t of visited) {
    if (t.node !== null) for (const input of t.node.inputs) visited.add(input);
    else if (t.requiresGrad && !own.has(t)) leaves.add(t);
  }
  return leaves;
}

/** Has a derivative through `results` refused, where it would be one with respect to `leaves`. */
export function markDerived(refusal: Refusal, results: readonly Tensor[], leaves: ReadonlySet<Tensor>): void {
  if (leaves.size === 0) return;
  const node = new GradientNode(refusal, [...leaves]);
  for (const t of results) t.node = node;
}

/** The number of the newest node: what comes later has higher ones. */
export const newestNode = (): number => newest;

/** What was made by nodes after `since` that led to `output`, and what these took that is older or a leaf. */
function madeSince(output: Tensor, since: number): { nodes: OperationNode[]; taken: Set<Tensor> } {
  const nodes: OperationNode[] = [];
  const taken = new Set<Tensor>();
  const visited = new Set([output]);
  for (const t of visited) {
    const { node } = t;
    if (node === null || (node as OperationNode | GradientNode | LinkNode).serial <= since) taken.add(t);
    else {
      if (node instanceof OperationNode) nodes.push(node);
      for (const input of node.inputs) visited.add(input);
    }
  }
  return { nodes, taken };
}

/** Frees what nodes after `since` saved, and gives what is tracked that they were computed of. */
export function forget(output: Tensor, since: number): Tensor[] {
  const { nodes, taken } = madeSince(output, since);
  for (const node of nodes) node.dispose();
  return [...taken].filter((t) => t.tracked);
}

export interface Pass {
  /** Begins messages. */
  readonly caller: string;
  /** Leaves with requiresGrad, or these tensors and nothing behind them. */
  readonly targets: ReadonlySet<Tensor> | "leaves";
  readonly retainTape: boolean;
  /** Whether the gradients have derivatives themselves, and operations are recorded meanwhile. */
  readonly createGraph: boolean;
}

/**
 * Gradients of `output` with respect to targets; the caller owns them. Targets it does not depend on are absent,
 * those that it depends on by operations without a slope, such as floor, have zeros.
 */
export function backpropagate(
  output: Tensor,
  outputGradient: Tensor,
  { caller, targets, retainTape, createGraph }: Pass,
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
    const inputs = isTarget(top.tensor) ? [] : (top.tensor.node?.inputs ?? []);
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
  if (needed.has(output)) gradients.set(output, linked(outputGradient, outputGradient));
  for (const t of order.reverse()) {
    const dy = gradients.get(t);
    if (dy === undefined) continue;
    gradients.delete(t);
    const { node } = t;
    if (isTarget(t)) result.set(t, linked(dy, dy));
    else if (node instanceof LinkNode) deliver(node.inputs[0], linked(dy, dy), node.op);
    else if (node instanceof GradientNode) throw node.error(caller);
    else if (node !== null) {
      const operation = node as OperationNode;
      const parts = scope(() =>
        gradientsOf(
          operation,
          dy,
          operation.inputs.map((input) => needed.has(input)),
          createGraph,
        ),
      );
      parts.forEach((gradient, i) => {
        if (gradient !== null) deliver(operation.inputs[i]!, gradient, operation.op);
      });
    }
    dy.dispose();
  }
  // What leads to no target of one's own is somebody else's.
  const frees = (t: Tensor) => targets === "leaves" || (needed.has(t) && !targets.has(t));
  if (!retainTape) for (const t of order) if (frees(t)) t.node?.dispose();
  for (const t of order) if (isTarget(t) && !result.has(t)) result.set(t, zerosFor(t));
  return result;
}

/** Gradients of an operation's inputs, where they are wanted; with their history, where they shall have derivatives. */
function gradientsOf(node: OperationNode, dy: Tensor, wanted: readonly boolean[], createGraph: boolean) {
  const { derivable } = node;
  const computed = (thunks: InputGradients) => thunks.map((thunk, i) => (wanted[i] ? (thunk?.() ?? null) : null));
  if (createGraph && derivable !== undefined) {
    return computed((derivable === true ? node.backward : derivable)(dy, node.takeLinked(), wanted));
  }
  const found = withRecording(false, () => computed(node.backward(dy, node.take(), wanted)));
  if (createGraph) {
    const results = found.filter((gradient) => gradient !== null);
    markDerived(notDerivable(node.op), results, leavesOf([dy, ...node.inputs]));
  }
  return found;
}

/** a + b, recorded or reusing the memory of `a` where nobody else sees it. */
function sumOf(a: Tensor, b: Tensor): Tensor {
  const sum = recording && (a.tracked || b.tracked) ? recordedSum(a, b) : addInto(a, b);
  if (sum !== a) a.dispose();
  b.dispose();
  return sum;
}

function recordedSum(a: Tensor, b: Tensor): Tensor {
  return record(run(binaryKernels.add.forward, [a, b], a, {}), {
    op: "add",
    inputs: [a, b],
    backward: (dy) => [() => renamed("add", dy), () => renamed("add", dy)],
    derivable: true,
  });
}

/**
 * A gradient in memory of its own: where it passed through unchanged, several may share it, or have it of the caller.
 */
export function owned(gradient: Tensor): Tensor {
  if (gradient.storage.exclusive) return gradient;
  const copy = copied(gradient);
  gradient.dispose();
  return copy;
}

function copied(x: Tensor): Tensor {
  return record(run(copyKernel, [x], x, {}), {
    op: "copy",
    inputs: [x],
    backward: (dy) => [() => renamed("copy", dy)],
    derivable: true,
  });
}

export interface BackwardOptions {
  /** Gradient of the output, by default 1 for a scalar. */
  readonly gradient?: Tensor;
  /** Keeps the tape for another backward(); by default as `createGraph`. */
  readonly retainTape?: boolean;
  /**
   * Records how the gradients are computed, so that they have derivatives themselves. By default true inside of what is
   * being differentiated, such as a function given to grad or the loss of a training step, else false.
   */
  readonly createGraph?: boolean;
}

/** Memory of the gradients that a running backward() starts from. */
const seeds = new WeakSet<Storage>();

/** Whether a gradient is known to be a single 1, as that of the loss itself is. */
export function isSeed(gradient: Tensor): boolean {
  return seeds.has(gradient.storage);
}

export function seedGradient(op: string, output: Tensor, gradient: Tensor | undefined): Tensor {
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
    return linked(gradient, gradient);
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
export function fromSeed<T>(seed: Tensor, fn: (seed: Tensor) => T): T {
  try {
    return fn(seed);
  } finally {
    seeds.delete(seed.storage);
    seed.dispose();
  }
}

const backwardRules: Rules<BackwardOptions> = { gradient: tensorRule, retainTape: boolean, createGraph: boolean };

/** Whether gradients have derivatives where that is not said. */
export const wantsGraph = (createGraph: boolean | undefined) => recording && (createGraph ?? differentiating > 0);

/**
 * Adds the gradient of `output` to `.grad` of every leaf with `requiresGrad` that it depends on, and frees the tape.
 * @throws ShapeError when `output` is no scalar and no `gradient` is given; DisposedError on a second call; UsageError
 * where a tensor that the gradient needs was changed since; KilogradError `NO_GRADIENT` where there is none, or none of
 * a gradient
 */
export function backward(output: Tensor, options: BackwardOptions = {}): void {
  requireTensor("backward", "output", output);
  const given = checkOptions("backward", options, backwardRules);
  const createGraph = wantsGraph(given.createGraph);
  const { gradient, retainTape = createGraph } = given;
  if (!output.tracked) {
    throw new KilogradError(
      "NO_GRADIENT",
      "backward: the output does not depend on any tensor with requiresGrad = true (or was computed inside noGrad)",
    );
  }
  requireHistory("backward", "the output", output);
  const derivable = recording;
  const pass: Pass = { caller: "backward", targets: "leaves", retainTape, createGraph };
  const seed = seedGradient("backward", output, gradient);
  const seedLeaves = gradient === undefined ? [] : leavesOf([gradient]);
  withRecording(createGraph, () => {
    const gradients = fromSeed(seed, (dy) => scope(() => backpropagate(output, dy, pass)));
    const leaves = new Set([...gradients.keys(), ...seedLeaves]);
    for (const [leaf, found] of gradients) {
      for (const before of leaf.grad?.node?.inputs ?? []) leaves.add(before);
      // A gradient lives as long as its leaf, whatever scope this runs in.
      leaf.grad = keep(leaf.grad === null ? owned(found) : sumOf(leaf.grad, found));
    }
    const results = [...gradients.keys()].map(({ grad }) => grad!);
    if (derivable && !createGraph) markDerived(notRecorded("backward()"), results, leaves);
  });
}

/** Zeros of a tensor's shape, as its gradient where there is none. */
export function zerosFor(t: Tensor): Tensor {
  return tensor(t.device, new Float32Array(t.size), { shape: t.shape });
}
