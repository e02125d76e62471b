// Data sets as the experiments load them: with messages for the user, and telling a fault in what the user gave from a
// network that fails.
import { datasetNames, type ImageDataset } from "../../../data/dataset.js";
import { digitsCounts } from "../../../data/digits.js";
import { type DatasetChoice, loadDataset, loadMnistOrDigits } from "../../../data/load.js";
import { DataError, KilogradError, UsageError } from "../../../tensor/errors.js";
import { meantHint } from "../../../tensor/options.js";

export interface LoadOptions {
  /** The folder with the files; default `KILOGRAD_DATA_DIR`, the cache, a download. */
  readonly dataDir?: string | undefined;
  /** How many images of each part are needed, where not all are: of the built-in digits no more are drawn. */
  readonly trainCount?: number | undefined;
  readonly testCount?: number | undefined;
  /** Ends the wait for a download. */
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
}

/** @throws UsageError for an unknown name, before anything is loaded */
export function checkDataName(name: string): void {
  if ((datasetNames as readonly string[]).includes(name)) return;
  throw new UsageError(
    `data: must be one of ${datasetNames.join(", ")}, given "${name}"${meantHint(name, datasetNames)}`,
  );
}

/** A data set by name, never another one. */
export function loadData(name: string, options: LoadOptions): Promise<ImageDataset> {
  return told(options, () => loadDataset(name, loaderOptions(options)));
}

/** MNIST, or the built-in digits where it cannot be had, with the reason. */
export function loadMnistOrBuiltIn(options: LoadOptions): Promise<DatasetChoice> {
  return told(options, () => loadMnistOrDigits(loaderOptions(options)));
}

const loaderOptions = ({ dataDir, trainCount, testCount, say }: LoadOptions) => ({
  ...(dataDir !== undefined && { dataDir }),
  trainCount: Math.min(trainCount ?? Number.POSITIVE_INFINITY, digitsCounts.train),
  testCount: Math.min(testCount ?? Number.POSITIVE_INFINITY, digitsCounts.test),
  onMessage: say,
});

/** A data set that the user named no folder for is no mistake of the user: its absence is a failure while running. */
async function told<T>({ dataDir, signal }: LoadOptions, load: () => Promise<T>): Promise<T> {
  try {
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    return await Promise.race([load(), aborted]);
  } catch (error) {
    const namedByUser = dataDir ?? process.env["KILOGRAD_DATA_DIR"];
    if (namedByUser || !(error instanceof DataError)) throw error;
    throw new KilogradError("NO_DATA", `${error.message}, or use --data digits`, {
      cause: error,
    });
  }
}
