// Memory is owned, not collected: scope(fn) frees every tensor made inside it, except what it returns or keeps.
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

/** Takes a tensor out of the scopes around it: it lives until `dispose()`. Returns it. */
export function keep<T extends Scoped>(member: T): T {
  for (const frame of frames) frame.members.delete(member);
  return member;
}

/**
 * Runs `fn` and frees every tensor made inside, except those it returns (a tensor, or arrays and plain objects of
 * them; they move to the surrounding scope) and those given to `keep`. `fn` must be synchronous: an awaiting function
 * would mix its tensors with other work's.
 */
export function scope<T>(fn: () => T): T {
  const frame = new Frame();
  frames.push(frame);
  let result: T;
  try {
    result = fn();
    if (result instanceof Promise) {
      throw new TypeError(
        "scope: fn must be synchronous, it returned a promise; await outside and keep() what you need",
      );
    }
  } catch (error) {
    frames.pop();
    for (const member of frame.members) member.dispose();
    throw error;
  }
  frames.pop();
  const survivors = new Set<Scoped>();
  collect(result, survivors);
  for (const member of frame.members) {
    if (survivors.has(member)) register(member);
    else member.dispose();
  }
  return result;
}

/** Tensors inside a returned value, and the tape nodes they need for a later backward(). */
function collect(value: unknown, into: Set<Scoped>): void {
  if (value === null || typeof value !== "object") return;
  if (isTensor(value)) {
    into.add(value);
    if (value.grad !== null) into.add(value.grad);
    const stack = value.node === null ? [] : [value.node];
    while (stack.length > 0) {
      const node = stack.pop()!;
      if (into.has(node)) continue;
      into.add(node);
      for (const input of node.inputs) if (input.node !== null) stack.push(input.node);
    }
    return;
  }
  if (Array.isArray(value) || value instanceof Set) for (const entry of value) collect(entry, into);
  else if (value instanceof Map) for (const entry of value.values()) collect(entry, into);
  else if (Object.getPrototypeOf(value) === Object.prototype)
    for (const entry of Object.values(value)) collect(entry, into);
}

function isTensor(value: object): value is Tensor {
  return "storage" in value && "dtype" in value;
}
