// ONNX files as a format of models.
import { type FileSource, nameOf } from "../../../io/source.js";
import { DataError } from "../../../tensor/errors.js";
import type { FormatCode } from "../format.js";
import { encodeOnnx, writeOnnx } from "./write.js";

const notRead = (source: FileSource): never => {
  throw new DataError(
    `${nameOf(source)}: ONNX files are written, and not read yet; keep the model as safetensors, too`,
  );
};

export const onnxFormat: FormatCode = {
  read: async (source) => notRead(source),
  readWeights: async (_, source) => notRead(source),
  write: (path, model, content) => writeOnnx("saveModel", path, model, content),
  encode: (model, content) => encodeOnnx("encodeModel", model, content),
};
