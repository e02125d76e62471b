// Pooling: the reference against finite differences and hand-made cases, both profiles against the reference.
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { onesLike } from "../../src/autograd/ops/create.js";
import { avgPool2d, globalAvgPool2d, maxPool2d, type Pool2dOptions } from "../../src/autograd/ops/pool2d.js";
import { backward } from "../../src/autograd/tape.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectParity, randomInput } from "../support.js";

type Case = [readonly [number, number, number, number], Pool2dOptions];

const cases: Case[] = [
  [[2, 6, 6, 4], { poolSize: 2 }],
  [[3, 26, 26, 8], { poolSize: 2 }],
  [[2, 11, 11, 12], { poolSize: 2 }],
  [[2, 13, 7, 3], { poolSize: 2 }],
  [[2, 7, 7, 8], { poolSize: 2, strides: 1 }],
  [[2, 9, 11, 4], { poolSize: 3, strides: 2 }],
  [[1, 9, 11, 5], { poolSize: 3, strides: 2, padding: "same" }],
  [[2, 8, 8, 4], { poolSize: 2, padding: "same" }],
  [[2, 7, 9, 4], { poolSize: 2, padding: "same" }],
  [[2, 7, 9, 1], { poolSize: 3, strides: 1, padding: "same" }],
  [[1, 12, 12, 4], { poolSize: [3, 2], strides: [2, 3] }],
  [[2, 10, 11, 4], { poolSize: 2, strides: 3 }],
  [[2, 10, 11, 3], { poolSize: 2, strides: 4, padding: "same" }],
  [
    [1, 8, 7, 4],
    {
      poolSize: 3,
      strides: 3,
      padding: [
        [1, 2],
        [2, 0],
      ],
    },
  ],
  [
    [1, 8, 7, 4],
    {
      poolSize: 4,
      strides: 2,
      padding: [
        [3, 1],
        [0, 3],
      ],
    },
  ],
  [[2, 12, 12, 4], { poolSize: 6 }],
  [[2, 9, 9, 2], { poolSize: 9 }],
  [[2, 13, 14, 4], { poolSize: 5, strides: [7, 5] }],
  [[3, 5, 5, 4], { poolSize: 1, strides: 2 }],
  [[3, 5, 5, 4], { poolSize: 1 }],
];

/** Random windows, strides and paddings that fit. */
function randomCase(stream: RandomStream): Case {
  const between = (low: number, high: number) => low + stream.integer(high - low + 1);
  const poolSize = [between(1, 4), between(1, 4)] as const;
  const padding: NonNullable<Pool2dOptions["padding"]> = (["valid", "same"] as const)[stream.integer(3)] ?? [
    [stream.integer(poolSize[0]), stream.integer(poolSize[0])],
    [stream.integer(poolSize[1]), stream.integer(poolSize[1])],
  ];
  return [
    [between(1, 3), between(poolSize[0], 12), between(poolSize[1], 12), between(1, 9)],
    { poolSize, strides: [between(1, 5), between(1, 5)], padding },
  ];
}

const pools = {
  maxPool2d,
  avgPool2d,
  "maxPool2d, relu": (x: Tensor, options: Pool2dOptions) => maxPool2d(x, { ...options, activation: "relu" }),
};

describe("reference", () => {
  const stream = new RandomStream(1, "pool2d");

  it("pools by hand", async () => {
    const x = tensor(cpu, [1, 2, 5, 4, 3, 6, 7, 8, 9, 1, 1, 2], { shape: [1, 3, 4, 1] });
    expect([...(await maxPool2d(x, { poolSize: 2 }).data())]).toEqual([6, 8]);
    expect([...(await avgPool2d(x, { poolSize: 2 }).data())]).toEqual([3, 6]);
    expect([...(await maxPool2d(x, { poolSize: 2, padding: "same" }).data())]).toEqual([6, 8, 9, 2]);
    // The last row's windows hold two cells, not four.
    expect([...(await avgPool2d(x, { poolSize: 2, padding: "same" }).data())]).toEqual([3, 6, 5, 1.5]);
    expect([...(await globalAvgPool2d(x).data())]).toEqual([49 / 12]);
    const negative = tensor(cpu, [-3, -2, -5, -4], { shape: [1, 2, 2, 1] });
    expect([
      ...(await maxPool2d(negative, {
        poolSize: 2,
        strides: 2,
        padding: [
          [1, 1],
          [1, 1],
        ],
      }).data()),
    ]).toEqual([-3, -2, -5, -4]);
  });

  it("gives the gradient of ties to the first cell", async () => {
    const x = tensor(cpu, [0, 7, 7, 7, 1, 1], { shape: [1, 3, 2, 1] });
    x.requiresGrad = true;
    backward(maxPool2d(x, { poolSize: 2 }), { gradient: tensor(cpu, [5], { shape: [1, 1, 1, 1] }) });
    expect([...(await x.grad!.data())]).toEqual([0, 5, 0, 0, 0, 0]);
  });

  it.each(cases)("%j %j passes gradcheck", async ([, height, width, channels], options) => {
    // Values far apart, so that no step of the differences changes which is the largest.
    const shape = [1, height, width, Math.min(channels, 2)];
    const order = randomInput(stream, shape);
    const ranks = Array.from(order.values, (v, i) => [v, i] as const).sort(([a], [b]) => a - b);
    const values = new Float64Array(ranks.length);
    for (const [rank, [, i]] of ranks.entries()) values[i] = rank / 10;
    await gradcheck((x) => maxPool2d(x, options), [{ shape, values }]);
    await gradcheck(
      (x) => maxPool2d(x, { ...options, activation: "tanh" }),
      [{ shape, values: values.map((v) => v / 4 - 1) }],
    );
    await gradcheck((x) => avgPool2d(x, options), [{ shape, values }]);
    await gradcheck(globalAvgPool2d, [{ shape, values }]);
  });

  it("refuses windows that do not fit", () => {
    const x = tensor(cpu, new Float32Array(16), { shape: [1, 4, 4, 1] });
    expect(() => maxPool2d(x, { poolSize: 5 })).toThrow("maxPool2d: the kernel must fit into the padded input");
    expect(() => maxPool2d(x, { poolSize: 0 })).toThrow(
      "maxPool2d: poolSize must be a whole number from 1 to 65536, or a pair of them, got 0",
    );
    expect(() =>
      avgPool2d(x, {
        poolSize: 2,
        padding: [
          [2, 0],
          [0, 0],
        ],
      }),
    ).toThrow("avgPool2d: padding must be smaller than the window, got [2, 0] for a window of 2");
    expect(() => maxPool2d(tensor(cpu, [1, 2]), { poolSize: 1 })).toThrow("maxPool2d: needs f32 images [N, H, W, C]");
  });
});

