// Networks that PyTorch exported, by both of its exporters: predictions and input gradients are PyTorch's.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { mul } from "../../../src/autograd/ops/elementwise.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import * as nn from "../../../src/nn/index.js";
import { scope } from "../../../src/tensor/scope.js";
import { type Shape, sizeOf } from "../../../src/tensor/shape.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../../support.js";

interface Stored {
  readonly shape: Shape;
  /** Base64 of float32. */
  readonly values: string;
}
interface Network {
  readonly name: string;
  /** Base64, by what exported them. */
  readonly files: Readonly<Record<string, string>>;
  readonly input: Stored;
  readonly output: Stored;
  /** Of sum(output * weights) for the input. */
  readonly gradient: string;
}

const { cases } = JSON.parse(readFileSync("test/nn/formats/onnx-torch.json", "utf8")) as { cases: Network[] };
const bytesOf = (text: string) => Uint8Array.from(Buffer.from(text, "base64"));
const numbersOf = (text: string) => new Float32Array(bytesOf(text).buffer);

/** [N, C, ...] as [N, ..., C], which is how Kilograd has images. */
function channelsLast({ shape, values }: Stored): { shape: Shape; values: Float32Array } {
  const given = numbersOf(values);
  if (shape.length !== 4) return { shape, values: given };
  const [batch, channels, ...image] = shape as [number, number, number, number];
  const positions = sizeOf(image);
  const found = new Float32Array(given.length);
  for (let n = 0; n < batch; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < positions; p++) {
        found[(n * positions + p) * channels + c] = given[(n * channels + c) * positions + p]!;
      }
    }
  }
  return { shape: [batch, ...image, channels], values: found };
}

/** Factors of the output in the loss, from -1 to 1 in PyTorch's order. */
const factorsOf = ({ shape }: Stored): Stored => {
  const last = sizeOf(shape) - 1;
  const factors = Float32Array.from({ length: last + 1 }, (_, i) => -1 + (2 * i) / last);
  return { shape, values: Buffer.from(factors.buffer).toString("base64") };
};

/** Each file with its network. */
const exported = () =>
  cases.flatMap((each) =>
    Object.entries(each.files).map(([by, file]) => [`${each.name}, by ${by}`, file, each] as const),
  );
describe("exported by PyTorch", () => {
  describeProfiles((device) => {
    test.each(exported())("%s", async (_, file, { input, output, gradient }) => {
      for (const place of [cpu, device()]) {
        const model = await nn.loadModel(bytesOf(file), { device: place, onMessage: () => {} });
        const [given, wanted, factors] = [input, output, factorsOf(output)].map(channelsLast);
        expect(model.inputShape).toEqual(given!.shape.slice(1));
        const x = tensor(place, given!.values, { shape: given!.shape });
        const [y, dx] = scope(() => {
          const weights = tensor(place, factors!.values, { shape: factors!.shape });
          const slope = grad((x) => sum(mul(model.call(x), weights)))(x);
          return [model.call(x), slope] as const;
        });
        expect(y.shape).toEqual(wanted!.shape);
        expectEachClose(await y.data(), wanted!.values, { rtol: 1e-5, atol: 1e-5 });
        const slope = channelsLast({ shape: input.shape, values: gradient });
        expectEachClose(await dx.data(), slope.values, { rtol: 1e-5, atol: 1e-5 });
        for (const t of [x, y, dx]) t.dispose();
        model.dispose();
      }
    });
  });
});
