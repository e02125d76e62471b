// What a network of pictures looks at, falls for, and looks for: the pictures of docs/mobilenet-v2.md.
//
//   node examples/mobilenet.mjs MODEL PHOTO.png OUT [STEPS] [CLASSES]
//
// MODEL is a file of any format that `nn.loadModel` reads: a classifier whose layers have the names of Keras's
// MobileNetV2, and whose pictures come from -1 to 1. PHOTO.png has its size. CLASSES are names, with commas between.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { io, nn, openDevice } from "kilograd/node";
// A stored network of the library has layers that are defined there.
import "kilograd/applications";
import {
  attackImages,
  attacks,
  attributions,
  objectives,
  optimizeInputs,
  parametrizations,
  transforms,
} from "kilograd/inputs";
import { PNG } from "pngjs";

const [file, photoFile, out, stepsGiven = "128", names = ""] = process.argv.slice(2);
if (out === undefined) throw new Error("usage: node examples/mobilenet.mjs MODEL PHOTO.png OUT [STEPS] [CLASSES]");
const steps = Number(stepsGiven);

const device = await openDevice("webgpu");
const network = await nn.loadModel(file, { device });
const [size] = network.inputShape;
const nameOf = (index) => names.split(",")[index] || `class ${index}`;

// Values from 0 to 1 go in, as the functions of kilograd/inputs have them.
const picture = nn.input({ shape: network.inputShape });
const scaled = nn.rescaling({ scale: 2, offset: -1 })(picture);
const model = nn.model({ device, inputs: picture, outputs: network.apply(scaled, { name: "network" }) });
model.trainable = false;
const layer = (name) => model.layers.find((each) => each.name.endsWith(`/${name}`)).name;

const report = {};
const write = (name, pixels, { width = size, height = size } = {}) =>
  writeFile(join(out, `${name}.png`), io.encodeRgbPng(pixels, { width, height }));
/** Pictures [N, size, size, 3] beside each other, a pixel of white between. */
async function writeRow(name, pictures) {
  const width = pictures.length * (size + 1) - 1;
  const row = new Float32Array(size * width * 3).fill(1);
  pictures.forEach((pixels, i) => {
    for (let y = 0; y < size; y++)
      row.set(pixels.subarray(3 * y * size, 3 * (y + 1) * size), 3 * (y * width + i * (size + 1)));
  });
  await write(name, row, { width });
}
const split = (pixels) =>
  Array.from({ length: pixels.length / (3 * size * size) }, (_, i) =>
    Float32Array.from(pixels.subarray(3 * size * size * i, 3 * size * size * (i + 1))),
  );

// The photo, and what the network says of it.
const { data: bytes } = PNG.sync.read(await readFile(photoFile));
const photo = Float32Array.from({ length: 3 * size * size }, (_, i) => bytes[4 * Math.floor(i / 3) + (i % 3)] / 255);
const answer = async (pixels) => {
  const { data: shares } = await model.predict(pixels);
  const best = shares.indexOf(Math.max(...shares));
  return { best, name: nameOf(best), share: shares[best] };
};
report.photo = await answer(photo);
const target = report.photo.best;

// Attribute: which pixels the answer depends on. Each map is shown over its largest value.
const grey = (values) => {
  const sums = Float32Array.from({ length: size * size }, (_, i) => {
    const each = values.length === size * size ? [values[i]] : values.subarray(3 * i, 3 * i + 3);
    return Math.max(
      0,
      each.reduce((sum, value) => sum + value, 0),
    );
  });
  const most = sums.toSorted()[Math.floor(0.995 * sums.length)] || 1;
  return Float32Array.from({ length: photo.length }, (_, i) => Math.min(1, sums[Math.floor(i / 3)] / most));
};
const saliency = await attributions.saliency(model, photo, { target });
const smooth = await attributions.smoothGrad(model, photo, { target, samples: 16, standardDeviation: 0.1, seed: 1 });
const path = await attributions.integratedGradients(model, photo, { target, steps: 512 });
const cam = await attributions.gradCam(model, photo, { target, layer: layer("block_13_expand_relu") });
const large = attributions.interpolate(cam, { size: [size, size], mode: "bilinear" });
const window = Math.round(size / 5);
const covered = await attributions.occlusion(model, photo, {
  ...{ target, slidingWindowShape: [window, window, 3], strides: Math.round(size / 10), baseline: 0.5 },
});
const maps = [saliency, smooth, { values: path.values.map(Math.abs) }, large, covered];
await writeRow("attributions", [photo, ...maps.map(({ values }) => grey(values))]);
report.completeness = { delta: path.delta[0], incomplete: path.incomplete.length };

// Attack: the smallest change that the answer does not survive.
const dataset = { images: photo, labels: Int32Array.of(target), count: 1, imageShape: model.inputShape };
const attacked = await attackImages(model, dataset, attacks.deepFool({ norm: "l2" }));
report.adversarial = {
  ...(await answer(attacked.images)),
  l2: attacked.distances.l2[0],
  linf: attacked.distances.linf[0],
};
const most = Math.max(...attacked.images.map((value, i) => Math.abs(value - photo[i])));
const change = photo.map((value, i) => 0.5 + (0.5 * (attacked.images[i] - value)) / most);
await writeRow("adversarial", [photo, change, Float32Array.from(attacked.images)]);

// Visualise: pictures that channels of layers answer most to, and the logits of classes.
const asked = ["block_3_expand_relu", "block_6_expand_relu", "block_10_expand_relu"].map((name) =>
  [10, 20, 30, 40].map((channel) => objectives.channel(layer(name), channel)),
);
const classes = Array.from(
  { length: Math.min(4, network.outputShape[0]) },
  (_, i) => (target + 3 * i) % network.outputShape[0],
);
report.visualised = { classes: classes.map(nameOf) };
for (const [i, list] of [...asked, classes.map((each) => objectives.logit(each))].entries()) {
  const { images, objective } = await optimizeInputs(model, {
    objective: objectives.perImage(...list),
    ...{ count: list.length, steps, seed: 1 },
    parametrization: parametrizations.fourier(),
    transforms: [
      ...[transforms.pad(8, { value: 0.5 }), transforms.jitter(8), transforms.scale({ from: 0.9, to: 1.1 })],
      ...[transforms.rotate(5), transforms.crop()],
    ],
  });
  await writeRow(i < asked.length ? `layer-${i + 1}` : "classes", split(images));
  console.log(`visualised ${i + 1} of ${asked.length + 1}`, objective.length);
}

await writeFile(join(out, "report.json"), `${JSON.stringify(report, null, 2)}\n`);
console.log(JSON.stringify(report));
device.destroy();
