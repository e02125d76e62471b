// What real networks of TensorFlow.js give, for nsfwjs.test.ts and face-api.test.ts. The packages lie in the cache of
// test/npm-package.ts: @tensorflow/tfjs 4.22.0, nsfwjs 4.3.0, @vladmandic/face-api 1.7.15, whose own code is the judge
// of its networks.
//   node test/nn/formats/tfjs-networks.mjs ~/.cache/kilograd/npm > test/nn/formats/tfjs-networks.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const cache = process.argv[2];
const pattern = (size) => Float32Array.from({ length: size * size * 3 }, (_, i) => (7919 * i) % 256);

/** Weights of a manifest by name. */
function weightMap(tf, manifest, bytes) {
  return tf.io.decodeWeights(
    new Uint8Array(bytes).buffer,
    manifest.flatMap(({ weights }) => weights),
  );
}

async function faces() {
  const folder = `${cache}/@vladmandic+face-api@1.7.15`;
  // This bundle is for browsers: where it takes itself to be in Node it wants modules that are not in it.
  const { versions } = process;
  Object.defineProperty(process, "versions", { value: {}, configurable: true });
  const faceapi = await import(`${folder}/dist/face-api.esm.js`);
  Object.defineProperty(process, "versions", { value: versions, configurable: true });
  const { tf } = faceapi;
  const numbers = [Float32Array, Int32Array, Uint8Array, Uint8ClampedArray];
  tf.env().setPlatform("here", { isTypedArray: (value) => numbers.some((each) => value instanceof each) });
  await tf.setBackend("cpu");
  const found = {};
  for (const [name, Net] of [
    ["face_expression", faceapi.FaceExpressionNet],
    ["age_gender", faceapi.AgeGenderNet],
  ]) {
    const manifest = JSON.parse(readFileSync(`${folder}/model/${name}_model-weights_manifest.json`, "utf8"));
    const net = new Net();
    net.loadFromWeightMap(weightMap(tf, manifest, readFileSync(`${folder}/model/${name}_model.bin`)));
    const input = new faceapi.NetInput([tf.tensor4d(pattern(112), [1, 112, 112, 3])]);
    const y = net.runNet(input);
    found[name] = Object.fromEntries(
      Object.entries(y.dataSync === undefined ? y : { logits: y }).map(([key, each]) => [key, [...each.dataSync()]]),
    );
  }
  return found;
}

async function inception() {
  const tf = createRequire(import.meta.url)(`${cache}/@tensorflow+tfjs@4.22.0/dist/tf.min.js`);
  await tf.setBackend("cpu");
  const load = createRequire(`${cache}/nsfwjs@4.3.0/dist/models/inception_v3/`);
  const { modelTopology, weightsManifest } = load("./model.min.js");
  const shards = weightsManifest.flatMap(({ paths }) =>
    paths.map((path) => Buffer.from(load(`./${path}.min.js`), "base64")),
  );
  const artifacts = {
    modelTopology,
    weightSpecs: weightsManifest.flatMap(({ weights }) => weights),
    weightData: new Uint8Array(Buffer.concat(shards)).buffer,
  };
  const model = await tf.loadLayersModel({ load: async () => artifacts });
  const x = tf.tensor4d(
    pattern(299).map((value) => value / 255),
    [1, 299, 299, 3],
  );
  return { pattern: [...model.predict(x).dataSync()] };
}

const found = await faces();
if (!process.argv.includes("--faces")) found.inception_v3 = await inception();
console.log(JSON.stringify(found, null, 1));
