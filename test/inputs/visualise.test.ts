// Feature visualisation: objectives of layers, parametrisations, transforms and regularisers against their formulas,
// and what becomes of an image as strips and animations.
import { describe, expect, test } from "vitest";
import { noGrad } from "../../src/autograd/tape.js";
import { filmStrip, logarithmicSteps } from "../../src/inputs/film.js";
import { basisOf } from "../../src/inputs/fourier.js";
import { noiseImages } from "../../src/inputs/images.js";
import {
  channel,
  content,
  deepDream,
  direction,
  layer,
  logit,
  outputs,
  perImage,
  style,
} from "../../src/inputs/objective.js";
import { optimizeInputs } from "../../src/inputs/optimise.js";
import { blurred, fourier, pixels, pyramid } from "../../src/inputs/parametrisation.js";
import { Activations, type Objective, type Parametrization, type Transform } from "../../src/inputs/parts.js";
import { enlarging } from "../../src/inputs/pyramid.js";
import { blur, l1, l2, scheduled } from "../../src/inputs/regularisers.js";
import { crop, jitter, pad, rotate, scale } from "../../src/inputs/transforms.js";
import { encodeGif, type GifFrame } from "../../src/io/gif.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Model } from "../../src/nn/model.js";
import { sgd } from "../../src/nn/optimizers.js";
import { stepDecay } from "../../src/nn/schedules.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose } from "../support.js";

/** Of colour images [8, 6, 3]. */
const shape = [8, 6, 3] as const;
const SIZE = sizeOf(shape);
const network = (device: Device): Model =>
  sequential({ device, seed: 2, inputShape: [...shape] }, [
    conv2d({ filters: 4, kernelSize: 3, activation: "tanh", name: "lines" }),
    conv2d({ filters: 5, kernelSize: 3, activation: "relu", name: "parts" }),
    flatten(),
    dense({ units: 3, name: "answer" }),
  ]);
const starts = noiseImages({ count: 3, shape, seed: 4 });
const image = noiseImages({ count: 1, shape, seed: 9 });

/** Values of an objective for the starts, before the first step. */
async function measured(model: Model, objective: Objective, of = starts): Promise<Float32Array> {
  return (await optimizeInputs(model, { objective, starts: of, steps: 1 })).objective[0]!;
}

