// Looks at the text of WGSL, and changes of one.
import { expect, test } from "vitest";
import {
  countsOf,
  declaredNames,
  hasWorkgroupMemory,
  isOnlyIndexed,
  numbersOf,
  withIndexOffset,
  withNames,
  withParameterPrefix,
} from "../../src/webgpu/wgsl-text.js";

test("numbers of an element", () => {
  expect(["f32", "u32", "vec4f", "vec2u", "atomic<u32>"].map(numbersOf)).toEqual([1, 1, 4, 2, 1]);
});

test("declared names", () => {
  const text = `alias T = vec4f; const SIZE = 8u; struct Pair { first: f32 }
    override wide = 4; fn load(at: u32) -> f32 { const inner = 1; return x[at]; }`;
  expect(declaredNames(text)).toEqual(["T", "SIZE", "Pair", "wide", "load", "inner"]);
});

test("a binding that is indexed alone", () => {
  expect(isOnlyIndexed("y[i] = x[i] + box.x + xs;", "x")).toBe(true);
  for (const text of ["f(&x)", "let p = &x[0]; arrayLength(&x)", "x = y"]) expect(isOnlyIndexed(text, "x")).toBe(false);
});

test("workgroup memory", () => {
  expect(hasWorkgroupMemory("var<workgroup> tile: array<f32, 64>;")).toBe(true);
  expect(hasWorkgroupMemory("var<private> tile: array<f32, 64>;")).toBe(false);
});

test("an offset at each index of one binding, nested ones too", () => {
  expect(withIndexOffset("y[i] = x[x[i] + z.x[j]] + xx[k];", "x", "s")).toBe(
    "y[i] = x[s + u32(x[s + u32(i)] + z.x[j])] + xx[k];",
  );
  expect(withIndexOffset("x[a[b[c]]] = 1;", "x", "s")).toBe("x[s + u32(a[b[c]])] = 1;");
});

test("other names for words, not for members or parts of words", () => {
  const names = new Map([
    ["x", "memory0"],
    ["load", "part1_load"],
  ]);
  expect(withNames("x[load(p.x)] = xs + reload(v.load);", names)).toBe(
    "memory0[part1_load(p.x)] = xs + reload(v.load);",
  );
});

test("parameters with a prefix", () => {
  expect(withParameterPrefix("u.count + v.u.count + uu.count + 4u.x", "part2_")).toBe(
    "u.part2_count + v.u.count + uu.count + 4u.x",
  );
});

test("counts", () => {
  const code = "var<storage, read> x: array<vec4f>; var<storage, read_write> y: array<f32>;";
  const text =
    "var sum = x[i].x; for (var k = 0u; k < 4u; k++) { sum += x[k].y; y[k] = sum + y[k]; } let variable = 1;";
  expect(countsOf(text, code)).toEqual({
    variables: 2,
    loops: 1,
    statements: 6,
    arrays: [
      { numbers: 4, loads: 2, stores: 0 },
      { numbers: 1, loads: 1, stores: 1 },
    ],
  });
});
