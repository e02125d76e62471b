// Which convolutions go by Winograd, and in tiles of which size, and which by products over windows; and that its
// matrices compute a convolution.
import { describe, expect, it } from "vitest";
import { pooledRouteOf } from "../../src/kernels/conv-pool.js";
import {
  FEW_CHANNELS_FORM,
  goesByProducts,
  HARDWARE_FORM,
  hardwareTiling,
  MANY_CHANNELS_FORM,
  WINDOWS_FORM,
  winogradTiling,
} from "../../src/kernels/conv2d/choice.js";
import { type Conv2dOptions, conv2dGeometry } from "../../src/kernels/conv2d/geometry.js";
import { keptSpecs } from "../../src/kernels/conv2d/route.js";
import { routeOf } from "../../src/kernels/conv2d/routes.js";
import { type Matrix, winogradMatrices } from "../../src/kernels/conv2d/winograd-matrices.js";
import type { Shape } from "../../src/tensor/shape.js";
import type { TuningProfile } from "../../src/webgpu/family.js";

const software: TuningProfile = {
  family: "software",
  maxBindingBytes: 2 ** 27,
  maxStorageBuffers: 8,
  maxWorkgroupBytes: 32768,
};
const hardware: TuningProfile = { ...software, family: "hardware" };
const same: Conv2dOptions = { padding: "same" };

const tileOf = (profile: TuningProfile, x: Shape, kernel: Shape, options: Conv2dOptions = {}) =>
  winogradTiling(profile, conv2dGeometry(x, kernel, options))?.m;

describe("winogradTiling", () => {
  it.each([
    ["a small image: tiles of 2", [128, 12, 12, 32], [3, 3, 32, 64], {}, 2],
    ["many channels: tiles of 4", [16, 28, 28, 96], [3, 3, 96, 96], same, 4],
    ["few channels", [32, 13, 13, 8], [3, 3, 8, 12], {}, undefined],
    ["an image of one channel", [128, 28, 28, 1], [3, 3, 1, 32], {}, undefined],
    ["channels that are no multiple of four", [16, 28, 28, 97], [3, 3, 97, 96], same, undefined],
    ["another kernel", [16, 28, 28, 96], [5, 5, 96, 96], same, undefined],
    ["strides", [16, 28, 28, 96], [3, 3, 96, 96], { strides: [1, 2] }, undefined],
    ["dilation", [16, 28, 28, 96], [3, 3, 96, 96], { dilations: 2 }, undefined],
    ["no image", [0, 28, 28, 96], [3, 3, 96, 96], same, undefined],
  ] as [string, Shape, Shape, Conv2dOptions, number | undefined][])("%s", (_, x, kernel, options, expected) => {
    expect(tileOf(software, x, kernel, options)).toBe(expected);
    expect(tileOf(hardware, x, kernel, options)).toBeUndefined();
  });

  it("leaves what exceeds a binding to the direct kernels", () => {
    const small = { ...software, maxBindingBytes: 2 ** 20 };
    expect(tileOf(small, [16, 28, 28, 96], [3, 3, 96, 96], same)).toBeUndefined();
  });
});

describe("a transformed kernel that exceeds a binding", () => {
  it("is made in smaller tiles, or not at all", () => {
    // 36 x 1024 x 1024 elements are 144 MiB, 16 x 1024 x 1024 are 64.
    const [x, kernel]: Shape[] = [
      [8, 8, 8, 1024],
      [3, 3, 1024, 1024],
    ];
    const geometry = conv2dGeometry(x!, kernel!, same);
    const tuned = (profile: TuningProfile, option: string) => ({
      ...profile,
      choices: { [MANY_CHANNELS_FORM.name]: option, [HARDWARE_FORM.name]: option },
    });
    expect(winogradTiling(tuned(software, "tiles of 2"), geometry)?.m).toBe(2);
    expect(winogradTiling(tuned(software, "tiles of 4"), geometry)).toBeUndefined();
    expect(hardwareTiling(tuned(hardware, "tiles of 2"), geometry)?.m).toBe(2);
    expect(hardwareTiling(tuned(hardware, "tiles of 4"), geometry)).toBeUndefined();
  });
});

