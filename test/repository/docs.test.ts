// Numbers in the documentation that the code decides.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { gatherTile } from "../../src/kernels/conv2d/software-gather.js";
import { rolledLoop } from "../../src/kernels/rolled.js";
import type { TuningProfile } from "../../src/webgpu/family.js";

const kernels = readFileSync("docs/kernels.md", "utf8").replaceAll("\n", " ");

test("trips of streaming kernels", () => {
  const trips = (family: string) => rolledLoop({ family } as TuningProfile, 1e9).sizes.trips;
  expect(kernels).toContain(
    `long loops, up to ${trips("software")} trips an invocation | up to ${trips("hardware")} trips an invocation`,
  );
});

test("tiles of the gather kernel", () => {
  const tiles = Array.from({ length: 1000 }, (_, i) => gatherTile(i + 1));
  const most = (value: (tile: (typeof tiles)[number]) => number) => Math.max(...tiles.map(value));
  expect(kernels).toContain(
    `tiles of at most ${most(({ channels }) => channels)}. A tile has up to ${most(({ groups }) => groups)} groups of 8 positions, ` +
      `as many as give at most ${most(({ channels, groups }) => channels * groups)} registers of sums`,
  );
});
