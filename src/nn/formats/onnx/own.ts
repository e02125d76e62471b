// Operators that ONNX files have and that are not known here, as layers of a user's own: nn.defineLayer with the
// operator's name as its className. Attributes are the layer's options. Inputs that are constant are its weights, in
// their order. Its other inputs are laid out as in the file, images [N, C, ...] among them.
import { DataError } from "../../../tensor/errors.js";
import type { Shape } from "../../../tensor/shape.js";
import { empty } from "../../../tensor/tensor.js";
import type { CallableLayer } from "../../layer.js";
import { layerClasses, layerClassOf } from "../../layers/registry.js";
import type { Node } from "./graph.js";
import type { Operator } from "./operators/call.js";
import { operatorNamed } from "./operators/index.js";
import { type Numbers, ShapeDevice } from "./value.js";

/** Whether a user's class computes an operator. */
export const isUsersClass = (op: string): boolean =>
  operatorNamed(op) === undefined &&
  op !== "OnnxGraph" &&
  layerClassOf(op) !== undefined &&
  layerClasses.every(({ className }) => className !== op);

/** The layer of a node. @throws UsageError for attributes that the class has no options for */
export function ownLayer({ op, attributes }: Node): CallableLayer {
  const options = Object.entries(attributes).filter(([, value]) => typeof value !== "object" || !("data" in value));
  return layerClassOf(op)!(Object.fromEntries(options));
}

/** Tells the shape alone: the layer itself computes it. */
export const ownOperator =
  (node: Node): Operator =>
  (call) => {
    const { device } = call.place;
    if (!(device instanceof ShapeDevice)) call.refuse("is a layer of a user's own, which must stand alone");
    const given = call.inputs.flatMap((value) =>
      value === undefined || value.host !== undefined ? [] : [value.shape],
    );
    const [[batch], ...others] = given as [Shape, ...Shape[]];
    const shape = ownLayer(node).outputShape(given[0]!.slice(1), ...others.map((each) => each.slice(1)));
    return call.make("float32", empty(device, [batch!, ...shape]));
  };

/** Which weight each constant of a node is. @throws DataError where they are not as the layer says */
export function ownWeights(
  where: string,
  layer: CallableLayer,
  inputs: readonly Shape[],
  constants: readonly { readonly shape: Shape; readonly data: Numbers }[],
) {
  const specs = layer.weights(inputs[0]!, ...inputs.slice(1));
  if (specs.length !== constants.length || specs.some(({ shape }, i) => `${shape}` !== `${constants[i]!.shape}`)) {
    const wanted = specs.map(({ name, shape }) => `${name} [${shape}]`).join(", ") || "none";
    const found = constants.map(({ shape }) => `[${shape}]`).join(", ") || "none";
    throw new DataError(`${where}: must have constants for the layer's weights, ${wanted}; has ${found}`);
  }
  return Object.fromEntries(specs.map(({ name }, i) => [name, constants[i]!]));
}
