// `kilograd doctor`: what the adapter is, how it will be used, and whether it computes right.

import { driverInUse } from "../driver/user-driver.js";
import { sequential } from "../nn/architecture.js";
import { conv2d } from "../nn/layers/conv2d.js";
import { flatten } from "../nn/layers/core.js";
import { dense } from "../nn/layers/dense.js";
import { maxPool2d } from "../nn/layers/pooling.js";
import { crossEntropy } from "../nn/losses.js";
import { sgd } from "../nn/optimizers.js";
import { CpuDevice } from "../tensor/cpu.js";
import type { Device } from "../tensor/device.js";
import { RandomStream } from "../tensor/random.js";
import { tensor } from "../tensor/tensor.js";
import type { WebGpuDevice } from "../webgpu/device.js";
import { subgroupLanes } from "../webgpu/family.js";
import { choicesInUse } from "../webgpu/tuning.js";
import { describeAdapter, type RunContext, versions } from "./lib/frame/run.js";

/** The limits that decide what can be computed, and how. */
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
  "minUniformBufferOffsetAlignment",
] as const;

/** Result of the self-test. */
export interface SelfTest {
  readonly passed: boolean;
  readonly loss: number;
  readonly referenceLoss: number;
  /**
   * Largest difference between the weights' changes and the reference's, relative to the largest change of that weight.
   */
  readonly largestError: number;
  readonly tolerance: number;
  /** Compilation included. */
  readonly milliseconds: number;
}

/** Everything that `doctor` finds out. */
export async function doctor(context: RunContext) {
  const device = await context.openDevice();
  const { backend, profile: _, ...adapter } = describeAdapter(device);
  const { limits, features, info } = device.adapter;
  return {
    adapter,
    backend,
    driver: info.description || info.device,
    driverFolder: driverInUse()?.path ?? null,
    features: [...features].sort(),
    limits: Object.fromEntries(LIMITS.map((name) => [name, limits[name]])),
    profile: {
      ...device.profile,
      subgroupSize: device.profile.family === "software" ? subgroupLanes(device.profile) : null,
      matrices: device.profile.matrices ?? null,
    },
    tuning: choicesInUse(device.profile),
    versions: versions(),
    selfTest: await selfTest(device),
  };
}

/**
 * One training step of a small CNN on the device and on the float64 reference, from the same weights. All must agree:
 * convolution, pooling, dense layers, softmax, all gradients and the optimizer.
 */
export async function selfTest(device: WebGpuDevice): Promise<SelfTest> {
  // float16 operands have 11 bits, float32 24.
  const tolerance = device.precision === "mixed" ? 2e-2 : 1e-3;
  const begun = performance.now();
  const found = await trainOnce(device);
  const milliseconds = performance.now() - begun;
  const expected = await trainOnce(new CpuDevice());
  const largestError = errorOf(found, expected);
  // A NaN fails, too.
  const passed = largestError <= tolerance;
  return { passed, loss: found.loss, referenceLoss: expected.loss, largestError, tolerance, milliseconds };
}

/** What a training step did. */
export interface StepEffect {
  readonly loss: number;
  /** Of every weight, new values less old ones. */
  readonly changes: readonly Float64Array[];
}

/**
 * The largest error of the loss, relative to it, or of a weight's change, relative to that weight's largest; NaN if any
 * is.
 */
export function errorOf(found: StepEffect, expected: StepEffect): number {
  const errors = expected.changes.map((change, i) => {
    const largest = change.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const difference = change.reduce((a, b, at) => Math.max(a, Math.abs(b - found.changes[i]![at]!)), 0);
    // A weight that should not change may not change at all.
    return difference === 0 ? 0 : difference / largest;
  });
  return Math.max(Math.abs(found.loss / expected.loss - 1), ...errors);
}

