// What the page "Depth" computes: networks of narrow layers, plain SGD, and the largest gradient of each layer.
import { abs, backward, type Device, data, loss, max, nn, optim, scope, tensor } from "../../../src/index.js";

export const activations = ["relu", "tanh", "sigmoid", "lecunTanh"] as const;
export type Activation = (typeof activations)[number];

export interface DepthSettings {
  readonly depth: number;
  readonly steps: number;
  readonly seed: number;
}

/** A network after some steps. */
export interface Depth {
  readonly activation: Activation;
  readonly step: number;
  readonly loss: number;
  /** max |dE/dW| of each layer, from the first to the output. */
  readonly gradients: readonly number[];
}

const [UNITS, BATCH, RATE, EVERY] = [32, 32, 0.01, 20];

function network(device: Device, { depth, seed }: DepthSettings, activation: Activation): nn.Model {
  return nn.sequential({ device, seed, inputShape: [28, 28, 1] }, [
    nn.flatten(),
    ...Array.from({ length: depth }, () => nn.dense({ units: UNITS, activation })),
    nn.dense({ units: 10, activation: "softmax" }),
  ]);
}

/** Trains one network, and tells of it every so many steps. */
export async function trainDeep(
  device: Device,
  settings: DepthSettings,
  activation: Activation,
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (depth: Depth) => void },
): Promise<void> {
  const { steps, seed } = settings;
  const count = Math.max(BATCH, steps * BATCH);
  const { train } = data.digits({ seed, trainCount: Math.min(count, 10_000), testCount: 1 });
  const model = network(device, settings, activation);
  try {
    const first = { x: train.images.subarray(0, BATCH * 784), y: train.labels.subarray(0, BATCH) };
    const look = async (step: number) => {
      const parts = scope(() => {
        const x = tensor(device, first.x, { shape: [BATCH, 28, 28, 1] });
        const value = loss.crossEntropy(model.logits(x), tensor(device, first.y));
        backward(value);
        const kernels = model.weights().filter(({ name }) => name.endsWith("/kernel"));
        const found = [value, ...kernels.map(({ tensor: { grad } }) => max(abs(grad!)))];
        for (const weight of model.parameters()) {
          weight.grad!.dispose();
          weight.grad = null;
        }
        return found;
      });
      const numbers: number[] = [];
      for (const part of parts) {
        numbers.push(await part.item());
        part.dispose();
      }
      tell({ activation, step, loss: numbers[0]!, gradients: numbers.slice(1) });
    };
    await look(0);
    const optimizer = optim.sgd({ learningRate: RATE });
    for (let done = 0; done < steps; ) {
      signal.throwIfAborted();
      const end = Math.min(steps, done + EVERY);
      for (let step = done; step < end; step++) {
        const at = (step * BATCH) % (train.count - BATCH + 1);
        const value = scope(() =>
          model.trainStep(
            tensor(device, train.images.subarray(at * 784, (at + BATCH) * 784), { shape: [BATCH, 28, 28, 1] }),
            tensor(device, train.labels.subarray(at, at + BATCH)),
            { optimizer, loss: loss.crossEntropy },
          ),
        );
        value.dispose();
      }
      done = end;
      await look(done);
    }
  } finally {
    model.dispose();
  }
}
