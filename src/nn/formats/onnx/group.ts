// Which nodes become one layer. Values between layers have the batch as their first axis. What passes a value that has
// not, such as [time, N, channels], becomes one layer from the node that makes it to the nodes that use it.
import { DataError } from "../../../tensor/errors.js";
import type { Node } from "./graph.js";

/** Nodes in groups, in an order that computes; within a group in the order of the graph. */
export function groupsOf(
  nodes: readonly Node[],
  isTensor: (name: string) => boolean,
  isOfSamples: (name: string) => boolean,
  source: string,
): Node[][] {
  const parents = nodes.map((_, i) => i);
  const root = (i: number): number => {
    let at = i;
    while (parents[at] !== at) {
      parents[at] = parents[parents[at]!]!;
      at = parents[at]!;
    }
    return at;
  };
  const producers = new Map<string, number>();
  for (const [i, node] of nodes.entries()) for (const name of node.outputs) if (name !== "") producers.set(name, i);
  const edges: [number, number][] = [];
  for (const [i, node] of nodes.entries()) {
    for (const name of new Set(node.inputs)) {
      const from = producers.get(name);
      if (from === undefined || !isTensor(name)) continue;
      edges.push([from, i]);
      if (!isOfSamples(name)) parents[root(i)] = root(from);
    }
  }
  // Groups that wait for each other become one, until none do.
  for (let round = 0; round <= nodes.length; round++) {
    const order = sorted(nodes.length, edges, root);
    if (order.waiting.length === 0) {
      const groups = new Map<number, Node[]>(order.done.map((group) => [group, []]));
      for (const [i, node] of nodes.entries()) groups.get(root(i))!.push(node);
      return [...groups.values()];
    }
    const [first, ...others] = circleOf(order.waiting, edges, root);
    for (const other of others) parents[root(other)] = root(first!);
  }
  throw new DataError(`${source}: its nodes could not be put in an order`);
}

/** Groups in an order that computes, and those that wait for each other. */
function sorted(count: number, edges: readonly (readonly [number, number])[], root: (i: number) => number) {
  const groups = new Set(Array.from({ length: count }, (_, i) => root(i)));
  const waits = new Map([...groups].map((group) => [group, 0]));
  const next = new Map<number, number[]>();
  for (const [from, to] of edges) {
    const [a, b] = [root(from), root(to)];
    if (a === b) continue;
    waits.set(b, waits.get(b)! + 1);
    next.set(a, [...(next.get(a) ?? []), b]);
  }
  const ready = [...groups].filter((group) => waits.get(group) === 0);
  const done: number[] = [];
  for (const group of ready) {
    done.push(group);
    for (const after of next.get(group) ?? []) {
      waits.set(after, waits.get(after)! - 1);
      if (waits.get(after) === 0) ready.push(after);
    }
  }
  return { done, waiting: [...groups].filter((group) => waits.get(group)! > 0) };
}

/** A circle among groups that wait: going back from any of them to one that it waits for ends in one. */
function circleOf(
  waiting: readonly number[],
  edges: readonly (readonly [number, number])[],
  root: (i: number) => number,
): number[] {
  const inside = new Set(waiting);
  const before = new Map<number, number>();
  for (const [from, to] of edges) {
    const [a, b] = [root(from), root(to)];
    if (a !== b && inside.has(a) && inside.has(b)) before.set(b, a);
  }
  const way: number[] = [];
  let at = waiting[0]!;
  while (!way.includes(at)) {
    way.push(at);
    at = before.get(at)!;
  }
  return way.slice(way.indexOf(at));
}