/** One step of SGD on a small CNN. */
async function trainOnce(device: Device): Promise<StepEffect> {
  const model = sequential({ device, seed: 1, inputShape: [12, 12, 1], name: "self-test" }, [
    conv2d({ filters: 8, kernelSize: 3, activation: "relu" }),
    maxPool2d(2),
    conv2d({ filters: 12, kernelSize: 3, activation: "tanh" }),
    flatten(),
    dense({ units: 10, activation: "softmax" }),
  ]);
  const count = 6;
  const random = new RandomStream(1, "self-test");
  const images = Float32Array.from({ length: count * 144 }, () => random.uniform());
  const labels = Int32Array.from({ length: count }, () => random.integer(10));
  const valuesOf = async () => {
    const values: Float64Array[] = [];
    for (const weight of model.weights()) values.push(Float64Array.from(await weight.tensor.data()));
    return values;
  };
  const x = tensor(device, images, { shape: [count, 12, 12, 1] });
  const y = tensor(device, labels);
  const optimizer = sgd({ learningRate: 1 });
  try {
    const before = await valuesOf();
    const lossTensor = model.trainStep(x, y, { optimizer, loss: crossEntropy });
    const loss = await lossTensor.item();
    lossTensor.dispose();
    const after = await valuesOf();
    return { loss, changes: after.map((values, i) => values.map((value, at) => value - before[i]![at]!)) };
  } finally {
    for (const owned of [x, y, model, optimizer]) owned.dispose();
  }
}

/** The findings as text. */
export function doctorText(findings: Awaited<ReturnType<typeof doctor>>): string {
  const { adapter, backend, driver, driverFolder, features, limits, profile, tuning, selfTest: test } = findings;
  const { family, subgroupSize, matrices, maxBindingBytes, maxWorkgroupBytes } = profile;
  const bytes = (value: number) => (value >= 2 ** 20 ? `${Math.floor(value / 2 ** 20)} MiB` : `${value / 1024} KiB`);
  const sizes = new Set(["maxStorageBufferBindingSize", "maxBufferSize", "maxComputeWorkgroupStorageSize"]);
  const lines: [string, string][] = [
    ["adapter", `${adapter.device} (${[adapter.vendor, adapter.architecture].filter(Boolean).join(", ")})`],
    ["backend", backend],
    ["driver", driverFolder === null ? driver : `${driver}, your own in ${driverFolder}`],
    [
      "profile",
      `${family}: ${subgroupSize === null ? "no subgroups relied on" : `subgroups of ${subgroupSize}`}, bindings of ${bytes(maxBindingBytes)}, workgroup memory of ${bytes(maxWorkgroupBytes)}`,
    ],
    [
      "precision",
      matrices === null
        ? "float32"
        : `mixed: float16 matrices ${matrices.m} x ${matrices.k} by ${matrices.k} x ${matrices.n} with float32 sums, by ${matrices.lanes} lanes; all kernels checked`,
    ],
    ...tuning.map(({ name, option, measured }, i): [string, string] => [
      i === 0 ? "tuning" : "",
      `${name}: ${option}${measured ? ", as measured" : " (default; KILOGRAD_TUNE=on measures)"}`,
    ]),
    ...Object.entries(limits).map(([limit, value], i): [string, string] => [
      i === 0 ? "limits" : "",
      `${limit} ${sizes.has(limit) ? bytes(value) : value}`,
    ]),
    ["features", features.join(", ")],
    [
      "versions",
      Object.entries(findings.versions)
        .map(([part, version]) => `${part} ${version}`)
        .join(", "),
    ],
    [
      "self-test",
      `${test.passed ? "passed" : "FAILED"}: a training step ${test.passed ? "agrees" : "does not agree"} with the float64 reference ` +
        `(largest relative error ${test.largestError.toExponential(1)}, allowed ${test.tolerance}), ${Math.round(test.milliseconds)} ms`,
    ],
  ];
  return lines.map(([label, text]) => `${label.padEnd(10)} ${text}`).join("\n");
}
