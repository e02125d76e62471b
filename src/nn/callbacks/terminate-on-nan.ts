// Ends training at the first step whose loss is not finite, and names the layer where it began. fit rewinds to just
// before that step. So the model is left with finite weights.
import type { Callback } from "./callback.js";

export function terminateOnNaN(): Callback {
  return { name: "terminateOnNaN", stopsOnNonFinite: true };
}
