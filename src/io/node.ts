// The public names of `io` in kilograd/node: those of memory, and files, pictures, charts and reports.
export { barChart, confusionMatrix, lineChart, type ParallelChartOptions, parallelChart } from "./charts.js";
export { prepareOutputFolder, writeFileAtomic, writeJson } from "./files.js";
export { encodeGif, type GifFrame, type GifOptions } from "./gif.js";
export { type GridCell, type GridCells, type GridOptions, pictureGrid } from "./grid.js";
export * from "./index.js";
export { readNpy, writeNpy } from "./npy.js";
export { readNpz, writeNpz } from "./npz.js";
export { encodeGrayPng, encodeRgbPng, type PngOptions } from "./png.js";
export { Report, type ReportGridOptions, Section } from "./report.js";
export { readSafetensors, writeSafetensors } from "./safetensors-file.js";
