// The fuzz of the exports, `npm run fuzz -- --suite exports`, for a few fixed seeds; and that it leaves nothing out.
import { afterAll, expect, it } from "vitest";
import { exportsSuite, uncovered } from "../../fuzz/exports.js";
import { trialRandom } from "../../fuzz/suite.js";

const suite = exportsSuite(0);
afterAll(() => suite.end?.());

it("covers every export and every method", async () => {
  expect(uncovered(await suite.trial(trialRandom(1, suite, 0)))).toEqual({ missing: [], unknown: [] });
});

it.each([1, 2, 3, 4])("nothing but results and errors of the library, seed %i", async (seed) => {
  for (let trial = 0; trial < 250; trial++) {
    expect(await suite.run(trialRandom(seed, suite, trial)), `seed ${seed}, trial ${trial}`).toBeUndefined();
  }
});
