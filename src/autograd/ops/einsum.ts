// Sums of products by the letters of their axes, of transpositions, sums and matrix products.
import { ShapeError, UsageError } from "../../tensor/errors.js";
import { check, string } from "../../tensor/options.js";
import { scope } from "../../tensor/scope.js";
import { formatShape, sizeOf } from "../../tensor/shape.js";
import { requireTensor, type Tensor, tensor } from "../../tensor/tensor.js";
import { gather } from "./gather.js";
import { matmul } from "./matmul.js";
import { sum } from "./reduce.js";
import { reshape, squeeze, transpose } from "./transform.js";

/** A tensor and the name of each of its axes, distinct ones. */
interface Labelled {
  readonly x: Tensor;
  readonly axes: readonly string[];
}

/** Names of the axes that "..." stands for, counted from the right, so that they broadcast. */
const hidden = (count: number) => Array.from({ length: count }, (_, k) => `...${count - k}`);

/** Names of a term's axes; `count` of them are those of "...". */
function namesOf(term: string, count: number): string[] {
  const [before, after] = term.split("...");
  return [...before!, ...(after === undefined ? [] : [...hidden(count), ...after])];
}

const TERM = /^[A-Za-z]*(\.\.\.)?[A-Za-z]*$/;

/** Names of the axes of each operand and of the result. */
function parse(equation: string, operands: readonly Tensor[]): { inputs: string[][]; output: string[] } {
  const wrong = (what: string) =>
    new UsageError(`einsum: ${what} in "${equation}"; letters name axes, as in "ij,jk->ik" or "...ij->...ji"`);
  const [left, right, ...more] = equation.replaceAll(" ", "").split("->") as [string, string?, ...string[]];
  const terms = left.split(",");
  if (more.length > 0 || ![...terms, right ?? ""].every((term) => TERM.test(term))) throw wrong("found no axes");
  if (terms.length !== operands.length) {
    throw new UsageError(`einsum: "${equation}" has ${terms.length} operands, got ${operands.length} tensors`);
  }
  const counts = terms.map((term, k) => {
    const [{ rank, shape }, letters] = [operands[k]!, term.replace("...", "").length];
    if (rank === letters || (term.includes("...") && rank > letters)) return rank - letters;
    throw new ShapeError(`einsum: "${term}" of "${equation}" names ${letters} axes, got ${formatShape(shape)}`);
  });
  const most = Math.max(...counts);
  const inputs = terms.map((term, k) => namesOf(term, counts[k]!));
  const all = inputs.flat();
  // Without "->": the letters that occur once, in the alphabet's order, as in NumPy.
  const once = [...new Set(all)].filter((name) => name.length === 1 && all.indexOf(name) === all.lastIndexOf(name));
  const output = right === undefined ? [...hidden(most), ...once.sort()] : namesOf(right, most);
  if (new Set(output).size !== output.length) throw wrong("an axis of the result is named twice");
  const unknown = output.find((name) => !all.includes(name));
  if (unknown !== undefined) throw wrong(`"${unknown}" names no axis of an operand`);
  return { inputs, output };
}

/** Axes of one name and size in one: their diagonal, [..., n, ..., n, ...] -> [n, ...others]. */
function diagonal({ x, axes }: Labelled, name: string): Labelled {
  const own = axes.flatMap((other, axis) => (other === name ? [axis] : []));
  const others = axes.flatMap((other, axis) => (other === name ? [] : [axis]));
  const n = x.shape[own[0]!]!;
  const rest = others.map((axis) => x.shape[axis]!);
  // Element j of the diagonal is element j (1 + n + n² + ...) of what all axes of the name walk.
  const step = own.reduce((total) => total * n + 1, 0);
  const rows = reshape(transpose(x, [...own, ...others]), [n ** own.length, ...rest]);
  const picked = tensor(
    x.device,
    Int32Array.from({ length: n }, (_, j) => j * step),
  );
  return { x: gather(rows, picked), axes: [name, ...others.map((axis) => axes[axis]!)] };
}

