// Real networks in the format of TensorFlow.js, out of the npm package nsfwjs (MIT): classifiers of photographs into
// five classes. No tests in here.
import { createRequire } from "node:module";
import type { FilesByName } from "../../../src/io/source.js";

/** A MobileNetV2 as a layers model, one of width 1.4 as a graph model, and an InceptionV3 as a layers model. */
export type NsfwjsModel = "mobilenet_v2" | "mobilenet_v2_mid" | "inception_v3";

/** The files of a network, from the folder of the package: JSON, and shards that are in base64 there. */
export function nsfwjsFiles(folder: string, name: NsfwjsModel): FilesByName {
  const load = createRequire(`${folder}/dist/models/${name}/`);
  const json = load("./model.min.js") as { weightsManifest: { paths: string[] }[] };
  const paths = json.weightsManifest.flatMap((group) => group.paths);
  return Object.fromEntries([
    ["model.json", new TextEncoder().encode(JSON.stringify(json))],
    ...paths.map((path) => [path, new Uint8Array(Buffer.from(load(`./${path}.min.js`), "base64"))]),
  ]);
}

/** A picture [1, size, size, 3] from 0 to 1. */
export const pattern = (size: number) =>
  Float32Array.from({ length: size * size * 3 }, (_, i) => ((7919 * i) % 256) / 255);

/** Reference inputs: a pattern, and grey; [1, 224, 224, 3]. */
export const nsfwjsInputs = {
  pattern: pattern(224),
  grey: new Float32Array(224 * 224 * 3).fill(0.5),
};
