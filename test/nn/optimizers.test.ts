// Optimizers against figures from NumPy in float64: four steps from w = [1, -2, 0.5] with g = w^2 k / 10 + [0.1, -0.2,
// 0.3] in step k. Momentum: v = m v - r g, w += v (Nesterov: m v - r g). Adam: m = b1 m + (1 - b1) g, v = b2 v + (1 -
// b2) g^2, w -= r sqrt(1 - b2^k) / (1 - b1^k) m / (sqrt(v) + 1e-7). Weight decay first: w -= r decay w.
// And against Keras's: training.json, which training.py writes.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { add, mul, sub } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import * as optim from "../../src/nn/optim.js";
import { adam, adamW, lion, type Optimizer, type OptimizerOptions, sgd } from "../../src/nn/optimizers.js";
import { constantRate, cosineDecay, exponentialDecay, stepDecay } from "../../src/nn/schedules.js";
import type { Device } from "../../src/tensor/device.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose } from "../support.js";
import { describeDevices } from "./small.js";

const cases: [name: string, make: () => Optimizer, expected: number[]][] = [
  ["sgd", () => sgd({ learningRate: 0.1 }), [0.8702799881396929, -2.3637253109126375, 0.361180579097938]],
  [
    "momentum",
    () => sgd({ learningRate: 0.1, momentum: 0.9 }),
    [0.7442841411013907, -2.6375897958077794, 0.1949020850501459],
  ],
  [
    "nesterov",
    () => sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true }),
    [0.6619326508498785, -3.0549352754364953, 0.09829148287830372],
  ],
  [
    "weight decay",
    () => sgd({ learningRate: 0.1, momentum: 0.9, weightDecay: 0.1 }),
    [0.7120841066441026, -2.528261401896482, 0.17935505524300746],
  ],
  ["adam", () => adam({ learningRate: 0.01 }), [0.9602848557742115, -2.0376076339412412, 0.45990299516469596]],
  ["adamW", () => adamW({ learningRate: 0.01 }), [0.9601270400793157, -2.0372858365503426, 0.459825418405937]],
];

