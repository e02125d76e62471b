// Matrix products and convolutions on matrix units. Their WGSL is compiled against Dawn's null backend, which knows the
// extension wherever it runs, for the matrices of several adapters. Where an adapter has matrix units (on lavapipe from
// Mesa 26 on, see scripts/test-subgroup-matrix), they are held to the float64 reference, too.
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { create } from "webgpu";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { conv2dGeometry, inputShape, kernelShape, outputShape } from "../../src/kernels/conv2d/geometry.js";
import { conv2dInputGradientKernel, conv2dKernel, conv2dKernelGradientKernel } from "../../src/kernels/conv2d.js";
import { matmulKernel } from "../../src/kernels/matmul.js";
import { checkMixed, mixedCases, mixedErrors } from "../../src/kernels/subgroup-matrix-check.js";
import { subgroupMatrixTiles } from "../../src/kernels/subgroup-matrix-tile.js";
import { provideMatrixTiles } from "../../src/kernels/tile-choice.js";
import type { Kernel } from "../../src/tensor/kernel.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import type { MatrixUnits, TuningProfile } from "../../src/webgpu/family.js";
import { matrixUnits } from "../../src/webgpu/matrix-units.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { type Dispatch, type GpuView, paddedBytes, programKey, programSource } from "../../src/webgpu/program.js";
import { expectClose, expectParity, randomInput } from "../support.js";

const adapters: Record<string, MatrixUnits> = {
  NVIDIA: { m: 16, n: 16, k: 16, lanes: 32 },
  "lavapipe of Mesa 26": { m: 8, n: 8, k: 8, lanes: 8 },
  "one with oblong matrices": { m: 16, n: 8, k: 16, lanes: 32 },
};

beforeAll(() => provideMatrixTiles(subgroupMatrixTiles)); // As openDevice does for mixed precision.

/** A call's dispatches, of which nothing is run. */
function dispatchesOf<Params>(
  matrices: MatrixUnits,
  kernel: Kernel<Params>,
  { inputs, outputs, params }: { inputs: readonly Shape[]; outputs: readonly Shape[]; params: Params },
): Dispatch[] {
  const profile: TuningProfile = {
    family: "hardware",
    matrices,
    maxBindingBytes: 2 ** 31,
    maxStorageBuffers: 8,
    maxWorkgroupBytes: 49152,
  };
  const view = (shape: Shape): GpuView => {
    const size = sizeOf(shape);
    return { shape, dtype: "f32", size, buffer: {} as never, byteOffset: 0, byteLength: paddedBytes(size) };
  };
  const found: Dispatch[] = [];
  kernel.webgpu({
    inputs: inputs.map(view),
    outputs: outputs.map(view),
    params,
    profile,
    scratch: ({ shape }) => view(shape),
    constant: () => expect.fail("no constants are expected"),
    joined: () => undefined,
    dispatch: (dispatch) => found.push(dispatch),
  });
  return found;
}

/**
 * Dispatches of every kind of text: transpositions, aligned or not, bias and activation, strides; by small and large
 * tiles.
 */
function allDispatches(units: MatrixUnits): Dispatch[] {
  const products = [64, 63].flatMap((k) =>
    [
      { m: 70, n: k },
      { m: 20_000, n: 12 },
      { m: 4096, n: 4100 },
    ].flatMap(({ m, n }) =>
      [0, 1, 2, 3].flatMap((transposes) => {
        const [transposeA, transposeB] = [transposes % 2 === 1, transposes >= 2];
        return dispatchesOf(units, matmulKernel, {
          inputs: [transposeA ? [k, m] : [m, k], transposeB ? [n, k] : [k, n], [n]],
          outputs: [[m, n]],
          params: { transposeA, transposeB, activation: "relu" },
        });
      }),
    ),
  );
  const convolutions = [
    { channels: [32, 64], strides: 1 },
    { channels: [3, 5], strides: 2 },
    { channels: [32, 5], strides: 2 },
    { channels: [5, 32], strides: 1 },
  ].flatMap(({ channels: [inputs, outputs], strides }) => {
    const geometry = conv2dGeometry([32, 20, 20, inputs!], [3, 3, inputs!, outputs!], { padding: "same", strides });
    const [x, kernel, y] = [inputShape(geometry), kernelShape(geometry), outputShape(geometry)];
    return [
      ...dispatchesOf(units, conv2dKernel, {
        inputs: [x, kernel, [outputs!]],
        outputs: [y],
        params: { geometry, activation: "tanh" },
      }),
      ...dispatchesOf(units, conv2dInputGradientKernel, { inputs: [y, kernel], outputs: [x], params: { geometry } }),
      ...dispatchesOf(units, conv2dKernelGradientKernel, {
        inputs: [x, y],
        outputs: [kernel, [outputs!]],
        params: { geometry },
      }),
    ];
  });
  return [...products, ...convolutions];
}

