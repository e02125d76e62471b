// How a row of the tables in kernels/elementwise-table.ts becomes a differentiable operation, and its gradient another
// one. That gradient, dx = dy f'(v), is linear in dy. So its own gradients are g f'(v), by the same kernel, and
// g dy f''(v).
import type { FusedActivation } from "../../kernels/activation.js";
import {
  binaryKernels,
  operandsOfGradient,
  type UnaryParams,
  unaryKernels,
  whereKernel,
} from "../../kernels/elementwise.js";
import {
  type Arithmetic,
  type BinaryName,
  type BinaryRow,
  binaryTable,
  type UnaryName,
  type UnaryRow,
  unaryTable,
  type Value,
} from "../../kernels/elementwise-table.js";
import { reduceKernel } from "../../kernels/reduce.js";
import { type DType, elementRules } from "../../tensor/dtype.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { checkOptions, describe, number, type Rule } from "../../tensor/options.js";
import { broadcastAxes, broadcastShapes, formatShape, type Shape, sameShape } from "../../tensor/shape.js";
import { requireTensor, run, Tensor } from "../../tensor/tensor.js";
import { record, renamed } from "../tape.js";
import { full, zeros } from "./create.js";

/** A tensor, or a number that stands for a tensor of any shape. */
export type Operand = Tensor | number;

/** Sums a gradient of the broadcast shape to the shape of the operand it belongs to. */
export function sumTo(gradient: Tensor, shape: Shape): Tensor {
  const whole = gradient.shape;
  if (sameShape(whole, shape)) return gradient;
  const axes = broadcastAxes(shape, whole);
  const kept = whole.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const sum = run(reduceKernel, [gradient], { shape: kept, dtype: gradient.dtype }, { reduction: "sum", axes });
  return record(sum.alias(shape), {
    op: "sum",
    inputs: [gradient],
    backward: (dy) => [() => stretch(renamed("sum", dy, kept), whole, 1)],
    derivable: true,
  });
}

/** factor * x, repeated along the axes that it has as 1 or lacks. */
export function stretch(x: Tensor, shape: Shape, factor: number): Tensor {
  const before = x.shape;
  return record(run(binaryKernels.mul.forward, [x], { shape, dtype: "f32" }, { b: factor }), {
    op: "stretch",
    inputs: [x],
    backward: (dy) => [() => sumTo(factor === 1 ? renamed("stretch", dy) : binary("mul", dy, factor), before)],
    derivable: true,
  });
}

function requireFloat(op: string, x: Tensor): void {
  requireTensor(op, "x", x);
  if (x.dtype !== "f32") {
    throw new ShapeError(`${op}: needs an f32 tensor, got ${x.dtype} ${formatShape(x.shape)}; use cast(x, "f32")`);
  }
}

/** @throws UsageError unless a tensor of `dtype` can hold the number */
function requireRepresentable(op: string, operand: number, dtype: DType): void {
  const { accepts, expected } = elementRules[dtype];
  if (accepts(operand)) return;
  throw new UsageError(
    `${op}: a number beside an ${dtype} tensor must be ${expected}, got ${operand}; use cast(x, "f32")`,
  );
}

/** Applies a row of the unary table; `p` and `q` are its parameters. */
export function unary(name: UnaryName, x: Tensor, p?: number, q?: number): Tensor {
  requireFloat(name, x);
  const row: UnaryRow = unaryTable[name];
  const params = { p: p ?? row.parameters?.[0]?.value ?? 0, q: q ?? row.parameters?.[1]?.value ?? 0 };
  const { forward, gradient } = unaryKernels[name];
  const y = run(forward, [x], x, params);
  return record(y, {
    op: name,
    inputs: [x],
    saved: gradient === null ? [] : [row.gradient?.from === "y" ? y : x],
    constant: gradient === null,
    backward: (dy, [v]) => [gradient === null ? null : () => unaryGradient(name, dy, v!, params)],
    derivable: true,
  });
}

