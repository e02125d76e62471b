// The public names of `io`.
export { barChart, confusionMatrix, lineChart } from "./charts.js";
export { prepareOutputFolder, toJson, writeFileAtomic, writeJson } from "./files.js";
export { encodeGrayPng, encodeRgbPng, type GridCell, type GridOptions, type PngOptions, pictureGrid } from "./png.js";
export { Report, Section } from "./report.js";
export { decodeSafetensors, encodeSafetensors, type Safetensors, type StoredTensor } from "./safetensors.js";
export { readSafetensors, writeSafetensors } from "./safetensors-file.js";
