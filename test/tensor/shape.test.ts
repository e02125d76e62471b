// Laws of the shape algebra, on random shapes.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  broadcastAxes,
  broadcastShapes,
  broadcastStrides,
  checkShape,
  normalizeAxes,
  normalizeAxis,
  type Shape,
  sameShape,
  sizeOf,
  stridesOf,
} from "../../src/tensor/shape.js";

const shapes = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 5 });

/** A shape and one that broadcasts to it: axes set to 1, leading ones dropped. */
const stretched = shapes.chain((to) =>
  fc
    .tuple(fc.constant(to), fc.integer({ min: 0, max: to.length }), fc.array(fc.boolean(), { minLength: 5 }))
    .map(([shape, drop, ones]): [Shape, Shape] => [shape.slice(drop).map((n, i) => (ones[i] ? 1 : n)), shape]),
);

/** Index along each axis of element `index`. */
function position(index: number, shape: Shape): number[] {
  return stridesOf(shape).map((stride, axis) => Math.floor(index / stride) % shape[axis]!);
}

describe("sizes and strides", () => {
  it("strides enumerate the elements in order", () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const strides = stridesOf(shape);
        for (let i = 0; i < sizeOf(shape); i++) {
          expect(position(i, shape).reduce((sum, p, axis) => sum + p * strides[axis]!, 0)).toBe(i);
        }
      }),
    );
  });

  it("a scalar has one element, an axis of 0 none", () => {
    expect(sizeOf([])).toBe(1);
    expect(sizeOf([3, 0, 2])).toBe(0);
    expect(stridesOf([])).toEqual([]);
    expect(sameShape([1, 2], [1, 2])).toBe(true);
    expect(sameShape([1, 2], [1, 2, 1])).toBe(false);
  });

  it("refuses what is no size", () => {
    for (const shape of [[-1], [1.5], [Number.NaN], [2 ** 53]]) {
      expect(() => checkShape("op", shape)).toThrow("op: sizes must be non-negative integers, got [");
    }
  });
});

describe("broadcasting", () => {
  it("gives the shape that both stretch to, in either order", () => {
    fc.assert(
      fc.property(stretched, ([from, to]) => {
        expect(broadcastShapes("op", from, to)).toEqual(to);
        expect(broadcastShapes("op", to, from)).toEqual(to);
      }),
    );
  });

  it("is associative, and fails in either grouping or in neither", () => {
    const result = (make: () => number[]) => {
      try {
        return make();
      } catch {
        return "error";
      }
    };
    const few = fc.array(fc.constantFrom(1, 2, 3), { maxLength: 3 });
    fc.assert(
      fc.property(few, few, few, (a, b, c) => {
        const left = result(() => broadcastShapes("op", broadcastShapes("op", a, b), c));
        const right = result(() => broadcastShapes("op", a, broadcastShapes("op", b, c)));
        expect(left).toEqual(right);
      }),
    );
  });

  it("strides read the element that the stretched axes repeat", () => {
    fc.assert(
      fc.property(stretched, ([from, to]) => {
        const strides = broadcastStrides(from, to);
        const own = stridesOf(from);
        for (let i = 0; i < sizeOf(to); i++) {
          const at = position(i, to);
          const inner = at.slice(to.length - from.length).map((p, axis) => (from[axis] === 1 ? 0 : p));
          expect(at.reduce((sum, p, axis) => sum + p * strides[axis]!, 0)).toBe(
            inner.reduce((sum, p, axis) => sum + p * own[axis]!, 0),
          );
        }
      }),
    );
  });

  it("the axes to sum give back the operand's size", () => {
    fc.assert(
      fc.property(stretched, ([from, to]) => {
        const axes = broadcastAxes(from, to);
        const summed = to.map((n, axis) => (axes.includes(axis) ? 1 : n));
        expect(sizeOf(summed)).toBe(sizeOf(from));
      }),
    );
  });

  it("names both shapes, the axis and the sizes that differ", () => {
    expect(() => broadcastShapes("add", [4, 3], [2, 5, 3])).toThrow(
      "add: shapes do not broadcast, [4, 3] and [2, 5, 3] differ at axis -2 (4 and 5); sizes must be equal or 1",
    );
  });
});

describe("axes", () => {
  it("negative axes count from the end", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.nat(5), (rank, n) => {
        const axis = n % rank;
        expect(normalizeAxis("op", axis, rank)).toBe(axis);
        expect(normalizeAxis("op", axis - rank, rank)).toBe(axis);
      }),
    );
  });

  it("are sorted, distinct, and all of them by default", () => {
    expect(normalizeAxes("op", undefined, 3)).toEqual([0, 1, 2]);
    expect(normalizeAxes("op", [-1, 0], 3)).toEqual([0, 2]);
    expect(normalizeAxes("op", [], 3)).toEqual([]);
    expect(normalizeAxes("op", -2, 3)).toEqual([1]);
  });

  it("refuses axes out of range or twice", () => {
    expect(() => normalizeAxis("sum", 3, 3)).toThrow("sum: axis must be an integer in [-3, 2] for rank 3, got 3");
    expect(() => normalizeAxis("sum", 0.5, 3)).toThrow("got 0.5");
    expect(() => normalizeAxes("sum", [0, -3], 3)).toThrow("sum: axes must be distinct, got [0, 0]");
  });
});