/** dx = dy f'(v), where v is x or y, as the row has it; differentiable for both. */
export function unaryGradient(name: UnaryName, dy: Tensor, v: Tensor, params: UnaryParams = { p: 0, q: 0 }): Tensor {
  const { curvature } = (unaryTable[name] as UnaryRow).gradient!;
  return record(run(unaryKernels[name].gradient!, [dy, v], dy, params), {
    op: `the gradient of ${name}`,
    inputs: [dy, v],
    saved: [dy, v],
    backward: (g, [dy, v]) => [
      () => unaryGradient(name, g, v!, params),
      curvature && (() => times(binary("mul", g, dy!), curvature(arithmetic, v!, params.p, params.q))),
    ],
    derivable: true,
  });
}

/** dz = dy act'(z), by y = act(z) where that is not linear. */
export function throughActivation(activation: FusedActivation, dy: Tensor, y: Tensor | undefined): Tensor {
  return activation === "linear" ? dy : unaryGradient(activation, dy, y!);
}

/** x times a tensor, or a number. */
const times = (x: Tensor, factor: Operand) => (factor === 1 ? x : binary("mul", x, factor));

/** Applies a row of the binary table with broadcasting. At least one operand is a tensor. */
export function binary(name: BinaryName, a: Operand, b: Operand): Tensor {
  const row: BinaryRow = binaryTable[name];
  const tensors = [a, b].filter((operand): operand is Tensor => typeof operand !== "number");
  for (const operand of tensors) {
    if (!(operand instanceof Tensor)) {
      throw new UsageError(`${name}: operands must be tensors or numbers, got ${describe(operand)}`);
    }
    requireTensor(name, "an operand", operand);
  }
  const first = tensors[0];
  if (first === undefined) throw new ShapeError(`${name}: at least one operand must be a tensor, got two numbers`);
  for (const t of tensors) {
    if (!row.integer) requireFloat(name, t);
    if (t.dtype !== first.dtype) {
      throw new ShapeError(`${name}: operands must have one dtype, got ${first.dtype} and ${t.dtype}; use cast()`);
    }
  }
  for (const operand of [a, b]) if (typeof operand === "number") requireRepresentable(name, operand, first.dtype);
  const params = { ...(typeof a === "number" && { a }), ...(typeof b === "number" && { b }) };
  const shape = tensors.length === 2 ? broadcastShapes(name, tensors[0]!.shape, tensors[1]!.shape) : first.shape;
  const y = run(binaryKernels[name].forward, tensors, { shape, dtype: row.result ?? first.dtype }, params);
  return record(y, {
    op: name,
    inputs: tensors,
    saved: row.gradient === null || row.gradient.a.wgsl === "dy" ? [] : tensors,
    backward: (dy, saved) => {
      if (row.gradient === null) return tensors.map(() => null);
      const sides = sidesOf(params);
      const values = { ...params, ...Object.fromEntries(sides.map((side, k) => [side, saved[k]])) };
      return sides.map((side, k) => () => sumTo(binaryGradient(name, side, dy, values), tensors[k]!.shape));
    },
    derivable: true,
  });
}

type Side = "a" | "b";
type Operands = Readonly<Partial<Record<Side, Operand>>>;

/** Operands that are tensors. */
const sidesOf = (operands: Operands): Side[] =>
  (["a", "b"] as const).filter((side) => typeof operands[side] !== "number");

/**
 * Gradient of an operand before it is summed to that one's shape; differentiable for dy and for the operands that it is
 * computed of, which are the ones that it needs.
 */
function binaryGradient(name: BinaryName, side: Side, dy: Tensor, operands: Operands): Tensor {
  const row: BinaryRow = binaryTable[name];
  const { curvature, ...slopes } = row.gradient!;
  if (slopes[side].wgsl === "dy") return renamed(name, dy);
  const params = Object.fromEntries(Object.entries(operands).filter(([, value]) => typeof value === "number"));
  const read = operandsOfGradient(row, side).filter((operand) => typeof operands[operand] !== "number");
  const tensors = read.map((operand) => operands[operand] as Tensor);
  return record(run(binaryKernels[name].gradient![side], [dy, ...tensors], dy, params), {
    op: `the gradient of ${name}`,
    inputs: [dy, ...tensors],
    saved: [dy, ...tensors],
    backward: (g, [dy, ...saved]) => {
      const values: Operands = { ...params, ...Object.fromEntries(read.map((operand, k) => [operand, saved[k]])) };
      return [
        () => binaryGradient(name, side, g, values),
        ...read.map((operand, k) => {
          const second = curvature[side === operand ? (`${side}${side}` as "aa" | "bb") : "ab"];
          // What a slope does not read is not there, and its curvature does not read it either.
          const of = (key: Side) => values[key] ?? Number.NaN;
          return (
            second && (() => sumTo(times(binary("mul", g, dy!), second(arithmetic, of("a"), of("b"))), saved[k]!.shape))
          );
        }),
      ];
    },
    derivable: true,
  });
}

