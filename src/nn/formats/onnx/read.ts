// Reading ONNX files: the model in the file, payloads beside it.
import { type FileSource, nameOf, readAll, readBeside } from "../../../io/source.js";
import { DataError, KilogradError } from "../../../tensor/errors.js";
import { object } from "../../../tensor/options.js";
import type { ModelFile } from "../../model-file.js";
import type { ReadOptions } from "../format.js";
import { buildModel } from "./build.js";
import { graphOf } from "./graph.js";
import { decodeModel, type ModelProto, type TensorProto } from "./proto.js";
import { placeOf } from "./tensors.js";
// Its class must be there when a model is made of the configuration.
import "./layer.js";

/** Readers of protobuf take no message beyond. */
const MOST_BYTES = 2 ** 31 - 1;

/** What Kilograd's writer kept with the model. */
function notesOf({ metadataProps }: ModelProto): Readonly<Record<string, unknown>> {
  const text = metadataProps.find(({ key }) => key === "notes")?.value;
  if (text === undefined) return {};
  try {
    const notes: unknown = JSON.parse(text);
    return object.accepts(notes) ? (notes as Readonly<Record<string, unknown>>) : { notes: text };
  } catch {
    // Other writers keep what they like under this name.
    return { notes: text };
  }
}

/**
 * The model of an ONNX file.
 * @throws DataError for a file that is missing, damaged or foreign, and naming the node that cannot be read
 */
export async function readOnnx(source: FileSource, { skip = [] }: ReadOptions = {}): Promise<ModelFile> {
  const path = nameOf(source);
  const model = decodeModel(await readAll("loadModel", source, MOST_BYTES), path);
  const external = new Map<TensorProto, Uint8Array>();
  for (const t of model.graph?.initializer ?? []) {
    const place = placeOf(t, `${path}: initialiser "${t.name}"`);
    if (place === undefined) continue;
    const { name, offset, length } = place;
    external.set(t, await readBeside("loadModel", source, name, { offset, ...(length !== undefined && { length }) }));
  }
  const graph = graphOf(model, path, { external: (t) => external.get(t), skip });
  try {
    const { config, weights, remarks } = buildModel(graph);
    const nothing = new Map<string, never>();
    return {
      path,
      config,
      seed: 0,
      weights,
      slots: nothing,
      callbackTensors: nothing,
      training: undefined,
      notes: notesOf(model),
      remarks,
    };
  } catch (error) {
    if (error instanceof DataError || !(error instanceof KilogradError)) throw error;
    throw new DataError(`${path}: ${error.message}`, { cause: error });
  }
}
