// Protobuf messages of ONNX: files that Python's onnx package wrote, messages there and back, and damaged bytes.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ATTRIBUTE_TYPE,
  bytesOf,
  DATA_TYPE,
  type Draft,
  decodeModel,
  decodeTensor,
  encodeModel,
  type ModelProto,
  type TensorProto,
  tensorValues,
} from "../../../src/nn/formats/onnx/proto.js";
import { DataError } from "../../../src/tensor/errors.js";

const golden = JSON.parse(readFileSync("test/nn/formats/onnx-proto.json", "utf8")) as {
  readonly model: string;
  readonly tensors: readonly { type: string; raw: string; lists: string; values: number[] }[];
  readonly refused: Readonly<Record<string, string>>;
};
const fromBase64 = (text: string) => new Uint8Array(Buffer.from(text, "base64"));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

test("a file of Python's onnx package", () => {
  const model = decodeModel(fromBase64(golden.model));
  expect(model).toMatchObject({ irVersion: 8, producerName: "made by Python", producerVersion: "" });
  expect(model.opsetImport).toEqual([{ domain: "", version: 17 }]);
  expect(model.metadataProps).toEqual([{ key: "key", value: "value" }]);
  const { node, input, output, initializer, name } = model.graph!;
  expect(name).toBe("graph");
  expect(input[0]).toEqual({
    name: "x",
    type: { tensorType: { elemType: 1, shape: { dim: [{ dimParam: "N" }, { dimValue: 2 }, {}] } } },
  });
  expect(input[1]).toEqual({ name: "s", type: {} });
  expect(output.map(({ type }) => type!.tensorType)).toEqual([
    { elemType: 1, shape: { dim: [] } },
    { elemType: DATA_TYPE.i64 },
  ]);
  expect(tensorValues(initializer[0]!)).toEqual({
    ...{ shape: [2, 3], type: "f32" },
    data: Float32Array.of(0, 1, 2, 3, 4, 5),
  });
  const [choice, some] = node;
  expect(choice).toMatchObject({ opType: "If", name: "choice", input: ["c"] });
  const branch = choice!.attribute.find((each) => each.name === "then_branch")!;
  expect(branch.type).toBe(ATTRIBUTE_TYPE.GRAPH);
  expect(branch.g!.node[0]).toMatchObject({ opType: "Identity", output: ["b"] });
  expect(some).toMatchObject({ domain: "own.domain", input: ["x", "", "ü"], output: ["z", ""] });
  const attributes = Object.fromEntries(some!.attribute.map((each) => [each.name, each]));
  expect([attributes["f"]!.f, attributes["i"]!.i, text(attributes["s"]!.s!)]).toEqual([-0.5, -3n, "text"]);
  expect([...attributes["floats"]!.floats]).toEqual([1.5, -2]);
  expect([...attributes["ints"]!.ints]).toEqual([-9223372036854775807n, 9223372036854775807n, 0n]);
  expect(attributes["strings"]!.strings.map(text)).toEqual(["a", ""]);
  expect([...tensorValues(attributes["t"]!.t!).data]).toEqual([1, 2]);
});

test("what was read is written, and read again, the same", () => {
  const model = decodeModel(fromBase64(golden.model));
  expect(decodeModel(encodeModel(model))).toEqual(model);
});

test.each(golden.tensors)("elements of type $type, as raw bytes and in lists", ({ type, raw, lists, values }) => {
  for (const content of [raw, lists]) {
    const found = tensorValues(decodeTensor(fromBase64(content)));
    expect({ ...found, data: [...found.data].map(Number) }).toEqual({ shape: [2, 3], type, data: values });
  }
  // Payloads at odd places are copied, since arrays of numbers must be aligned.
  const bytes = fromBase64(raw);
  const moved = new Uint8Array(bytes.length + 1);
  moved.set(bytes, 1);
  expect([...tensorValues(decodeTensor(moved.subarray(1))).data].map(Number)).toEqual(values);
});

test.each(Object.entries(golden.refused))("elements of type %s are refused by name", (name, content) => {
  expect(() => tensorValues(decodeTensor(fromBase64(content), "a file"))).toThrow(
    new RegExp(`tensor ".*": its element type must be one of f32, .*, is ${name}`),
  );
});

