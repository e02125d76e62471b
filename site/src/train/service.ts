// What the worker of the page "Train" answers: it holds the engine, the model and the digits.
import { data, nn, openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { builtInDigits, type Digits, smallCnn, type TrainSettings, train } from "./training.js";

const device = openDevice("webgpu");
let model: nn.Model | undefined;
let dropped: Digits | undefined;
let stop = new AbortController();
let pause: { readonly over: Promise<void>; readonly end: () => void } | undefined;

/** Files of one part serve as both: their last tenth is looked at. */
async function takeFiles(files: readonly Uint8Array[]): Promise<number> {
  const isImages = (bytes: Uint8Array) => bytes[3] === 3 || bytes.length > 1_000_000;
  const images = files.find(isImages);
  const labels = files.find((bytes) => bytes !== images);
  if (images === undefined || labels === undefined) {
    throw new Error("two files are needed: IDX images of 28 x 28 pixels, and their labels");
  }
  const { train: all } = await data.decodeMnist({
    ...{ trainImages: images, trainLabels: labels, testImages: images, testLabels: labels },
  });
  const { first: training, last: test } = data.splitImages(all, 0.1);
  dropped = { train: training, test };
  return all.count;
}

export const service = {
  files: takeFiles,
  async train(settings: TrainSettings): Promise<void> {
    stop = new AbortController();
    model?.dispose();
    model = smallCnn(await device, settings.seed);
    const digits =
      dropped === undefined
        ? builtInDigits(settings)
        : { ...dropped, train: data.limitImages(dropped.train, settings.count) };
    await train(model, digits, settings, {
      signal: stop.signal,
      running: async () => pause?.over,
      tell: (round) => tell("round", round),
    });
  },
  pause(): void {
    let end = (): void => {};
    const over = new Promise<void>((resolve) => {
      end = resolve;
    });
    pause = { over, end };
  },
  resume(): void {
    pause?.end();
    pause = undefined;
  },
  stop(): void {
    service.resume();
    stop.abort();
  },
  /** Of the adapter, by the engine's own count. */
  memory: async () => (await device).memory(),
  async encode(format: string): Promise<Uint8Array> {
    if (model === undefined) throw new Error("there is no trained network yet");
    return nn.encodeModel(model, { format });
  },
};
export type TrainService = typeof service;
