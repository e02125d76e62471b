// Numbers that Python and the tests draw alike (formula.py): multiples of 1/256, which float32 has. No tests here.
import { type Shape, sizeOf } from "../../src/tensor/shape.js";

export function formula(shape: Shape, seed: number, scale = 1): number[] {
  let state = seed * 7919 + 1;
  const drawn: number[] = [];
  for (let i = 0; i < sizeOf(shape) + 4; i++) {
    state = (state * 16807) % 2147483647;
    if (i >= 4) drawn.push((((Math.floor(state / 256) % 513) - 256) / 256) * scale);
  }
  return drawn;
}

export const formulaIds = (shape: Shape, seed: number, count: number): number[] =>
  formula(shape, seed).map((value) => Math.floor(((value + 1) / 2.01) * count));

/** Variances are positive. */
export const formulaWeight = (name: string, shape: Shape, seed: number): number[] =>
  formula(shape, seed).map((value) => (/variance/i.test(name) ? value / 2 + 1 : value));
