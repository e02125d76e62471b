// Trains one epoch over a folder of small PNGs that it makes in a temporary folder. It watches the process's memory and
// the share of time in which the device waits for pictures.
//
// npm run bench:folder -- --pictures 100000
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { data, io, loss, nn, openDevice, optim } from "../src/node.js";

const { values } = parseArgs({
  options: {
    pictures: { type: "string", default: "10000" },
    batch: { type: "string", default: "128" },
    /** That decode; by default as many as fromFolder takes. */
    threads: { type: "string" },
  },
});
const [pictures, batchSize] = [Number(values.pictures), Number(values.batch)];
if (!(pictures >= 2000 && batchSize >= 1)) throw new Error("bench:folder: needs --pictures from 2000, --batch from 1");

const folder = mkdtempSync(join(tmpdir(), "kilograd-folder-"));
try {
  const { train: digits } = data.digits({ seed: 1, trainCount: 1000, testCount: 1 });
  const encoded = Array.from({ length: digits.count }, (_, i) =>
    io.encodeGrayPng(digits.images.subarray(784 * i, 784 * (i + 1)), { width: 28, height: 28 }),
  );
  for (let label = 0; label < 10; label++) mkdirSync(join(folder, String(label)));
  for (let i = 0; i < pictures; i++) {
    writeFileSync(join(folder, String(digits.labels[i % 1000]), `${i}.png`), encoded[i % 1000]!);
  }
  const { train } = await data.fromFolder(folder, {
    ...{ channels: 1, batchSize },
    ...(values.threads !== undefined && { threads: Number(values.threads) }),
  });
  await using device = await openDevice("webgpu");
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
    ...[nn.conv2d({ filters: 24, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2)],
    ...[nn.flatten(), nn.dense({ units: 10, activation: "softmax" })],
  ]);
  const resident: number[] = [];
  const every = Math.max(1, Math.floor(train.batchCount / 40));
  const watch: nn.Callback = {
    name: "watch",
    onStepEnd({ stepInEpoch }) {
      if (stepInEpoch % every === 0) resident.push(process.memoryUsage().rss / 2 ** 20);
    },
  };
  const begun = performance.now();
  const options = { optimizer: optim.adam(), loss: loss.crossEntropy, callbacks: [watch] };
  const { timing, history } = await model.fit(train, options);
  const seconds = (performance.now() - begun) / 1000;
  const half = resident.slice(resident.length / 2);
  console.log(`${pictures} pictures of 28 x 28 in batches of ${batchSize}, one epoch: ${seconds.toFixed(1)} s`);
  console.log(`  ${Math.round(pictures / seconds)} pictures a second, loss ${history["loss"]![0]!.toFixed(4)}`);
  console.log(
    `  batches waited for ${timing.waitedMs.toFixed(0)} ms, the device idle for ${(100 * timing.idleShare).toFixed(1)} %`,
  );
  console.log(
    `  resident memory over the second half: ${Math.min(...half).toFixed(0)} to ${Math.max(...half).toFixed(0)} MiB, at its beginning ${half[0]!.toFixed(0)}, at its end ${half.at(-1)!.toFixed(0)}`,
  );
} finally {
  rmSync(folder, { recursive: true });
}
