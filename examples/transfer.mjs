// Transfer: a network that was trained on other pictures learns the classes of a folder.
//
//   node examples/transfer.mjs FOLDER MODEL OUT [EPOCHS]
//
// FOLDER has a folder of PNG or JPEG pictures for each class. MODEL is a file of any format that `nn.loadModel` reads:
// a classifier of pictures whose last layer is the classifier. OUT is where the new model goes.
//
// First only a new classifier learns, while the network is frozen: its weights have no gradients, and its batch
// normalisation keeps its statistics. Then the last layers learn, too, at a tenth of the rate.
import { data, loss, nn, openDevice, optim } from "kilograd/node";
// A stored vision transformer has layers that are defined there.
import "kilograd/applications";

const [folder, file, out, epochs = "3"] = process.argv.slice(2);
if (out === undefined) throw new Error("usage: node examples/transfer.mjs FOLDER MODEL OUT [EPOCHS]");

const device = await openDevice("webgpu");
const network = await nn.loadModel(file, { device });
const [height, width, channels] = network.inputShape;
const { train, validation, classNames } = await data.fromFolder(folder, {
  ...{ size: [height, width], channels, batchSize: 8, validationSplit: 0.25, seed: 1 },
});

// The network up to what goes into its classifier. Pictures come from 0 to 1; it was trained on -1 to 1.
const classifier = network.layers.at(-1);
const before = network.calls.at(-1).inputs[0] - network.inputs.length;
const features = network.layers[network.calls[before].layer];
const picture = nn.input({ shape: network.inputShape });
const scaled = nn.rescaling({ scale: 2, offset: -1 })(picture);
const found = network.apply(scaled, { name: "network", until: features.name });
const head = nn.dense({ units: classNames.length, activation: "softmax", name: "classes" });
const model = nn.model({ device, seed: 1, inputs: picture, outputs: head(nn.dropout(0.2)(found)) });
console.log(`${network.name} without "${classifier.name}", which told ${network.outputShape[0]} classes apart`);

const learn = async (learningRate) => {
  const { total, trainable } = model.countParameters();
  const { history } = await model.fit(train, {
    ...{ optimizer: optim.adam({ learningRate }), loss: loss.crossEntropy, epochs: Number(epochs) },
    ...{ validationData: validation, metrics: ["accuracy"] },
  });
  const last = Object.fromEntries(Object.entries(history).map(([name, values]) => [name, values.at(-1)]));
  console.log(JSON.stringify({ total, trainable, ...last }));
};

for (const layer of model.layers) layer.trainable = layer.name === "classes";
await learn(1e-2);

const isNormalization = (layer) => layer.placed.layer.className === "BatchNormalization";
for (const layer of model.layers.slice(-12)) layer.trainable = !isNormalization(layer);
await learn(1e-3);

await nn.saveModel(out, model, { notes: { classes: classNames.join(",") } });
console.log(`${out} tells ${classNames.join(", ")}`);
device.destroy();