describeDevices((device, kind) => {
  test.each(cases)("%s", async (_, make, expected) => {
    const optimizer = make();
    const w = tensor(device(), [1, -2, 0.5]);
    for (let k = 1; k <= 4; k++) {
      const values = Array.from(await w.data(), (x, i) => (x * x * k) / 10 + [0.1, -0.2, 0.3][i]!);
      if (k % 2 === 0) {
        const gradient = tensor(device(), values);
        optimizer.step([w], [gradient]);
        expect(gradient.disposed).toBe(false);
        gradient.dispose();
      } else {
        w.grad = tensor(device(), values);
        optimizer.step([w]);
        expect(w.grad).toBeNull();
      }
    }
    expect(optimizer.iterations).toBe(4);
    const found = await w.data();
    for (const [i, value] of expected.entries()) expect(found[i]).toBeCloseTo(value, kind === "cpu" ? 12 : 6);
    w.dispose();
    optimizer.dispose();
  });

  test("averages of the parameters, by hand; swapped, and back", async () => {
    for (const make of [sgd, adam]) {
      const [plain, averaging] = [make({ learningRate: 0.1 }), make({ learningRate: 0.1, emaMomentum: 0.75 })];
      const [v, w] = [tensor(device(), [1, -2, 0.5]), tensor(device(), [1, -2, 0.5])];
      let expected: number[] = [];
      for (let k = 1; k <= 4; k++) {
        const g = tensor(device(), [0.1 * k, 1, -k]);
        plain.step([v], [g]);
        averaging.step([w], [g]);
        g.dispose();
        const now = await v.data();
        expected = Array.from(now, (x, i) => (k === 1 ? x : 0.75 * expected[i]! + 0.25 * x));
      }
      const last = await v.data();
      expect(await w.data()).toEqual(last);
      averaging.swapAverages([w]);
      for (const [i, value] of (await w.data()).entries()) expect(value).toBeCloseTo(expected[i]!, 6);
      averaging.swapAverages([w]);
      expect(await w.data()).toEqual(last);
      // A parameter that is given twice is one parameter.
      averaging.swapAverages([w, w]);
      for (const [i, value] of (await w.data()).entries()) expect(value).toBeCloseTo(expected[i]!, 6);
      for (const t of [v, w]) t.dispose();
      for (const optimizer of [plain, averaging]) optimizer.dispose();
    }
  });

  test("says where there is no average", () => {
    const [w, other] = [tensor(device(), [1, 2]), tensor(device(), [[1, 2]])];
    const g = tensor(device(), [1, 1]);
    expect(() => sgd({ emaMomentum: 1 })).toThrow("emaMomentum must be a finite number in [0, 1), got 1");
    expect(() => sgd().swapAverages([w])).toThrow("make it with emaMomentum, such as 0.99");
    const averaging = sgd({ emaMomentum: 0.9 });
    expect(averaging.keepsAverages).toBe(true);
    expect(() => averaging.swapAverages([w])).toThrow("no step has changed a parameter of shape [2]");
    averaging.step([w], [g]);
    expect(() => averaging.swapAverages([w, other])).toThrow("no step has changed a parameter of shape [1, 2]");
    averaging.dispose();
    for (const t of [w, other, g]) t.dispose();
  });

  test("frees its slots", () => {
    const before = device().memory().liveCount;
    const optimizer = adam();
    const w = tensor(device(), [1, 2]);
    const g = tensor(device(), [3, 4]);
    optimizer.step([w], [g]);
    expect(device().memory().liveCount).toBe(before + 4);
    for (const t of [w, g]) t.dispose();
    optimizer.dispose();
    expect(device().memory().liveCount).toBe(before);
  });

  test("changes many parameters as one by one", { timeout: 60_000 }, async () => {
    const random = new RandomStream(3, "optimizer");
    const shapes = [[70, 3], [1], [5, 5], [64], [129], [2, 2, 3], [9], [300], [7, 9], [4], [33], [16, 16]];
    const values = shapes.map((shape) => Float32Array.from({ length: sizeOf(shape) }, () => random.normal()));
    const train = async (options: { recorded: boolean; together: boolean }) => {
      const parameters = shapes.map((shape, i) => tensor(device(), values[i]!, { shape }));
      const optimizers = options.together
        ? [adam({ emaMomentum: 0.9 })]
        : parameters.map(() => adam({ emaMomentum: 0.9 }));
      const all = parameters.map((_, k) => k);
      let trained = all;
      const plan = new StepPlan(
        device(),
        (x) => {
          const gradients = parameters.map((parameter) => mul(sub(parameter, x!), x!));
          const step = (optimizer: Optimizer, own: readonly number[]) =>
            optimizer.step(
              own.map((k) => parameters[k]!),
              own.map((k) => gradients[k]!),
            );
          if (options.together) step(optimizers[0]!, trained);
          else for (const k of trained) step(optimizers[k]!, [k]);
          return [sum(gradients[0]!)];
        },
        { eager: !options.recorded, variant: () => String(trained) },
      );
      const dispatches: number[] = [];
      for (let step = 0; step < 12; step++) {
        // Not all are trained for some steps, and the host gives one new values.
        if (step === 4) trained = all.filter((k) => k !== 3 && k !== 11);
        if (step === 7) trained = all;
        if (step === 9) parameters[5]!.assign(values[5]!);
        const before = device().counters.byKernel.get("adam") ?? 0;
        await plan.run({ values: Float32Array.of(0.5 + step / 10), shape: [1] })[0]!.data();
        // Adam counts its steps, those too in which a parameter is not trained.
        if (!options.together) for (const k of all) if (!trained.includes(k)) optimizers[k]!.iterations++;
        dispatches.push((device().counters.byKernel.get("adam") ?? 0) - before);
      }
      const found: number[][] = [];
      for (const parameter of parameters) found.push(Array.from(await parameter.data()));
      plan.dispose();
      for (const each of [...parameters, ...optimizers]) each.dispose();
      return { found, dispatches };
    };
    const { liveCount } = device().memory();
    const alone = await train({ recorded: false, together: false });
    const eager = await train({ recorded: false, together: true });
    const recorded = await train({ recorded: true, together: true });
    expect(eager.found).toEqual(alone.found);
    expect(recorded.found).toEqual(alone.found);
    expect(device().memory().liveCount).toBe(liveCount);
    if (kind === "cpu") return;
    // They lie side by side, but for one that the host has moved.
    expect(recorded.dispatches.slice(0, 2)).toEqual([1, 1]);
    expect(recorded.dispatches.slice(4, 7)).toEqual([expect.any(Number), 1, 1]);
    expect(recorded.dispatches[11]).toBeLessThanOrEqual(2);
  });

  test("changes a parameter that is listed twice once", async () => {
    const [w, other] = [tensor(device(), [1, 2]), tensor(device(), [5])];
    w.grad = tensor(device(), [3, 4]);
    const optimizer = sgd({ learningRate: 0.5 });
    optimizer.step([w, other, w]);
    expect(Array.from(await w.data())).toEqual([-0.5, 0]);
    expect(Array.from(await other.data())).toEqual([5]);
    for (const t of [w, other]) t.dispose();
    optimizer.dispose();
  });

  test("a gradient that shares its parameter's memory is refused", async () => {
    const w = tensor(device(), [1, 2]);
    const optimizer = sgd({ learningRate: 0.5 });
    for (const gradient of [w, w.alias()]) {
      expect(() => optimizer.step([w], [gradient])).toThrow(UsageError);
      expect(() => optimizer.step([w], [gradient])).toThrow(
        "sgd: what it changes must not share memory with anything else it is given, but a tensor [2] does; pass a copy",
      );
    }
    expect([...(await w.data()), optimizer.iterations]).toEqual([1, 2, 0]);
    w.dispose();
    optimizer.dispose();
  });

  test("says what is missing", () => {
    const w = tensor(device(), [1, 2]);
    const g = tensor(device(), [1, 2, 3]);
    expect(() => sgd().step([w])).toThrow(UsageError);
    expect(() => sgd().step([w])).toThrow("no parameter has a gradient; call backward(loss) first");
    expect(() => sgd().step([w], [g])).toThrow(ShapeError);
    expect(() => sgd().step([w], [])).toThrow("one gradient for each of different parameters, got 0 for 1");
    expect(() => sgd().step([w, w], [w, w])).toThrow("got 2 for 2 (1 different)");
    w.dispose();
    g.dispose();
  });
});

