// ONNX's node cases on the hardware family of kernels; see onnx-node-cases.test.ts.
import { describe, expect, it } from "vitest";
import { describeProfiles } from "../../support.js";
import { failuresOf, known } from "./onnx-node-cases.js";

describe("ONNX's node cases", () => {
  describeProfiles(
    (device) => {
      it("gives the results", async () => {
        expect(await failuresOf(known, device())).toEqual([]);
      }, 600_000);
    },
    ["hardware"],
  );
});
