// What the worker of the page "Train" answers: it holds the engine, the model and the digits.
import { data, type nn, openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { builtInDigits, type Digits, smallCnn, type TrainSettings, train } from "./training.js";

const device = openDevice("webgpu");
let model: nn.Model | undefined;
let dropped: Digits | undefined;
let stop = new AbortController();
let pause: { readonly over: Promise<void>; readonly end: () => void } | undefined;

export const service = {
  /** Takes dropped files, and says how many digits they have. */
  async files(files: readonly Uint8Array[]): Promise<number> {
    const { digitsOf } = await import("./files.js");
    dropped = await digitsOf(files);
    return dropped.train.count + dropped.test.count;
  },
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
    const { encodeModel } = await import("./files.js");
    return encodeModel(model, { format });
  },
};
export type TrainService = typeof service;