test("defaults are Keras's", () => {
  expect(adam().config()).toEqual({
    name: "adam",
    schedule: { name: "constant", learningRate: 0.001 },
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    weightDecay: 0,
  });
  expect(adamW().config()["weightDecay"]).toBe(0.004);
  expect(sgd().learningRate).toBe(0.01);
  expect(() => sgd({ momentum: 1 })).toThrow("momentum must be a finite number in [0, 1), got 1");
  expect(() => adam({ learningRate: Number.NaN })).toThrow("learningRate must be a finite number from 0 or a schedule");
});

/**
 * Keras: ExponentialDecay(0.1, 10, 0.5), CosineDecay(0, 10, alpha=0.1, warmup_target=0.1, warmup_steps=4); PyTorch:
 * StepLR(10).
 */
test("schedules", () => {
  const at = (schedule: { at(step: number): number }, steps: number[]) => steps.map((step) => schedule.at(step));
  expect(at(constantRate(0.3), [0, 1000])).toEqual([0.3, 0.3]);
  expect(at(stepDecay({ learningRate: 1, everySteps: 10, factor: 0.5 }), [0, 9, 10, 25])).toEqual([1, 1, 0.5, 0.25]);
  const exponential = at(exponentialDecay({ learningRate: 0.1, decaySteps: 10, decayRate: 0.5 }), [0, 5, 20]);
  expect(exponential).toEqual([0.1, 0.1 * Math.SQRT1_2, 0.025].map((x) => expect.closeTo(x, 12)));
  const cosine = cosineDecay({ learningRate: 0.1, decaySteps: 10, finalShare: 0.1, warmupSteps: 4 });
  const expected = [0, 0.05, 0.1, 0.1 * (0.9 * 0.5 * (1 + Math.SQRT1_2) + 0.1), 0.055, 0.01, 0.01];
  expect(at(cosine, [0, 2, 4, 6.5, 9, 14, 99])).toEqual(expected.map((x) => expect.closeTo(x, 12)));
  expect(() => cosineDecay({ learningRate: 1, decaySteps: 0 })).toThrow("decaySteps must be a whole number from 1");
});

test("a rate can be set unless a schedule sets it", () => {
  const optimizer = adam();
  optimizer.learningRate = 0.5;
  expect(optimizer.learningRate).toBe(0.5);
  const scheduled = sgd({ learningRate: stepDecay({ learningRate: 1, everySteps: 1 }) });
  scheduled.iterations = 2;
  expect(scheduled.learningRate).toBeCloseTo(0.01, 12);
  expect(() => {
    scheduled.learningRate = 1;
  }).toThrow("follows the schedule stepDecay");
});

