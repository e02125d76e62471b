// What the page "Kernels" computes: times of what training is made of, by the clock of the browser, and the ceilings of
// the adapter.
import {
  add,
  batchNorm,
  conv2d,
  data,
  grad,
  loss,
  matmul,
  ones,
  optim,
  randomKey,
  randomNormal,
  scope,
  softmax,
  sum,
  type Tensor,
  tensor,
  type WebGpuDevice,
  zeros,
} from "../../../src/index.js";
import { smallCnn } from "../train/training.js";

/** A row of the table. */
export interface Measured {
  readonly name: string;
  /** Of one call. */
  readonly ms: number;
  /** "12.3 GFLOP/s", "4.5 GB/s", "310 images/s". */
  readonly rate: string;
}

interface Item {
  readonly name: string;
  readonly work: { readonly flops: number } | { readonly bytes: number } | { readonly images: number };
  readonly run: () => Tensor;
}

/** A row is measured for so long. */
const LEAST_MS = 300;

function items(device: WebGpuDevice): Item[] {
  const random = (...shape: number[]) => randomNormal(device, shape, randomKey(0, shape.join()));
  const product = (n: number): Item => {
    const [a, b] = [random(n, n), random(n, n)];
    return { name: `product ${n} x ${n}`, work: { flops: 2 * n ** 3 }, run: () => matmul(a, b) };
  };
  const [x, kernel] = [random(32, 28, 28, 24), random(3, 3, 24, 36)];
  const flops = 2 * 32 * 26 * 26 * 36 * 9 * 24;
  const onKernel = grad((k: Tensor) => sum(conv2d(x, k)));
  const onInput = grad((input: Tensor) => sum(conv2d(input, kernel)));
  const [big, channels] = [random(4, 1024, 1024), random(64, 28, 28, 32)];
  const [gamma, beta] = [ones(device, [32]), zeros(device, [32])];
  const rows = random(1024, 1000);
  const step = (batch: number): Item => {
    const model = smallCnn(device, 0);
    const { train } = data.digits({ seed: 0, trainCount: batch, testCount: 1 });
    const images = tensor(device, train.images, { shape: [batch, 28, 28, 1] });
    const labels = tensor(device, train.labels);
    const options = { optimizer: optim.adam(), loss: loss.crossEntropy };
    const run = () => model.trainStep(images, labels, options);
    return { name: `training step of small-cnn, batch ${batch}`, work: { images: batch }, run };
  };
  return [
    product(256),
    product(1024),
    { name: "convolution 3 x 3, 24 to 36 channels, batch 32", work: { flops }, run: () => conv2d(x, kernel) },
    { name: "its gradient by the kernel", work: { flops }, run: () => onKernel(kernel) },
    { name: "its gradient by the input", work: { flops }, run: () => onInput(x) },
    { name: "sum of two tensors of 16 MB", work: { bytes: 3 * 4 * big.size }, run: () => add(big, big) },
    {
      name: "batch normalisation, 64 x 28 x 28 x 32",
      work: { bytes: 3 * 4 * channels.size },
      run: () => batchNorm(channels, { gamma, beta, runningMean: beta, runningVariance: gamma, training: false }),
    },
    { name: "softmax of 1024 x 1000", work: { bytes: 2 * 4 * rows.size }, run: () => softmax(rows) },
    step(32),
    step(128),
  ];
}

function rateOf(work: Item["work"], ms: number): string {
  if ("flops" in work) return `${(work.flops / ms / 1e6).toFixed(1)} GFLOP/s`;
  if ("bytes" in work) return `${(work.bytes / ms / 1e6).toFixed(1)} GB/s`;
  return `${((1000 * work.images) / ms).toFixed(0)} images/s`;
}

/** Runs `run` so often, and waits for the adapter. */
async function timeOf(run: () => Tensor, calls: number): Promise<number> {
  const begun = performance.now();
  let last: Tensor | undefined;
  for (let call = 0; call < calls; call++) {
    last?.dispose();
    last = scope(run);
  }
  const value = scope(() => sum(last!));
  await value.item();
  value.dispose();
  last!.dispose();
  return performance.now() - begun;
}

/** Measures every row, and tells of each. */
export async function measure(device: WebGpuDevice, tell: (row: Measured) => void): Promise<void> {
  for (const { name, work, run } of items(device)) {
    // The first call compiles.
    await timeOf(run, 1);
    const once = await timeOf(run, 1);
    const calls = Math.max(2, Math.min(500, Math.ceil(LEAST_MS / once)));
    const ms = Math.min(...[await timeOf(run, calls), await timeOf(run, calls)]) / calls;
    tell({ name, ms, rate: rateOf(work, ms) });
  }
}
