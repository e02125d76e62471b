// WGSL text of the register tile that the software profile's matrix kernels share (matmul, conv2d). One subgroup keeps
// a tile of `rows` x `4 * lanes * vectors` float32 sums in registers. It adds one rank-one update per k.
// Loading the operands and storing the sums is the kernel's own business; nothing here knows about shapes.
//
//   c[row][vector] (vec4f) += a[row] (a scalar of some lane, broadcast) * b[vector] (vec4f of the lane itself)
//
// Lane l holds the columns 4 l + {0, 1, 2, 3} of every vector of 4 * lanes columns (32 on lavapipe).
//
// Why this form:
// - lavapipe emits a load as eight scalar loads, so only multiplications per load count.
// - It has no shared memory to win from.
// - Values carried around a loop pass a select per iteration. So more than one k per iteration pays only if sums take
//   all of them at once.
//
// The broadcast is written as a shuffle from a constant lane: one permutation, where subgroupBroadcast becomes three
// instructions (extract, splat, and a mask for an inactive source lane). Registers must be named variables (`c3_1`),
// since an indexed array would live in memory.

import type { SubgroupLanes } from "../webgpu/family.js";

/**
 * Sums of one subgroup: `rows` rows of `vectors` vec4 per lane, i.e. 4 * lanes * vectors columns. 32 rows and 2 vectors
 * are the fastest where the matrix fills them; compile time grows with rows * vectors (1.2 s at 64, 4.5 s at 128).
 */
export interface SubgroupTile {
  readonly rows: 8 | 16 | 32 | 64;
  readonly vectors: 1 | 2;
  readonly lanes: SubgroupLanes;
}

/**
 * How the `rows` left scalars of one k lie in the lanes' registers `a0`, `a1`, ...:
 * - "k-major": one vec4f load per 4 L rows, L lanes; row 4 L g + 4 l + i is component i of lane l's `a{g}`. Matrices
 *   stored [K, M].
 * - "row-major": one register per L rows; row L g + l is component x of lane l's `a{g}`. Matrices stored [M, K]: load
 *   four k at once as vec4f and call `rotate` after each k; or load one k at a time and set only x.
 */
export type LeftLayout = "k-major" | "row-major";

/** Number of left registers `a0` ... that `multiplyAccumulate` reads. */
export function leftRegisters(tile: SubgroupTile, layout: LeftLayout): number {
  return Math.ceil(tile.rows / (layout === "k-major" ? 4 * tile.lanes : tile.lanes));
}

/** Columns of a tile. */
export function tileColumns(tile: SubgroupTile): number {
  return 4 * tile.lanes * tile.vectors;
}

/** Declares the sums `c{row}_{vector}`, zero. */
export function accumulators(tile: SubgroupTile): string {
  return eachAccumulator(tile, ({ name }) => `var ${name} = vec4f();`);
}

/** Register of the k'th of several k that one trip of the loop takes: `a0`, `a0_1`, ... */
export function stepRegister(name: string, step: number): string {
  return step === 0 ? name : `${name}_${step}`;
}

/**
 * One rank-one update, or `steps` of them: reads the registers `a0`, ... and `b0` (and `b1`) of every step (see
 * `stepRegister`), updates every `c{row}_{vector}`. Must stand in control flow that is uniform over the subgroup.
 */
export function multiplyAccumulate(tile: SubgroupTile, layout: LeftLayout, steps = 1): string {
  const { lanes } = tile;
  const scalar = (row: number, step: number) =>
    layout === "k-major"
      ? `${stepRegister(`a${Math.floor(row / (4 * lanes))}`, step)}.${"xyzw"[row & 3]}, ${(row >> 2) % lanes}u`
      : `${stepRegister(`a${Math.floor(row / lanes)}`, step)}.x, ${row % lanes}u`;
  // Sum by sum, so that each passes its select once a trip and not once a k.
  return repeat(tile.rows, (row) => {
    const sums = repeat(tile.vectors, (vector) => {
      const sum = `c${row}_${vector}`;
      let value = sum;
      for (let step = 0; step < steps; step++) value = `fma(t${step}, ${stepRegister(`b${vector}`, step)}, ${value})`;
      return `  ${sum} = ${value};`;
    });
    return `{ ${repeat(steps, (step) => `let t${step} = vec4f(subgroupShuffle(${scalar(row, step)}));`)}\n${sums}\n}`;
  });
}

/** Row-major layout: brings the next k of every left register into component x. */
export function rotate(tile: SubgroupTile): string {
  return repeat(leftRegisters(tile, "row-major"), (g) => `a${g} = a${g}.yzwx;`);
}

/** Emits a statement per sum, row by row: stores, epilogues. `row` and `vector` are numbers within the tile. */
export function eachAccumulator(
  tile: SubgroupTile,
  emit: (sum: { readonly row: number; readonly vector: number; readonly name: string }) => string,
): string {
  return repeat(tile.rows, (row) => repeat(tile.vectors, (vector) => emit({ row, vector, name: `c${row}_${vector}` })));
}

/** `emit(0)` ... `emit(count - 1)`, one per line. */
export function repeat(count: number, emit: (index: number) => string): string {
  return Array.from({ length: count }, (_, index) => emit(index)).join("\n");
}

/**
 * WGSL of the name with number `index` of `count` names: of a variable that registers hold, where an array would be
 * memory.
 */
export function chosen(index: string, count: number, name: (index: number) => string): string {
  return Array.from({ length: count - 1 }, (_, k) => count - 2 - k).reduce(
    (others, k) => `select(${others}, ${name(k)}, ${index} == ${k}u)`,
    name(count - 1),
  );
}
