// Depthwise convolution by the kernels that load each row once: against the float64 reference, for every kernel and
// stride that they take, sizes that fit no strip or segment, and padding on all sides.
import { expect, it } from "vitest";
import { depthwiseConv2d } from "../../src/autograd/ops/grouped-conv2d.js";
import { conv2dGeometry, type Padding } from "../../src/kernels/conv2d/geometry.js";
import { isSmall } from "../../src/kernels/depthwise.js";
import { RandomStream } from "../../src/tensor/random.js";
import { describeProfiles, expectParity, randomInput } from "../support.js";

type Case = readonly [
  x: readonly [number, number, number, number],
  kernel: readonly [number, number],
  strides: number | readonly [number, number],
  padding: Padding,
];
const around = (top: number, bottom: number, left: number, right: number): Padding => [
  [top, bottom],
  [left, right],
];
const cases: readonly Case[] = [
  [[2, 9, 11, 4], [3, 3], 1, "same"],
  [[1, 7, 7, 8], [3, 3], 1, "valid"],
  [[2, 10, 9, 4], [3, 3], 2, "same"],
  [[1, 11, 8, 4], [3, 3], 2, "valid"],
  [[1, 9, 9, 4], [3, 3], 2, around(0, 1, 0, 1)],
  [[1, 13, 10, 4], [5, 5], 1, "same"],
  [[2, 12, 13, 4], [5, 5], 2, "same"],
  [[1, 8, 8, 4], [3, 3], 1, around(3, 2, 4, 0)],
  [[1, 8, 9, 4], [3, 3], 2, around(3, 0, 1, 4)],
  [[1, 8, 9, 4], [3, 3], 1, around(1, -2, 0, -1)],
  [[1, 9, 9, 4], [3, 3], [1, 2], "same"],
  [[1, 9, 9, 4], [3, 3], [2, 1], "same"],
  [[1, 1, 12, 4], [1, 5], 1, "same"],
  [[1, 12, 1, 8], [4, 1], 1, "same"],
  [[1, 6, 5, 4], [1, 1], 1, "valid"],
  [[1, 6, 7, 4], [2, 2], 2, "valid"],
  [[1, 3, 2, 4], [3, 2], 1, "same"],
  [[1, 70, 6, 4], [3, 3], 1, "same"],
  [[3, 41, 33, 12], [3, 3], 2, "same"],
  [[2, 40, 37, 36], [3, 3], 1, "same"],
  [[1, 35, 30, 40], [5, 5], 2, "same"],
];

describeProfiles((device) => {
  const stream = new RandomStream(5, "depthwise");

  it.each(cases)("%j, kernel %j, strides %j, padding %j", { timeout: 300_000 }, async (x, kernel, strides, padding) => {
    const weights = [...kernel, x[3], 1];
    const geometry = conv2dGeometry(x, [...kernel, 1, x[3]], { strides, padding }, { groups: x[3] });
    expect(isSmall(geometry)).toBe(true);
    const inputs = [randomInput(stream, x), randomInput(stream, weights)];
    await expectParity(device(), (image, w) => depthwiseConv2d(image!, w!, { strides, padding }), inputs, {
      ...{ forward: 2e-6, gradient: 2e-6 },
    });
  });

  it("no images give no results, and a gradient of zeros", async () => {
    const inputs = [randomInput(stream, [0, 8, 8, 4]), randomInput(stream, [3, 3, 4, 1])];
    await expectParity(device(), (x, w) => depthwiseConv2d(x!, w!, { padding: "same" }), inputs);
  });

  it("others go by the kernels of convolution in groups", () => {
    const small = (kernel: readonly number[], options: object, channels = 8) =>
      isSmall(conv2dGeometry([1, 30, 30, channels], [...kernel, 1, channels], options, { groups: channels }));
    expect(small([7, 7], {})).toBe(false);
    expect(small([3, 3], { strides: 3 })).toBe(false);
    expect(small([3, 3], { dilations: 2 })).toBe(false);
    expect(small([1, 1], { strides: 2 })).toBe(false);
    expect(small([3, 3], {}, 6)).toBe(false);
    expect(small([3, 3], {})).toBe(true);
  });
});