/** An operand with distinct axes; those of size 1 that others have larger are left out. */
function prepared(operand: Labelled, sizes: ReadonlyMap<string, number>): Labelled {
  let { x, axes } = operand;
  const ones = axes.flatMap((name, axis) => (x.shape[axis] === 1 && sizes.get(name) !== 1 ? [axis] : []));
  if (ones.length > 0) {
    x = squeeze(x, ones);
    axes = axes.filter((_, axis) => !ones.includes(axis));
  }
  let result: Labelled = { x, axes };
  for (const name of new Set(axes)) {
    if (axes.indexOf(name) !== axes.lastIndexOf(name)) result = diagonal(result, name);
  }
  return result;
}

/** Sums over axes that are not `kept`. */
function summed({ x, axes }: Labelled, kept: ReadonlySet<string>): Labelled {
  const gone = axes.flatMap((name, axis) => (kept.has(name) ? [] : [axis]));
  return gone.length === 0 ? { x, axes } : { x: sum(x, gone), axes: axes.filter((name) => kept.has(name)) };
}

/** The axes of x in this order, in groups, each as one axis. */
function grouped({ x, axes }: Labelled, groups: readonly (readonly string[])[]): Tensor {
  const order = groups.flat().map((name) => axes.indexOf(name));
  const sizes = groups.map((group) => sizeOf(group.map((name) => x.shape[axes.indexOf(name)]!)));
  return reshape(transpose(x, order), sizes);
}

/** The product of two operands, summed over the axes that nothing else needs: a batch of matrix products. */
function product(a: Labelled, b: Labelled, kept: ReadonlySet<string>): Labelled {
  const shared = a.axes.filter((name) => b.axes.includes(name));
  const both = new Set([...kept, ...shared]);
  const [left, right] = [summed(a, both), summed(b, both)];
  const batch = shared.filter((name) => kept.has(name));
  const inner = shared.filter((name) => !kept.has(name));
  const rows = left.axes.filter((name) => !shared.includes(name));
  const columns = right.axes.filter((name) => !shared.includes(name));
  const axes = [...batch, ...rows, ...columns];
  const size = (name: string) =>
    left.axes.includes(name) ? left.x.shape[left.axes.indexOf(name)]! : right.x.shape[right.axes.indexOf(name)]!;
  const batches = batch.length > 0 ? [batch] : [];
  const y = matmul(grouped(left, [...batches, rows, inner]), grouped(right, [...batches, inner, columns]));
  return { x: reshape(y, axes.map(size)), axes };
}

/**
 * Sums of products of tensors, told by the names of their axes. A letter that several operands have walks them
 * together. One that the result lacks is summed over. One that an operand has twice takes its diagonal. "..." stands
 * for any axes in front of, behind or between the named ones, which broadcast. Without "->" the result has the letters
 * that occur once, in alphabetic order. Operands are multiplied from left to right, by matrix products. f32.
 *
 * @example einsum("ij,jk->ik", a, b); einsum("bqhd,bkhd->bhqk", queries, keys); einsum("ii->i", square)
 * @throws UsageError for what is no equation, ShapeError for operands that do not fit it
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  check("einsum", "equation", equation, string);
  for (const [k, x] of operands.entries()) {
    requireTensor("einsum", `operand ${k}`, x);
    if (x.dtype !== "f32") throw new ShapeError(`einsum: operands must be f32, got ${x.dtype}; use cast(x, "f32")`);
  }
  if (operands.length === 0) throw new UsageError("einsum: needs at least one tensor, got none");
  const { inputs, output } = parse(equation, operands);
  const sizes = new Map<string, number>();
  for (const [k, x] of operands.entries()) {
    for (const [axis, name] of inputs[k]!.entries()) {
      const [size, before = 1] = [x.shape[axis]!, sizes.get(name)];
      if (size !== before && size !== 1 && before !== 1) {
        throw new ShapeError(
          `einsum: axes of one name must have one size or 1, "${name}" has ${before} and ${size} in "${equation}" of ${operands.map(({ shape }) => formatShape(shape)).join(" ")}`,
        );
      }
      sizes.set(name, before === 1 ? size : before);
    }
  }
  return scope(() => {
    const list = operands.map((x, k) => prepared({ x, axes: inputs[k]! }, sizes));
    let result = list[0]!;
    for (let k = 1; k < list.length; k++) {
      const needed = new Set([...output, ...list.slice(k + 1).flatMap(({ axes }) => axes)]);
      result = product(result, list[k]!, needed);
    }
    result = summed(result, new Set(output));
    return transpose(
      result.x,
      output.map((name) => result.axes.indexOf(name)),
    );
  });
}
