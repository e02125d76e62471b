// ONNX's official node cases, of onnx-node-cases.gz, run by the operators.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { graphOf } from "../../../src/nn/formats/onnx/graph.js";
import { decodeModel } from "../../../src/nn/formats/onnx/proto.js";
import { runNodes } from "../../../src/nn/formats/onnx/run.js";
import { type ElementType, isFloat, Value } from "../../../src/nn/formats/onnx/value.js";
import type { Device } from "../../../src/tensor/device.js";
import { scope } from "../../../src/tensor/scope.js";

type Place = readonly [offset: number, length: number];
interface StoredArray {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly at: Place;
}
export interface NodeCase {
  readonly name: string;
  /** Of its only node, or "several nodes". */
  readonly operator: string;
  /** Why the file has no data of it. */
  readonly leftOut?: string;
  readonly model: Place;
  readonly inputs: readonly StoredArray[];
  readonly outputs: readonly StoredArray[];
  readonly rtol: number;
  readonly atol: number;
}

const content = gunzipSync(readFileSync(new URL("./onnx-node-cases.gz", import.meta.url)));
const length = Number(content.subarray(0, 8).toString());
const head = JSON.parse(content.subarray(8, 8 + length).toString()) as { all: number; cases: NodeCase[] };
const payload = content.subarray(8 + length);

export const nodeCases: readonly NodeCase[] = head.cases;

const bytesAt = ([offset, size]: Place) => Uint8Array.from(payload.subarray(offset, offset + size));

const arrays = {
  ...{ float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array },
  ...{ int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array },
  ...{ int64: BigInt64Array, uint64: BigUint64Array, float16: Uint16Array, bfloat16: Uint16Array },
} as const;

function half(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

export function numbersOf({ type, at }: StoredArray): number[] {
  const raw = new arrays[type](bytesAt(at).buffer as ArrayBuffer);
  const values = Array.from(raw as ArrayLike<number | bigint>, Number);
  if (type === "float16") return values.map(half);
  if (type !== "bfloat16") return values;
  return values.map((bits) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!);
}

/** Inputs that say shapes, axes and the like, which files have as constants, and these cases as inputs. */
const ofShapes = (operator: string, { type, shape }: StoredArray, i: number): boolean =>
  (!isFloat(type) && shape.length === 0) ||
  (i > 0 && (!isFloat(type) || ["Resize", "Upsample", "Pad", "Dropout", "Range", "Clip", "OneHot"].includes(operator)));

/** The operators of a case that has data. */
export const operatorsOf = ({ model }: NodeCase): string[] =>
  decodeModel(bytesAt(model)).graph!.node.map(({ opType }) => opType);

/** Runs a case. @throws what the reader throws, or an Error for a result that is another */
export async function runNodeCase(each: NodeCase, device: Device): Promise<void> {
  const graph = graphOf(decodeModel(bytesAt(each.model)), each.name);
  const place = { device, exact: false };
  const values = new Map(graph.constants);
  const outputs: { type: ElementType; shape: readonly number[]; data: Promise<ArrayLike<number>> }[] = [];
  const whole = needsHost(each);
  scope(() => {
    for (const [i, input] of graph.inputs.entries()) {
      const stored = each.inputs[i]!;
      const host = Value.of(stored.type, stored.shape, numbersOf(stored));
      const known = whole || ofShapes(each.operator, stored, i);
      values.set(input.name, known ? host : Value.ofTensor(stored.type, host.on(place), place));
    }
    runNodes(graph.nodes, values, { source: each.name, place });
    for (const name of graph.outputs) {
      const value = values.get(name)!;
      outputs.push({
        type: value.type,
        shape: value.shape,
        data: value.made ? value.made.data() : Promise.resolve(value.host!),
      });
    }
  });
  for (const [i, expected] of each.outputs.entries()) {
    const { type, shape, data } = outputs[i]!;
    const found = await data;
    if (type !== expected.type) throw new Error(`output ${i} is of ${type}, expected ${expected.type}`);
    if (`${shape}` !== `${expected.shape}`) throw new Error(`output ${i} is [${shape}], expected [${expected.shape}]`);
    const right = numbersOf(expected);
    for (const [k, e] of right.entries()) {
      const a = found[k]!;
      const close = Number.isFinite(e) ? Math.abs(a - e) <= each.atol + each.rtol * Math.abs(e) : Object.is(a, e);
      if (!close) throw new Error(`output ${i}: element ${k} is ${a}, expected ${e}`);
    }
  }
}

/** Operators whose first input is a shape, or a number that says one. */
const needsHost = ({ operator }: NodeCase): boolean => ["ConstantOfShape", "Range", "NonZero"].includes(operator);
