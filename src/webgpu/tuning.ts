// Choices of code shape that are left to measurement. Which of a few ways to write a kernel is fastest differs between
// adapters and even between two versions of one driver. A kernel defines a Tunable with its options; a device is opened
// with one option of each and keeps it, so that a process computes the same bits throughout. So is the kernel family of
// an adapter that is known by no name, by a product in each. Where measurements are kept is the runtime's business
// (io/tuning-file.ts in Node, runtime/web-store.ts in browsers).
import type { Device } from "../tensor/device.js";
import { DeviceError, UsageError } from "../tensor/errors.js";
import type { KernelFamily, TuningProfile } from "./family.js";

/** Raised by every change of a kernel that makes earlier measurements void. */
const CODE_VERSION = 1;

/** A choice between forms of one kernel that compute the same up to rounding. */
export interface Choice<Option extends string = string> {
  /** As `kilograd doctor` shows it, e.g. "matmul, A [M, K]". */
  readonly name: string;
  /** The default first: the best known for the profile. */
  readonly options: readonly [Option, ...Option[]];
}

/** A choice with what it takes to measure it. */
export interface Tunable extends Choice {
  readonly profile: KernelFamily;
  /** Prepares a piece of work whose time depends on the option (a few milliseconds or less); the result records it. */
  readonly sample: (device: Device) => () => void;
}

/** Option by tunable; defaults are left out. */
export type Choices = Readonly<Record<string, string>>;

/** What was measured of one tunable. */
export interface Measurement {
  readonly options: readonly string[];
  /** Least time of a sample with each option. */
  readonly milliseconds: readonly number[];
  readonly chosen: string;
}

/** Measurements by machine and tunable. */
export type Measurements = Readonly<Record<string, Readonly<Record<string, Measurement>>>>;

/** Keeps measurements between processes. */
export interface TuningStore {
  /** What distinguishes this machine from others with an adapter of the same description. */
  readonly machine: string;
  /**
   * All that is stored; throws where it cannot be read or is something else. Options may be those of other versions.
   */
  read(): Promise<Measurements>;
  write(measurements: Measurements): Promise<void>;
}

const tunables = new Map<string, Tunable>();
let providedStore: TuningStore | undefined;

/** Makes a choice known, for measuring; kernels do so when they are loaded. */
export function defineTunable(tunable: Tunable): void {
  tunables.set(tunable.name, tunable);
}

/** The option that a device of this profile uses. */
export function tuned<Option extends string>(profile: TuningProfile, { name, options }: Choice<Option>): Option {
  return (profile.choices?.[name] as Option | undefined) ?? options[0];
}

/** Every choice of a profile's kernels, with the option in use. */
export function choicesInUse(profile: TuningProfile): (Choice & { option: string; measured: boolean })[] {
  return tunablesOf(profile).map((tunable) => ({
    name: tunable.name,
    options: tunable.options,
    option: tuned(profile, tunable),
    measured: profile.choices?.[tunable.name] !== undefined,
  }));
}

/** Sets where measurements are kept, instead of where the runtime keeps them; undefined: there again. */
export function provideTuningStore(store: TuningStore | undefined): void {
  providedStore = store;
}

/** What KILOGRAD_TUNE says; by default what was measured earlier is used, and nothing is measured. */
export type TuningMode = "off" | "cached" | "on" | "force";

/** @throws UsageError for another value than off, on or force */
export function tuningMode(value: string | undefined): TuningMode {
  if (value === undefined) return "cached";
  if (value === "off" || value === "on" || value === "force") return value;
  throw new UsageError(`openDevice: KILOGRAD_TUNE must be "off", "on" or "force", got "${value}"`);
}

export interface TuningRequest {
  readonly mode: TuningMode;
  readonly profile: TuningProfile;
  /** Adapter and driver, in words. */
  readonly adapter: string;
  /** Opens a device that uses these options. */
  readonly open: (choices: Choices) => Promise<Device>;
  readonly note: (message: string) => void;
  /** Where the runtime keeps measurements. */
  readonly store: () => TuningStore | undefined;
}

/** Choices by machine and mode: settled once in a process. */
const settled = new Map<string, Promise<Choices>>();

