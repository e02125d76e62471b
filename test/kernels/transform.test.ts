// Operations that move elements, against their definitions element by element; their gradients by finite differences.
import { describe, expect, it, vi } from "vitest";
import { type GradcheckOptions, gradcheck } from "../../src/autograd/gradcheck.js";
import {
  concat,
  expandDims,
  flip,
  pad,
  reshape,
  slice,
  squeeze,
  stack,
  transpose,
} from "../../src/autograd/ops/transform.js";
import type { Device } from "../../src/tensor/device.js";
import type { DType } from "../../src/tensor/dtype.js";
import { ShapeError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { type Shape, sizeOf, stridesOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

/** Every position of a shape, row-major. */
function positions(shape: Shape): number[][] {
  return shape.reduce<number[][]>((all, n) => all.flatMap((p) => Array.from({ length: n }, (_, i) => [...p, i])), [[]]);
}

const random = new RandomStream(3, "transform");
const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)]!;
/** Sizes with whole vec4s, rests, ones; not more than a few thousand elements. */
function randomShape(rank = 1 + random.integer(5)): number[] {
  const shape: number[] = [];
  while (shape.length < rank) {
    const n = pick([1, 2, 3, 4, 5, 7, 8, 12, 16, 20, 33, 64, 130]);
    if (sizeOf(shape) * n <= 6000) shape.push(n);
  }
  return shape;
}

/** A random tensor's shape and an operation with, for each output position, the element it comes from (or a number). */
interface Case {
  readonly name: string;
  readonly shapes: readonly number[][];
  readonly apply: (...x: Tensor[]) => Tensor;
  readonly shape: number[];
  /** [input, position] or the value itself. */
  readonly source: (p: number[]) => [number, number[]] | number;
}

const makers: Record<string, () => Case> = {
  transpose() {
    const x = randomShape();
    const axes = x.map((_, k) => k);
    for (let k = axes.length - 1; k > 0; k--) {
      const other = random.integer(k + 1);
      [axes[k], axes[other]] = [axes[other]!, axes[k]!];
    }
    return {
      name: `transpose [${x}] by [${axes}]`,
      shapes: [x],
      apply: (t) => transpose(t!, axes),
      shape: axes.map((axis) => x[axis]!),
      source: (p) => [0, x.map((_, axis) => p[axes.indexOf(axis)]!)],
    };
  },
  slice() {
    const x = randomShape();
    const aligned = random.integer(2) === 0;
    const begin = x.map((n) => (aligned ? Math.floor(random.integer(n + 1) / 4) * 4 : random.integer(n + 1)));
    const size = x.map((n, k) => (pick([true, false]) ? n - begin[k]! : random.integer(n - begin[k]! + 1)));
    return {
      name: `slice [${x}] from [${begin}] size [${size}]`,
      shapes: [x],
      apply: (t) => slice(t!, begin, size),
      shape: size,
      source: (p) => [0, p.map((i, k) => i + begin[k]!)],
    };
  },
  pad() {
    const x = randomShape(1 + random.integer(4));
    const paddings = x.map(() => [pick([0, 0, 1, 4]), pick([0, 2, 4])]);
    return {
      name: `pad [${x}] by ${JSON.stringify(paddings)}`,
      shapes: [x],
      apply: (t) => pad(t!, paddings, 7),
      shape: x.map((n, k) => n + paddings[k]![0]! + paddings[k]![1]!),
      source: (p) => {
        const q = p.map((i, k) => i - paddings[k]![0]!);
        return q.every((i, k) => i >= 0 && i < x[k]!) ? [0, q] : 7;
      },
    };
  },
  flip() {
    const x = randomShape();
    const axes = x.flatMap((_, k) => (pick([true, false]) ? [k] : []));
    return {
      name: `flip [${x}] along [${axes}]`,
      shapes: [x],
      apply: (t) => flip(t!, axes),
      shape: x,
      source: (p) => [0, p.map((i, k) => (axes.includes(k) ? x[k]! - 1 - i : i))],
    };
  },
  concat() {
    const x = randomShape(1 + random.integer(4));
    const axis = random.integer(x.length);
    const shapes = Array.from({ length: 1 + random.integer(4) }, () => x.with(axis, pick([0, 1, 3, 4, 8])));
    const starts = shapes.map((_, k) => shapes.slice(0, k).reduce((sum, s) => sum + s[axis]!, 0));
    return {
      name: `concat ${JSON.stringify(shapes)} along ${axis}`,
      shapes,
      apply: (...list) => concat(list, axis - x.length),
      shape: x.with(
        axis,
        shapes.reduce((sum, s) => sum + s[axis]!, 0),
      ),
      source: (p) => {
        const k = starts.findLastIndex((start, i) => p[axis]! >= start && shapes[i]![axis]! > 0);
        return [k, p.with(axis, p[axis]! - starts[k]!)];
      },
    };
  },
  stack() {
    const x = randomShape(random.integer(4));
    const axis = random.integer(x.length + 1);
    const count = 1 + random.integer(4);
    return {
      name: `stack ${count} of [${x}] along ${axis}`,
      shapes: Array.from({ length: count }, () => x),
      apply: (...list) => stack(list, axis),
      shape: x.toSpliced(axis, 0, count),
      source: (p) => [p[axis]!, p.toSpliced(axis, 1)],
    };
  },
};

