// Functions of tensors against PyTorch and Keras: functions.json has their values and gradients in float64, made by
// functions.py.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as K from "../../src/index.js";
import type { Device } from "../../src/tensor/device.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../support.js";

interface Stored {
  readonly shape: readonly number[];
  readonly values: readonly (number | "NaN" | "Infinity" | "-Infinity")[];
}

interface Case {
  readonly op: string;
  readonly what: string;
  readonly arguments: readonly unknown[];
  readonly inputs: readonly Stored[];
  readonly output: Stored;
  readonly dy?: Stored;
  readonly gradients?: readonly Stored[];
}

const { cases }: { readonly cases: readonly Case[] } = JSON.parse(
  readFileSync(new URL("functions.json", import.meta.url), "utf8"),
);

type Callable = (...args: unknown[]) => unknown;

/** How an operation is called with its inputs and further arguments, where it is not op(...inputs, ...arguments). */
const calls: Readonly<Record<string, (inputs: readonly Tensor[], further: readonly unknown[]) => unknown>> = {
  einsum: (inputs, [equation]) => K.einsum(equation as string, ...inputs),
  split: ([x], further) => (K.split as Callable)(x, ...further),
  norm: ([x], [options]) => {
    const { order, ...others } = options as { readonly axis: number; readonly order: number | string };
    return K.norm(x!, { ...others, order: Number(order) });
  },
};

/** The tensor that is compared: the second of a list, the values of the largest. */
function compared(result: unknown): Tensor {
  if (result instanceof K.Tensor) return result;
  return Array.isArray(result) ? result[1] : (result as { readonly values: Tensor }).values;
}

function holds(device: () => Device, { rtol, atol }: { readonly rtol: number; readonly atol: number }): void {
  it.each(cases.map((given) => [given.op, given.what, given] as const))("%s, %s", async (op, _, given) => {
    const make = ({ shape, values }: Stored) => tensor(device(), values.map(Number), { shape });
    const inputs = given.inputs.map(make);
    for (const x of inputs) x.requiresGrad = given.gradients !== undefined;
    const call = calls[op] ?? ((xs, further) => (K as unknown as Record<string, Callable>)[op]!(...xs, ...further));
    const y = compared(call(inputs, given.arguments));
    expect(y.shape).toEqual(given.output.shape);
    expectEachClose(await y.data(), given.output.values.map(Number), { rtol, atol, label: "value" });
    if (given.gradients === undefined) return;
    y.backward({ gradient: make(given.dy!) });
    for (const [k, { values }] of given.gradients.entries()) {
      const label = `gradient ${k}`;
      expectEachClose(await inputs[k]!.grad!.data(), values.map(Number), { rtol, atol, label });
    }
  });
}

describe("reference", () => holds(() => cpu, { rtol: 1e-8, atol: 1e-8 }));
describeProfiles((device) => holds(device, { rtol: 1e-4, atol: 1e-5 }));
