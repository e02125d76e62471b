// The small networks that pages ship with, fetched when a page asks for them; networks.mjs trains them.
import { type Device, nn } from "../../src/index.js";

/** Those that read digits. */
export const networkNames = ["plain", "robust"] as const;
export type NetworkName = (typeof networkNames)[number];

/** A network of the site, on a device. Built workers lie in a folder beside that of the networks. */
export async function loadNetwork(name: NetworkName | "finder" | "emotion", device: Device): Promise<nn.Model> {
  const answer = await fetch(new URL(`../networks/${name}.safetensors`, self.location.href));
  if (!answer.ok) throw new Error(`the network "${name}" could not be loaded: ${answer.status} ${answer.statusText}`);
  return nn.loadModel(new Uint8Array(await answer.arrayBuffer()), { device });
}
