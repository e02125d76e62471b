// Spaces, seeds, searches and early stopping, each by itself.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { grid, type PastTrial, random, type Search, sobol } from "../../src/sweeps/search.js";
import { trialSeed } from "../../src/sweeps/seeds.js";
import { sobolPoint, sobolShift } from "../../src/sweeps/sobol.js";
import {
  checkSpace,
  choice,
  configAt,
  int,
  isInSpace,
  logUniform,
  type Parameter,
  positionOf,
  type Space,
  uniform,
  valueAt,
} from "../../src/sweeps/space.js";
import { asha, type Loss, median } from "../../src/sweeps/stopping.js";
import { tpe } from "../../src/sweeps/tpe.js";

const space: Space = {
  optimizer: choice(["sgd", "adam", "none"]),
  learningRate: logUniform(1e-4, 1, { when: { optimizer: ["sgd", "adam"] } }),
  momentum: uniform(0, 0.99, { when: { optimizer: "sgd" } }),
  units: int(8, 512, { log: true }),
  layers: int(1, 4),
};

const parameter: fc.Arbitrary<Parameter> = fc.oneof(
  fc
    .uniqueArray(fc.jsonValue(), { minLength: 1, maxLength: 6, selector: (value) => JSON.stringify(value) })
    .map((values) => choice(values.map((value) => JSON.parse(JSON.stringify(value))))),
  fc
    .tuple(fc.double({ min: -1e6, max: 1e6, noNaN: true }), fc.double({ min: 1e-6, max: 1e6, noNaN: true }))
    .map(([from, width]) => uniform(from, from + width)),
  fc
    .tuple(fc.double({ min: 1e-9, max: 1e6, noNaN: true }), fc.double({ min: 1.01, max: 1e6, noNaN: true }))
    .map(([from, factor]) => logUniform(from, from * factor)),
  fc.tuple(fc.integer({ min: -1000, max: 1000 }), fc.nat(1000)).map(([from, more]) => int(from, from + more)),
  fc
    .tuple(fc.integer({ min: 1, max: 1000 }), fc.nat(1000))
    .map(([from, more]) => int(from, from + more, { log: true })),
);

describe("spaces", () => {
  it("give values within their bounds at any position, ends included", () => {
    fc.assert(
      fc.property(
        parameter,
        fc.oneof(fc.constantFrom(0, 1, 1 - 2 ** -32), fc.double({ min: 0, max: 1, noNaN: true })),
        (given, position) => {
          expect(isInSpace({ given }, { given: valueAt(given, position) })).toBe(true);
        },
      ),
    );
  });

  it("find the position of a value", () => {
    fc.assert(
      fc.property(parameter, fc.double({ min: 0, max: 1, noNaN: true }), (given, position) => {
        const value = valueAt(given, position);
        const again = valueAt(given, positionOf(given, value));
        if (given.kind === "choice" || given.kind === "int") expect(again).toEqual(value);
        else
          expect(Math.abs((again as number) - (value as number))).toBeLessThanOrEqual(
            1e-9 * Math.max(Math.abs(given.from), Math.abs(given.to)),
          );
      }),
    );
  });

  it("draw whole numbers and values equally often, the ends included", () => {
    const counts = new Map<unknown, number>();
    for (let i = 0; i < 4000; i++) {
      const value = valueAt(int(1, 4), (i + 0.5) / 4000);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    expect([...counts]).toEqual([1, 2, 3, 4].map((value) => [value, 1000]));
  });

  it("leave out what is not there under a condition", () => {
    expect(configAt(space, [0.99, 0.5, 0.5, 0, 0])).toEqual({ optimizer: "none", units: 8, layers: 1 });
    expect(Object.keys(configAt(space, [0.4, 0.5, 0.5, 0, 0]))).toEqual([
      "optimizer",
      "learningRate",
      "units",
      "layers",
    ]);
    expect(Object.keys(configAt(space, [0, 0.5, 0.5, 0, 0]))).toHaveLength(5);
    expect(isInSpace(space, { optimizer: "adam", learningRate: 0.1, momentum: 0.5, units: 8, layers: 1 })).toBe(false);
  });

  it.each([
    [() => choice([]), "choice: values: must be one value or more, each once, got []"],
    [() => choice([1, 1]), "each once"],
    [() => choice([Number.NaN]), "a value that JSON has, got NaN"],
    [() => uniform(1, 1), "uniform: the range: must be from a smaller number to a larger one, got 1 to 1"],
    [() => logUniform(0, 1), "from a smaller number above 0 to a larger one, got 0 to 1"],
    [() => int(0.5, 1), "a whole number"],
    [() => int(0, 4, { log: true }), "above 0"],
    [() => checkSpace("sweep", {}), "from 1 to 64 parameters, got 0"],
    [
      () => checkSpace("sweep", { a: uniform(0, 1, { when: { b: 1 } }), b: choice([1]) }),
      "space.a.when must name parameters that stand before it",
    ],
    [() => checkSpace("sweep", { a: { kind: "normal" } }), "kind of space.a must be one of"],
    [() => checkSpace("sweep", { a: { kind: "uniform", from: 0, to: 1, too: 1 } }), "unknown option too"],
    [() => checkSpace("sweep", { a: 3 }), "space.a must be a parameter"],
  ])("refuse what is none, %#", (make, message) => {
    expect(make).toThrow(message);
  });
});

describe("seeds", () => {
  it("differ by trial, by sweep and by purpose, and never change", () => {
    const all = Array.from({ length: 1000 }, (_, number) => [
      trialSeed(0, number),
      trialSeed(1, number),
      trialSeed(0, number, "tpe"),
    ]).flat();
    expect(new Set(all).size).toBe(3000);
    expect(all.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)).toBe(true);
    // A sweep that goes on with a later version draws on.
    expect([trialSeed(0, 0), trialSeed(0, 1), trialSeed(7, 3)]).toEqual([3488444140, 1888313695, 3340298600]);
  });
});

