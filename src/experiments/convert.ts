// `kilograd convert`: a model from one format of files to another. No device computes anything.
import { type ModelFile, readModelFile } from "../nn/checkpoint.js";
import { requireFiniteState } from "../nn/diagnose.js";
import { formatFor, formatOf, writerOf } from "../nn/formats/index.js";
import { defineLayer } from "../nn/layer.js";
import { layerClassOf } from "../nn/layers/registry.js";
import type { ModelConfig } from "../nn/model-config.js";
import { buildModel } from "../nn/stored-model.js";
import { CpuDevice } from "../tensor/cpu.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { checkOptions, listOf, type Rules, text } from "../tensor/options.js";

export interface ConvertOptions {
  readonly from: string;
  readonly to: string;
  /** Name of the format; default what the ending of `to` says. */
  readonly format?: string;
  /** Classes of layers, or operators of ONNX, that hand on what they are given: those that Kilograd does not know. */
  readonly skip?: readonly string[];
}

const rules: Rules<ConvertOptions> = { from: text, to: text, format: text, skip: listOf(text) };

/**
 * Converts a model. `say` is told what does not come over.
 * @throws DataError for a file that cannot be read, UsageError for what the other format has no words for
 */
export async function convert(options: ConvertOptions, say: (message: string) => void) {
  const { from, to, format: wanted, skip = [] } = checkOptions("convert", options, rules, ["from", "to"]);
  const target = formatFor("convert", to, wanted);
  if (wanted !== undefined && target.name !== wanted) {
    throw new UsageError(
      `convert: --to must be one of the formats that are written, see docs/formats.md, got "${wanted}"`,
    );
  }
  const writer = await writerOf("convert", target);
  const source = await formatOf(from);
  // Operators of ONNX are passed over when they are read, classes of layers behind that.
  const classes = source.name === "onnx" ? [] : skip;
  for (const className of classes) passOver(className);
  const file = source.name === "onnx" ? await (await source.load()).read(from, { skip }) : await readModelFile(from);
  for (const remark of file.remarks) say(remark);
  if (file.training !== undefined) say(`${from}: its training is left behind, the model alone is converted`);
  const notes = target.keepsNotes === false ? {} : file.notes;
  if (Object.keys(file.notes).length > Object.keys(notes).length) {
    say(`${from}: its notes are left behind, ${target.name} has no place for them`);
  }
  const model = buildModel({ ...file, config: without(file.config, new Set(classes), from) }, new CpuDevice());
  try {
    await requireFiniteState("convert", model, to);
    await writer.write(to, model, {
      training: undefined,
      slots: [],
      callbackTensors: [],
      notes,
      single: true,
    });
    const { total } = model.countParameters();
    return { from, to, formats: [source.name, target.name], layers: model.layers.length, parameters: total };
  } finally {
    model.dispose();
  }
}

/** What `kilograd convert` prints. */
export function convertText({ from, to, formats, layers, parameters }: Awaited<ReturnType<typeof convert>>): string {
  const counts = `${layers} layers, ${parameters.toLocaleString("en-US")} parameters`;
  return `${from} (${formats[0]}) is ${to} (${formats[1]}) now: ${counts}`;
}

/** Lets files have a class of layers that Kilograd does not know: it gives what it is given. */
function passOver(className: string): void {
  if (layerClassOf(className) !== undefined) {
    throw new UsageError(`convert: --skip is for classes that Kilograd does not know, got "${className}"`);
  }
  defineLayer({ className, make: () => ({ config: {}, call: (x) => x }), keras: {} });
}

/** The model without layers of these classes: what they were called on takes their place. */
function without(config: ModelConfig, skip: ReadonlySet<string>, from: string): ModelFile["config"] {
  const unused = [...skip].find((className) => config.layers.every((layer) => layer.className !== className));
  if (unused !== undefined) throw new DataError(`${from}: has no layer of the class "${unused}", which --skip names`);
  const layers = config.layers.filter(({ className }) => !skip.has(className));
  if (config.className === "Sequential") return { ...config, layers };
  const kept = new Set(layers.map((layer) => layer.config.name));
  /** Where each value of the file is now. */
  const places = config.inputs.map((_, i) => i);
  const calls: { layer: string; inputs: number[] }[] = [];
  for (const call of config.calls) {
    const inputs = call.inputs.map((value) => places[value]!);
    if (kept.has(call.layer)) {
      places.push(config.inputs.length + calls.length);
      calls.push({ layer: call.layer, inputs });
    } else {
      places.push(inputs[0]!);
    }
  }
  return { ...config, layers, calls, outputs: config.outputs.map((value) => places[value]!) };
}
