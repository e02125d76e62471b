// What a format of model files is: how its files begin, and how models are read from it and written in it. index.ts
// lists the formats. What reads and writes one has a file or a folder here, which is loaded when it is first used.
import type { StoredTensor } from "../../io/safetensors.js";
import type { FileSource } from "../../io/source.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Model } from "../model.js";
import type { ModelFile, TrainingState } from "../model-file.js";

/** What is written besides the model. */
export interface ModelContent {
  readonly training: TrainingState | undefined;
  readonly slots: readonly (readonly [string, Tensor])[];
  readonly callbackTensors: readonly (readonly [string, Tensor])[];
  readonly notes: Readonly<Record<string, unknown>>;
  /** Writes float32, whatever the device has; default false. */
  readonly single?: boolean;
}

/**
 * Names of tensors or modules in a file, and of the layers or weights that they are in a model: a record, whose null
 * stands for what is not needed, or a function, which gives undefined for what it does not rename.
 */
export type NameMap = Readonly<Record<string, string | null>> | ((name: string) => string | null | undefined);

/** How weights are read. */
export interface ReadWeightsOptions {
  readonly map?: NameMap | undefined;
}

/** How models are read. */
export interface ReadOptions {
  /** Of ONNX files: operators that hand on their first input, whatever else they have. Others pass over it. */
  readonly skip?: readonly string[];
}

/** Bytes that formats are recognised by: enough for the name of an archive's first entry. */
export const HEAD_BYTES = 512;

/** A format as the list has it: small, since every program that loads models has it. */
export interface ModelFormat {
  /** As options name it. */
  readonly name: string;
  /** Ends of paths that stand for it, such as ".h5". */
  readonly endings: readonly string[];
  /** Whether models can be written in it. */
  readonly writes: boolean;
  /** false: notes have no place in it. */
  readonly keepsNotes?: false;
  /**
   * Whether a file may be of this format, by its first bytes, at most HEAD_BYTES. Where they cannot tell, it may look
   * further into the source.
   */
  recognises(head: Uint8Array, source: FileSource): boolean | Promise<boolean>;
  /** What reads and writes it, by `import()`. */
  load(): Promise<FormatCode>;
}

/** What reads and writes a format. */
export interface FormatCode {
  /** @throws DataError for a file that is missing, truncated, foreign or damaged */
  read(source: FileSource, options?: ReadOptions): Promise<ModelFile>;
  /** The weights of a file, also of one without layers, under the names that they have in a model. @throws DataError */
  readWeights(
    model: Model,
    source: FileSource,
    options: ReadWeightsOptions,
  ): Promise<ReadonlyMap<string, StoredTensor>>;
  /**
   * Writes a file, whole or not at all. @throws UsageError for what the format has no place for, KilogradError
   * `FILE_WRITE`
   */
  write?(path: string, model: Model, content: ModelContent): Promise<void>;
  /** What `write` writes, as bytes. */
  encode?(model: Model, content: ModelContent): Promise<Uint8Array>;
  /** Of a format of several files, all of them by name, the model first. */
  encodeFiles?(model: Model, content: ModelContent): Promise<Readonly<Record<string, Uint8Array>>>;
}
