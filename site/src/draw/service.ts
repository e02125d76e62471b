// What the worker of the page "Draw" answers: both networks, asked for one thing after the other.
import { data, openDevice } from "../../../src/index.js";
import { loadNetwork, type NetworkName, networkNames } from "../networks.js";
import { attacked, attribute, leastChange, read } from "./reading.js";

type Networks = Readonly<Record<NetworkName, Awaited<ReturnType<typeof loadNetwork>>>>;
let networks: Promise<Networks> | undefined;
/** What is asked waits for what was asked before: one model does one thing at a time. */
let last: Promise<unknown> = Promise.resolve();

function loaded(): Promise<Networks> {
  networks ??= openDevice("webgpu").then(async (device) => {
    const models = await Promise.all(networkNames.map((name) => loadNetwork(name, device)));
    return Object.fromEntries(networkNames.map((name, i) => [name, models[i]!])) as Networks;
  });
  return networks;
}

function inTurn<Result>(work: (networks: Networks) => Promise<Result>): Promise<Result> {
  const done = last.then(() => loaded().then(work));
  last = done.catch(() => {});
  return done;
}

export const service = {
  read: (image: Float32Array) =>
    inTurn(async ({ plain, robust }) => {
      const readings = { plain: await read(plain, image), robust: await read(robust, image) };
      return { ...readings, attribution: await attribute(robust, image, readings.robust.digit) };
    }),
  change: (image: Float32Array, target: number) =>
    inTurn(async ({ plain, robust }) => ({
      plain: await leastChange(plain, image, target),
      robust: await leastChange(robust, image, target),
    })),
  attack: (image: Float32Array, epsilon: number) =>
    inTurn(async ({ plain, robust }) => ({
      plain: await attacked(plain, image, epsilon),
      robust: await attacked(robust, image, epsilon),
    })),
  /** A digit that no network was trained on. */
  sample(number: number): Float32Array {
    const { test } = data.digits({ seed: 11, trainCount: 1, testCount: number + 1 });
    return test.images.slice(784 * number, 784 * (number + 1));
  },
};
export type DrawService = typeof service;