const small = fc.nat({ max: 5 });
const name = fc.string({ unit: "grapheme", maxLength: 8 });
const bytes = fc.uint8Array({ maxLength: 9 });
const tensor: fc.Arbitrary<Draft<TensorProto>> = fc.record({
  dims: fc.array(fc.maxSafeNat(), { maxLength: 4 }),
  dataType: fc.nat(),
  floatData: fc.float32Array({ maxLength: 4 }),
  int32Data: fc.int32Array({ maxLength: 4 }),
  stringData: fc.array(bytes, { maxLength: 3 }),
  int64Data: fc.bigInt64Array({ maxLength: 4 }),
  name,
  rawData: bytes,
  doubleData: fc.float64Array({ maxLength: 4 }),
  uint64Data: fc.bigUint64Array({ maxLength: 4 }),
  externalData: fc.array(fc.record({ key: name, value: name }), { maxLength: 2 }),
  dataLocation: small,
});
const typeOf = fc.record(
  {
    tensorType: fc.record(
      {
        elemType: small,
        shape: fc.record({
          dim: fc.array(fc.oneof(fc.record({ dimValue: fc.maxSafeInteger() }), fc.record({ dimParam: name })), {
            maxLength: 4,
          }),
        }),
      },
      { requiredKeys: ["elemType"] },
    ),
  },
  { requiredKeys: [] },
);
const values = fc.array(fc.record({ name, type: typeOf }), { maxLength: 2 });
const { graph } = fc.letrec((tie) => ({
  attribute: fc.record(
    {
      ...{ name, refAttrName: name, type: small, s: bytes, t: tensor },
      f: fc.float({ noDefaultInfinity: false }),
      i: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      g: fc.option(tie("graph"), { nil: undefined, depthSize: "small", maxDepth: 2 }),
      floats: fc.float32Array({ maxLength: 3 }),
      ints: fc.bigInt64Array({ maxLength: 3 }),
      strings: fc.array(bytes, { maxLength: 3 }),
    },
    { requiredKeys: ["name", "refAttrName", "type", "floats", "ints", "strings"] },
  ),
  node: fc.record({
    ...{ name, opType: name, domain: name },
    input: fc.array(name, { maxLength: 3 }),
    output: fc.array(name, { maxLength: 3 }),
    attribute: fc.array(tie("attribute"), { maxLength: 3 }),
  }),
  graph: fc.record({
    ...{ name, input: values, output: values, valueInfo: values },
    node: fc.array(tie("node"), { maxLength: 3 }),
    initializer: fc.array(tensor, { maxLength: 2 }),
    sparseInitializer: fc.array(fc.record({ values: tensor, indices: tensor, dims: fc.array(small) }), {
      maxLength: 1,
    }),
  }),
}));
const model = fc.record({
  irVersion: fc.maxSafeInteger(),
  ...{ producerName: name, producerVersion: name, graph },
  opsetImport: fc.array(fc.record({ domain: name, version: fc.maxSafeInteger() }), { maxLength: 2 }),
  metadataProps: fc.array(fc.record({ key: name, value: name }), { maxLength: 2 }),
  functions: fc.constant([]),
}) as unknown as fc.Arbitrary<Draft<ModelProto>>;

/** As readers give it: without fields that are undefined. */
const defined = (value: unknown): unknown => {
  if (ArrayBuffer.isView(value)) return value;
  if (Array.isArray(value)) return value.map(defined);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([key, v]) => (v === undefined ? [] : [[key, defined(v)]])));
};

test("any message comes back as it was written", () => {
  fc.assert(
    fc.property(model, (given) => {
      expect(decodeModel(encodeModel(given))).toEqual(defined(given));
    }),
    { numRuns: 150 },
  );
});

