// Memory is owned, not collected: scope(fn) frees every tensor made inside it, except what it returns or keeps.
import { UsageError } from "./errors.js";
import { callable, check, object, type Rule } from "./options.js";
import type { Tensor } from "./tensor.js";

/** Something that a scope frees at its end: a tensor, or what a tape node saved. */
export interface Scoped {
  dispose(): void;
}

class Frame {
  readonly members = new Set<Scoped>();
}

const frames: Frame[] = [];

/** Called for every new tensor and tape node; the innermost scope will free it. */
export function register(member: Scoped): void {
  frames.at(-1)?.members.add(member);
}

const disposable: Rule = {
  expected: "a tensor",
  accepts: (value) => object.accepts(value) && typeof (value as Scoped).dispose === "function",
};

/** Takes a tensor out of the scopes around it: it lives until `dispose()`. Returns it. */
export function keep<T extends Scoped>(member: T): T {
  check("keep", "its argument", member, disposable);
  for (const frame of frames) frame.members.delete(member);
  return member;
}

/**
 * Runs `fn` and frees every tensor made inside, except those it returns (a tensor, or arrays and plain objects of
 * them; they move to the surrounding scope) and those given to `keep`. `fn` must be synchronous: an awaiting function
 * would mix its tensors with other work's.
 */
export function scope<T>(fn: () => T): T {
  check("scope", "fn", fn, callable);
  const frame = new Frame();
  frames.push(frame);
  let result: T;
  try {
    result = fn();
    refusePromise("scope", result);
  } catch (error) {
    frames.pop();
    for (const member of frame.members) member.dispose();
    throw error;
  }
  frames.pop();
  const survivors = new Set<Scoped>();
  collect(result, survivors, frame.members);
  for (const member of frame.members) {
    if (survivors.has(member)) register(member);
    else member.dispose();
  }
  return result;
}

/** @throws UsageError for what an async function of the user returned, where it must give its result at once */
export function refusePromise(
  op: string,
  result: unknown,
  name = "fn",
  advice = "await outside and keep() what you need",
): void {
  if (typeof (result as PromiseLike<unknown> | null | undefined)?.then !== "function") return;
  // The error thrown here tells what is wrong; a rejection that nobody awaits would end the process beside it.
  (result as PromiseLike<unknown>).then(undefined, () => {});
  throw new UsageError(`${op}: ${name} must be synchronous, it returned a promise; ${advice}`);
}

/** Tensors inside a returned value, and the tape nodes they need for a later backward(). */
function collect(returned: unknown, into: Set<Scoped>, members: ReadonlySet<Scoped>): void {
  const seen = new Set<unknown>();
  const values = [returned];
  while (values.length > 0) {
    const value = values.pop();
    if (value === null || typeof value !== "object" || seen.has(value)) continue;
    seen.add(value);
    if (isTensor(value)) collectTensor(value, into, members);
    else if (Array.isArray(value) || value instanceof Set) for (const entry of value) values.push(entry);
    else if (value instanceof Map) for (const entry of value.values()) values.push(entry);
    else if (Object.getPrototypeOf(value) === Object.prototype) {
      for (const entry of Object.values(value)) values.push(entry);
    }
  }
}

/** Nodes that are no members are older than the scope, and so is what they came of. */
function collectTensor(tensor: Tensor, into: Set<Scoped>, members: ReadonlySet<Scoped>): void {
  into.add(tensor);
  if (tensor.grad !== null) into.add(tensor.grad);
  const stack = tensor.node === null ? [] : [tensor.node];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (into.has(node) || !members.has(node)) continue;
    into.add(node);
    for (const input of node.inputs) if (input.node !== null) stack.push(input.node);
  }
}

/** Marks the class Tensor, which this module does not import. */
export const TENSOR = Symbol("tensor");

const isTensor = (value: object): value is Tensor => TENSOR in value;