const cases = Object.values(makers).flatMap((make) => Array.from({ length: 30 }, make));

/** Elements are numbered through, input after input. */
function expectedOf({ shapes, shape, source }: Case): number[] {
  const bases = shapes.map((_, k) => 100 + shapes.slice(0, k).reduce((sum, s) => sum + sizeOf(s), 0));
  const strides = shapes.map((s) => stridesOf(s));
  return positions(shape).map((p) => {
    const from = source(p);
    if (typeof from === "number") return from;
    const [input, q] = from;
    return bases[input]! + q.reduce((sum, i, k) => sum + i * strides[input]![k]!, 0);
  });
}

function run(device: Device, { shapes, apply }: Case, dtype: DType): Tensor {
  return scope(() => {
    let next = 100;
    const inputs = shapes.map((shape) =>
      tensor(
        device,
        Float64Array.from({ length: sizeOf(shape) }, () => next++),
        { shape, dtype },
      ),
    );
    return apply(...inputs);
  });
}

async function check(device: Device): Promise<void> {
  for (const [k, c] of cases.entries()) {
    const y = run(device, c, (["f32", "i32", "u32"] as const)[k % 3]!);
    expect(y.shape, c.name).toEqual(c.shape);
    expect(Array.from(await y.data()), c.name).toEqual(expectedOf(c));
    y.dispose();
  }
}

const numbers = (shape: number[]) => ({ shape, values: Array.from({ length: sizeOf(shape) }, () => random.normal()) });

/** Gradients of a few small cases of every operation. */
async function checkGradients(options: GradcheckOptions): Promise<void> {
  for (const name of Object.keys(makers)) {
    let compared = 0;
    for (let k = 0; k < 40 && compared < 200; k++) {
      const c = makers[name]!();
      if (c.shapes.reduce((sum, s) => sum + sizeOf(s), 0) > 150) continue;
      compared += (await gradcheck((...x) => c.apply(...x), c.shapes.map(numbers), options)).compared;
    }
    expect(compared, name).toBeGreaterThan(100);
  }
  await gradcheck((x) => reshape(x, [-1, 4]), [numbers([2, 2, 3])], options);
  await gradcheck((x) => squeeze(expandDims(x, 1)), [numbers([2, 1, 3])], options);
}

it("the reference has the gradients of finite differences", () => checkGradients({}));

it("the reference moves elements where the definitions say", () => check(cpu));

describeProfiles((device) => {
  it("moves elements where the definitions say", () => check(device()));

  it("does so in windows of tensors larger than a binding", () => check(withSmallBindings(device(), 512)));

  it("has the reference's gradients", () => checkGradients({ against: device() }));

  it("keeps every bit", async () => {
    const words = Uint32Array.from([0x7fc00001, 0xffffffff, 0x80000000, 1, 0x7f800000, 12345]);
    const x = tensor(device(), words, { shape: [2, 3] });
    expect(Array.from(await transpose(x).data())).toEqual([0, 3, 1, 4, 2, 5].map((i) => words[i]));
  });

  it("compiles one program for all sizes of a kind", async () => {
    const transposed = async (m: number, n: number) => {
      await transpose(tensor(device(), new Float32Array(m * n), { shape: [m, n] })).data();
    };
    await transposed(8, 12);
    const compile = vi.spyOn(device().gpu, "createShaderModule");
    await transposed(64, 4);
    await transposed(20, 100);
    expect(compile).not.toHaveBeenCalled();
    compile.mockRestore();
  });
});

describe("bad input", () => {
  const x = tensor(cpu, [1, 2, 3, 4, 5, 6], { shape: [2, 3] });
  it.each([
    [() => reshape(x, [4, -1]), "reshape: the new shape must have the 6 elements of [2, 3], got [4, -1]"],
    [() => reshape(x, [-1, -1]), "one size may be -1"],
    [() => reshape(x, [5]), "got [5]"],
    [() => transpose(x, [0, 0]), "transpose: axes must name every axis of [2, 3] once, got [0,0]"],
    [() => transpose(x, [0]), "got [0]"],
    [() => slice(x, [0, 2], [2, 2]), "slice: begin and size must lie within [2, 3], got begin [0,2] and size [2,2]"],
    [() => slice(x, [0], [2]), "begin [0] and size [2]"],
    [() => slice(x, [0, 4], [1, -1]), "slice: begin and size must lie within"],
    [() => pad(x, [[0, 0]]), "pad: paddings must be one pair [before, after]"],
    [
      () =>
        pad(x, [
          [0, -1],
          [0, 0],
        ]),
      "got [[0,-1],[0,0]]",
    ],
    [() => flip(x, 2), "flip: axis must be an integer in [-2, 1]"],
    [() => squeeze(x, 0), "squeeze: axes must have size 1, got [0] of [2, 3]"],
    [() => concat([], 0), "concat: needs at least one tensor, got none"],
    [() => concat([x, transpose(x)], 0), "got f32 [2, 3] and f32 [3, 2]"],
    [() => stack([x, transpose(x)]), "stack: tensors must have one shape, got [2, 3] and [3, 2]"],
  ])("%s", (make, message) => {
    expect(make).toThrow(ShapeError);
    expect(make).toThrow(message);
  });
});
