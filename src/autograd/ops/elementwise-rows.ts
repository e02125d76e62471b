// How a row of the tables in kernels/elementwise-table.ts becomes a differentiable operation.
import { binaryKernels, operandsOfGradient, unaryKernels } from "../../kernels/elementwise.js";
import {
  type BinaryName,
  type BinaryRow,
  binaryTable,
  type UnaryName,
  type UnaryRow,
  unaryTable,
} from "../../kernels/elementwise-table.js";
import { reduceKernel } from "../../kernels/reduce.js";
import { type DType, elementRules } from "../../tensor/dtype.js";
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { checkOptions, describe, number, type Rule } from "../../tensor/options.js";
import { broadcastAxes, broadcastShapes, formatShape, type Shape, sameShape } from "../../tensor/shape.js";
import { requireTensor, run, Tensor } from "../../tensor/tensor.js";
import { record } from "../tape.js";

/** A tensor, or a number that stands for a tensor of any shape. */
export type Operand = Tensor | number;

/** Sums a gradient of the broadcast shape to the shape of the operand it belongs to. */
export function sumTo(gradient: Tensor, shape: Shape): Tensor {
  if (sameShape(gradient.shape, shape)) return gradient;
  const axes = broadcastAxes(shape, gradient.shape);
  const kept = gradient.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  return run(reduceKernel, [gradient], { shape: kept, dtype: gradient.dtype }, { reduction: "sum", axes }).alias(shape);
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
    backward: (dy, [v]) => [gradient === null ? null : () => run(gradient, [dy, v!], dy, params)],
  });
}

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
  const { forward, gradient } = binaryKernels[name];
  const y = run(forward, tensors, { shape, dtype: row.result ?? first.dtype }, params);
  return record(y, {
    op: name,
    inputs: tensors,
    saved: row.gradient === null || row.gradient.a.wgsl === "dy" ? [] : tensors,
    backward: (dy, saved) => {
      if (gradient === null || row.gradient === null) return tensors.map(() => null);
      const sides = (["a", "b"] as const).filter((side) => params[side] === undefined);
      return sides.map((side, k) => () => {
        const passesThrough = row.gradient![side].wgsl === "dy";
        const read = operandsOfGradient(row, side);
        const operands = saved.filter((_, operand) => read.includes(sides[operand]!));
        const full = passesThrough ? dy.alias() : run(gradient[side], [dy, ...operands], dy, params);
        return sumTo(full, tensors[k]!.shape);
      });
    },
  });
}

/** The parameters of a row as options, by name; undefined where it has none. */
export type UnaryOptions<Name extends UnaryName> = (typeof unaryTable)[Name] extends {
  readonly parameters: readonly { readonly name: infer Parameter extends string }[];
}
  ? { readonly [P in Parameter]?: number }
  : undefined;

/** A row as a function; parameters, where it has some, are options. */
type Unary<Name extends UnaryName> =
  UnaryOptions<Name> extends undefined ? (x: Tensor) => Tensor : (x: Tensor, options?: UnaryOptions<Name>) => Tensor;
type Binary = (a: Operand, b: Operand) => Tensor;

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
  (name: BinaryName): Binary =>
  (a, b) =>
    binary(name, a, b);
