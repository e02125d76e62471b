// The table of operators by their ONNX names.
import { sequences } from "./attention.js";
import type { Operator, Operators } from "./call.js";
import { elementwise } from "./elementwise.js";
import { losses } from "./losses.js";
import { normalisation } from "./normalisation.js";
import { products } from "./products.js";
import { quantisation } from "./quantised.js";
import { recurrences } from "./recurrent.js";
import { reductions } from "./reductions.js";
import { resizing } from "./resize.js";
import { sampling } from "./sampling.js";
import { selection } from "./selection.js";
import { shapes } from "./shapes.js";
import { signals } from "./signals.js";
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
  ...sequences,
  ...sampling,
  ...signals,
  ...recurrences,
  ...quantisation,
  ...selection,
};

export const operatorNamed = (name: string): Operator | undefined =>
  Object.hasOwn(operators, name) ? operators[name] : undefined;