interface GoldenOptimizer {
  readonly optimizer: string;
  readonly options: OptimizerOptions;
  readonly iterations: number;
  readonly after: NestedArray[];
}
const golden = JSON.parse(readFileSync(new URL("training.json", import.meta.url), "utf8")) as {
  readonly starts: readonly NestedArray[];
  readonly offsets: readonly NestedArray[];
  readonly optimizers: readonly GoldenOptimizer[];
};
const schedules = ["constantRate", "stepDecay", "exponentialDecay", "cosineDecay"];
const makers = Object.fromEntries(Object.entries(optim).filter(([name]) => !schedules.includes(name))) as Readonly<
  Record<string, (options: OptimizerOptions) => Optimizer>
>;
const titled = golden.optimizers.map((each) => [`${each.optimizer} ${JSON.stringify(each.options)}`, each] as const);

/** Of every optimizer; Keras's are made with one of them only. */
const COMMON = ["learningRate", "emaMomentum", "clipNorm", "globalClipNorm", "clipValue", "gradientAccumulationSteps"];

test("every optimizer is compared with Keras's, with each of its options", () => {
  expect(new Set(golden.optimizers.map(({ optimizer }) => optimizer))).toEqual(new Set(Object.keys(makers)));
  const all = new Set(golden.optimizers.flatMap(({ options }) => Object.keys(options)));
  for (const name of COMMON) if (name !== "emaMomentum") expect(all, name).toContain(name);
  for (const [name, make] of Object.entries(makers)) {
    let message = "";
    try {
      make({ never: 1 } as OptimizerOptions);
    } catch (error) {
      message = (error as Error).message;
    }
    const [, known] = /options are ([\w, ]+)/.exec(message)!;
    const given = golden.optimizers.filter(({ optimizer }) => optimizer === name);
    const used = new Set(given.flatMap(({ options }) => Object.keys(options)));
    // Those that stand above are compared with NumPy.
    for (const option of ["adam", "adamW"].includes(name) ? [] : known!.split(", ")) {
      if (!COMMON.includes(option)) expect(used, `${name}: ${option}`).toContain(option);
    }
  }
});

/** The parameters after six steps, in which their gradients are w^2 k / 8 + offset. */
async function stepped(device: Device, optimizer: Optimizer, recorded: boolean): Promise<number[][]> {
  const parameters = golden.starts.map((start) => tensor(device, start));
  const offsets = golden.offsets.map((offset) => tensor(device, offset));
  const step = (k: Tensor) => {
    const gradients = parameters.map((w, i) => add(mul(mul(w, w), k), offsets[i]!));
    optimizer.step(parameters, gradients);
    return [];
  };
  const plan = new StepPlan(device, (k) => step(k!), { eager: !recorded });
  for (let k = 1; k <= 6; k++) plan.run({ values: Float32Array.of(k / 8), shape: [] });
  const after: number[][] = [];
  for (const parameter of parameters) after.push(Array.from(await parameter.data()));
  plan.dispose();
  for (const t of [...parameters, ...offsets]) t.dispose();
  return after;
}

const onEachDevice = (body: (device: () => Device, rtol: number) => void) => {
  describe("reference", () => body(() => cpu, 1e-9));
  describeProfiles((device) => body(device, 3e-6));
};