/** condition != 0 ? a : b, with broadcasting of all three; NaN is not 0. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  requireTensor("where", "condition", condition);
  requireTensor("where", "a", a);
  requireTensor("where", "b", b);
  if (a.dtype !== b.dtype) {
    throw new ShapeError(`where: a and b must have one dtype, got ${a.dtype} and ${b.dtype}; use cast()`);
  }
  const shape = broadcastShapes("where", condition.shape, broadcastShapes("where", a.shape, b.shape));
  const y = run(whereKernel, [condition, a, b], { shape, dtype: a.dtype }, {});
  return record(y, {
    op: "where",
    inputs: [condition, a, b],
    saved: [condition],
    // Chosen, not multiplied: an infinite dy leaves the side that was not taken at 0.
    backward: (dy, [mask]) => [
      null,
      () => sumTo(where(mask!, dy, zeros(dy.device, [])), a.shape),
      () => sumTo(where(mask!, zeros(dy.device, []), dy), b.shape),
    ],
    derivable: true,
  });
}

const ofOne =
  (name: UnaryName) =>
  (x: Value<Tensor>): Value<Tensor> =>
    typeof x === "number" ? (unaryTable[name] as UnaryRow).cpu(x, 0, 0) : unary(name, x);
const ofTwo =
  (name: BinaryName) =>
  (a: Value<Tensor>, b: Value<Tensor>): Value<Tensor> =>
    typeof a === "number" && typeof b === "number" ? (binaryTable[name] as BinaryRow).cpu(a, b) : binary(name, a, b);

/** What curvatures are computed with. */
const arithmetic: Arithmetic<Tensor> = {
  add: ofTwo("add"),
  sub: ofTwo("sub"),
  mul: ofTwo("mul"),
  div: ofTwo("div"),
  pow: ofTwo("pow"),
  equal: ofTwo("equal"),
  greater: ofTwo("greater"),
  minimum: ofTwo("minimum"),
  neg: ofOne("neg"),
  exp: ofOne("exp"),
  log: ofOne("log"),
  square: ofOne("square"),
  reciprocal: ofOne("reciprocal"),
  sin: ofOne("sin"),
  cos: ofOne("cos"),
  tanh: ofOne("tanh"),
  sigmoid: ofOne("sigmoid"),
  where(condition, a, b) {
    if (typeof condition === "number") return condition === 0 ? b : a;
    const whole = (value: Value<Tensor>) => (typeof value === "number" ? full(condition.device, [], value) : value);
    return where(condition, whole(a), whole(b));
  },
};

/** The parameters of a row as options, by name; undefined where it has none. */
export type UnaryOptions<Name extends UnaryName> = (typeof unaryTable)[Name] extends {
  readonly parameters: readonly { readonly name: infer Parameter extends string }[];
}
  ? { readonly [P in Parameter]?: number }
  : undefined;

/** A row as a function; parameters, where it has some, are options. */
type Unary<Name extends UnaryName> =
  UnaryOptions<Name> extends undefined ? (x: Tensor) => Tensor : (x: Tensor, options?: UnaryOptions<Name>) => Tensor;

/** The function of a row. */
export function unaryOf<Name extends UnaryName>(name: Name): Unary<Name> {
  const { parameters }: UnaryRow = unaryTable[name];
  if (parameters === undefined) return ((x: Tensor) => unary(name, x)) as Unary<Name>;
  const rules: Record<string, Rule> = Object.fromEntries(parameters.map((parameter) => [parameter.name, number()]));
  return ((x: Tensor, options: Readonly<Record<string, number>> = {}) => {
    const given = checkOptions(name, options, rules);
    return unary(name, x, ...parameters.map((parameter) => given[parameter.name]));
  }) as Unary<Name>;
}

/** The function of a row. */
export const binaryOf =
  (name: BinaryName): ((a: Operand, b: Operand) => Tensor) =>
  (a, b) =>
    binary(name, a, b);
