// ONNX files as a format of models.
import type { FormatCode } from "../format.js";
import { readOnnx } from "./read.js";
import { encodeOnnx, writeOnnx } from "./write.js";

export const onnxFormat: FormatCode = {
  read: readOnnx,
  readWeights: async (_, source) => (await readOnnx(source)).weights,
  write: (path, model, content) => writeOnnx("saveModel", path, model, content),
  encode: (model, content) => encodeOnnx("encodeModel", model, content),
};