onEachDevice((device, rtol) => {
  test.each(titled)(
    "%s is Keras's, recorded and not",
    async (label, { optimizer: name, options, iterations, after }) => {
      const optimizer = makers[name]!(options);
      const found = await stepped(device(), optimizer, false);
      for (const [i, values] of after.entries()) {
        expectClose(found[i]!, (values as number[]).flat(2), { rtol, label: `${label}, parameter ${i}` });
      }
      expect([optimizer.iterations, optimizer.steps]).toEqual([iterations, 6]);
      const again = makers[name]!(options);
      expect(await stepped(device(), again, true)).toEqual(found);
      for (const each of [optimizer, again]) each.dispose();
    },
  );

  test.each(Object.keys(makers))("%s does not hide a NaN", async (name) => {
    for (const options of [{}, { clipValue: 1 }, { clipNorm: 1 }, { globalClipNorm: 1 }]) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const optimizer = makers[name]!({ ...options, gradientAccumulationSteps: 2 });
        const w = tensor(device(), [1, 2, 3]);
        for (const values of [
          [bad, 0.1, 0.1],
          [0.1, 0.1, 0.1],
          [0.1, 0.1, 0.1],
          [0.1, 0.1, 0.1],
        ]) {
          const g = tensor(device(), values);
          optimizer.step([w], [g]);
          g.dispose();
        }
        const found = await w.data();
        const limited = bad > 0 && ("clipValue" in options || name === "lion");
        // An infinite gradient is as large as the limit, or has a sign. A norm makes of it whatever it limits NaN.
        if (limited && !("clipNorm" in options || "globalClipNorm" in options)) expect(found[0]).not.toBeNaN();
        else expect(found[0], `${JSON.stringify(options)} ${bad}`).toSatisfy((x: number) => !Number.isFinite(x));
        expect(Number.isFinite(found[1]), JSON.stringify(options)).toBe(
          !("clipNorm" in options || "globalClipNorm" in options),
        );
        w.dispose();
        optimizer.dispose();
      }
    }
  });

  test("gathers gradients: nothing changes until they are due, recorded or not", async () => {
    for (const eager of [true, false]) {
      const optimizer = sgd({ learningRate: 1, gradientAccumulationSteps: 3 });
      const w = tensor(device(), [0, 0]);
      const plan = new StepPlan(
        device(),
        (g) => {
          optimizer.step([w], [g!]);
          return [];
        },
        { eager },
      );
      const seen: number[][] = [];
      for (let k = 1; k <= 7; k++) {
        plan.run({ values: Float32Array.of(3 * k, -3), shape: [2] });
        seen.push(Array.from(await w.data()));
      }
      // Means of 3, 6, 9 and of 12, 15, 18.
      expect(seen).toEqual(
        [
          [0, 0],
          [0, 0],
          [-6, 3],
          [-6, 3],
          [-6, 3],
          [-21, 6],
          [-21, 6],
        ].map((each) => each.map((x) => expect.closeTo(x, 5))),
      );
      expect([optimizer.steps, optimizer.iterations, optimizer.gathered]).toEqual([7, 2, 1]);
      plan.dispose();
      w.dispose();
      optimizer.dispose();
    }
  });

  test("limits many gradients as one by one, and together", async () => {
    const random = new RandomStream(3, "clip");
    const sizes = [1, 5000, 64, 7, 300, 4097, 2, 129, 33, 8, 1000, 16, 3, 3, 90, 70, 11, 500];
    const values = sizes.map((size) => Float32Array.from({ length: size }, () => random.normal()));
    const norm = (all: readonly Float32Array[]) =>
      Math.sqrt(all.reduce((sum, g) => sum + g.reduce((a, x) => a + x * x, 0), 0));
    for (const options of [{ clipNorm: 10 }, { globalClipNorm: 10 }, { clipNorm: 1e4 }]) {
      const optimizer = sgd({ learningRate: 1, ...options });
      const parameters = sizes.map((size) => tensor(device(), new Float32Array(size)));
      optimizer.step(
        parameters,
        values.map((g) => tensor(device(), g)),
      );
      for (const [k, parameter] of parameters.entries()) {
        const all = "globalClipNorm" in options ? norm(values) : norm([values[k]!]);
        const most = Object.values(options)[0]!;
        const expected = values[k]!.map((g) => (-g * most) / Math.max(all, most));
        expectClose(await parameter.data(), expected, { rtol: 1e-6, label: `${JSON.stringify(options)}, ${k}` });
      }
      for (const parameter of parameters) parameter.dispose();
    }
  });

  test("without elements and without gradients there is nothing to limit", async () => {
    const optimizer = lion({ globalClipNorm: 1, gradientAccumulationSteps: 2 });
    const [none, zero] = [tensor(device(), [], { shape: [0, 3] }), tensor(device(), [1, 2])];
    for (let k = 0; k < 2; k++) {
      optimizer.step([none, zero], [tensor(device(), [], { shape: [0, 3] }), tensor(device(), [0, 0])]);
    }
    expect(Array.from(await zero.data())).toEqual([1, 2]);
    optimizer.dispose();
  });
});

test("limits exclude each other, and options are checked", () => {
  expect(() => adam({ clipNorm: 1, clipValue: 1 })).toThrow(UsageError);
  expect(() => adam({ clipNorm: 1, clipValue: 1 })).toThrow(
    "adam: takes one of clipNorm, globalClipNorm and clipValue, got clipNorm and clipValue",
  );
  expect(() => sgd({ clipNorm: 0 })).toThrow("sgd: clipNorm must be a finite number above 0, got 0");
  expect(() => sgd({ gradientAccumulationSteps: 1.5 })).toThrow("must be a whole number from 1, got 1.5");
  const optimizer = sgd({ gradientAccumulationSteps: 4 });
  optimizer.steps = 7;
  expect([optimizer.iterations, optimizer.gathered]).toEqual([1, 3]);
  optimizer.iterations = 2;
  expect(optimizer.steps).toBe(8);
  expect(() => {
    optimizer.steps = -1;
  }).toThrow("sgd: steps must be a whole number from 0, got -1");
});
