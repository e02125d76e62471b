// All of ONNX's node cases that have tensors of numbers, on the reference and on the software family of kernels;
// onnx-node-cases-hardware.test.ts has the other family. One process cannot hold the programs of both.
import { describe, expect, it } from "vitest";
import { cpu, describeProfiles } from "../../support.js";
import { failuresOf, isFailing, known, nodeCases, ofNetworks } from "./onnx-node-cases.js";

describe("ONNX's node cases", () => {
  it("has those of the operators of networks, all of which pass", () => {
    expect(ofNetworks.filter((each) => isFailing(each, cpu))).toEqual([]);
    expect(ofNetworks.length).toBeGreaterThanOrEqual(431);
    expect(new Set(ofNetworks.map(({ operator }) => operator)).size).toBeGreaterThanOrEqual(76);
  });

  it("gives the results on the reference", async () => {
    const failures = await failuresOf(known, cpu);
    const passed = known.length - known.filter((each) => isFailing(each, cpu)).length - failures.length;
    console.log(
      `ONNX node cases: ${passed} pass, ${known.length} attempted, ${nodeCases.length} in all; of networks ${ofNetworks.length}`,
    );
    expect(failures).toEqual([]);
  }, 300_000);

  describeProfiles(
    (device) => {
      it("gives the results", async () => {
        expect(await failuresOf(known, device())).toEqual([]);
      }, 600_000);
    },
    ["software"],
  );
});
