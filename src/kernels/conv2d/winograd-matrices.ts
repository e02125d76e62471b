// The matrices of Winograd's minimal filtering F(m, 3) (Winograd 1980; Lavin and Gray 2016), by the Toom-Cook
// construction, and WGSL text that multiplies by them. In one dimension, m outputs of a filter g of 3 taps come from a
// tile d of m + 2 inputs. They take m + 2 multiplications instead of 3 m:
//
//   y = outputs ((kernel g) * (inputs d)), * element by element
//
// In two dimensions each matrix is applied to both axes.
//
// With points p_0 ... p_m and infinity, f_j = product of (p_j - p_i) over i != j:
//
//   outputs[i][j] = p_j^i    kernel[j][k] = p_j^k / f_j    inputs[j] = coefficients of the product of (x - p_i), i != j
//
// Infinity has the last column of outputs, the last row of kernel, and, as inputs, the coefficients of the product of
// all (x - p_i).
import { repeat } from "../subgroup-tile.js";

export type Matrix = readonly (readonly number[])[];

/** Outputs per axis of a tile; even, so that no pooling window of 2 x 2 crosses tiles. */
export type TileSize = 2 | 4;

export interface WinogradMatrices {
  /** [m][m + 2] */
  readonly outputs: Matrix;
  /** [m + 2][m + 2] */
  readonly inputs: Matrix;
  /** [m + 2][3] */
  readonly kernel: Matrix;
}

/** Small numbers of both signs: the error grows with the powers of the largest. */
const POINTS: Readonly<Record<TileSize, readonly number[]>> = {
  2: [0, 1, -1],
  4: [0, 1, -1, 2, -2],
};

/** Of a filter, per axis. */
export const TAPS = 3;

export function winogradMatrices(m: TileSize): WinogradMatrices {
  const points = POINTS[m];
  /** Coefficients of the product of (x - p) over the points that `keep` lets pass, from the lowest. */
  const expand = (keep: (index: number) => boolean) => {
    let coefficients = [1, ...points.map(() => 0)];
    points.forEach((p, i) => {
      if (keep(i)) coefficients = coefficients.map((c, k) => (coefficients[k - 1] ?? 0) - p * c);
    });
    return coefficients;
  };
  const scale = (j: number) => points.reduce((f, p, i) => (i === j ? f : f * (points[j]! - p)), 1);
  return {
    outputs: Array.from({ length: m }, (_, i) => [...points.map((p) => p ** i), i === m - 1 ? 1 : 0]),
    kernel: [
      ...points.map((p, j) => Array.from({ length: TAPS }, (_, k) => p ** k / scale(j))),
      Array.from({ length: TAPS }, (_, k) => (k === TAPS - 1 ? 1 : 0)),
    ],
    inputs: [...points.map((_, j) => expand((i) => i !== j)), expand(() => true)],
  };
}

export function transposed(matrix: Matrix): Matrix {
  return matrix[0]!.map((_, column) => matrix.map((row) => row[column]!));
}

/** Name of an element of a matrix of WGSL variables. */
export type Element = (row: number, column: number) => string;

/**
 * WGSL that declares to(i, j) = sum over r, c of left[i][r] from(r, c) right[j][c]; all are of `type`. `prefix` begins
 * the names of intermediate results.
 */
export function transform2d(
  left: Matrix,
  right: Matrix,
  options: { from: Element; to: Element; prefix: string },
): string {
  const { from, to, prefix } = options;
  const half: Element = (i, c) => `${prefix}${i}_${c}`;
  return [
    ...right[0]!.map((_, c) =>
      multiply(
        left,
        (r) => from(r, c),
        (i) => half(i, c),
      ),
    ),
    ...left.map((_, i) =>
      multiply(
        right,
        (c) => half(i, c),
        (j) => to(i, j),
      ),
    ),
  ].join("\n");
}

/** WGSL for every cell of a square. */
export const square = (side: number, emit: (r: number, c: number) => string) =>
  repeat(side, (r) => repeat(side, (c) => emit(r, c)));

/** Variables name0_0, name0_1, ... */
export const element =
  (name: string): Element =>
  (r, c) =>
    `${name}${r}_${c}`;

/** WGSL that declares to = matrix from matrix^T. */
export const both = (matrix: Matrix, from: string, to: string) =>
  transform2d(matrix, matrix, { from: element(from), to: element(to), prefix: `${to}h` });

/** WGSL of to(i) = sum of matrix[i][k] from(k). Rows for points p and -p share their even and odd parts. */
export function multiply(matrix: Matrix, from: (k: number) => string, to: (i: number) => string): string {
  const lines: string[] = [];
  const done = new Set<number>();
  matrix.forEach((row, i) => {
    if (done.has(i)) return;
    const partner = matrix.findIndex((other, j) => j > i && !done.has(j) && mirrors(row, other));
    if (partner < 0) {
      lines.push(`let ${to(i)} = ${sum(row, from)};`);
      return;
    }
    done.add(partner);
    const other = matrix[partner]!;
    const even = row.map((value, k) => (value + other[k]!) / 2);
    const odd = row.map((value, k) => (value - other[k]!) / 2);
    lines.push(
      `let ${to(i)}_even = ${sum(even, from)};`,
      `let ${to(i)}_odd = ${sum(odd, from)};`,
      `let ${to(i)} = ${to(i)}_even + ${to(i)}_odd;`,
      `let ${to(partner)} = ${to(i)}_even - ${to(i)}_odd;`,
    );
  });
  return lines.join("\n");
}

/** Whether two rows differ in sign alone, in some elements of more than two but not in all. */
function mirrors(row: readonly number[], other: readonly number[]): boolean {
  if (!row.every((value, k) => Math.abs(value) === Math.abs(other[k]!))) return false;
  const used = row.filter((value) => value !== 0).length;
  const flipped = row.filter((value, k) => value !== other[k]!).length;
  return used > 2 && flipped > 0 && flipped < used;
}

function sum(coefficients: readonly number[], from: (k: number) => string): string {
  let text = "";
  coefficients.forEach((value, k) => {
    if (value === 0) return;
    const size = Math.abs(value);
    const term = size === 1 ? from(k) : `${literal(size)} * ${from(k)}`;
    const sign = value < 0 ? "-" : "+";
    text += text === "" ? `${value < 0 ? "-" : ""}${term}` : ` ${sign} ${term}`;
  });
  return text;
}

const literal = (value: number) => (Number.isInteger(value) ? `${value}.0` : `${value}`);
