// The table of operators by their ONNX names.
import type { Operator, Operators } from "./call.js";
import { elementwise } from "./elementwise.js";
import { losses } from "./losses.js";
import { normalisation } from "./normalisation.js";
import { products } from "./products.js";
import { reductions } from "./reductions.js";
import { resizing } from "./resize.js";
import { shapes } from "./shapes.js";
import { windows } from "./windows.js";

export const operators: Operators = {
  ...elementwise,
  ...reductions,
  ...shapes,
  ...windows,
  ...normalisation,
  ...products,
  ...resizing,
  ...losses,
};

export const operatorNamed = (name: string): Operator | undefined =>
  Object.hasOwn(operators, name) ? operators[name] : undefined;