/** The choices for a device that is being opened: read, measured, or none. */
export function settleChoices(request: TuningRequest): Promise<Choices> {
  const { mode, profile, adapter } = request;
  if (mode === "off" || tunablesOf(profile).length === 0) return Promise.resolve({});
  const store = providedStore ?? request.store();
  if (store === undefined) return Promise.resolve({});
  const machine = [`code ${CODE_VERSION}`, profile.family, adapter, store.machine].join("; ");
  const key = `${mode}; ${machine}`;
  let choices = settled.get(key);
  if (choices === undefined) {
    choices = settle(request, store, machine);
    settled.set(key, choices);
    choices.catch(() => settled.delete(key));
  }
  return choices;
}

async function settle(request: TuningRequest, from: TuningStore, machine: string): Promise<Choices> {
  const { mode, profile, note } = request;
  const known = await from.read().catch((error: Error): Measurements => {
    note(`tuning: earlier measurements are not used, because ${error.message}`);
    return {};
  });
  const found: Record<string, Measurement> = {};
  let fresh = 0;
  for (const tunable of tunablesOf(profile)) {
    const earlier = known[machine]?.[tunable.name];
    const valid = earlier !== undefined && earlier.options.join() === tunable.options.join();
    if (valid && mode !== "force") found[tunable.name] = earlier;
    else if (mode !== "cached") {
      note(`tuning: measuring ${tunable.name} (${tunable.options.join(", ")})`);
      const { EFFORT, measure } = await import("./tuning-measure.js");
      const open = (option: string) => request.open({ [tunable.name]: option });
      found[tunable.name] = await measure(tunable, open, EFFORT[tunable.profile]);
      fresh++;
    }
  }
  if (fresh > 0) {
    await from.write({ ...known, [machine]: { ...known[machine], ...found } }).catch((error: Error) => {
      note(`tuning: the measurements could not be kept, because ${error.message}`);
    });
  }
  return Object.fromEntries(Object.entries(found).map(([name, { chosen }]) => [name, chosen]));
}

/** What is timed to tell the families apart; matmul.ts says so. */
let familySample: Tunable["sample"] | undefined;

export function provideFamilySample(sample: Tunable["sample"]): void {
  familySample = sample;
}

/** The family is kept as one more measurement. */
const FAMILIES = { name: "kernel family", options: ["hardware", "software"] } as const;

const families = new Map<string, Promise<KernelFamily>>();

/** The faster family of an adapter that could have either: as measured earlier, or now. Settled once in a process. */
export function settleFamily(
  request: Pick<TuningRequest, "adapter" | "note" | "store"> & {
    /** Opens a device with this family. */
    readonly open: (family: KernelFamily) => Promise<Device>;
  },
): Promise<KernelFamily> {
  const store = providedStore ?? request.store();
  const machine = [`code ${CODE_VERSION}`, request.adapter, store?.machine].join("; ");
  let family = families.get(machine);
  if (family === undefined) {
    family = measureFamily(request, machine, store);
    families.set(machine, family);
    family.catch(() => families.delete(machine));
  }
  return family;
}

async function measureFamily(
  { note, open }: Parameters<typeof settleFamily>[0],
  machine: string,
  store: TuningStore | undefined,
): Promise<KernelFamily> {
  const { name, options } = FAMILIES;
  const known = await store?.read().catch((error: Error): Measurements => {
    note(`tuning: earlier measurements are not used, because ${error.message}`);
    return {};
  });
  const earlier = options.find((option) => option === known?.[machine]?.[name]?.chosen);
  if (earlier !== undefined) return earlier;
  if (familySample === undefined) throw new DeviceError("LIMIT", "internal: a family is measured without its sample");
  note(`tuning: measuring which ${name} is faster here (${options.join(", ")})`);
  const { EFFORT, measure } = await import("./tuning-measure.js");
  const sample = familySample;
  const found = await measure({ options, sample }, (option) => open(option as KernelFamily), EFFORT.family);
  await store?.write({ ...known, [machine]: { ...known?.[machine], [name]: found } }).catch((error: Error) => {
    note(`tuning: the measurement could not be kept, because ${error.message}`);
  });
  return found.chosen as KernelFamily;
}

/** On matrix units there is one form of everything: what is measured is float32's. */
function tunablesOf({ family, matrices }: TuningProfile): Tunable[] {
  return matrices === undefined ? [...tunables.values()].filter(({ profile }) => profile === family) : [];
}
