// Wrong arguments from plain JavaScript: an error of the library at the call, which names the argument. The fuzz of the
// exports (test/fuzz/exports.test.ts) looks for the kinds that nobody thought of.
import { afterAll, describe, expect, it } from "vitest";
import * as K from "../../src/node.js";

describe.each(["cpu", "webgpu"])("on %s", async (kind) => {
  const d = await K.openDevice(kind as "cpu");
  afterAll(() => d.destroy());
  const x = K.tensor(d, [
    [1, 2],
    [3, 4],
  ]);
  const images = K.ones(d, [1, 4, 4, 1]);
  const kernel = K.ones(d, [3, 3, 1, 1]);
  // biome-ignore lint/suspicious/noExplicitAny: what TypeScript would refuse.
  const wrong = (value: unknown) => value as any;

  it.each<[string, () => unknown, RegExp]>([
    [
      "a misspelt option",
      () => K.conv2d(images, kernel, wrong({ stride: 2 })),
      /unknown option stride; did you mean strides\?/,
    ],
    ["an option of a layer", () => K.nn.dense(wrong({ units: 2, activaton: "relu" })), /did you mean activation\?/],
    ["an option of a tensor", () => K.tensor(d, [1], wrong({ dtyp: "i32" })), /did you mean dtype\?/],
    ["another library's name", () => K.optim.sgd(wrong({ lr: 5 })), /did you mean learningRate\?/],
    ["a dtype", () => K.cast(x, wrong("f16")), /cast: dtype must be one of/],
    ["a dtype of zeros", () => K.zeros(d, [2], wrong("f64")), /zeros: dtype must be one of/],
    ["a dtype of values", () => K.tensor(d, [1], wrong({ dtype: "f64" })), /tensor: dtype must be one of/],
    ["an activation", () => K.conv2d(images, kernel, wrong({ activation: "x" })), /conv2d: activation must be one of/],
    ["a padding", () => K.conv2d(images, kernel, wrong({ padding: null })), /conv2d: padding must be "valid"/],
    ["no values", () => K.tensor(d, wrong(null)), /tensor: values must be numbers/],
    ["values of another kind", () => K.tensor(d, wrong(BigInt64Array.of(1n))), /values must be numbers.*BigInt64Array/],
    ["an operand", () => x.mul(wrong(null)), /mul: operands must be tensors or numbers, got null/],
    ["options that are none", () => K.maxPool2d(images, wrong(2)), /maxPool2d: options must be an object of poolSize/],
    ["axes that are none", () => K.sum(x, wrong(null)), /sum: options must be an object of axis, axes, keepDims/],
    ["an async function", () => K.grad(wrong(async (y: K.Tensor) => y.sum()))(x), /grad: fn must be synchronous/],
    ["a function without a result", () => K.grad(wrong(() => undefined))(x), /must be a tensor, got undefined/],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(K.UsageError);
    expect(call).toThrow(message);
  });

  it.each<[string, () => unknown]>([
    ["arange", () => K.arange(d, 1e10)],
    ["zeros", () => K.zeros(d, [1e9, 1e9])],
    ["eye", () => K.eye(d, 1e6)],
  ])("%s beyond what a device holds", (op, call) => {
    expect(call).toThrow(K.DeviceError);
    expect(call).toThrow(new RegExp(`^${op}: a tensor on this ${kind} device has at most \\d+ elements`));
  });
});
