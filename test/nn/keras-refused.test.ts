// What docs/formats.md says of Keras's layers: which are read, and which are refused by name.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fromKerasModel } from "../../src/nn/formats/keras.js";
import { DataError } from "../../src/tensor/errors.js";

/** Of keras.layers 3.15.1, without other names of the same, base classes, InputLayer and TimeDistributed. */
const READ = `
  Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D BatchNormalization
  Concatenate Conv1D Conv2D Conv2DTranspose Cropping1D Cropping2D Dense DepthwiseConv2D Dot Dropout ELU Embedding
  Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D
  GlobalMaxPooling2D GroupNormalization Identity LayerNormalization LeakyReLU MaxPooling1D MaxPooling2D Maximum
  Minimum MultiHeadAttention Multiply Normalization PReLU Permute RandomBrightness RandomColorDegeneration
  RandomColorJitter RandomContrast RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
  RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
  RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing
  SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D Subtract UpSampling1D UpSampling2D ZeroPadding1D
  ZeroPadding2D
`
  .trim()
  .split(/\s+/);

const docs = readFileSync("docs/formats.md", "utf8");
const passage = /these are refused by name:\n([\s\S]*?)\n`nn\.defineLayer`/.exec(docs)![1]!;
const refused = [...passage.matchAll(/`(\w+)`/g)].map(([, name]) => name!);

const read = (className: string) =>
  fromKerasModel(
    {
      class_name: "Sequential",
      config: {
        name: "net",
        layers: [
          { class_name: "InputLayer", config: { name: "input", batch_shape: [null, 8, 8, 3] } },
          { class_name: className, config: { name: "it" } },
        ],
      },
    },
    "the file",
    undefined,
    "3.15.1",
  );

describe("layers of Keras", () => {
  test("are listed as refused that are, each by its name", () => {
    expect(refused.length).toBe(66);
    for (const className of refused) {
      expect(() => read(className), className).toThrow(DataError);
      expect(() => read(className), className).toThrow(`layer "it" (${className})`);
    }
  });

  test("are not listed that are read", () => {
    expect(READ.filter((className) => refused.includes(className))).toEqual([]);
    for (const className of READ) expect(() => read(className), className).not.toThrow();
  });
});
