// Picture grids of experiments: shown in a report, and written as a file beside it.
import { type GridCells, type GridOptions, pictureGrid } from "../../../io/grid.js";

/** A grid before it is drawn: `section.grid(cells, { ...options, alt })` in a report. */
export interface Grid {
  readonly cells: GridCells;
  readonly options?: GridOptions;
}

/** Pictures by file name: PNG as bytes, SVG as text. */
export type Pictures = ReadonlyMap<string, Uint8Array | string>;

/** Grids as SVG files, by their names. */
export function gridFiles(grids: Readonly<Record<string, Grid>>): Map<string, Uint8Array | string> {
  return new Map(Object.entries(grids).map(([name, { cells, options = {} }]) => [name, pictureGrid(cells, options)]));
}
