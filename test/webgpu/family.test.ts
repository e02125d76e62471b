// Which kernels an adapter gets by what it says of itself. What the adapter of this machine gets is in other tests; how
// a family is measured is in tuning.test.ts.
import { expect, it } from "vitest";
import { conv2dGeometry } from "../../src/kernels/conv2d/geometry.js";
import { routeOf } from "../../src/kernels/conv2d/routes.js";
import { UsageError } from "../../src/tensor/errors.js";
import { chooseProfile, isFamilyUnknown } from "../../src/webgpu/family.js";

interface Said {
  readonly vendor?: string;
  readonly architecture?: string;
  readonly description?: string;
  readonly lanes?: readonly [number, number];
}

function adapterThat({ vendor = "", architecture = "", description = "", lanes }: Said): GPUAdapter {
  const [subgroupMinSize, subgroupMaxSize] = lanes ?? [4, 128];
  return {
    info: { vendor, architecture, description, device: "", subgroupMinSize, subgroupMaxSize },
    features: new Set(lanes === undefined ? [] : ["subgroups"]),
    limits: {
      ...{ maxStorageBufferBindingSize: 2 ** 27, maxStorageBuffersPerShaderStage: 10 },
      ...{ maxComputeWorkgroupStorageSize: 32768 },
    },
  } as unknown as GPUAdapter;
}

const lavapipe = { description: "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)", lanes: [8, 8] } as const;
// Chromium tells no more.
const swiftShader = { vendor: "google", architecture: "swiftshader", lanes: [4, 4] } as const;

it.each<[string, Said, string, number | undefined, boolean]>([
  ["lavapipe", lavapipe, "software", 8, false],
  ["lavapipe on a processor with registers of 128 bits", { ...lavapipe, lanes: [4, 4] }, "software", 4, false],
  ["lavapipe with 16 lanes", { ...lavapipe, lanes: [16, 16] }, "hardware", undefined, false],
  ["SwiftShader", swiftShader, "software", 4, false],
  ["SwiftShader without subgroups", { ...swiftShader, lanes: undefined! }, "hardware", undefined, false],
  ["a GPU of one width", { vendor: "nvidia", lanes: [32, 32] }, "hardware", undefined, false],
  ["a GPU of several widths", { vendor: "intel", lanes: [8, 32] }, "hardware", undefined, false],
  ["somebody with four lanes", { description: "somebody's", lanes: [4, 4] }, "hardware", 4, true],
  ["somebody with eight lanes", { description: "somebody's", lanes: [8, 8] }, "hardware", 8, true],
])("%s", (_, said, family, lanes, unknown) => {
  const adapter = adapterThat(said);
  const profile = chooseProfile(adapter, {});
  expect([profile.family, profile.lanes]).toEqual([family, lanes]);
  expect(isFamilyUnknown(adapter, {})).toBe(unknown);
  expect(isFamilyUnknown(adapter, { profile: "hardware" })).toBe(false);
  expect(isFamilyUnknown(adapter, { precision: "mixed" })).toBe(false);
});

it("the software family is refused to subgroups of another size", () => {
  const refused = (said: Said) => () => chooseProfile(adapterThat(said), { profile: "software" });
  expect(refused({})).toThrow(UsageError);
  expect(refused({})).toThrow(/subgroups of exactly 4 or 8 lanes, this adapter has none; use "hardware"/);
  expect(refused({ lanes: [8, 32] })).toThrow(/this adapter has 8 to 32/);
});

it("four lanes have no panels with rows side by side", () => {
  const geometry = conv2dGeometry([16, 32, 32, 16], [3, 3, 16, 16], { padding: "same" });
  const route = (said: Said) => routeOf(chooseProfile(adapterThat(said), {}), geometry).name;
  expect(route(lavapipe)).toBe("panels");
  expect(route(swiftShader)).not.toBe("panels");
});
