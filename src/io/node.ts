// The public names of `io` in kilograd/node: those of memory, and files, pictures, charts and reports.

export type { FileContent } from "../runtime/runtime.js";
export {
  type AxisOptions,
  type BarChartOptions,
  type BarSeries,
  barChart,
  type ConfusionMatrixOptions,
  confusionMatrix,
  type LineChartOptions,
  type LineSeries,
  lineChart,
  type ParallelAxis,
  type ParallelChartOptions,
  type ParallelLines,
  type ParallelTick,
  parallelChart,
  type ReferenceLine,
} from "./charts.js";
export { prepareOutputFolder, writeFileAtomic, writeJson } from "./files.js";
export { encodeGif, type GifFrame, type GifOptions } from "./gif.js";
export { type GridCell, type GridCells, type GridOptions, pictureGrid } from "./grid.js";
export * from "./index.js";
export type { Markup } from "./markup.js";
export { readNpy, writeNpy } from "./npy.js";
export { readNpz, writeNpz } from "./npz.js";
export { encodeGrayPng, encodeRgbPng, type PngOptions } from "./png.js";
export {
  type KeyFigure,
  type PictureOptions,
  Report,
  type ReportGridOptions,
  type ReportOptions,
  Section,
  type Table,
  type TableCell,
  type TableColumn,
  type Tone,
} from "./report.js";
export type { DeferredTensor } from "./safetensors.js";
export { readSafetensors, writeSafetensors } from "./safetensors-file.js";
