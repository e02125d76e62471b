// Several nodes that are one operator, as exporters write them where a version of ONNX has no such: GELU by the error
// function, layer and group normalisation by means or by reshaping, hard swish; and parts of a split as slices.
import { type Shape, sameShape } from "../../../tensor/shape.js";
import type { Known } from "./analyse.js";
import type { Node } from "./graph.js";
import type { Numbers } from "./value.js";

export interface Around {
  readonly knownOf: (name: string) => Known;
  readonly constant: (name: string | undefined) => { readonly shape: Shape; readonly data: Numbers } | undefined;
  readonly outputs: readonly string[];
}

/** The nodes with patterns replaced. */
export function withPatterns(given: readonly Node[], around: Around): Node[] {
  const nodes = given.flatMap((node) => slices(node, around));
  const users = new Map<string, Node[]>();
  const producers = new Map<string, Node>();
  for (const node of nodes) {
    for (const name of new Set(node.inputs)) users.set(name, [...(users.get(name) ?? []), node]);
    for (const name of node.outputs) if (name !== "") producers.set(name, node);
  }
  const finder = new Finder(around, users, producers);
  const replaced = new Map<Node, Node>();
  const gone = new Set<Node>();
  for (const node of nodes) {
    if (gone.has(node)) continue;
    const match = gelu(node, finder) ?? layerNorm(node, finder) ?? groupNorm(node, finder) ?? hardSwish(node, finder);
    if (match === undefined || match.parts.some((part) => gone.has(part))) continue;
    for (const part of match.parts) gone.add(part);
    replaced.set(match.parts.at(-1)!, match.node);
  }
  return nodes.flatMap((node) => replaced.get(node) ?? (gone.has(node) ? [] : [node]));
}

/** Nodes that one replaces; the last gives the result. */
interface Match {
  readonly node: Node;
  readonly parts: readonly Node[];
}

class Finder {
  constructor(
    readonly around: Around,
    private readonly users: ReadonlyMap<string, readonly Node[]>,
    private readonly producers: ReadonlyMap<string, Node>,
  ) {}

  /** The node that alone uses what another gives, if it is of one of these operators. */
  next(node: Node | undefined, ...ops: string[]): Node | undefined {
    const name = node?.outputs[0];
    if (name === undefined || this.around.outputs.includes(name)) return undefined;
    const list = this.users.get(name) ?? [];
    return list.length === 1 && ops.includes(list[0]!.op) ? list[0] : undefined;
  }

  usersOf(node: Node): readonly Node[] {
    const name = node.outputs[0]!;
    return this.around.outputs.includes(name) ? [] : (this.users.get(name) ?? []);
  }

  producer(name: string | undefined, ...ops: string[]): Node | undefined {
    const found = name === undefined ? undefined : this.producers.get(name);
    return found !== undefined && ops.includes(found.op) ? found : undefined;
  }

  /** The number that a constant has everywhere. */
  scalar(name: string | undefined): number | undefined {
    const value = this.around.constant(name);
    if (value === undefined || value.data.length === 0) return undefined;
    const first = value.data[0]!;
    return value.data.length === 1 ? first : undefined;
  }

  /** The other input of a node of two, and the number that it is. */
  other(node: Node, name: string): string | undefined {
    if (node.inputs.length !== 2 || !node.inputs.includes(name)) return undefined;
    return node.inputs[0] === name ? node.inputs[1] : node.inputs[0];
  }

  number(node: Node, name: string): number | undefined {
    return this.scalar(this.other(node, name));
  }
}

const near = (a: number | undefined, b: number) => a !== undefined && Math.abs(a - b) <= 1e-5 * Math.abs(b);

/** x / 2 (1 + erf(x / sqrt(2))), in any order of its factors. */
function gelu(erf: Node, f: Finder): Match | undefined {
  if (erf.op !== "Erf") return undefined;
  const scaled = f.producer(erf.inputs[0], "Div", "Mul");
  const x = scaled?.inputs.find((name) => f.around.constant(name) === undefined);
  if (scaled === undefined || x === undefined) return undefined;
  const factor = f.number(scaled, x);
  const right = scaled.op === "Div" ? scaled.inputs[0] === x && near(factor, Math.SQRT2) : near(factor, Math.SQRT1_2);
  const plus = f.next(erf, "Add");
  if (!right || plus === undefined || f.number(plus, erf.outputs[0]!) !== 1 || f.usersOf(scaled).length !== 1)
    return undefined;
  const product = f.next(plus, "Mul");
  const factorOf = product && f.other(product, plus.outputs[0]!);
  if (product === undefined || factorOf === undefined) return undefined;
  const node = (last: Node): Node => ({ ...last, op: "Gelu", opset: 20, inputs: [x], attributes: {} });
  if (factorOf === x) {
    const half = f.next(product, "Mul");
    if (half === undefined || !near(f.number(half, product.outputs[0]!), 0.5)) return undefined;
    return { node: node(half), parts: [scaled, erf, plus, product, half] };
  }
  const half = f.producer(factorOf, "Mul");
  if (half !== undefined && near(f.number(half, x), 0.5) && f.usersOf(half).length === 1) {
    return { node: node(product), parts: [scaled, erf, plus, half, product] };
  }
  if (!near(f.scalar(factorOf), 0.5)) return undefined;
  const last = f.next(product, "Mul");
  return last !== undefined && f.other(last, product.outputs[0]!) === x
    ? { node: node(last), parts: [scaled, erf, plus, product, last] }
    : undefined;
}

