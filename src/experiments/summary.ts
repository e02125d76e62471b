// `kilograd summary`: layers and numbers of a model of the list, or of a file of any format.
import { existsSync } from "node:fs";
import { readModelFile } from "../nn/checkpoint.js";
import { formatOf } from "../nn/formats/index.js";
import { architectureFromConfig } from "../nn/from-config.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { zoo, zooArchitecture, zooModel } from "./lib/training/models.js";

/** Of a model by its name, or of a file. @throws UsageError for neither, DataError for a file that cannot be read */
export async function summary(modelOrFile: string) {
  const known = zoo.some(({ name }) => name === modelOrFile);
  if (known || !existsSync(modelOrFile)) {
    return { ...rowsOf(zooArchitecture(zooModel(modelOrFile))), model: modelOrFile };
  }
  const { name: format } = await formatOf(modelOrFile);
  const { config, remarks, training } = await readModelFile(modelOrFile);
  return { ...rowsOf(architectureFromConfig(config)), file: modelOrFile, format, holdsTraining: !!training, remarks };
}

function rowsOf(made: ReturnType<typeof architectureFromConfig>) {
  const named = (names: readonly string[], shapes: readonly Shape[]) =>
    shapes.map((shape, i) => ({ name: names[i]!, shape: [null, ...shape] }));
  return {
    model: made.name,
    ...made.countParameters(),
    inputs: named(
      made.inputs.map(({ name }) => name),
      made.inputs.map(({ shape }) => shape),
    ),
    outputs: named(
      made.outputs.map((value) => {
        const call = made.calls[value - made.inputs.length];
        return call === undefined ? made.inputs[value]!.name : made.layers[call.layer]!.name;
      }),
      made.outputShapes,
    ),
    layers: made.layers.map(({ name: layer, layer: { className }, outputShape, weights }) => ({
      name: layer,
      type: className,
      outputShape,
      parameters: weights.reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    })),
    table: made.summary(),
  };
}

/** What is printed. */
export function summaryText(found: Awaited<ReturnType<typeof summary>>): string {
  if (!("file" in found)) return found.table;
  const values = (list: typeof found.inputs) =>
    list.map(({ name, shape }) => `${name} [${["N", ...shape.slice(1)].join(", ")}]`).join(", ");
  return [
    `${found.file}: ${found.format}${found.holdsTraining ? ", with a training to go on from" : ""}`,
    `inputs: ${values(found.inputs)}`,
    `outputs: ${values(found.outputs)}`,
    found.table,
    ...found.remarks,
  ].join("\n");
}