/** A NaN wins its windows and, of several the last, gets their gradients; an infinity is what it is. As PyTorch. */
async function checkSpecialValues(device: Device): Promise<void> {
  const [N, I] = [Number.NaN, Number.POSITIVE_INFINITY];
  for (const [window, value, gradient] of [
    [[1, N, 2, 3], N, [0, 1, 0, 0]],
    [[N, 1, 2, 3], N, [1, 0, 0, 0]],
    [[1, N, N, 3], N, [0, 0, 1, 0]],
    [[I, N, 2, I], N, [0, 1, 0, 0]],
    [[-I, -I, -I, -I], -I, [1, 0, 0, 0]],
    [[1, 2, I, I], I, [0, 0, 1, 0]],
  ] as const) {
    // Of one channel, and of four at once; unrolled, and as the corner of a larger window in padding.
    for (const channels of [1, 4]) {
      for (const options of [
        { poolSize: 2 },
        {
          poolSize: 4,
          strides: 4,
          padding: [
            [2, 0],
            [2, 0],
          ],
        },
      ] as const) {
        const each = <T>(values: readonly T[]) => values.flatMap((v) => new Array<T>(channels).fill(v));
        const label = `${window} ${channels} ${options.poolSize}`;
        const x = tensor(device, each(window), { shape: [1, 2, 2, channels] });
        expect(Array.from(await maxPool2d(x, options).data()), label).toEqual(each([value]));
        x.requiresGrad = true;
        const y = maxPool2d(x, options);
        backward(y, { gradient: onesLike(y) });
        expect(Array.from(await y.data()), label).toEqual(each([value]));
        expect(Array.from(await x.grad!.data()), label).toEqual(each(gradient));
      }
    }
  }
}

it("the reference has PyTorch's values for special ones", () => checkSpecialValues(cpu));

describeProfiles((device) => {
  it("has PyTorch's values for special ones", () => checkSpecialValues(device()));

  it("finds NaN and infinities in every window", async () => {
    const stream = new RandomStream(4, "special");
    for (let i = 0; i < 6; i++) {
      const [shape, options] = randomCase(stream);
      const input = randomInput(stream, shape, () =>
        stream.integer(8) > 0
          ? stream.normal()
          : [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY][stream.integer(3)]!,
      );
      for (const [label, pool] of Object.entries({ maxPool2d, avgPool2d })) {
        await expectParity(device(), (x) => pool(x, options), [input], { label });
      }
    }
  });

  const stream = new RandomStream(2, "pool2d");

  it.each(cases)("%j %j", async (shape, options) => {
    for (const [label, pool] of Object.entries(pools)) {
      await expectParity(device(), (x) => pool(x, options), [randomInput(stream, shape)], { label });
    }
  });

  it("agrees on random shapes", async () => {
    for (let i = 0; i < 10; i++) {
      const [shape, options] = randomCase(stream);
      for (const [name, pool] of Object.entries(pools)) {
        const label = `${name} ${JSON.stringify(options)}`;
        await expectParity(device(), (x) => pool(x, options), [randomInput(stream, shape)], { label });
      }
    }
  });

  it("gives the gradient of ties to the first cell", async () => {
    for (const [shape, options] of [...cases, randomCase(stream)]) {
      const input = randomInput(stream, shape, () => stream.integer(2));
      await expectParity(device(), (x) => maxPool2d(x, options), [input], { label: JSON.stringify(options) });
    }
  });

  it("averages whole images", async () => {
    for (const shape of [
      [3, 7, 7, 16],
      [2, 5, 9, 3],
    ]) {
      await expectParity(device(), globalAvgPool2d, [randomInput(stream, shape)]);
    }
  });
});