/** Whether a mean is over the last axis, and keeps it. */
function isOfLast(node: Node, f: Finder): boolean {
  const given = (node.attributes["axes"] as readonly number[] | undefined) ?? f.around.constant(node.inputs[1])?.data;
  const rank = f.around.knownOf(node.inputs[0]!).shapes[0].length;
  return given?.length === 1 && (given[0] === -1 || given[0] === rank - 1) && node.attributes["keepdims"] !== 0;
}

/** (x - mean) / sqrt(mean((x - mean)²) + epsilon) scale + bias. */
function layerNorm(mean: Node, f: Finder): Match | undefined {
  if (mean.op !== "ReduceMean" || !isOfLast(mean, f)) return undefined;
  const x = mean.inputs[0]!;
  const centred = f.next(mean, "Sub");
  if (centred?.inputs[0] !== x) return undefined;
  const users = f.usersOf(centred);
  const power = users.find(({ op, inputs }) =>
    op === "Pow" ? f.scalar(inputs[1]) === 2 : op === "Mul" && inputs[0] === inputs[1],
  );
  const divided = users.find(({ op, inputs }) => op === "Div" && inputs[0] === centred.outputs[0]);
  const variance = f.next(power, "ReduceMean");
  if (users.length !== 2 || divided === undefined || variance === undefined || !isOfLast(variance, f)) return undefined;
  const plus = f.next(variance, "Add");
  const root = f.next(plus, "Sqrt");
  const epsilon = plus && f.number(plus, variance.outputs[0]!);
  const scaled = f.next(divided, "Mul");
  const shifted = f.next(scaled, "Add");
  if (root === undefined || divided.inputs[1] !== root.outputs[0] || epsilon === undefined || !scaled || !shifted)
    return undefined;
  const size = f.around.knownOf(x).shapes[0].at(-1);
  const [scale, bias] = [f.other(scaled, divided.outputs[0]!), f.other(shifted, scaled.outputs[0]!)];
  if (f.around.constant(scale)?.data.length !== size || f.around.constant(bias)?.data.length !== size) return undefined;
  return {
    node: {
      ...shifted,
      op: "LayerNormalization",
      opset: 17,
      inputs: [x, scale!, bias!],
      attributes: { axis: -1, epsilon },
    },
    parts: [mean, centred, power!, variance, plus!, root, divided, scaled, shifted],
  };
}

/** Reshape to groups, instance normalisation with scale 1 and bias 0, reshape back; a scale and bias by channel. */
function groupNorm(instance: Node, f: Finder): Match | undefined {
  if (instance.op !== "InstanceNormalization") return undefined;
  const all = (name: string | undefined, value: number) =>
    Array.from((f.around.constant(name)?.data ?? [Number.NaN]) as ArrayLike<number>).every((n) => n === value);
  const before = f.producer(instance.inputs[0], "Reshape");
  const after = f.next(instance, "Reshape");
  if (!before || !after || !all(instance.inputs[1], 1) || !all(instance.inputs[2], 0) || f.usersOf(before).length !== 1)
    return undefined;
  const x = before.inputs[0]!;
  const [shape, grouped] = [f.around.knownOf(x).shapes[0], f.around.knownOf(instance.inputs[0]!).shapes[0]];
  const scaled = f.next(after, "Mul");
  const shifted = f.next(scaled, "Add");
  if (!scaled || !shifted || shape.length < 3 || grouped[0] !== shape[0]) return undefined;
  if (!sameShape(shape, f.around.knownOf(after.outputs[0]!).shapes[0])) return undefined;
  const channels = shape[1]!;
  const [scale, bias] = [f.other(scaled, after.outputs[0]!), f.other(shifted, scaled.outputs[0]!)];
  const perChannel = (name: string | undefined) => {
    const value = f.around.constant(name);
    return value?.data.length === channels && value.shape.at(1 - shape.length) === channels;
  };
  if (!perChannel(scale) || !perChannel(bias)) return undefined;
  const attributes = {
    num_groups: grouped[1]!,
    epsilon: (instance.attributes["epsilon"] as number | undefined) ?? 1e-5,
  };
  return {
    node: { ...shifted, op: "GroupNormalization", opset: 21, inputs: [x, scale!, bias!], attributes },
    parts: [before, instance, after, scaled, shifted],
  };
}

/** x times its hard sigmoid of slope 1/6. */
function hardSwish(gate: Node, f: Finder): Match | undefined {
  const { alpha = 0.2, beta = 0.5 } = gate.attributes as { alpha?: number; beta?: number };
  if (gate.op !== "HardSigmoid" || !near(alpha, 1 / 6) || !near(beta, 0.5)) return undefined;
  const product = f.next(gate, "Mul");
  if (product === undefined || f.other(product, gate.outputs[0]!) !== gate.inputs[0]) return undefined;
  return {
    node: { ...product, op: "HardSwish", opset: 14, inputs: [gate.inputs[0]!], attributes: {} },
    parts: [gate, product],
  };
}

/** Parts of a split, each as a slice. */
function slices(node: Node, { knownOf }: Around): Node[] {
  if (node.op !== "Split" || knownOf(node.outputs[0]!).hosts !== undefined) return [node];
  const shape = knownOf(node.inputs[0]!).shapes[0];
  const given = (node.attributes["axis"] as number | undefined) ?? 0;
  const axis = given < 0 ? given + shape.length : given;
  if (axis === 0) return [node];
  let begin = 0;
  return node.outputs.map((name) => {
    const end = begin + knownOf(name).shapes[0][axis]!;
    const attributes = { starts: [begin], ends: [end], axes: [axis] };
    begin = end;
    return { ...node, op: "Slice", opset: 1, inputs: [node.inputs[0]!], outputs: [name], attributes };
  });
}
