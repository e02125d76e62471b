// What the worker of the page "Look inside" answers: it holds one model.
import { nn, openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { loadNetwork } from "../networks.js";
import { activationsOf, describe, featureOf, look } from "./looking.js";

const device = openDevice("webgpu");
let model: nn.Model | undefined;

function held(): nn.Model {
  if (model === undefined) throw new Error("there is no model yet: drop one, or take our own");
  return model;
}

async function take(made: Promise<nn.Model>) {
  const next = await made;
  model?.dispose();
  model = next;
  return describe(next);
}

export const service = {
  /** A model of one file, or of several by their names, the first of which names the others. */
  async load(files: Readonly<Record<string, Uint8Array>>) {
    const given = Object.values(files);
    const options = { device: await device, onMessage: (message: string) => tell("remark", message) };
    return take(nn.loadModel(given.length === 1 ? given[0]! : files, options));
  },
  example: async () => take(loadNetwork("robust", await device)),
  look: (image: Float32Array) => look(held(), image),
  activations: (image: Float32Array, layer: string) => activationsOf(held(), image, layer, 32),
  feature: (layer: string, channel: number) =>
    featureOf(held(), { layer, channel, steps: 100 }, (value) => tell("feature", value)),
};
export type InsideService = typeof service;
