// What a device of mixed precision must prove before it is handed out. Every tile on matrix units, with every way its
// operands are staged, is checked against the float64 reference. The extension is experimental, and drivers have had
// float16 wrong before. mixed-check.ts hands it to openDevice.
import { CpuDevice } from "../tensor/cpu.js";
import type { Device } from "../tensor/device.js";
import { DeviceError } from "../tensor/errors.js";
import type { Kernel } from "../tensor/kernel.js";
import { RandomStream } from "../tensor/random.js";
import { scope } from "../tensor/scope.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { runMany, tensor } from "../tensor/tensor.js";
import type { WebGpuDevice } from "../webgpu/device.js";
import { conv2dGeometry, inputShape, kernelShape, outputShape } from "./conv2d/geometry.js";
import { conv2dInputGradientKernel, conv2dKernel, conv2dKernelGradientKernel } from "./conv2d.js";
import { matmulKernel } from "./matmul.js";
import { subgroupMatrixTiles } from "./subgroup-matrix-tile.js";
import { provideMatrixTiles } from "./tile-choice.js";

/** One kernel on given inputs. */
interface Case<Params = never> {
  readonly name: string;
  readonly kernel: Kernel<Params>;
  readonly inputs: readonly Shape[];
  readonly outputs: readonly Shape[];
  readonly params: Params;
}

/** The largest error of a case, relative to its largest expected value; Infinity where a value is no number. */
export interface CaseError {
  readonly name: string;
  readonly error: number;
  readonly tolerance: number;
}

const testCase = <Params>(definition: Case<Params>) => definition as unknown as Case;

const product = (m: number, n: number, k: number, transposed: boolean) =>
  testCase({
    name: `matmul [${m}, ${k}] x [${k}, ${n}]${transposed ? ", both transposed" : ""}`,
    kernel: matmulKernel,
    inputs: transposed
      ? [
          [k, m],
          [n, k],
        ]
      : [
          [m, k],
          [k, n],
        ],
    outputs: [[m, n]],
    params: { transposeA: transposed, transposeB: transposed, activation: "linear" },
  });

/** Products that take the small, the narrow and the large tile, with edges, and the three passes of convolution. */
export function mixedCases(): Case[] {
  const geometry = conv2dGeometry([3, 9, 11, 20], [3, 3, 20, 44], { padding: "same", strides: 2 });
  const [x, kernel, y] = [inputShape(geometry), kernelShape(geometry), outputShape(geometry)];
  return [
    product(70, 84, 100, false),
    product(70, 84, 100, true),
    product(20_000, 12, 20, false),
    product(1300, 1100, 20, false),
    testCase({
      name: "conv2d",
      kernel: conv2dKernel,
      inputs: [x, kernel],
      outputs: [y],
      params: { geometry, activation: "linear" },
    }),
    testCase({
      name: "conv2d's input gradient",
      kernel: conv2dInputGradientKernel,
      inputs: [y, kernel],
      outputs: [x],
      params: { geometry },
    }),
    testCase({
      name: "conv2d's kernel gradient",
      kernel: conv2dKernelGradientKernel,
      inputs: [x, y],
      outputs: [kernel, [geometry.outputs]],
      params: { geometry },
    }),
  ];
}

/** Multiples of 1/32 are float16 numbers whose products and sums float32 holds exactly: only a wrong sum differs. */
const EXACT = { name: "", draw: (random: RandomStream) => (random.integer(65) - 32) / 32, tolerance: 1e-6 };
/** Other numbers are rounded to 11 bits, by at most 2^-11 of themselves each. */
const ROUNDED = { name: " (rounded)", draw: (random: RandomStream) => random.normal(), tolerance: 2e-3 };

async function outputsOf(device: Device, { kernel, inputs, outputs, params }: Case, values: readonly Float32Array[]) {
  const results = scope(() =>
    runMany(
      kernel,
      inputs.map((shape, i) => tensor(device, values[i]!, { shape })),
      outputs.map((shape) => ({ shape, dtype: "f32" })),
      params,
    ),
  );
  const data: ArrayLike<number>[] = [];
  for (const result of results) {
    data.push(await result.data());
    result.dispose();
  }
  return data;
}

function errorOf(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let largest = 0;
  let error = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(found[i]! - expected[i]!);
    largest = Math.max(largest, Math.abs(expected[i]!));
    error = Math.max(error, Number.isFinite(difference) ? difference : Number.POSITIVE_INFINITY);
  }
  return error / largest;
}

/** Runs all cases on a device of mixed precision. */
export async function mixedErrors(device: WebGpuDevice): Promise<CaseError[]> {
  const reference = new CpuDevice();
  const errors: CaseError[] = [];
  const definitions = mixedCases();
  for (const [test, { name, draw, tolerance }] of [
    ...definitions.map((test) => [test, EXACT] as const),
    [definitions[0]!, ROUNDED] as const,
  ]) {
    const random = new RandomStream(1, `mixed precision/${test.name}`);
    const values = test.inputs.map((shape) => Float32Array.from({ length: sizeOf(shape) }, () => draw(random)));
    const found = await outputsOf(device, test, values);
    const expected = await outputsOf(reference, test, values);
    const error = Math.max(...found.map((data, i) => errorOf(data, expected[i]!)));
    errors.push({ name: `${test.name}${name}`, error, tolerance });
  }
  // Loss scaling finds gradients that were too large by this.
  const [beyond] = await outputsOf(device, product(1, 1, 1, false), [Float32Array.of(1e6), Float32Array.of(1)]);
  errors.push({
    name: "overflow of float16 to infinity",
    error: Number.isFinite(beyond![0]!) ? Number.POSITIVE_INFINITY : 0,
    tolerance: 0,
  });
  return errors;
}

/**
 * Gives products on matrix units their tiles, and checks them on a device.
 * @throws DeviceError with every case that fails and its figures
 */
export async function checkMixed(device: WebGpuDevice): Promise<void> {
  provideMatrixTiles(subgroupMatrixTiles);
  const failed = (await mixedErrors(device)).filter(({ error, tolerance }) => !(error <= tolerance));
  if (failed.length === 0) return;
  const figures = failed.map(
    ({ name, error, tolerance }) => `${name}: error ${error.toExponential(1)}, allowed ${tolerance}`,
  );
  throw new DeviceError(
    "VALIDATION",
    `openDevice: precision "mixed" computes wrongly on ${device.adapter.info.description || device.adapter.info.device} (${figures.join("; ")}); update its driver or use precision "float32"`,
  );
}
