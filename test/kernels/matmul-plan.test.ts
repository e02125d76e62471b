// Plans of matrix products, carried out in plain JavaScript: whatever is cut off where, the products make the whole.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type Limits,
  type PlannedPart,
  type PlannedProduct,
  planMatmul,
  type Region,
} from "../../src/kernels/matmul-plan.js";
import { MAX_SPLITS } from "../../src/kernels/matmul-product.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { MAX_WORKGROUPS } from "../../src/webgpu/program.js";

interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

/** Small whole numbers, whose sums are exact in any order. */
const numbers = (size: number) => Float64Array.from({ length: size }, (_, i) => ((i * 7) % 11) - 5);

/** What a region's matrix reads and writes, as the kernels do: the slice that is bound, and an offset into it. */
function bound(values: Float64Array, { slice, offset }: Region): { at: Float64Array; offset: number } {
  return { at: slice ? values.subarray(slice[0], slice[0] + slice[1]) : values, offset };
}

/** Carries a plan out; NaN where nothing was written. */
function carryOut(parts: readonly PlannedPart[], a: Float64Array, b: Float64Array, size: number, t: Transposes) {
  const c = new Float64Array(size).fill(Number.NaN);
  for (const { batch, strides, rows } of parts) {
    for (const { c: region, products, partials, size, stride } of rows) {
      const scratch = new Float64Array(partials * stride).fill(Number.NaN);
      const result = bound(c, region);
      for (const product of products) {
        const [left, right] = [bound(a, product.a), bound(b, product.b)];
        const target = partials > 0 ? { at: scratch, offset: product.partial! * stride } : result;
        for (let matrix = 0; matrix < batch.size; matrix++) {
          for (let split = 0; split < product.splits; split++) {
            const end = Math.min((split + 1) * product.kStep, product.k);
            for (let i = 0; i < product.m; i++) {
              for (let j = 0; j < product.n; j++) {
                let sum = 0;
                for (let p = split * product.kStep; p < end; p++) {
                  const fromA = t.transposeA ? p * strides.a + i : i * strides.a + p;
                  const fromB = t.transposeB ? j * strides.b + p : p * strides.b + j;
                  sum +=
                    left.at[left.offset + matrix * batch.strideA + fromA]! *
                    right.at[right.offset + matrix * batch.strideB + fromB]!;
                }
                const to = target.offset + split * stride + (matrix * product.m + i) * strides.c + product.column + j;
                target.at[to] = sum;
              }
            }
          }
        }
      }
      for (let i = 0; partials > 0 && i < size; i++) {
        let sum = 0;
        for (let p = 0; p < partials; p++) sum += scratch[p * stride + i]!;
        result.at[result.offset + i] = sum;
      }
    }
  }
  return c;
}

/** The product of matrices whose batch axes broadcast, index by index. */
function expected(a: Shape, b: Shape, left: Float64Array, right: Float64Array, t: Transposes): number[] {
  const [m, k] = t.transposeA ? [a.at(-1)!, a.at(-2)!] : [a.at(-2)!, a.at(-1)!];
  const n = t.transposeB ? b.at(-2)! : b.at(-1)!;
  const [outerA, outerB] = [a[0]!, b[0]!];
  const result: number[] = [];
  for (let matrix = 0; matrix < Math.max(outerA, outerB); matrix++) {
    const [atA, atB] = [outerA === 1 ? 0 : matrix * m * k, outerB === 1 ? 0 : matrix * k * n];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) {
          const fromA = t.transposeA ? p * m + i : i * k + p;
          const fromB = t.transposeB ? j * k + p : p * n + j;
          sum += left[atA + fromA]! * right[atB + fromB]!;
        }
        result.push(sum);
      }
    }
  }
  return result;
}

const small = (min: number, max: number) => fc.integer({ min, max });

describe("a plan", () => {
  it("computes the product, whatever a binding holds and however k is cut", () => {
    fc.assert(
      fc.property(
        fc.record({ m: small(1, 40), n: small(1, 40), k: small(1, 60), most: small(64, 2000), wanted: small(1, 9) }),
        fc.record({ transposeA: fc.boolean(), transposeB: fc.boolean() }),
        fc.constantFrom([1, 1], [3, 1], [1, 3], [3, 3]),
        ({ m, n, k, most, wanted }, transposes, [batchA, batchB]) => {
          const a = [batchA!, ...(transposes.transposeA ? [k, m] : [m, k])];
          const b = [batchB!, ...(transposes.transposeB ? [n, k] : [k, n])];
          const [left, right] = [numbers(sizeOf(a)), numbers(sizeOf(b))];
          const parts = planMatmul(a, b, transposes, { most, splitsFor: () => wanted });
          const found = carryOut(parts, left, right, Math.max(batchA!, batchB!) * m * n, transposes);
          expect(Array.from(found)).toEqual(expected(a, b, left, right, transposes));
        },
      ),
      { numRuns: 300 },
    );
  });

  const free: Limits = { most: 2 ** 25, splitsFor: () => 1 };
  const plain = { transposeA: false, transposeB: false };

  it("begins slices where a binding may, and keeps to its size", () => {
    // 300 x 256 elements of A and C are more than the 40000 that a binding holds; B's 65536 are, too.
    const [part] = planMatmul([300, 256], [256, 256], plain, { most: 40_000, splitsFor: () => 1 });
    expect(part!.whole).toBe(false);
    for (const { c, products, partials } of part!.rows) {
      expect(partials).toBe(2);
      for (const { slice } of [c, ...products.flatMap(({ a, b }) => [a, b])]) {
        expect(slice![0] % 64).toBe(0);
        expect(slice![1]).toBeLessThanOrEqual(40_000);
      }
    }
  });

  it("cuts k in fours, into no more pieces than there may be", () => {
    const [{ rows }] = planMatmul([8, 4000], [4000, 8], plain, { ...free, splitsFor: () => 1000 }) as [PlannedPart];
    const [{ kStep, splits }] = rows[0]!.products as readonly [PlannedProduct];
    expect(kStep % 4).toBe(0);
    expect(splits).toBeLessThanOrEqual(MAX_SPLITS);
    expect(rows[0]!.partials).toBe(splits);
    expect((splits - 1) * kStep).toBeLessThan(4000);
  });

  it("makes the rows of many matrices times one the rows of a single product", () => {
    const [part, ...more] = planMatmul([7, 5, 6, 4], [4, 3], plain, free);
    expect(more).toEqual([]);
    expect(part!.batch.size).toBe(1);
    expect(part!.rows[0]!.products[0]).toMatchObject({ m: 7 * 5 * 6, n: 3, k: 4 });
  });

  it("goes through the outer axes one by one, and through no more matrices than workgroups can be", () => {
    // Transposed, the three matrices of the last axis cannot be rows of one.
    expect(planMatmul([2, 1, 3, 6, 5], [4, 1, 6, 2], { ...plain, transposeA: true }, free)).toHaveLength(8);
    expect(planMatmul([2, 1, 3, 5, 6], [4, 1, 6, 2], plain, free)).toHaveLength(2);
    const many = Math.floor(MAX_WORKGROUPS / MAX_SPLITS);
    const parts = planMatmul([2 * many + 1, 1, 2], [2 * many + 1, 2, 1], plain, free);
    expect(parts.map(({ batch }) => batch.size)).toEqual([many, many, 1]);
  });

  it("is empty for an empty result, and one product for an empty sum", () => {
    expect(planMatmul([0, 4], [4, 3], plain, free)).toEqual([]);
    expect(planMatmul([2, 0], [0, 3], plain, free)[0]!.rows[0]!.products).toHaveLength(1);
  });
});