/** Output of a layer for the starts, and its number of channels. */
async function outputOf(model: Model, name: string, of = starts) {
  const count = of.length / SIZE;
  const output = noGrad(() =>
    new Activations(model, tensor(model.device, of, { shape: [count, ...shape] })).layer(name),
  );
  const values = Array.from(await output.data());
  const size = values.length / count;
  return {
    channels: output.shape.at(-1)!,
    rows: Array.from({ length: count }, (_, i) => values.slice(i * size, (i + 1) * size)),
  };
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function sameEverywhere(device: () => Device, rtol: number) {
  test("objectives of layers are their formulas", async () => {
    const model = network(device());
    const { rows, channels } = await outputOf(model, "lines");
    expectClose(
      await measured(model, layer("lines")),
      rows.map((row) => -mean(row)),
      { rtol },
    );
    expectClose(
      await measured(model, deepDream("lines")),
      rows.map((row) => -mean(row.map((v) => v * v))),
      { rtol },
    );

    const vector = [1, -0.5, 0.25, 2];
    const places = (row: number[]) =>
      Array.from({ length: row.length / channels }, (_, at) => row.slice(at * channels, (at + 1) * channels));
    const dot = (place: number[]) => place.reduce((sum, v, c) => sum + v * vector[c]!, 0);
    expectClose(
      await measured(model, direction("lines", vector)),
      rows.map((row) => -mean(places(row).map(dot))),
      { rtol },
    );
    const withCosine = (place: number[]) =>
      dot(place) * Math.max(0.1, dot(place) / (Math.hypot(...place) * Math.hypot(...vector))) ** 2;
    expectClose(
      await measured(model, direction("lines", vector, { cosinePower: 2 })),
      rows.map((row) => -mean(places(row).map(withCosine))),
      { rtol },
    );
    const { rows: answers } = await outputOf(model, "answer");
    expectClose(
      await measured(model, direction("answer", [0, 1, 0])),
      answers.map((row) => -row[1]!),
      { rtol },
    );

    const wanted = [0.5, -1, 2];
    expectClose(
      await measured(model, outputs(wanted)),
      answers.map((row) => row.reduce((sum, v, i) => sum + (v - wanted[i]!) ** 2, 0)),
      { rtol },
    );

    const [of] = (await outputOf(model, "parts", image)).rows;
    const { rows: parts } = await outputOf(model, "parts");
    expectClose(
      await measured(model, content("parts", image)),
      parts.map((row) => mean(row.map((v, i) => (v - of![i]!) ** 2))),
      { rtol },
    );
    const gram = (row: number[], c: number) =>
      Array.from({ length: c * c }, (_, k) => {
        const rowPlaces = Array.from({ length: row.length / c }, (_, at) => row.slice(at * c, (at + 1) * c));
        return mean(rowPlaces.map((place) => place[Math.floor(k / c)]! * place[k % c]!));
      });
    const [lines] = (await outputOf(model, "lines", image)).rows;
    const target = { lines: gram(lines!, 4), parts: gram(of!, 5) };
    expectClose(
      await measured(model, style(["lines", "parts"], image)),
      rows.map((row, i) => {
        const ofLines = mean(gram(row, 4).map((v, k) => (v - target.lines[k]!) ** 2));
        const ofParts = mean(gram(parts[i]!, 5).map((v, k) => (v - target.parts[k]!) ** 2));
        return (ofLines + ofParts) / 2;
      }),
      { rtol: 3 * rtol },
    );
    // Of the image itself nothing is to be changed.
    expectClose(await measured(model, style("lines", image), image), [0], { rtol: 1 });
    model.dispose();
  });

  test("each image of a run has its own objective, and goes its way as alone", async () => {
    const model = network(device());
    const all = [logit(1), logit(1), channel("lines", 2)] as const;
    const same = perImage(all[0], all[0], all[2]);
    const options = { starts, steps: 8, optimizer: sgd({ learningRate: 1 }) };
    const together = await optimizeInputs(model, { ...options, objective: same });
    const another = { ...options, optimizer: sgd({ learningRate: 1 }) };
    for (const [i, objective] of all.entries()) {
      const alone = await optimizeInputs(model, {
        ...another,
        ...{ optimizer: sgd({ learningRate: 1 }), starts: starts.slice(i * SIZE, (i + 1) * SIZE), objective },
      });
      expectClose(together.images.subarray(i * SIZE, (i + 1) * SIZE), alone.images, { rtol: 1e-4 });
    }
    await expect(optimizeInputs(model, { objective: perImage(logit(1)), starts })).rejects.toThrow(
      "needs one objective for each of 3 images, got 1",
    );
    model.dispose();
  });

  test.each([
    ["fourier", fourier()],
    ["fourier without decay", fourier({ decayPower: 0, decorrelate: false, limits: [-0.5, 1.5] })],
    ["pyramid", pyramid()],
    ["pyramid of two levels", pyramid({ levels: 2, decorrelate: false })],
  ] as const)(
    "%s begins with the images it is given, grey without, and stays in its limits",
    async (_, parametrization) => {
      const model = network(device());
      const run = (options: object) =>
        optimizeInputs(model, { objective: channel("parts", 1), parametrization, steps: 12, ...options });
      const given = await run({ starts });
      const begin = given.snapshots[0]!.images;
      expectClose(
        begin,
        starts.map((value) => Math.max(0.01, Math.min(0.99, value))),
        { rtol: 0.021 },
      );
      expect(given.objective.at(-1)![0]).toBeLessThan(given.objective[0]![0]!);
      const grey = (await run({ count: 2, seed: 3 })).snapshots[0]!.images;
      expect(grey.every((value) => Math.abs(value - 0.5) < 0.15)).toBe(true);
      expect(new Set(grey).size).toBeGreaterThan(grey.length / 2);
      const [low, high] = parametrization === fourier() ? [0, 1] : [-0.5, 1.5];
      expect(given.images.every((value) => value >= low && value <= high)).toBe(true);
      model.dispose();
    },
  );

  test("transforms are repeatable, alike in recorded steps, and other ones in every step", async () => {
    const model = network(device());
    const transforms = [pad(2), jitter(1), scale({ from: 0.8, to: 1.2 }), rotate(20), crop()];
    const run = async (seed: number) =>
      (await optimizeInputs(model, { objective: logit(1), starts, transforms, steps: 8, seed })).objective;
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
    expect(new Set(first.map((row) => row[0])).size).toBe(8);
    model.dispose();
  });
}

describe("the reference", () => sameEverywhere(() => cpu, 1e-5));
describeProfiles((device) => sameEverywhere(device, 1e-4));

describe("transforms", () => {
  const apply = async (transform: Transform, values: Float32Array, of: Shape, modelShape = of, seed = 0) => {
    const drawn = transform.draw({ shape: modelShape, random: new RandomStream(seed, "test") });
    const made = drawn.map((each) => tensor(cpu, each.values, { shape: each.shape }));
    const found = transform.apply(tensor(cpu, values, { shape: of }), made);
    return { shape: found.shape, values: Array.from(await found.data()) };
  };
  const five = Float32Array.from({ length: 25 }, (_, i) => i);

  test("pad puts grey around, and crop takes a box of every place", async () => {
    const padded = await apply(pad(1), five, [1, 5, 5, 1]);
    expect(padded.shape).toEqual([1, 7, 7, 1]);
    expect([padded.values[0], padded.values[8], padded.values[16]]).toEqual([0.5, 0, 6]);
    expect((await apply(pad(1, { value: 0 }), five, [1, 5, 5, 1])).values[0]).toBe(0);
    const seen = new Set<number>();
    for (let seed = 0; seed < 200; seed++) {
      const { shape, values } = await apply(crop(), five, [1, 5, 5, 1], [1, 3, 4, 1], seed);
      expect(shape).toEqual([1, 3, 4, 1]);
      const [first] = values as [number];
      expect(values).toEqual([0, 5, 10].flatMap((row) => [0, 1, 2, 3].map((column) => first + row + column)));
      seen.add(first);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([0, 1, 5, 6, 10, 11]);
    await expect(apply(crop(), five, [1, 5, 5, 1], [1, 6, 5, 1])).rejects.toThrow("needs images of at least 6");
  });

  test("rotate turns by up to the angle, scale by a factor in between, around the middle", async () => {
    // A bright pixel two right of the middle.
    const point = new Float32Array(81);
    point[4 * 9 + 6] = 1;
    const angles: number[] = [];
    const factors: number[] = [];
    for (let seed = 0; seed < 100; seed++) {
      const center = async (transform: Transform) => {
        const { values } = await apply(transform, point, [1, 9, 9, 1], [1, 9, 9, 1], seed);
        const total = values.reduce((a, b) => a + b, 0);
        const at = (of: (i: number) => number) => values.reduce((sum, v, i) => sum + v * (of(i) - 4), 0) / total;
        return [at((i) => Math.floor(i / 9)), at((i) => i % 9)] as const;
      };
      const [row, column] = await center(rotate(30));
      angles.push((Math.atan2(row, column) * 180) / Math.PI);
      expect(Math.hypot(row, column)).toBeGreaterThan(1.8);
      factors.push((await center(scale({ from: 0.8, to: 1.6 })))[1] / 2);
    }
    // What is read off a few pixels is not the exact angle.
    expect(Math.max(...angles)).toBeLessThan(33);
    expect(Math.min(...angles)).toBeGreaterThan(-33);
    expect(Math.max(...angles)).toBeGreaterThan(22);
    expect(Math.min(...angles)).toBeLessThan(-22);
    expect(Math.min(...factors)).toBeGreaterThan(0.7);
    expect(Math.min(...factors)).toBeLessThan(0.9);
    expect(Math.max(...factors)).toBeGreaterThan(1.4);
    expect(Math.max(...factors)).toBeLessThan(1.75);
  });
});

describe("parametrisations", () => {
  test("the Fourier basis is orthonormal, and its columns have their frequencies", () => {
    for (const n of [1, 2, 5, 8]) {
      const { matrix, frequencies } = basisOf(n);
      for (let a = 0; a < n; a++) {
        for (let b = 0; b < n; b++) {
          const dot = Array.from({ length: n }, (_, at) => matrix[at * n + a]! * matrix[at * n + b]!);
          expect(dot.reduce((x, y) => x + y, 0)).toBeCloseTo(a === b ? 1 : 0, 6);
        }
      }
      expect(frequencies).toEqual(Array.from({ length: n }, (_, k) => Math.ceil(k / 2) / n));
    }
  });

  test("low frequencies move further than high ones, by 1/f", async () => {
    // One step of plain descent of a linear function: the image moves by the square of each frequency's scale.
    const moved = async (frequency: number) => {
      const wave = Float32Array.from({ length: 64 }, (_, i) => Math.cos((2 * Math.PI * frequency * (i % 8)) / 8));
      const model = sequential({ device: cpu, inputShape: [8, 8, 1] }, [flatten(), dense({ units: 1 })]);
      model.weights()[0]!.tensor.assign(wave);
      const { images } = await optimizeInputs(model, {
        ...{ objective: logit(0), parametrization: fourier(), steps: 1 },
        ...{ starts: new Float32Array(64).fill(0.5), optimizer: sgd({ learningRate: 1e-3 }) },
      });
      return images.reduce((sum, value, i) => sum + (value - 0.5) * wave[i]!, 0);
    };
    const [slow, fast] = [await moved(1), await moved(2)];
    expect(slow / fast).toBeCloseTo(4, 1);
  });

  test("enlarging keeps constants, and lines but for the ends", () => {
    const matrix = enlarging(3, 7);
    const of = (values: number[]) =>
      Array.from({ length: 7 }, (_, at) => values.reduce((sum, v, k) => sum + v * matrix[at * 3 + k]!, 0));
    expectClose(of([2, 2, 2]), [2, 2, 2, 2, 2, 2, 2], { rtol: 1e-6 });
    expectClose(
      of([0, 1, 2]).slice(2, 5),
      [4 / 7, 1, 10 / 7].map((v) => v),
      { rtol: 1e-6 },
    );
  });

  test("a mean of colours changes sooner than their difference", async () => {
    // The correlated direction of Lucid's matrix is grey.
    const along = async (weights: readonly number[]) => {
      const model = sequential({ device: cpu, inputShape: [1, 1, 3] }, [flatten(), dense({ units: 1 })]);
      model.weights()[0]!.tensor.assign(weights);
      const { images } = await optimizeInputs(model, {
        ...{ objective: logit(0), parametrization: pyramid(), steps: 1, starts: new Float32Array(3).fill(0.5) },
        optimizer: sgd({ learningRate: 1e-2 }),
      });
      return images.reduce((sum, value, i) => sum + (value - 0.5) * weights[i]!, 0);
    };
    expect(await along([1, 1, 1])).toBeGreaterThan(3 * (await along([1, -2, 1])));
    const grey = sequential({ device: cpu, inputShape: [4, 4, 1] }, [flatten(), dense({ units: 1 })]);
    await expect(
      optimizeInputs(grey, { objective: logit(0), parametrization: fourier({ decorrelate: true }) }),
    ).rejects.toThrow("decorrelate is for images of three channels, these have 1");
    const flat = sequential({ device: cpu, inputShape: [4] }, [dense({ units: 1 })]);
    for (const parametrization of [fourier(), pyramid()] as Parametrization[]) {
      await expect(optimizeInputs(flat, { objective: logit(0), parametrization })).rejects.toThrow("needs images");
    }
    expect(() => fourier({ decayPower: -1 })).toThrow("decayPower must be");
    expect(() => pyramid({ levels: 0 })).toThrow("levels must be");
  });
});

describe("regularisers", () => {
  const x = tensor(cpu, Float32Array.of(1, -2, 0.5, 0), { shape: [1, 2, 2, 1] });

  test("l1 is the sum of magnitudes, blur the distance from the blurred image", async () => {
    expect(await (l1(2)(x, () => 0) as ReturnType<typeof x.alias>).item()).toBe(7);
    const sharp = blur(3, { sigma: 0.5 })(x, () => 0) as ReturnType<typeof x.alias>;
    const smooth = blurred(pixels({ limits: false }), { sigma: 0.5 }).prepare({
      ...{ shape: [1, 2, 2, 1], starts: Float32Array.of(1, -2, 0.5, 0), given: true },
      parameter: (values, of) => tensor(cpu, values, { shape: of }),
      constant: (values, of) => tensor(cpu, values, { shape: of }),
    });
    const through = Array.from(await smooth.images().data());
    const expected = [1, -2, 0.5, 0].reduce((sum, value, i) => sum + (value - through[i]!) ** 2, 0);
    expect(await sharp.item()).toBeCloseTo(3 * expected, 6);
  });

  test("a scheduled factor changes from step to step, recorded ones included", async () => {
    const model = sequential({ device: cpu, inputShape: [2] }, [dense({ units: 1 })]);
    model.weights()[0]!.tensor.assign([0, 0]);
    const decaying = scheduled(l2(1), stepDecay({ learningRate: 4, everySteps: 2, factor: 0.5 }));
    const { loss } = await optimizeInputs(model, {
      ...{ objective: logit(0), regularizers: [decaying], steps: 6, starts: Float32Array.of(1, 0) },
      optimizer: sgd({ learningRate: 0 }),
    });
    expect(loss.map((row) => row[0])).toEqual([4, 4, 2, 2, 1, 1]);
  });
});

describe("film", () => {
  test("steps are on a logarithmic scale, and snapshots taken then", async () => {
    expect(logarithmicSteps(1000, 8)).toEqual([0, 1, 3, 10, 32, 100, 316, 1000]);
    expect(logarithmicSteps(3, 8)).toEqual([0, 1, 2, 3]);
    const model = network(cpu);
    const found = await optimizeInputs(model, {
      ...{ objective: logit(1), starts, steps: 40, snapshotSteps: logarithmicSteps(40, 6) },
    });
    expect(found.snapshots.map(({ step }) => step)).toEqual([0, 1, 3, 6, 16, 40]);
    const strip = filmStrip(found, { image: 1 });
    expect(strip.map(({ caption }) => caption[0])).toEqual([
      "step 0",
      "step 1",
      "step 3",
      "step 6",
      "step 16",
      "step 40",
    ]);
    expect(strip[0]!.pixels).toEqual(starts.slice(SIZE, 2 * SIZE));
    expect([strip[0]!.width, strip[0]!.height, strip[0]!.channels]).toEqual([6, 8, 3]);
    expect(() => filmStrip(found, { image: 3 })).toThrow("image must be from 0 to 2");
    expect(() => filmStrip({ ...found, shape: [3, 144] })).toThrow("needs images [N, H, W, 1]");
    const both = { objective: logit(1), starts, snapshotEvery: 2, snapshotSteps: [1] };
    await expect(optimizeInputs(model, both)).rejects.toThrow("takes snapshotEvery or snapshotSteps");
  });

  test("an animation is a GIF of these frames, which repeats", async () => {
    const frames: GifFrame[] = [
      { pixels: [0, 1, 0.5, 0], width: 2, height: 2 },
      { pixels: [1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1], width: 2, height: 2, channels: 3 },
    ];
    const gif = await encodeGif(frames, { seconds: 0.5, scale: 2 });
    const text = new TextDecoder("latin1").decode(gif);
    expect(text.slice(0, 6)).toBe("GIF89a");
    expect([gif[6], gif[7], gif[8], gif[9]]).toEqual([4, 0, 4, 0]);
    expect(text).toContain("NETSCAPE2.0");
    // Graphic control extensions: delays in hundredths of a second, the last one four times as long.
    const begins = Array.from(gif.keys()).filter((i) => gif[i] === 0x21 && gif[i + 1] === 0xf9 && gif[i + 2] === 4);
    const delays = begins.map((i) => gif[i + 4]! + 256 * gif[i + 5]!);
    expect(delays).toEqual([50, 200]);
    expect(gif.at(-1)).toBe(0x3b);
    await expect(encodeGif([])).rejects.toThrow("frames must be");
    await expect(encodeGif([frames[0]!, { ...frames[0]!, width: 1, height: 4 }])).rejects.toThrow("must have one size");
    await expect(encodeGif([{ ...frames[0]!, pixels: [Number.NaN, 0, 0, 0] }])).rejects.toThrow("must be finite");
    await expect(encodeGif([{ ...frames[0]!, pixels: [0] }])).rejects.toThrow("needs 4 values, got 1");
  });
});

test("what does not fit is refused", async () => {
  const model = network(cpu);
  const refused = (objective: Objective) => expect(optimizeInputs(model, { objective, starts })).rejects;
  await refused(outputs([1])).toThrow("needs 3 values, or 9 for 3 images, got 1");
  await refused(layer("nowhere")).toThrow('has no layer "nowhere"');
  await refused(direction("lines", [1])).toThrow('"lines" has 4 channels, got a vector of 1');
  await refused(content("lines", new Float32Array(3))).toThrow("needs an image [8, 6, 3] of 144 values, got 3");
  expect(() => style([], image)).toThrow("names must be");
  expect(() => rotate(0)).toThrow("degrees must be");
  expect(() => scale({ from: 1 } as never)).toThrow("to is required");
  expect(() => scheduled(l1(1), 3 as never)).toThrow("schedule must be");
  expect(() => logarithmicSteps(0)).toThrow("steps must be");
});
