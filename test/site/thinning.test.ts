// What is kept of a curve that grows without end.
import { expect, it } from "vitest";
import { MOST_POINTS, thinned } from "../../site/src/thinning.js";

it("keeps the first point, the last, and some hundreds between, in their order", () => {
  let points: number[] = [];
  for (let x = 0; x < 20_000; x++) {
    points = thinned([...points, x]);
    expect(points.length).toBeLessThanOrEqual(MOST_POINTS);
    expect([points[0], points.at(-1)]).toEqual([0, x]);
    if (x < MOST_POINTS) expect(points).toHaveLength(x + 1);
  }
  expect(points.length).toBeGreaterThan(MOST_POINTS / 3);
  expect(points).toEqual([...points].sort((a, b) => a - b));
});
