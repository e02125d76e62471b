// What the page "Train" computes, wherever it runs: a small convolutional network on digits, told of round by round.
import { type Device, data, loss, nn, optim } from "../../../src/index.js";

export interface TrainSettings {
  readonly rate: number;
  readonly batch: number;
  /** Digits to train on, of those that are built in. */
  readonly count: number;
  readonly epochs: number;
  readonly seed: number;
}

/** After a round of steps. */
export interface Round {
  readonly step: number;
  readonly steps: number;
  /** Mean over the round. */
  readonly loss: number;
  readonly accuracy: number;
  readonly testAccuracy: number;
  /** Of a step, milliseconds. */
  readonly stepMs: number;
  /** [10][10]: test digits by what they are and what they are taken for. */
  readonly confusion: readonly (readonly number[])[];
  /** The kernels of the first layer, [3, 3, filters]. */
  readonly kernels: Float32Array;
}

export interface TrainControl {
  readonly signal: AbortSignal;
  /** Resolves at once, or when the training shall go on. */
  readonly running: () => Promise<void>;
  readonly tell: (round: Round) => void;
}

/** Steps of a round. */
export const ROUND = 20;
/** Test digits that are looked at after each. */
const TESTED = 500;

/** The model of `npm start`. */
export function smallCnn(device: Device, seed: number): nn.Model {
  const relu = { activation: "relu" } as const;
  const conv = (filters: number) => nn.conv2d({ filters, kernelSize: 3, ...relu });
  return nn.sequential({ device, seed, inputShape: [28, 28, 1], name: "small-cnn" }, [
    ...[conv(24), nn.maxPool2d(2), conv(36), nn.maxPool2d(2), conv(64)],
    ...[nn.flatten(), nn.dense({ units: 64, ...relu }), nn.dense({ units: 10, activation: "softmax" })],
  ]);
}

/** The digits of a training: those that are built in, or of dropped files. */
export interface Digits {
  readonly train: data.LabelledImages;
  readonly test: data.LabelledImages;
}

export const builtInDigits = ({ count, seed }: TrainSettings): Digits =>
  data.digits({ seed, trainCount: count, testCount: TESTED });

/** Trains `model`; the same settings give the same numbers on the same adapter. */
export async function train(
  model: nn.Model,
  { train: images, test }: Digits,
  { rate, batch, epochs, seed }: TrainSettings,
  { signal, running, tell }: TrainControl,
): Promise<void> {
  const perEpoch = Math.ceil(images.count / batch);
  const steps = epochs * perEpoch;
  const pixels = 28 * 28;
  let [begun, waited] = [performance.now(), 0];
  // A round is what fit calls an epoch, so that it is told of after every ROUND steps.
  async function* batches(round: number) {
    let order: { readonly epoch: number; readonly indices: Uint32Array } | undefined;
    for (let step = round * ROUND; step < Math.min(steps, (round + 1) * ROUND); step++) {
      const pause = performance.now();
      await running();
      waited += performance.now() - pause;
      const epoch = Math.floor(step / perEpoch);
      if (order?.epoch !== epoch) order = { epoch, indices: data.shuffledIndices(images.count, seed, epoch) };
      const at = (step % perEpoch) * batch;
      const rows = order.indices.subarray(at, at + batch);
      const x = new Float32Array(rows.length * pixels);
      for (const [i, row] of rows.entries())
        x.set(images.images.subarray(row * pixels, (row + 1) * pixels), i * pixels);
      yield { x, y: Int32Array.from(rows, (row) => images.labels[row]!) };
    }
  }
  const looked = { images: test.images.subarray(0, TESTED * pixels), labels: test.labels.subarray(0, TESTED) };
  const watch: nn.Callback = {
    name: "watch",
    async onEpochEnd(round, logs) {
      const step = Math.min(steps, (round + 1) * ROUND);
      const stepMs = (performance.now() - begun - waited) / (step - round * ROUND);
      const confusion = Array.from({ length: 10 }, () => new Array<number>(10).fill(0));
      const { data: answers } = await model.predict(looked.images);
      let right = 0;
      for (const [i, label] of looked.labels.entries()) {
        const row = Array.from(answers.subarray(10 * i, 10 * i + 10));
        const said = row.indexOf(row.reduce((a, b) => Math.max(a, b)));
        confusion[label]![said]!++;
        if (said === label) right++;
      }
      const kernels = Float32Array.from(await model.weights()[0]!.tensor.data());
      const testAccuracy = right / looked.labels.length;
      tell({ step, steps, loss: logs["loss"]!, accuracy: logs["accuracy"]!, testAccuracy, stepMs, confusion, kernels });
      [begun, waited] = [performance.now(), 0];
    },
  };
  await model.fit(batches, {
    ...{ optimizer: optim.adam({ learningRate: rate }), loss: loss.crossEntropy, seed, signal },
    ...{ epochs: Math.ceil(steps / ROUND), callbacks: [watch] },
  });
}
