// Weights and pictures that Python and the tests make alike (formula.py). No tests here.
import { type Shape, sizeOf } from "../../src/tensor/shape.js";

/** In [-1, 1). */
export function uniform(size: number, seed: number): Float64Array {
  const start = Math.imul(seed, 0x9e3779b9);
  const values = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    let h = (i + start) >>> 0;
    h ^= h >>> 16;
    h = Math.imul(h, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    h ^= h >>> 16;
    values[i] = (h >>> 8) / 2 ** 23 - 1;
  }
  return values;
}

/** FNV-1a. */
export function seedOf(text: string): number {
  let h = 2166136261;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 16777619);
  return h >>> 0;
}

const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Of a weight's name in the model, "layer/movingMean". */
export function weightValues(name: string, shape: Shape): Float32Array {
  const [layer, own] = name.split("/") as [string, string];
  const kind = snakeCase(own);
  const u = uniform(sizeOf(shape), seedOf(`${layer}/${kind}`));
  if (kind === "gamma") return Float32Array.from(u, (v) => 1 + 0.1 * v);
  if (kind.endsWith("variance")) return Float32Array.from(u, (v) => 1 + 0.25 * v);
  if (!kind.includes("kernel")) return Float32Array.from(u, (v) => 0.1 * v);
  const each = shape.at(-1)! > 1 || shape.length < 4 ? shape.slice(0, -1) : shape.slice(0, -2);
  const scale = Math.sqrt(4.5 / sizeOf(each));
  return Float32Array.from(u, (v) => v * scale);
}

export const pictureValues = (shape: Shape): Float32Array => Float32Array.from(uniform(sizeOf(shape), 1));