describe("Sobol's sequence", () => {
  const golden = JSON.parse(readFileSync("test/sweeps/sobol.json", "utf8")) as { points: Record<string, number[]> };

  it("is SciPy's", () => {
    for (const [index, bits] of Object.entries(golden.points)) {
      expect(
        sobolPoint(Number(index), 64).map((x) => x * 2 ** 32),
        `point ${index}`,
      ).toEqual(bits);
    }
  });

  it("has one point in each of 256 equal parts of every axis, shifted by any seed", () => {
    for (const seed of [0, 1, 123]) {
      const shift = sobolShift(seed, 64);
      const points = Array.from({ length: 256 }, (_, i) => sobolPoint(i, 64, shift));
      for (let axis = 0; axis < 64; axis++) {
        expect(new Set(points.map((point) => Math.floor(256 * point[axis]!))).size).toBe(256);
      }
    }
    expect(sobolPoint(0, 3, sobolShift(0, 3))).not.toEqual(sobolPoint(0, 3, sobolShift(1, 3)));
  });
});

describe("grids", () => {
  const configs = (search: Search, of: Space) =>
    Array.from({ length: search.count(of)! }, (_, number) => search.propose({ space: of, seed: 0, number, past: [] }));

  it("have every combination once, the last changing fastest", () => {
    expect(configs(grid({ points: 3 }), { a: choice(["x", "y"]), b: logUniform(0.01, 1), c: int(1, 2) })).toEqual(
      ["x", "y"].flatMap((a) => [0.01, 0.1, 1].flatMap((b) => [1, 2].map((c) => ({ a, b: expect.closeTo(b, 12), c })))),
    );
  });

  it("have no combination twice where a parameter is not there", () => {
    const all = configs(grid({ points: { learningRate: 2, momentum: 2, units: 1, layers: 1 } }), space);
    expect(all).toHaveLength(2 * 2 + 2 + 1);
    expect(new Set(all.map((config) => JSON.stringify(config))).size).toBe(all.length);
    expect(all.every((config) => isInSpace(space, config))).toBe(true);
  });

  it("refuse points of what is not there, and too many", () => {
    expect(() => configs(grid({ points: { rate: 2 } }), space)).toThrow(
      "grid: points must name parameters of the space, given rate",
    );
    const wide = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`p${i}`, uniform(0, 1)]));
    expect(() => grid().count(wide)).toThrow("grid: may have 1,000,000 combinations");
    expect(() => grid({ points: 0 })).toThrow("grid: points must be");
  });
});

