// Dawn (npm `webgpu`), from which Node has WebGPU. An instance of it has a driver with threads, handles and some 30 MB
// of memory, which come back only when the garbage collector finds it. So devices that are opened alike share one, and
// a process that opens and closes devices for ever needs no more of them.
import { DeviceError } from "../tensor/errors.js";
import { waitNapping } from "./node-wait.js";
import type { GpuSource, GpuStart } from "./runtime.js";
import { adapterOf } from "./source.js";

/** Instances by what they depend on. Dawn's bindings need an instance as long as anything of it is used. */
const instances = new Map<string, GPU>();
/** Adapters that no device was made of. */
const spare = new Map<string, GPUAdapter>();

/** Variables that Dawn, the Vulkan loader and Mesa read when an instance looks for adapters. */
const DRIVER_VARIABLES = /^(VK|DAWN|LP|LVP|MESA|GALLIVM)_|^DAWNNODE/;

/** The package, with its classes and constants as globals. */
async function loadDawn() {
  const dawn = await import("webgpu").catch((cause: Error) => {
    throw new DeviceError("NO_ADAPTER", `webgpu: Dawn could not be loaded: ${cause.message}`, { cause });
  });
  for (const [name, value] of Object.entries(dawn.globals)) {
    if (!(name in globalThis)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  return dawn;
}

/** Makes Dawn's classes and constants globals, for another's GPU object, where there are none. */
export async function provideDawnGlobals(): Promise<void> {
  if (!("GPUBufferUsage" in globalThis)) await loadDawn();
}

export async function dawnSource({ flags, environment }: GpuStart): Promise<GpuSource> {
  const { create } = await loadDawn();
  const variables = Object.entries({ ...process.env, ...environment }).filter(([name]) => DRIVER_VARIABLES.test(name));
  const key = JSON.stringify([flags, variables.sort()]);
  const descriptors = await fileDescriptors();
  return {
    key,
    isOwn: true,
    unused: (adapter) => void spare.set(key, adapter),
    requestAdapter: async () => {
      const kept = spare.get(key);
      spare.delete(key);
      if (kept !== undefined) return kept;
      const known = instances.get(key);
      if (known !== undefined) return waitNapping(adapterOf(known));
      // The driver is looked for within these two calls, before anything else runs.
      const { gpu, adapter } = withEnvironment(environment, () =>
        withoutLimitWarnings(descriptors, () => {
          const gpu = create([...flags]);
          return { gpu, adapter: adapterOf(gpu) };
        }),
      );
      instances.set(key, gpu);
      try {
        const found = await waitNapping(adapter);
        // A driver that is installed later is found by a later instance.
        if (found === null) instances.delete(key);
        return found;
      } catch (error) {
        instances.delete(key);
        throw error;
      }
    },
  };
}

function withEnvironment<T>(variables: Readonly<Record<string, string>>, fn: () => T): T {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return fn();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/**
 * What Dawn writes to standard error of every software adapter: two limits of no use here are less than the driver's.
 */
const LIMIT_WARNINGS = /^Warning: maxDynamic(?:Uniform|Storage)BuffersPerPipelineLayout artificially reduced .*\n/gm;

/** File descriptors as the C library has them; those of Deno's `node:fs` are numbers of its own. */
interface FileDescriptors {
  dup(descriptor: number): number;
  dup2(from: number, to: number): number;
  close(descriptor: number): number;
  /** A file in memory. */
  memfd_create(name: string, flags: number): number;
  lseek(descriptor: number, offset: number, from: number): number;
  pread(descriptor: number, target: Uint8Array, bytes: number, offset: number): number;
}

/** Closes the file where another program is started. */
const MFD_CLOEXEC = 1;
const SEEK_END = 2;
const STANDARD_ERROR = 2;

/**
 * Node cannot exchange a file descriptor; koffi lets it call the C library. The result is undefined
 * - where the warnings do not come (Dawn has them for Vulkan, which it takes on Linux),
 * - in a worker, whose redirection could meet another thread's, and
 * - without koffi.
 */
export async function fileDescriptors(): Promise<FileDescriptors | undefined> {
  if (process.platform !== "linux") return undefined;
  const [{ isMainThread }, { createRequire }] = await Promise.all([
    import("node:worker_threads"),
    import("node:module"),
  ]);
  if (!isMainThread) return undefined;
  try {
    const library = createRequire(import.meta.url)("koffi").load(null);
    return {
      dup: library.func("int dup(int)"),
      dup2: library.func("int dup2(int, int)"),
      close: library.func("int close(int)"),
      memfd_create: library.func("int memfd_create(const char *, unsigned int)"),
      lseek: library.func("int64_t lseek(int, int64_t, int)"),
      pread: library.func("int64_t pread(int, _Out_ uint8_t *, size_t, int64_t)"),
    };
  } catch {
    return undefined; // An optional dependency: without it the two lines are seen.
  }
}

/**
 * Keeps those warnings, and nothing else, from standard error. Dawn has no switch for them. While `fn` runs, which must
 * not wait, standard error is a file in memory; what else came to it goes on to where it was bound.
 */
export function withoutLimitWarnings<T>(descriptors: FileDescriptors | undefined, fn: () => T): T {
  if (descriptors === undefined) return fn();
  const { dup, dup2, close, memfd_create, lseek, pread } = descriptors;
  const saved = dup(STANDARD_ERROR);
  if (saved < 0) return fn(); // It is closed.
  const capture = memfd_create("standard error", MFD_CLOEXEC);
  try {
    if (capture >= 0) dup2(capture, STANDARD_ERROR);
    return fn();
  } finally {
    dup2(saved, STANDARD_ERROR);
    close(saved);
    if (capture >= 0) {
      const written = Buffer.alloc(Number(lseek(capture, 0, SEEK_END)));
      pread(capture, written, written.length, 0);
      close(capture);
      const rest = written.toString().replace(LIMIT_WARNINGS, "");
      if (rest !== "") process.stderr.write(rest);
    }
  }
}