describe("hardwareTiling", () => {
  const tile = (profile: TuningProfile, x: Shape, kernel: Shape, options: Conv2dOptions = {}) =>
    hardwareTiling(profile, conv2dGeometry(x, kernel, options))?.m;
  const tuned = (option: string) => ({ ...hardware, choices: { [HARDWARE_FORM.name]: option } });

  it.each([
    ["many channels: tiles of 4", [128, 28, 28, 96], [3, 3, 96, 96], same, 4],
    ["channels that are no multiple of four", [128, 28, 28, 97], [3, 3, 97, 95], same, 4],
    ["few channels, little work", [128, 13, 13, 32], [3, 3, 32, 64], {}, undefined],
    ["an image of one channel", [128, 28, 28, 1], [3, 3, 1, 96], same, undefined],
    ["another kernel", [128, 28, 28, 96], [5, 5, 96, 96], same, undefined],
    ["strides", [128, 28, 28, 96], [3, 3, 96, 96], { strides: [1, 2] }, undefined],
    ["dilation", [128, 28, 28, 96], [3, 3, 96, 96], { dilations: 2 }, undefined],
    ["no image", [0, 28, 28, 96], [3, 3, 96, 96], same, undefined],
  ] as [string, Shape, Shape, Conv2dOptions, number | undefined][])("%s", (_, x, kernel, options, expected) => {
    expect(tile(hardware, x, kernel, options)).toBe(expected);
    expect(tile(software, x, kernel, options)).toBeUndefined();
    expect(tile(tuned("direct"), x, kernel, options)).toBeUndefined();
    // Float16 has too few digits for transformed tiles.
    expect(tile({ ...hardware, matrices: { m: 16, n: 16, k: 16, lanes: 32 } }, x, kernel, options)).toBeUndefined();
  });

  it("takes the tiles that were tuned, and leaves what exceeds a binding to the direct kernels", () => {
    const [x, kernel]: Shape[] = [
      [128, 13, 13, 32],
      [3, 3, 32, 64],
    ];
    expect(tile(tuned("tiles of 2"), x!, kernel!)).toBe(2);
    expect(tile(tuned("tiles of 4"), x!, kernel!)).toBe(4);
    expect(tile({ ...tuned("tiles of 4"), maxBindingBytes: 2 ** 20 }, x!, kernel!)).toBeUndefined();
  });
});

describe("goesByProducts", () => {
  const goes = (profile: TuningProfile, x: Shape, kernel: Shape, options: Conv2dOptions = {}) =>
    goesByProducts(profile, conv2dGeometry(x, kernel, options));

  it.each([
    ["a small image of many channels", [32, 5, 5, 36], [3, 3, 36, 64], {}, true],
    ["strides", [64, 9, 9, 16], [4, 3, 16, 32], { strides: 2 }, true],
    ["padding", [32, 5, 5, 36], [3, 3, 36, 64], same, false],
    ["dilation", [32, 5, 5, 36], [2, 2, 36, 64], { dilations: 2 }, false],
    ["channels that are no multiple of four", [32, 5, 5, 37], [3, 3, 37, 64], {}, false],
    ["few output channels", [32, 5, 5, 36], [3, 3, 36, 12], {}, false],
    ["few windows", [4, 5, 5, 36], [3, 3, 36, 64], {}, false],
    ["an image of one channel", [32, 28, 28, 1], [3, 3, 1, 32], {}, false],
  ] as [string, Shape, Shape, Conv2dOptions, boolean][])("%s", (_, x, kernel, options, expected) => {
    expect(goes(software, x, kernel, options)).toBe(expected);
    expect(goes(hardware, x, kernel, options)).toBe(false);
    expect(goes({ ...software, choices: { [WINDOWS_FORM.name]: "direct" } }, x, kernel, options)).toBe(false);
  });

  it("leaves what exceeds a binding to the direct kernels", () => {
    expect(goes({ ...software, maxBindingBytes: 2 ** 16 }, [32, 5, 5, 36], [3, 3, 36, 64])).toBe(false);
  });
});

