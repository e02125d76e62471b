// The formats of model files, in the order in which files are tried.
import { type FileSource, headOf } from "../../io/source.js";
import { UsageError } from "../../tensor/errors.js";
import { oneOf } from "../../tensor/options.js";
import { HEAD_BYTES, type ModelFormat } from "./format.js";
import { kerasH5Format } from "./keras-h5.js";
import { safetensorsFormat } from "./safetensors.js";

export const formats: readonly ModelFormat[] = [safetensorsFormat, kerasH5Format];

/** What an option of that may be. */
export const formatRule = oneOf(...formats.flatMap(({ name, write }) => (write === undefined ? [] : [name])));

/**
 * The format of a file, by its first bytes; of what none recognises, the one that Kilograd writes says what is wrong.
 */
export async function formatOf(source: FileSource): Promise<ModelFormat> {
  const head = await headOf(source, HEAD_BYTES);
  return formats.find((format) => format.recognises(head)) ?? safetensorsFormat;
}

/** A format that can be written. */
export function formatNamed(name: string): ModelFormat & Required<Pick<ModelFormat, "write" | "encode">> {
  const found = formats.find((format) => format.name === name);
  if (found?.write !== undefined && found.encode !== undefined) return found as never;
  throw new UsageError(`saveModel: format must be ${formatRule.expected}, got ${JSON.stringify(name)}`);
}
