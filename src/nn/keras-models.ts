// Saving models for Keras, with what Keras compiles them by. The code of the format is loaded when it is first used.
import { boolean, check, checkOptions, object, oneOf, type Rules, text } from "../tensor/options.js";
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

/** Options of {@link encodeKerasModel}. */
export interface EncodeKerasOptions extends SaveKerasOptions {
  /** "keras-h5" (default), which every version of Keras reads, or "keras", which Keras 3 and tf.keras 2.12 do. */
  readonly format?: "keras-h5" | "keras";
}

const saveRules: Rules<SaveKerasOptions> = { training: object, notes: object, allowNonFinite: boolean };
const encodeRules: Rules<EncodeKerasOptions> = { ...saveRules, format: oneOf("keras-h5", "keras") };

/**
 * Saves a model for Keras, float32, whole or not at all: as `.keras` where the path ends so, else in the legacy layout
 * of `.h5`.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `FILE_WRITE`, or `NON_FINITE` for
 * weights that are infinite or NaN
 * @example
 * await nn.saveKerasModel("model.h5", model); // keras.models.load_model("model.h5")
 */
export async function saveKerasModel(path: string, model: Model, options: SaveKerasOptions = {}): Promise<void> {
  check("saveKerasModel", "path", path, text);
  const extras = await checkedExtras("saveKerasModel", path, model, checkOptions("saveKerasModel", options, saveRules));
  if (/\.keras$/i.test(path)) return (await import("./formats/keras-zip.js")).writeKerasArchive(path, model, extras);
  return (await import("./formats/keras-h5.js")).writeKerasModel(path, model, extras);
}

/**
 * What {@link saveKerasModel} writes, as bytes.
 * @throws UsageError naming the layer that Keras has no words for, KilogradError `NON_FINITE` for weights that are
 * infinite or NaN
 */
export async function encodeKerasModel(model: Model, options: EncodeKerasOptions = {}): Promise<Uint8Array> {
  const { format = "keras-h5", ...rest } = checkOptions("encodeKerasModel", options, encodeRules);
  const extras = await checkedExtras("encodeKerasModel", "the bytes", model, rest);
  if (format === "keras") return (await import("./formats/keras-zip.js")).kerasArchive(model, extras);
  return (await import("./formats/keras-h5.js")).kerasModelBytes(model, extras);
}

async function checkedExtras(owner: string, path: string, model: Model, options: SaveKerasOptions) {
  requireModel(owner, model);
  const { allowNonFinite = false, ...extras } = options;
  if (!allowNonFinite) await requireFiniteState(owner, model, path);
  return extras;
}
