// Runs nodes of ONNX graphs. What depends on constants and shapes alone is computed on the host at once, so that shapes
// are known to what follows; everything else runs where the caller says.
import type { CpuDevice } from "../../../tensor/cpu.js";
import { DataError, KilogradError } from "../../../tensor/errors.js";
import { scope } from "../../../tensor/scope.js";
import type { Tensor } from "../../../tensor/tensor.js";
import type { Node } from "./graph.js";
import { OperatorCall } from "./operators/call.js";
import { operatorNamed } from "./operators/index.js";
import { isUsersClass, ownOperator } from "./own.js";
import { FoldingDevice, type Place, Value } from "./value.js";

/** Most elements of a constant that is computed of others. */
const MOST_FOLDED = 2 ** 26;

const folding: Place = { device: new FoldingDevice(MOST_FOLDED), exact: true };

/** Operators whose result is known from the shape of their input alone. */
const OF_SHAPES = new Set(["Shape", "Size", "EyeLike"]);

/** Whether everything is known that an operator reads. Of its second input CastLike reads the type alone. */
function isKnown({ op }: Node, inputs: readonly (Value | undefined)[]): boolean {
  const read = op === "CastLike" ? inputs.slice(0, 1) : inputs;
  return OF_SHAPES.has(op) || read.every((value) => value === undefined || value.host !== undefined);
}

export interface RunOptions {
  readonly source: string;
  readonly place: Place;
  /** See OperatorCall. */
  readonly channelsLast?: boolean;
}

/**
 * The outputs of a node. What its constants alone decide is known on the host.
 * @throws DataError naming the node for inputs that do not fit it
 */
export function runNode(node: Node, inputs: readonly (Value | undefined)[], options: RunOptions): Value[] {
  const { source, place, channelsLast = false } = options;
  const known = isKnown(node, inputs);
  const call = new OperatorCall({
    where: `${source}: ${node.label}`,
    inputs,
    attributes: node.attributes,
    opset: node.opset,
    outputs: outputCount(node),
    place: known ? folding : place,
    channelsLast,
  });
  const operator =
    operatorNamed(node.op) ??
    (isUsersClass(node.op) ? ownOperator(node) : undefined) ??
    call.refuse(`the operator ${node.op} is not known`);
  try {
    if (!known) {
      let values: readonly Value[] = [];
      scope(() => {
        values = [operator(call)].flat();
        return values.flatMap(({ made }) => made ?? []);
      });
      return [...values];
    }
    return scope(() => {
      const values = [operator(call)].flat();
      // Host arrays are no tensors, and stay when the scope ends.
      return values.map((value) =>
        value.host !== undefined ? value : Value.of(value.type, value.shape, read(value.made!)),
      );
    });
  } catch (error) {
    if (error instanceof DataError || !(error instanceof KilogradError)) throw error;
    const shapes = inputs.map((value) => (value === undefined ? "none" : `${value.type} [${value.shape}]`)).join(", ");
    throw new DataError(`${source}: ${node.label}: ${error.message} (inputs ${shapes})`, { cause: error });
  }
}

/** Outputs up to the last that has a name. */
const outputCount = ({ outputs }: Node): number => {
  let count = outputs.length;
  while (count > 0 && outputs[count - 1] === "") count--;
  return count;
};

const read = (t: Tensor) => (t.device as CpuDevice).elements(t.storage).slice(0, t.size);

/** Runs nodes in their order. `values` has inputs and constants, and gets the outputs. */
export function runNodes(nodes: readonly Node[], values: Map<string, Value>, options: RunOptions): void {
  for (const node of nodes) {
    const inputs = node.inputs.map((name) => (name === "" ? undefined : values.get(name)));
    const outputs = runNode(node, inputs, options);
    for (const [i, name] of node.outputs.entries()) {
      const value = outputs[i];
      if (name === "") continue;
      if (value === undefined) throw new DataError(`${options.source}: ${node.label}: gives no output ${i}, "${name}"`);
      values.set(name, value);
    }
  }
}
