// What the worker of the page "Dream" answers: both networks, one dream at a time.
import { openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { loadNetwork, networkNames } from "../networks.js";
import { type DreamSettings, dream } from "./dreaming.js";

let networks: Promise<Awaited<ReturnType<typeof loadNetwork>>[]> | undefined;
let stop = new AbortController();

/** Fetched with the first dream. */
function loaded() {
  networks ??= openDevice("webgpu").then((device) =>
    Promise.all(networkNames.map((name) => loadNetwork(name, device))),
  );
  return networks;
}

export const service = {
  async dream(settings: DreamSettings): Promise<void> {
    stop = new AbortController();
    for (const [i, model] of (await loaded()).entries()) {
      await dream(model, settings, {
        signal: stop.signal,
        tell: (value) => tell("dream", { network: networkNames[i], ...value }),
      });
    }
  },
  stop(): void {
    stop.abort(new Error("stopped"));
  },
};
export type DreamService = typeof service;
