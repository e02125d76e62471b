// The formats of model files, in the order in which files are tried. Their code is loaded when it is first used.
import { firstZipEntry, isHdf5 } from "../../io/signatures.js";
import { type FileSource, headOf } from "../../io/source.js";
import { UsageError } from "../../tensor/errors.js";
import { oneOf } from "../../tensor/options.js";
import { type FormatCode, HEAD_BYTES, type ModelFormat } from "./format.js";

/** A header begins with its length in 8 bytes and is JSON. */
const SAFETENSORS_JSON = 8;

const safetensors: ModelFormat = {
  name: "safetensors",
  endings: [".safetensors"],
  writes: true,
  recognises: (head) => head[SAFETENSORS_JSON] === "{".charCodeAt(0),
  load: async () => (await import("./safetensors.js")).safetensorsFormat,
};

const kerasH5: ModelFormat = {
  name: "keras-h5",
  endings: [".h5", ".hdf5"],
  writes: true,
  recognises: isHdf5,
  load: async () => (await import("./keras-h5.js")).kerasH5Format,
};

const keras: ModelFormat = {
  name: "keras",
  endings: [".keras"],
  writes: true,
  recognises: (head) =>
    /^(metadata\.json|config\.json|model\.weights\.(h5|npz)|assets\/)/.test(firstZipEntry(head) ?? ""),
  load: async () => (await import("./keras-zip.js")).kerasFormat,
};

/** JSON: no other format here is a text. */
const tfjs: ModelFormat = {
  name: "tfjs",
  endings: [".json"],
  writes: true,
  recognises(head) {
    const text = head.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d);
    const first = head.find((byte) => byte > 0x20);
    return text && (first === "{".charCodeAt(0) || first === "[".charCodeAt(0));
  },
  load: async () => (await import("./tfjs/index.js")).tfjsFormat,
};

/** A small number, ir_version, in field 1 of a protobuf message, and then one of its next fields. */
const ONNX_FIELDS = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42];

const onnx: ModelFormat = {
  name: "onnx",
  endings: [".onnx"],
  writes: true,
  recognises: (head) => head[0] === 0x08 && head[1]! > 0 && head[1]! < 128 && ONNX_FIELDS.includes(head[2]!),
  load: async () => (await import("./onnx/index.js")).onnxFormat,
};

/** What the archives of PyTorch have in their folder. */
const OF_PYTORCH =
  /^[^/]+\/(data\.pkl|data\/\d+|version|byteorder|\.format_version|\.storage_alignment|constants\.pkl)$/;

/**
 * Weights of PyTorch: written as safetensors, which the entry of that name reads. Pickles are recognised to be told.
 */
const pytorch: ModelFormat = {
  name: "pytorch",
  endings: [".safetensors", ".pt", ".pth"],
  writes: true,
  recognises(head) {
    const [first = 0, second = 0] = head;
    if (first === 0x80) return second >= 2 && second <= 5; // A pickle of that protocol.
    return OF_PYTORCH.test(firstZipEntry(head) ?? "");
  },
  load: async () => (await import("./pytorch.js")).pytorchFormat,
};

/** Weights alone, as arrays of NumPy. */
const npz: ModelFormat = {
  name: "npz",
  endings: [".npz"],
  writes: true,
  keepsNotes: false,
  recognises: (head) => firstZipEntry(head)?.endsWith(".npy") === true,
  load: async () => (await import("./npz.js")).npzFormat,
};

export const formats: readonly ModelFormat[] = [tfjs, safetensors, kerasH5, keras, onnx, pytorch, npz];

/** What an option of that may be. */
export const formatRule = oneOf(...formats.flatMap(({ name, writes }) => (writes ? [name] : [])));

/**
 * The format of a file, by its first bytes; of what none recognises, the one that Kilograd writes says what is wrong.
 */
export async function formatOf(source: FileSource): Promise<ModelFormat> {
  const head = await headOf(source, HEAD_BYTES);
  for (const format of formats) if (await format.recognises(head, source)) return format;
  return safetensors;
}

/**
 * The format of a file to be written: that of its name, where one is given, else that of the path's ending, else
 * safetensors. `owner` begins messages.
 * @throws UsageError for an ending that stands for another format than the one that is named
 */
export function formatFor(owner: string, path: string | undefined, name: string | undefined): ModelFormat {
  const ending = /\.[^./\\]+$/.exec(path ?? "")?.[0].toLowerCase();
  // Of an ending that several formats have, the library's own is first.
  const all = [safetensors, ...formats].filter(({ endings }) => ending !== undefined && endings.includes(ending));
  const [ended] = all;
  const named = formats.find((format) => format.name === name);
  if (named !== undefined && ended !== undefined && !all.includes(named)) {
    throw new UsageError(
      `${owner}: format must be "${ended.name}" for ${path}, as its ending says, got "${named.name}"; change one of them`,
    );
  }
  return named ?? ended ?? safetensors;
}

/** What writes a format. @throws UsageError for one that is only read; `owner` begins the message */
export async function writerOf(
  owner: string,
  format: ModelFormat,
): Promise<FormatCode & Required<Pick<FormatCode, "write" | "encode">>> {
  const code = format.writes ? await format.load() : undefined;
  if (code?.write !== undefined && code.encode !== undefined) return code as never;
  throw new UsageError(`${owner}: format must be ${formatRule.expected}, "${format.name}" is only read`);
}