describe("WGSL", () => {
  let gpu: GPU;
  let device: GPUDevice;
  beforeAll(async () => {
    gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
    const adapter = (await gpu.requestAdapter())!;
    expect(adapter.info.device).toBe("null-backend");
    device = await adapter.requestDevice({
      requiredFeatures: ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix" as GPUFeatureName],
    });
  });
  afterAll(() => device.destroy());

  /** Errors, and warnings such as those about deprecated functions. */
  const messagesOf = async (code: string) => {
    device.pushErrorScope("validation");
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    return messages.map(({ type, lineNum, message }) => `${type} in line ${lineNum}: ${message}`);
  };

  it.each(Object.entries(adapters))("compiles for %s", async (_, units) => {
    const programs = new Map<string, Dispatch>();
    for (const dispatch of allDispatches(units)) programs.set(programKey("", dispatch), dispatch);
    const onUnits = [...programs].filter(([, dispatch]) => dispatch.program().subgroupMatrices);
    for (const { name } of subgroupMatrixTiles(units)) {
      expect(
        onUnits.some(([key]) => key.includes(`${name} `)),
        name,
      ).toBe(true);
    }
    expect(onUnits.length).toBeGreaterThan(30);
    for (const [key, dispatch] of programs) {
      expect(await messagesOf(programSource(dispatch)), key).toEqual([]);
    }
  });

  it.each(Object.entries(adapters))("the check of a device of %s takes every tile", (_, units) => {
    const keys = mixedCases().flatMap(({ kernel, ...call }) => dispatchesOf(units, kernel, call).map(({ key }) => key));
    for (const { name } of subgroupMatrixTiles(units)) expect(keys.some((key) => key.includes(`${name} `))).toBe(true);
  });

  it("is refused where it is wrong, so the test above can fail", async () => {
    const [dispatch] = allDispatches(adapters["NVIDIA"]!);
    const code = programSource(dispatch!);
    expect(
      await messagesOf(code.replace("subgroup_matrix_left<f16, 16, 16>", "subgroup_matrix_right<f16, 16, 16>")),
    ).not.toEqual([]);
    expect(await messagesOf(code.replace("enable chromium_experimental_subgroup_matrix;", ""))).not.toEqual([]);
  });

  it("fits the workgroup of every adapter", () => {
    for (const units of Object.values(adapters)) {
      for (const tile of subgroupMatrixTiles(units)) {
        expect(tile.invocations % units.lanes).toBe(0);
        expect(tile.invocations).toBeLessThanOrEqual(256);
        expect(tile.workgroupBytes).toBeLessThanOrEqual(49152);
      }
    }
  });
});

describe("choosing matrix units", () => {
  const adapter = (configs: readonly object[], subgroups: readonly [number, number], features: readonly string[]) =>
    ({
      info: {
        description: "Some GPU",
        subgroupMinSize: subgroups[0],
        subgroupMaxSize: subgroups[1],
        subgroupMatrixConfigs: configs,
      },
      features: new Set(features),
    }) as unknown as GPUAdapter;
  const all = ["chromium-experimental-subgroup-matrix", "shader-f16", "subgroups"];
  const config = (M: number, N: number, K: number, resultComponentType = "f32") => ({
    componentType: "f16",
    resultComponentType,
    M,
    N,
    K,
  });

  it("takes the largest float16 matrices with float32 sums", () => {
    const configs = [config(16, 16, 16, "f16"), config(16, 8, 8), config(16, 16, 16), config(16, 8, 16)];
    expect(matrixUnits(adapter(configs, [32, 32], all))).toEqual({ m: 16, n: 16, k: 16, lanes: 32 });
  });

  it("says what an adapter lacks", () => {
    expect(() => matrixUnits(adapter([], [32, 32], ["shader-f16"]))).toThrow(
      /Some GPU lacks the feature chromium-experimental-subgroup-matrix; update its driver or use precision "float32"/,
    );
    expect(() => matrixUnits(adapter([config(8, 8, 8, "f16")], [32, 32], all))).toThrow(/no f16 matrices.*f16 to f16/);
    expect(() => matrixUnits(adapter([config(8, 16, 16)], [8, 32], all))).toThrow(/subgroups of 8 to 32 lanes/);
  });

  it("needs the hardware profile, and a name that is one", async () => {
    await expect(openDevice("webgpu", { profile: "software", precision: "mixed" })).rejects.toThrow(/leave out one/);
    await expect(openDevice("webgpu", { precision: "half" as never })).rejects.toThrow(
      /"float32" or "mixed", got "half"/,
    );
    vi.stubEnv("KILOGRAD_PRECISION", "half");
    await expect(openDevice("webgpu")).rejects.toThrow(/"float32" or "mixed", got "half"/);
    vi.unstubAllEnvs();
  });
});

