import { describe, expect, it } from "vitest";
import { UsageError } from "../../src/tensor/errors.js";
import * as o from "../../src/tensor/options.js";

interface Options {
  readonly strides?: number;
  readonly padding?: string;
  readonly rate?: number;
}
const rules: o.Rules<Options> = {
  strides: o.integer({ from: 1 }),
  padding: o.oneOf("same", "valid"),
  rate: o.number({ from: 0, below: 1 }),
};
const checked = (options: unknown) => o.checkOptions("op", options as Options, rules);

describe("checkOptions", () => {
  it("gives back what is right, without what is undefined", () => {
    const options = { strides: 2, padding: "same" };
    expect(checked(options)).toBe(options);
    expect(Object.keys(checked({ strides: 2, rate: undefined }))).toEqual(["strides"]);
  });

  it.each<[unknown, RegExp]>([
    [{ stride: 2 }, /^op: unknown option stride; did you mean strides\? \(options are strides, padding, rate\)$/],
    [{ paddign: "same" }, /unknown option paddign; did you mean padding\?/],
    [{ zzz: 1 }, /unknown option zzz; options are strides, padding, rate/],
    [{ zzz: undefined }, /unknown option zzz/],
    [{ __proto__: null, toString: 1 }, /unknown option toString/],
    [{ strides: 0 }, /strides must be a whole number from 1, got 0/],
    [{ strides: "2" }, /strides must be a whole number from 1, got "2"/],
    [{ padding: "x" }, /padding must be one of "same", "valid", got "x"/],
    [{ rate: 1 }, /rate must be a finite number in \[0, 1\), got 1/],
    [{ rate: Number.NaN }, /rate must be a finite number in \[0, 1\), got NaN/],
    [{ rate: null }, /got null/],
    [null, /options must be an object of strides, padding, rate, got null/],
    [3, /options must be an object of strides, padding, rate, got 3/],
    [[1], /got \[1\]/],
  ])("refuses %j", (options, message) => {
    expect(() => checked(options)).toThrow(UsageError);
    expect(() => checked(options)).toThrow(message);
  });
});

describe("describe", () => {
  it.each<[unknown, string]>([
    [1n, "1n"],
    [Symbol("a"), "Symbol(a)"],
    [undefined, "undefined"],
    [new Map(), "a Map"],
    [new ArrayBuffer(1), "an ArrayBuffer"],
    [{ a: 1 }, "an object of a"],
    [Object.create(null), "an object of nothing"],
    [[1, [2], "x"], '[1, [...], "x"]'],
    [Array.from({ length: 9 }, () => 0), "[0, 0, 0, 0, 0, 0, 0, 0, ... 9 values]"],
    ["x".repeat(99), `"${"x".repeat(57)}..."`],
  ])("%s", (value, words) => expect(o.describe(value)).toBe(words));
});