describe("damaged files", () => {
  const whole = fromBase64(golden.model);

  test("every beginning of a file is refused, or is a whole message", () => {
    let refused = 0;
    for (let length = 0; length < whole.length; length++) {
      try {
        decodeModel(whole.slice(0, length), "a.onnx");
      } catch (error) {
        expect(error).toBeInstanceOf(DataError);
        expect(`${error}`).toMatch(/a\.onnx: byte \d+/);
        refused++;
      }
    }
    // A cut between two fields of the outermost message cannot be seen.
    expect(refused).toBeGreaterThan(whole.length - 10);
  });

  test("random changes are refused as a DataError, or read", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: whole.length - 1 }), fc.nat({ max: 255 })), { maxLength: 4 }),
        (by) => {
          const changed = whole.slice();
          for (const [at, value] of by) changed[at] = value;
          try {
            decodeModel(changed);
          } catch (error) {
            expect(error).toBeInstanceOf(DataError);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a length is held against the bytes that are left, and the field is named", () => {
    // graph (7): 2^31 bytes announced.
    const announced = Uint8Array.of(0x3a, 0x80, 0x80, 0x80, 0x80, 0x08, 0x00);
    expect(() => decodeModel(announced)).toThrow(/byte 6, in graph: 2147483648 bytes must follow, there are 1/);
    const negative = Uint8Array.of(0x3a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1);
    expect(() => decodeModel(negative)).toThrow(/in graph: -1 bytes must follow/);
    // A tensor in a graph of 4 bytes whose raw data would have 100.
    const inner = Uint8Array.of(0x3a, 0x04, 0x2a, 0x02, 0x4a, 100, ...new Uint8Array(100));
    expect(() => decodeModel(inner)).toThrow(
      /byte 6, in graph.initializer.rawData: 100 bytes must follow, there are 0/,
    );
  });

  test.each<[number[], RegExp]>([
    [[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], /in irVersion: a number has more than 10 bytes/],
    [[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 127], /in irVersion: must be within 2\^53, is 9223372036854775807/],
    [[0x08, 0x80], /byte 2, in irVersion: a number is cut off/],
    [[0x0d, 0, 0, 0, 0], /byte 0, in irVersion: must be of wire type 0, is of 5/],
    [[0x12, 1, 0xff], /byte 2, in producerName: must be UTF-8/],
    [[0x00, 0x00], /field numbers are from 1/],
    [[0xfb, 0x07], /field 127 has wire type 3/],
    [[0x3a, 0x06, 0x2a, 0x04, 0x22, 0x02, 0, 0], /floatData: packed numbers of 4 bytes cannot have 2/],
    [[0x3a, 0x06, 0x2a, 0x04, 0x3a, 0x02, 0, 128], /int64Data: its last number is cut off/],
  ])("%j", (given, message) => {
    expect(() => decodeModel(Uint8Array.from(given))).toThrow(message);
  });

  test("graphs in graphs without end", () => {
    let nested: Uint8Array = new Uint8Array(0);
    const wrap = (field: number, inner: Uint8Array) => {
      const length = [];
      for (let left = inner.length; ; left >>>= 7) {
        if (left < 128) {
          length.push(left);
          break;
        }
        length.push((left & 127) | 128);
      }
      return Uint8Array.of(field * 8 + 2, ...length, ...inner);
    };
    // graph.node.attribute.g.node.attribute.g ...
    for (let i = 0; i < 1000; i++) nested = wrap(1, wrap(5, wrap(6, nested)));
    expect(() => decodeModel(wrap(7, nested))).toThrow(/at most 100 messages may lie in each other/);
  });

  test("fields that are not known are passed over, and a message in two parts is one", () => {
    const strange = Uint8Array.of(
      0xf8,
      0x3f,
      1,
      0xf9,
      0x3f,
      ...new Uint8Array(8),
      0xfd,
      0x3f,
      0,
      0,
      0,
      0,
      0xfa,
      0x3f,
      1,
      9,
    );
    const parts = [
      encodeModel({ irVersion: 3, graph: { name: "first", node: [{ opType: "A" }] } }),
      strange,
      encodeModel({ irVersion: 4, graph: { node: [{ opType: "B" }], initializer: [{ dims: [2], dataType: 1 }] } }),
    ];
    const { irVersion, graph } = decodeModel(new Uint8Array(Buffer.concat(parts)));
    expect([irVersion, graph!.name, graph!.node.map(({ opType }) => opType)]).toEqual([4, "first", ["A", "B"]]);
    expect(graph!.initializer[0]!.dims).toEqual([2]);
  });

  test("lists of numbers one by one", () => {
    const single = (field: number, wire: number, ...value: number[]) => [field * 8 + wire, ...value];
    const { dims, floatData, int64Data, int32Data } = decodeTensor(
      Uint8Array.from([
        ...single(1, 0, 2),
        ...[1, 2, 3].flatMap((value) => single(4, 5, ...bytesOf(Float32Array.of(value)))),
        ...single(1, 0, 3),
        ...single(7, 0, 5),
        ...single(7, 2, 2, 6, 7),
        ...single(5, 0, ...new Array<number>(9).fill(255), 1),
      ]),
    );
    expect([dims, [...floatData], [...int64Data], [...int32Data]]).toEqual([[2, 3], [1, 2, 3], [5n, 6n, 7n], [-1]]);
  });
});

describe("tensors that do not fit", () => {
  const base = { ...decodeTensor(new Uint8Array(0)), name: "w", dims: [2, 3], dataType: DATA_TYPE.f32 };
  test.each<[Partial<TensorProto>, RegExp]>([
    [{ rawData: new Uint8Array(20) }, /tensor "w": f32 \[2,3\] needs 24 bytes, its rawData has 20/],
    [{ floatData: new Float32Array(5) }, /needs 6 numbers, its floatData has 5/],
    [{}, /needs 6 numbers, its floatData has 0/],
    [{ dims: [-1, -6], rawData: new Uint8Array(24) }, /sizes must be whole numbers from 0 .*are \[-1,-6\]/],
    [{ dims: [2 ** 40, 2 ** 40] }, /of a product within 2\^53/],
    [{ dataLocation: 1 }, /its payload is in another file/],
    [{ dataType: 99 }, /is number 99/],
  ])("%j", (given, message) => {
    expect(() => tensorValues({ ...base, ...given })).toThrow(message);
    expect(() => tensorValues({ ...base, ...given })).toThrow(DataError);
  });

  test("nothing, and a number alone", () => {
    expect(tensorValues({ ...base, dims: [0, 3] }).data.length).toBe(0);
    expect([...tensorValues({ ...base, dims: [], floatData: Float32Array.of(4) }).data]).toEqual([4]);
  });
});