/** A device of mixed precision, or why there is none. */
const opened = await openDevice("webgpu", { precision: "mixed" }).catch((error: Error & { code?: string }) => {
  if (error.code !== "LIMIT") throw error;
  return error.message;
});

describe.skipIf(typeof opened === "string")(
  `on the adapter's matrix units${typeof opened === "string" ? ` (${opened})` : ""}`,
  () => {
    const device = opened as WebGpuDevice;
    afterAll(() => device.destroy());
    const random = new RandomStream(3, "subgroup matrix test");
    /** Multiples of 1/32 in [-1, 1]: float16 numbers, whose products and sums float32 holds exactly. */
    const exact = (shape: Shape) => randomInput(random, shape, () => (random.integer(65) - 32) / 32);

    it("proves itself with figures", async () => {
      const errors = await mixedErrors(device);
      console.log(errors.map(({ name, error }) => `${name}: ${error.toExponential(1)}`).join("\n"));
      expect(errors.length).toBeGreaterThan(8);
      for (const { name, error, tolerance } of errors) expect(error, name).toBeLessThanOrEqual(tolerance);
      // Rounding to float16 is seen: this is no float32 in disguise.
      expect(errors.find(({ name }) => name.includes("rounded"))!.error).toBeGreaterThan(1e-5);
    });

    it("fails with figures on a device that computes something else", async () => {
      const run = device.run.bind(device);
      const wrong = vi
        .spyOn(device, "run")
        .mockImplementation((kernel, inputs, outputs, params) =>
          run(
            kernel,
            inputs,
            outputs,
            kernel === (matmulKernel as unknown) ? ({ ...(params as object), activation: "relu" } as never) : params,
          ),
        );
      await expect(checkMixed(device)).rejects.toThrow(
        /computes wrongly.*matmul \[70, 100\].*error \d.*allowed 0.000001/s,
      );
      wrong.mockRestore();
    });

    it.each([0, 1, 2, 3])("multiplies, with gradients, transposes %i", async (transposes) => {
      const [transposeA, transposeB] = [transposes % 2 === 1, transposes >= 2];
      const product = (m: number, n: number, k: number, batch: readonly number[] = []) =>
        expectParity(
          device,
          (a, b, bias) => matmul(a!, b!, { transposeA, transposeB, bias: bias!, activation: "relu" }),
          [exact([...batch, ...(transposeA ? [k, m] : [m, k])]), exact(transposeB ? [n, k] : [k, n]), exact([n])],
          { forward: 1e-6, gradient: 2e-3 },
        );
      await product(33, 40, 72);
      await product(17, 10, 5);
      await product(9, 7, 31, [3]);
      await product(8, 36, 5000);
    });

    it.each([
      { x: [5, 13, 13, 24], kernel: [3, 3, 24, 36], options: {} },
      { x: [3, 28, 28, 1], kernel: [3, 3, 1, 24], options: {} },
      { x: [2, 12, 10, 3], kernel: [5, 5, 3, 16], options: { padding: "same", strides: 2 } },
      { x: [2, 14, 13, 8], kernel: [2, 3, 8, 10], options: { strides: [1, 3], dilations: [1, 2] } },
      { x: [20, 5, 5, 36], kernel: [3, 3, 36, 64], options: { padding: "same" } },
    ] as const)("convolves, with gradients, %o", async ({ x, kernel, options }) => {
      await expectParity(
        device,
        (input, weights, bias) => conv2d(input!, weights!, { ...options, bias: bias!, activation: "relu" }),
        [exact(x), exact(kernel), exact([kernel[3]])],
        { forward: 1e-6, gradient: 2e-3 },
      );
    });

    it("gives equal bits on every run", async () => {
      const run = async () => {
        const inputs = [new RandomStream(1, "a"), new RandomStream(1, "b")].map((stream) =>
          randomInput(stream, [300, 300]),
        );
        const { tensor } = await import("../../src/tensor/tensor.js");
        const [a, b] = inputs.map(({ values, shape }) => tensor(device, values, { shape }));
        const c = matmul(a!, b!, { transposeB: true });
        const data = await c.data();
        for (const t of [a!, b!, c]) t.dispose();
        return data;
      };
      expectClose(await run(), await run(), { rtol: 0 });
    });
  },
);
