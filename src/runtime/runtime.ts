// Where Kilograd runs: what Node (with Bun and Deno) and browsers do in different ways, as one object. Nothing else
// asks where it runs. node.ts and web.ts implement it; the one that fits is found when a device is opened or a file is
// touched.
import { UsageError } from "../tensor/errors.js";
import type { TuningStore } from "../webgpu/tuning.js";
import { webRuntime } from "./web.js";

/** What finds adapters. */
export interface GpuSource {
  /** What it depends on: devices of sources with equal keys may stand in for each other. */
  readonly key: string;
  /**
   * Dawn in this process: it reports what is wrong with a call before the call returns, and its driver reads this
   * process's environment. Otherwise WebGPU of somebody else's, which reports later, as browsers do.
   */
  readonly isOwn: boolean;
  /** A new one, which gives one device; null where there is none. @throws DeviceError for flags that fit no adapter */
  requestAdapter(): Promise<GPUAdapter | null>;
  /** Takes an adapter back of which no device was made, for the next request. */
  unused(adapter: GPUAdapter): void;
}

/** How WebGPU is started. */
export interface GpuStart {
  /** Flags of Dawn. */
  readonly flags: readonly string[];
  /** Variables that hold while the driver is loaded, and at no other time. */
  readonly environment: Readonly<Record<string, string>>;
}

/** A regular file that is open for reading. */
export interface OpenFile {
  /** Bytes. */
  readonly size: number;
  /** Fills `target` from byte `position` on. @throws DataError where the file ends before */
  read<T extends Uint8Array>(target: T, position: number): Promise<T>;
}

/** What can be written. An iterable is written piece by piece, so that a large file never lies in memory as one. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Files by path. */
export interface Files {
  /**
   * Opens a file, hands it over, and closes it. @throws DataError for one that is missing, unreadable or no regular
   * file
   */
  read<T>(path: string, use: (file: OpenFile) => Promise<T>): Promise<T>;
  /**
   * The path of a file that another one names, in its folder or below. @throws DataError where it is missing, or a link
   * leads out of the folder
   */
  beside(path: string, name: string): Promise<string>;
  /** Writes a file whole or not at all. @throws KilogradError `FILE_WRITE`; an existing file is then as it was */
  write(path: string, content: FileContent): Promise<void>;
  /** Writes text to a file as it is, or adds it to its end, for logs. @throws KilogradError `FILE_WRITE` */
  log(path: string, text: string, append: boolean): Promise<void>;
}

/** Where text for the user goes. */
export interface Terminal {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** A task of HDF5's library, for a worker with a deadline and a memory limit. */
export interface Hdf5Task {
  readonly data: unknown;
  readonly deadlineSeconds: number;
  readonly mostBytes: number;
  /** Begins messages: what is read. */
  readonly owner: string;
  /** What runs in the worker; default io/h5-worker.js. */
  readonly module?: URL | undefined;
}

/** One implementation for each kind of place. */
export interface Runtime {
  readonly name: string;
  /** WebGPU as this place has it; undefined where there is none. @throws DeviceError where it cannot be loaded */
  webgpu(start: GpuStart): Promise<GpuSource | undefined>;
  /**
   * Makes the classes and constants of WebGPU globals, where they are not. @throws DeviceError where they cannot be had
   */
  provideGlobals(): Promise<void>;
  /** What to do where there is no adapter. */
  adviceWithoutAdapter(): string;
  /** Resolves as `promise` does, which WebGPU gave: in Node waiting for it must not take a core. */
  wait<T>(promise: Promise<T>): Promise<T>;
  /** A variable of the environment; undefined where it is empty or there are none. */
  environment(name: string): string | undefined;
  /** Processor cores and bytes of memory that this process may use; undefined where that is not known. */
  readonly machine: { readonly cores: number; readonly memoryBytes: number } | undefined;
  /** Where measurements of kernels are kept; undefined where nowhere. */
  tuningStore(): TuningStore | undefined;
  /** Undefined where there are none. */
  readonly files: Files | undefined;
  /** HDF5's library, which may never return; undefined where no worker can guard it. */
  readonly hdf5: ((task: Hdf5Task) => Promise<unknown>) | undefined;
  /** For progress. */
  readonly terminal: Terminal;
  /** Frees what nobody refers to any more, where that can be asked for. */
  collectGarbage(): void;
  /** Tells whoever runs the program. */
  warn(message: string): void;
}

let found: Promise<Runtime> | undefined;
/** The same, once it is known. */
let current: Runtime | undefined;

/** Node, Bun and Deno have Node's modules. */
const hasNode = () => Boolean(globalThis.process?.versions?.node);

/** The runtime of this process or page. */
export function findRuntime(): Promise<Runtime> {
  if (found === undefined) {
    found = hasNode() ? nodeRuntime() : Promise.resolve(webRuntime);
    found.then(
      (runtime) => {
        current = runtime;
      },
      () => {}, // Whoever asked is told.
    );
  }
  return found;
}

/**
 * Node's runtime, by a name that bundlers for browsers cannot follow: they have none of its modules.
 * @throws UsageError where a bundler has made one file of the program
 */
async function nodeRuntime(): Promise<Runtime> {
  const module = "./node.js";
  const loading = import(/* webpackIgnore: true */ /* @vite-ignore */ module) as Promise<typeof import("./node.js")>;
  const { nodeRuntime } = await loading.catch((cause: Error) => {
    found = undefined;
    throw new UsageError(
      `kilograd: its files for Node cannot be loaded (${cause.message}); import "kilograd/node" in a program that is bundled`,
      { cause },
    );
  });
  return nodeRuntime;
}

/** Takes this one: for a bundle for Node, in which node.ts is no file of its own. */
export function provideRuntime(runtime: Runtime): void {
  found = Promise.resolve(runtime);
  current = runtime;
}

/** Files of this place. @throws UsageError where it has none; `owner` begins the message */
export async function findFiles(owner: string): Promise<Files> {
  const { files } = await findRuntime();
  if (files !== undefined) return files;
  throw new UsageError(`${owner}: a path needs Node, Bun or Deno, there are no files here; use bytes instead`);
}

/** See Runtime.wait. */
export async function wait<T>(promise: Promise<T>): Promise<T> {
  const runtime = await findRuntime();
  return runtime.wait(promise);
}

/** See Runtime.collectGarbage. */
export const collectGarbage = (): void => current?.collectGarbage();
