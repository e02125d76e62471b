// Tiles of Winograd's minimal filtering over a batch of images, for both families of its kernels.
import type { Conv2dGeometry } from "./geometry.js";
import type { TileSize } from "./winograd-matrices.js";

/** How a convolution is cut into tiles of m x m outputs. */
export interface Tiling {
  readonly geometry: Conv2dGeometry;
  readonly m: TileSize;
  readonly rows: number;
  readonly columns: number;
  /** Of the whole batch. */
  readonly tiles: number;
  readonly frequencies: number;
}

export function tilingOf(geometry: Conv2dGeometry, m: TileSize): Tiling {
  const rows = Math.ceil(geometry.y.output / m);
  const columns = Math.ceil(geometry.x.output / m);
  return { geometry, m, rows, columns, tiles: geometry.batch * rows * columns, frequencies: (m + 2) ** 2 };
}
