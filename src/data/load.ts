// Data sets by name, from files, the cache or the network.
import { DataError } from "../tensor/errors.js";
import { check, checkOptions, oneOf, onlyOptions, type Rules } from "../tensor/options.js";
import { datasetNames, type ImageDataset } from "./dataset.js";
import { type DigitsOptions, digits, digitsRules } from "./digits.js";
import { loadMnist, type MnistOptions, mnistRules } from "./mnist.js";

/** Options of {@link loadDataset}; each data set takes what concerns it. */
export type LoadDatasetOptions = MnistOptions & DigitsOptions;

const loadRules: Rules<LoadDatasetOptions> = { ...mnistRules, ...digitsRules };

/**
 * Loads a data set by name. Never answers with another one.
 *
 * @throws UsageError for an unknown name or a folder that misses files, DataError for data that cannot be had or read
 * @example
 * const { train, test } = await loadDataset("digits", { seed: 1 });
 */
export async function loadDataset(name: string, options: LoadDatasetOptions = {}): Promise<ImageDataset> {
  check("loadDataset", "name", name, oneOf(...datasetNames));
  const given = checkOptions("loadDataset", options, loadRules);
  return name === "mnist" ? loadMnist(onlyOptions(given, mnistRules)) : digits(onlyOptions(given, digitsRules));
}

/** A data set and, where it is not the one wished for, why. */
export interface DatasetChoice {
  readonly dataset: ImageDataset;
  /** Present when the built-in digits stand in for MNIST: the reason MNIST could not be had. */
  readonly fallbackReason?: string;
}

/**
 * MNIST where it can be had, otherwise the built-in digits, with the reason. For the quick main job only. A folder
 * named by the user is never passed over: its faults are errors.
 */
export async function loadMnistOrDigits(given: LoadDatasetOptions = {}): Promise<DatasetChoice> {
  const options = checkOptions("loadMnistOrDigits", given, loadRules);
  try {
    // Without a network this must not take long: two mirrors, two attempts each.
    const forMnist = onlyOptions(options, mnistRules);
    return { dataset: await loadMnist({ attempts: 2, connectTimeout: 4_000, ...forMnist }) };
  } catch (error) {
    const namedByUser = options.dataDir ?? process.env["KILOGRAD_DATA_DIR"];
    if (namedByUser || !(error instanceof DataError)) throw error;
    return { dataset: digits(onlyOptions(options, digitsRules)), fallbackReason: error.message };
  }
}
