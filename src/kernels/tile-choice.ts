// Which tile a product of the hardware profile gets, and into how many pieces its k is cut.
import type { TuningProfile } from "../tensor/webgpu-profile.js";
import { registerTiles } from "./register-tile.js";
import { subgroupMatrixTiles } from "./subgroup-matrix-tile.js";
import type { Tile } from "./tiled-product.js";

/** A product's size. */
export interface ProductSize {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly batch: number;
}

/** Cores of a large adapter (132 on an H200), and clocks that a second dispatch costs (about 5 microseconds). */
const CORES = 128;
const DISPATCH_CLOCKS = 8000;
/** Clocks before a workgroup's first multiplication: its first elements come from memory. */
const START_CLOCKS = 1000;
/** Bytes to and from memory per clock and core. */
const BYTES_PER_CLOCK = 20;

/**
 * The tile for a product, and into how many pieces its k should be cut, at most `mostSplits`: the least time by a model of a
 * large adapter. Workgroups run in waves of one a core, each as long as its tile's multiplications; pieces are written, read
 * and added by a second dispatch. Depends on nothing but sizes and the profile, so equal products have equal bits.
 */
export function planTiles(profile: TuningProfile, size: ProductSize, mostSplits = 1): { tile: Tile; splits: number } {
  const { rows, columns, depth, batch } = size;
  const tiles = profile.matrices === undefined ? registerTiles : subgroupMatrixTiles(profile.matrices);
  const fitting = tiles.filter(({ workgroupBytes }) => workgroupBytes <= profile.maxWorkgroupBytes);
  let best = { tile: fitting[0]!, splits: 1 };
  let least = Number.POSITIVE_INFINITY;
  for (const tile of fitting) {
    const groups = Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns) * batch;
    for (let splits = 1; splits <= Math.max(1, mostSplits); splits = Math.max(splits + 1, Math.floor(splits * 1.25))) {
      const steps = Math.ceil(depth / splits / tile.depth) * tile.depth;
      const waves = Math.ceil((groups * splits) / CORES);
      const adding =
        splits === 1 ? 0 : DISPATCH_CLOCKS + (splits * rows * columns * batch * 8) / (CORES * BYTES_PER_CLOCK);
      const clocks = waves * (START_CLOCKS + (tile.rows * tile.columns * steps) / tile.rate) + adding;
      if (clocks < least) {
        best = { tile, splits };
        least = clocks;
      }
    }
  }
  return best;
}