describe("routes", () => {
  const processor = { ...software, onProcessor: true };
  it.each([
    [software, [128, 12, 12, 32], [3, 3, 32, 64], {}, "winograd 2", "winograd 2"],
    [software, [16, 28, 28, 96], [3, 3, 96, 96], same, "winograd 4", "winograd 4"],
    [software, [32, 32, 32, 16], [3, 3, 16, 16], same, "panels", "panels, then pooling"],
    [software, [32, 32, 32, 16], [3, 3, 16, 16], { ...same, strides: 2 }, "gather", "gather, then pooling"],
    [software, [32, 16, 16, 32], [3, 3, 32, 32], same, "panels, kernel gradient by winograd", "winograd 4"],
    [hardware, [32, 32, 32, 16], [3, 3, 16, 16], same, "gather", "gather, then pooling"],
    [hardware, [16, 28, 28, 96], [5, 5, 96, 96], same, "gather", "gather, then pooling"],
    [software, [128, 28, 28, 1], [3, 3, 1, 32], {}, "gather", "one pass"],
    [hardware, [128, 28, 28, 1], [3, 3, 1, 32], {}, "gather", "one pass"],
    [processor, [32, 5, 5, 36], [2, 2, 36, 64], {}, "products", "products, then pooling"],
    [
      ...[software, [32, 5, 5, 36], [2, 2, 36, 64], {}],
      ...["products, input gradient by gather", "products, input gradient by gather, then pooling"],
    ],
  ] as [TuningProfile, Shape, Shape, Conv2dOptions, string, string][])(
    "%#: one place chooses",
    (profile, x, kernel, options, plain, pooled) => {
      const geometry = conv2dGeometry(x, kernel, options);
      expect(routeOf(profile, geometry).name).toBe(plain);
      expect(pooledRouteOf(profile, geometry).name).toBe(pooled);
    },
  );

  it("offer to keep what is worth it", () => {
    const geometry = conv2dGeometry([128, 12, 12, 32], [3, 3, 32, 64], {});
    const names = (profile: TuningProfile) => Object.keys(keptSpecs(routeOf(profile, geometry), ["x", "kernel"]));
    expect(names(software)).toEqual(["kernel"]);
    const small = conv2dGeometry([32, 12, 12, 32], [3, 3, 32, 64], {});
    expect(Object.keys(keptSpecs(routeOf(software, small), ["x", "kernel"]))).toEqual(["x", "kernel"]);
    expect(Object.keys(keptSpecs(routeOf(software, small), ["kernel"]))).toEqual(["kernel"]);
    const gathers = conv2dGeometry([32, 28, 28, 1], [3, 3, 1, 32], {});
    expect(keptSpecs(routeOf(software, gathers), ["x", "kernel"])).toEqual({});
  });
});

describe("tuned tiles", () => {
  it("are those of the option", () => {
    const profile = (option: string) => ({
      ...software,
      choices: { [FEW_CHANNELS_FORM.name]: option, [MANY_CHANNELS_FORM.name]: option },
    });
    for (const [x, kernel] of [
      [
        [128, 12, 12, 32],
        [3, 3, 32, 64],
      ],
      [
        [16, 28, 28, 96],
        [3, 3, 96, 96],
      ],
    ] as [Shape, Shape][]) {
      expect(tileOf(profile("tiles of 2"), x, kernel, same)).toBe(2);
      expect(tileOf(profile("tiles of 4"), x, kernel, same)).toBe(4);
      expect(tileOf(profile("direct"), x, kernel, same)).toBeUndefined();
    }
  });
});

const product = (matrix: Matrix, vector: readonly number[]) =>
  matrix.map((row) => row.reduce((sum, value, k) => sum + value * vector[k]!, 0));

describe.each([2, 4] as const)("matrices of F(%d, 3)", (m) => {
  it("correlate a tile with a filter", () => {
    const { outputs, inputs, kernel } = winogradMatrices(m);
    const tile = Array.from({ length: m + 2 }, (_, i) => (i * 7 + 3) % 11);
    const filter = [2, -5, 3];
    const left = product(kernel, filter);
    const spectrum = product(inputs, tile).map((value, t) => value * left[t]!);
    const expected = Array.from({ length: m }, (_, i) => filter.reduce((sum, g, k) => sum + g * tile[i + k]!, 0));
    product(outputs, spectrum).forEach((value, i) => {
      expect(value).toBeCloseTo(expected[i]!, 10);
    });
  });
});
