// Parsing of `--target`: the four ways to write one, and what is said of everything else.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { oneHot, parseTargets, targetText } from "../../src/experiments/lib/inputs/target.js";
import { UsageError } from "../../src/tensor/errors.js";

describe("what is understood", () => {
  test("a digit", () => {
    expect(parseTargets("3")).toEqual([{ label: "3", probabilities: [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], likeliest: 3 }]);
    expect(parseTargets(" 7 ")).toEqual([oneHot(7)]);
  });

  test("all digits", () => {
    expect(parseTargets("all").map(({ label }) => label)).toEqual([..."0123456789"]);
  });

  test("shares of some digits, in any order", () => {
    const [target] = parseTargets("3:0.25,2:.75");
    expect(target).toEqual({ label: "2+3", probabilities: [0, 0, 0.75, 0.25, 0, 0, 0, 0, 0, 0], likeliest: 2 });
    expect(targetText(target!)).toBe("2:0.75 3:0.25");
  });

  test("ten numbers, also of a single digit", () => {
    expect(parseTargets("0, 0, .5, .5, 0, 0, 0, 0, 0, 0")[0]!.label).toBe("2+3");
    expect(parseTargets("0 0 0 0 1 0 0 0 0 0")).toEqual([oneHot(4)]);
  });

  test.each(["[0,0,1,0,0,0,0,0,0,0]", " [ 0 0 1 0 0 0 0 0 0 0 ] ", "(0,0,1,0,0,0,0,0,0,0)", "[2]", "[2:1]"])(
    "brackets: %s",
    (text) => {
      expect(parseTargets(text)).toEqual([oneHot(2)]);
    },
  );

  test.each(["[0,0,1,0,0,0,0,0,0,0", "0,0,1,0,0,0,0,0,0,0]", "[[2]]", "[]"])("but not %s", (text) => {
    expect(() => parseTargets(text)).toThrow(UsageError);
  });

  test("any distribution as ten numbers, up to the rounding of its decimals", () => {
    const weights = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 10, maxLength: 10 });
    fc.assert(
      fc.property(weights, (given) => {
        const total = given.reduce((a, b) => a + b, 0);
        fc.pre(total > 0);
        const probabilities = given.map((weight) => weight / total);
        const [target] = parseTargets(probabilities.map((p) => p.toFixed(8)).join(","));
        expect(target!.probabilities.every((p, i) => Math.abs(p - probabilities[i]!) < 1e-8)).toBe(true);
        expect(target!.probabilities[target!.likeliest]).toBe(Math.max(...target!.probabilities));
      }),
    );
  });
});

describe("what is refused", () => {
  test.each([
    ["0.1,0.2,0.3,0.1,0.1,0.1,0.05,0.05", /given 8 with sum 1;/],
    ["0,0,0,0,0,0,0,0,1", /given 9 with sum 1;/],
    ["0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1", /given 11 with sum 1\.1;/],
    ["0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0.1,0", /given 10 with sum 0\.9;/],
    ["-0.5,0.5,0.5,0.5,0,0,0,0,0,0", /given 10 with sum 1, of which -0\.5 is negative/],
    ["2:0.5,3:0.4", /given 2 with sum 0\.9;/],
    ["2:0.5,3:0.7", /given 2 with sum 1\.2;/],
    ["2:1.5,3:-0.5", /given 2 with sum 1, of which -0\.5 is negative/],
    ["0.5", /given 1 with sum 0\.5;/],
    ["", /given 0 with sum 0;/],
    ["10", /a digit must be from 0 to 9, given 10/],
    ["2:0.5,2:0.5", /digit 2 must have one share/],
    ["2:0.5,12:0.5", /DIGIT:NUMBER/],
    ["2:0.5:1", /DIGIT:NUMBER/],
    ["three", /"three" is not understood/],
    ["0,0,x,1,0,0,0,0,0,0", /"x" is not understood/],
    ["1e999,0,0,0,0,0,0,0,0,0", /sum Infinity/],
    ["0x1,0,0,0,0,0,0,0,0,0", /"0x1" is not understood/],
  ])("%s", (text, message) => {
    expect(() => parseTargets(text)).toThrow(UsageError);
    expect(() => parseTargets(text)).toThrow(message);
  });

  test("whatever is not ten numbers from 0 with sum 1, saying how many there were", () => {
    const numbers = fc.array(fc.integer({ min: -5, max: 20 }), { minLength: 2, maxLength: 14 });
    fc.assert(
      fc.property(numbers, (tenths) => {
        const sum = tenths.reduce((a, b) => a + b);
        fc.pre(!(tenths.length === 10 && sum === 10 && tenths.every((n) => n >= 0)));
        expect(() => parseTargets(tenths.map((n) => n / 10).join(","))).toThrow(`given ${tenths.length} with sum `);
      }),
    );
  });

  test("no text makes it fail otherwise", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          for (const { probabilities } of parseTargets(text)) expect(probabilities).toHaveLength(10);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
        }
      }),
    );
  });
});