/** Trials of a search one after the other; gives their losses. */
function searched(
  search: Search,
  of: Space,
  // biome-ignore lint/suspicious/noExplicitAny: a space of its own each.
  loss: (config: Record<string, any>) => number,
  trials: number,
  seed: number,
) {
  const past: PastTrial[] = [];
  for (let number = 0; number < trials; number++) {
    const config = search.propose({ space: of, seed, number, past });
    expect(isInSpace(of, config)).toBe(true);
    past.push({ number, config, loss: loss(config), status: "finished", series: {} });
  }
  return past;
}
const least = (past: readonly PastTrial[]) => Math.min(...past.map(({ loss }) => loss));
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe("searches", () => {
  it.each([random(), sobol(), tpe()])("propose what the space has, the same again, %#", (search) => {
    const loss = ({ units }: Record<string, number>) => (units! > 100 ? Number.NaN : units!);
    const first = searched(search, space, loss, 40, 5);
    expect(searched(search, space, loss, 40, 5)).toEqual(first);
    expect(searched(search, space, loss, 40, 6)).not.toEqual(first);
  });

  const seeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  it.each<[string, Space, (config: Record<string, number>) => number]>([
    [
      "a sphere",
      { x: uniform(-5, 5), y: uniform(-5, 5), z: uniform(-5, 5) },
      ({ x, y, z }) => (x! - 1) ** 2 + (y! + 2) ** 2 + z! ** 2,
    ],
    [
      "Branin's function",
      { x: uniform(-5, 10), y: uniform(0, 15) },
      ({ x, y }) =>
        (y! - (5.1 * x! ** 2) / (4 * Math.PI ** 2) + (5 * x!) / Math.PI - 6) ** 2 +
        10 * (1 - 1 / (8 * Math.PI)) * Math.cos(x!) +
        10 -
        0.397887,
    ],
    [
      "a learning rate, units and a choice",
      { rate: logUniform(1e-6, 1), units: int(1, 1000, { log: true }), kind: choice([0, 1, 2, 3, 4]) },
      ({ rate, units, kind }) => Math.log10(rate! / 1e-3) ** 2 + Math.log2(units! / 64) ** 2 + (kind === 3 ? 0 : 1),
    ],
  ])("by a model come nearer than random ones to the least of %s", (_, of, loss) => {
    const of100 = (search: Search) => mean(seeds.map((seed) => Math.log(least(searched(search, of, loss, 100, seed)))));
    // By the geometric mean over ten seeds, less than half as far.
    expect(of100(tpe()) - of100(random())).toBeLessThan(Math.log(0.5));
  });

  it("by a model choose a condition by what it leads to", () => {
    const tree: Space = {
      kind: choice(["a", "b"]),
      x: uniform(0, 1, { when: { kind: "a" } }),
      y: uniform(0, 1, { when: { kind: "b" } }),
    };
    const past = searched(tpe(), tree, ({ kind, x, y }) => (kind === "a" ? 1 + x : Math.abs(y - 0.3)), 80, 1);
    const late = past.slice(40).filter(({ config }) => config["kind"] === "b");
    expect(late.length).toBeGreaterThan(28);
    expect(least(past)).toBeLessThan(0.02);
  });

  it("by a model take trials that failed for the worst", () => {
    const past = searched(tpe(), { x: uniform(0, 1) }, ({ x }) => (x > 0.5 ? Number.NaN : x), 80, 3);
    expect(past.slice(40).filter(({ loss }) => Number.isNaN(loss)).length).toBeLessThan(8);
  });
});

describe("early stopping", () => {
  const flat = (loss: number, steps: number): Loss[] => Array.from({ length: steps }, (_, step) => [step + 1, loss]);

  it("by the median ends what is worse than half of the others' running means, once enough ran to their end", () => {
    const past = [1, 2, 3, 4, 5].map((loss) => flat(loss, 10));
    const finished = past.map(() => true);
    const asked = (loss: number, steps: number, of = past) =>
      median({ startup: 5, minSteps: 2 }).decide({
        own: flat(loss, steps),
        past: of,
        finished: finished.slice(0, of.length),
      });
    expect(asked(3.1, 2)).toBe("stop");
    expect(asked(3, 2)).toBe("continue");
    expect(asked(9, 1)).toBe("continue");
    expect(asked(9, 2, past.slice(1))).toBe("continue");
    expect(asked(Number.NaN, 3)).toBe("stop");
    // The best so far counts.
    expect(
      median().decide({
        own: [
          [1, 0.5],
          [2, 99],
        ],
        past,
        finished,
      }),
    ).toBe("continue");
  });

  it("by halving lets the best third go on at steps 1, 3, 9, and asks at no others", () => {
    const past = [1, 2, 3, 4, 5].map((loss) => flat(loss, 9));
    const asked = (own: Loss[], of: readonly Loss[][] = past) =>
      asha().decide({ own, past: of, finished: of.map(() => true) });
    expect(asked(flat(1.5, 1))).toBe("continue");
    expect(asked(flat(2.5, 1))).toBe("stop");
    expect(asked(flat(2.5, 2))).toBe("continue");
    expect(asked(flat(2.5, 3))).toBe("stop");
    expect(asked(flat(0, 9))).toBe("continue");
    // Too few came as far.
    expect(asked(flat(9, 1), past.slice(0, 1))).toBe("continue");
    expect(asked([[1, Number.NaN]])).toBe("stop");
    // A report that skips a step is compared at the rung that it passed.
    expect(
      asked([
        [2, 0],
        [5, 4],
      ]),
    ).toBe("stop");
  });

  it("refuses what is out of range", () => {
    expect(() => asha({ factor: 1 })).toThrow("asha: factor must be a finite number from 2 to 100, got 1");
    expect(() => median({ startup: 0 })).toThrow("median: startup");
  });
});
