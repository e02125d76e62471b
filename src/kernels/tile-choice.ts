// Which tile a product of the hardware profile gets, and into how many pieces its k is cut. It takes the least time
// by a model of a large adapter, an H200, whose tiles were measured. It depends on nothing but sizes and the profile,
// so equal products have equal bits.

import { DeviceError } from "../tensor/errors.js";
import type { MatrixUnits, TuningProfile } from "../webgpu/family.js";
import { type Choice, tuned } from "../webgpu/tuning.js";
import { registerTiles } from "./register-tile.js";
import type { Tile } from "./tiled-product.js";

/** A product's size. */
export interface ProductSize {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly batch: number;
}

/** Cores of the adapter, and bytes to and from memory per clock and core. */
const CORES = 132;
const BYTES_PER_CLOCK = 16;
/** Clocks that a dispatch costs (about 5 microseconds), and each partial result that an invocation adds to others. */
const DISPATCH_CLOCKS = 8000;
const ADDING_CLOCKS = 140;
/** The model is no better than this: pieces must pay by more. */
const LEAST_GAIN = 1.05;
/** Clocks per invocation of a workgroup before its first multiplication and after its last. */
const START_CLOCKS = 8;
/** Invocations with which a core is busy while some of them wait. */
const BUSY_INVOCATIONS = 256;

/** Which tiles a product may get: adapters with fewer registers may be faster with small ones. */
export const TILES_FORM: Choice<"up to 64 x 128" | "up to 64 x 64" | "up to 32 x 32"> = {
  name: "matmul, tiles",
  options: ["up to 64 x 128", "up to 64 x 64", "up to 32 x 32"],
};

/** Tiles on matrix units: their code comes with the first device of mixed precision. */
let matrixTiles: ((units: MatrixUnits) => readonly Tile[]) | undefined;

export function provideMatrixTiles(tiles: (units: MatrixUnits) => readonly Tile[]): void {
  matrixTiles = tiles;
}

function onMatrices(units: MatrixUnits): readonly Tile[] {
  if (matrixTiles !== undefined) return matrixTiles(units);
  throw new DeviceError("LIMIT", "internal: a product on matrix units before its tiles were provided");
}

const MOST_SUMS = { "up to 64 x 128": 64 * 128, "up to 64 x 64": 64 * 64, "up to 32 x 32": 32 * 32 } as const;

function tilesOf(profile: TuningProfile): readonly Tile[] {
  const { matrices, onProcessor = false, maxWorkgroupBytes } = profile;
  const most = MOST_SUMS[tuned(profile, TILES_FORM)];
  const tiles =
    matrices === undefined
      ? registerTiles({ rolled: onProcessor }).filter(({ rows, columns }) => rows * columns <= most)
      : onMatrices(matrices);
  return tiles.filter(({ workgroupBytes }) => workgroupBytes <= maxWorkgroupBytes);
}

/** Clocks of a dispatch that does little but move so many bytes. */
export function streamingClocks(bytes: number): number {
  return DISPATCH_CLOCKS + bytes / (CORES * BYTES_PER_CLOCK);
}

/**
 * Clocks of so many workgroups of a tile, each with `depth` k. Every core takes as many as it can have at a time, again
 * and again; in the last round there may be so few that nothing hides their waiting.
 */
function tileClocks({ rows, columns, invocations, rate, resident }: Tile, groups: number, depth: number): number {
  const one = START_CLOCKS * invocations + (rows * columns * depth) / rate;
  const rounds = Math.floor(groups / (CORES * resident));
  const last = Math.ceil((groups - rounds * CORES * resident) / CORES);
  const busy = Math.min(1, (last * invocations) / BUSY_INVOCATIONS);
  return one * (rounds * resident + (last === 0 ? 0 : last / busy));
}

export interface TilePlan {
  readonly tile: Tile;
  readonly splits: number;
  /** What the product takes by the model, without a dispatch's own clocks. */
  readonly clocks: number;
}

/**
 * The tile for a product, and into how many pieces its k should be cut, at most `mostSplits`. A second dispatch adds
 * the pieces.
 */
export function planTiles(profile: TuningProfile, size: ProductSize, mostSplits = 1): TilePlan {
  const { rows, columns, depth, batch } = size;
  const tiles = tilesOf(profile);
  let best: TilePlan = { tile: tiles[0]!, splits: 1, clocks: Number.POSITIVE_INFINITY };
  for (const tile of tiles) {
    const groups = Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns) * batch;
    for (let splits = 1; splits <= Math.max(1, mostSplits); splits = Math.max(splits + 1, Math.floor(splits * 1.25))) {
      const steps = Math.ceil(depth / splits / tile.depth) * tile.depth;
      const once = tileClocks(tile, groups * splits, steps);
      const adding = streamingClocks(splits * rows * columns * batch * 8) + splits * ADDING_CLOCKS;
      const clocks = splits === 1 ? once : LEAST_GAIN * once + adding;
      if (clocks < best.clocks) best = { tile, splits, clocks };
    }
  }
  return best;
}
