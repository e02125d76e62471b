// What the worker of the page "Depth" answers: one network after the other.
import { openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { activations, type DepthSettings, trainDeep } from "./deep.js";

const device = openDevice("webgpu");
let stop = new AbortController();

export const service = {
  async compare(settings: DepthSettings): Promise<void> {
    stop = new AbortController();
    for (const activation of activations) {
      await trainDeep(await device, settings, activation, {
        signal: stop.signal,
        tell: (depth) => tell("depth", depth),
      });
    }
  },
  stop(): void {
    stop.abort(new Error("stopped"));
  },
};
export type DepthService = typeof service;
