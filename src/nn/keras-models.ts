// Saving models for Keras, with what Keras compiles them by. The code of the format is loaded when it is first used.
import { boolean, checkOptions, object, type Rules } from "../tensor/options.js";
import { requireFiniteState } from "./diagnose.js";
import { type Model, requireModel } from "./model.js";
import type { OptimizerConfig } from "./optimizers.js";

/** How a model was trained. */
export interface KerasTraining {
  readonly optimizer: OptimizerConfig;
  /** Keras's name of it. */
  readonly loss: string;
  /** Keras's names of them; default "accuracy". */
  readonly metrics?: readonly string[];
}

/** What a file of Keras holds besides the model. */
export interface KerasExtras {
  /**
   * How it was trained, so that Keras compiles it when it loads it: `optimizer.config()` and Keras's name of the loss.
   */
  readonly training?: KerasTraining;
  /** JSON to keep with the model; Keras passes over it. */
  readonly notes?: Readonly<Record<string, unknown>>;
}

/** What to write besides the model. */
export interface SaveKerasOptions extends KerasExtras {
  /**
   * Writes weights that are infinite or NaN, too. Default false: they are an error, and an existing file stays as it
   * is.
   */
  readonly allowNonFinite?: boolean;
}

const saveRules: Rules<SaveKerasOptions> = { training: object, notes: object, allowNonFinite: boolean };

/**
 * Saves a model as `.h5` in Keras's legacy layout, float32, whole or not at all.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `FILE_WRITE`, or `NON_FINITE` for
 * weights that are infinite or NaN
 * @example
 * await nn.saveKerasModel("model.h5", model); // keras.models.load_model("model.h5")
 */
export async function saveKerasModel(path: string, model: Model, options: SaveKerasOptions = {}): Promise<void> {
  const { writeKerasModel } = await import("./formats/keras-h5.js");
  await writeKerasModel(path, model, await checkedExtras("saveKerasModel", path, model, options));
}

/**
 * What {@link saveKerasModel} writes, as bytes.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `NON_FINITE` for weights that are
 * infinite or NaN
 */
export async function encodeKerasModel(model: Model, options: SaveKerasOptions = {}): Promise<Uint8Array> {
  const { kerasModelBytes } = await import("./formats/keras-h5.js");
  return kerasModelBytes(model, await checkedExtras("encodeKerasModel", "the bytes", model, options));
}

async function checkedExtras(owner: string, path: string, model: Model, options: SaveKerasOptions) {
  requireModel(owner, model);
  const { allowNonFinite = false, ...extras } = checkOptions(owner, options, saveRules);
  if (!allowNonFinite) await requireFiniteState(owner, model, path);
  return extras;
}
