// Choosing code shapes by measurement: what is measured, kept, read again, and left alone.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { create } from "webgpu";
import { tuningFile } from "../../src/io/tuning-file.js";
import { defineKernel } from "../../src/tensor/kernel.js";
import { empty, runInto } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import {
  type Choice,
  choicesInUse,
  defineTunable,
  provideFamilySample,
  provideTuningStore,
  type TuningStore,
  tuned,
} from "../../src/webgpu/tuning.js";

/** A kernel that adds up as often as its option says; the default is the slow one. */
const TRIPS: Choice = { name: "test trips", options: ["400000", "4", "40"] };
const TRIPS_OF = { software: 4, hardware: 400_000 };
const tripsKernel = defineKernel<{ readonly family?: boolean }>({
  name: "trips",
  cpu: () => {},
  webgpu: ({ outputs: [y], params, profile, dispatch }) =>
    dispatch({
      key: "",
      program: () => ({
        workgroupSize: [8],
        body: "var sum = y[lane]; for (var i = 0u; i < u.trips; i++) { sum = sum * 0.5 + 1.0; } y[lane] = sum;",
      }),
      bindings: [{ name: "y", view: y!, type: "f32", access: "read_write" }],
      sizes: { trips: params.family === true ? TRIPS_OF[profile.family] : Number(tuned(profile, TRIPS)) },
      workgroups: [1],
    }),
});
for (const name of [TRIPS.name, "test nothing"]) {
  defineTunable({
    name,
    options: TRIPS.options,
    profile: "software",
    sample: (device) => {
      const y = empty(device, [8]);
      return () => runInto(tripsKernel, [], [y], {});
    },
  });
}

const probe = await openDevice("webgpu");
const hasLanes = probe.profile.lanes !== undefined;
probe.destroy();

// By which families are told apart here; in use it is a product of matrices.
provideFamilySample((device) => {
  const y = empty(device, [8]);
  return () => runInto(tripsKernel, [], [y], { family: true });
});

let folder: string;
let file: ReturnType<typeof tuningFile>;
let machines = 0;

/** Makes what earlier tests settled in this process count for nothing: another machine. */
function freshMachine(store: TuningStore): TuningStore {
  return { ...store, machine: `${store.machine}, ${++machines}` };
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-tuning-"));
  file = tuningFile(folder);
  provideTuningStore(freshMachine(file));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  provideTuningStore(tuningFile());
  await rm(folder, { recursive: true });
});

/** Opens with KILOGRAD_TUNE, and destroys again; the choices in use and what was said. */
async function opened(
  mode: string | undefined,
): Promise<{ choices: ReturnType<typeof choicesInUse>; notes: string[] }> {
  vi.stubEnv("KILOGRAD_TUNE", mode);
  const notes: string[] = [];
  const device = await openDevice("webgpu", { profile: "software", onMessage: (note) => notes.push(note) });
  device.destroy();
  return { choices: choicesInUse(device.profile), notes };
}

/** This machine's adapter under another name. */
function renamed(description: string): GPU {
  const gpu = create([]);
  const rename = (adapter: GPUAdapter) => {
    const { vendor, subgroupMinSize, subgroupMaxSize } = adapter.info;
    const info = { vendor, architecture: "", device: "", description, subgroupMinSize, subgroupMaxSize };
    return new Proxy(adapter, {
      get(target, key) {
        if (key === "info") return info;
        const value = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  return {
    requestAdapter: async (options?: GPURequestAdapterOptions) => rename((await gpu.requestAdapter(options))!),
  } as GPU;
}

describe("the kernel family of an adapter that is known by no name", () => {
  const familyOf = async (gpu: GPU, options: { profile?: string } = {}) => {
    const notes: string[] = [];
    const device = await openDevice("webgpu", { gpu, ...options, onMessage: (note) => notes.push(note) });
    device.destroy();
    return { family: device.profile.family, notes };
  };

  it.skipIf(!hasLanes)("is measured once, kept, and read by other processes", async () => {
    const stranger = renamed(`stranger ${machines}`);
    expect(await familyOf(stranger)).toEqual({
      family: "software",
      notes: ["tuning: measuring which kernel family is faster here (hardware, software)"],
    });
    expect(await familyOf(stranger)).toEqual({ family: "software", notes: [] });
    const stored = JSON.parse(await readFile(file.path, "utf8")).measurements;
    const [machine, { "kernel family": found }] = Object.entries(stored)[0] as [
      string,
      Record<string, { chosen: string }>,
    ];
    expect(found).toMatchObject({ options: ["hardware", "software"], chosen: "software" });
    // Of another machine, with another result: it is read.
    found!.chosen = "hardware";
    const next = freshMachine(file);
    const other = { [machine.replace(/, \d+$/, `, ${machines}`)]: { "kernel family": found } };
    await writeFile(file.path, JSON.stringify({ format: 1, measurements: other }));
    provideTuningStore(next);
    expect(await familyOf(stranger)).toEqual({ family: "hardware", notes: [] });
  });

  it("is not measured where one is asked for, or the adapter is known", async () => {
    expect(await familyOf(renamed(`stranger ${machines}`), { profile: "hardware" })).toEqual({
      ...{ family: "hardware", notes: [] },
    });
    expect((await familyOf(create([]))).notes).toEqual([]);
    await expect(readFile(file.path)).rejects.toThrow(/ENOENT/);
  });
});

describe("KILOGRAD_TUNE", () => {
  it("unset or off, measures nothing and writes nothing", async () => {
    for (const mode of [undefined, "off"]) {
      const { choices, notes } = await opened(mode);
      expect(choices.length).toBeGreaterThan(1);
      expect(choices.every(({ measured }) => !measured)).toBe(true);
      expect(notes).toEqual([]);
    }
    await expect(readFile(file.path)).rejects.toThrow(/ENOENT/);
  });

  it("on, measures once; later devices and processes use the result, unless off", async () => {
    const first = await opened("on");
    expect(first.notes).toHaveLength(first.choices.length);
    expect(first.choices.every(({ measured }) => measured)).toBe(true);
    expect(first.choices.find(({ name }) => name === TRIPS.name)!.option).not.toBe("400000");
    // The same machine, as another process sees it: a wrong but valid result shows that it is read and not measured.
    const stored = JSON.parse(await readFile(file.path, "utf8"));
    const [machine] = Object.values(stored.measurements) as [Record<string, { options: string[]; chosen: string }>];
    for (const { name } of first.choices) {
      expect(machine[name]).toMatchObject({ milliseconds: machine[name]!.options.map(() => expect.any(Number)) });
      machine[name]!.chosen = machine[name]!.options.at(-1)!;
    }
    const key = Object.keys(stored.measurements)[0]!;
    const next = freshMachine(file);
    stored.measurements = { [key.replace(/, \d+$/, `, ${machines}`)]: machine };
    await writeFile(file.path, JSON.stringify(stored));
    provideTuningStore(next);
    for (const mode of [undefined, "on"]) {
      const { choices, notes } = await opened(mode);
      expect(notes).toEqual([]);
      for (const { name, option } of choices) expect(option).toBe(machine[name]!.options.at(-1));
    }
    expect((await opened("off")).choices.some(({ measured }) => measured)).toBe(false);
    // Measures again, and replaces what was stored.
    const forced = await opened("force");
    expect(forced.notes).toHaveLength(forced.choices.length);
  }, 60_000);

  it("does without a file that cannot be used, and says so", async () => {
    for (const [text, reason] of [
      ["{", /is no JSON/],
      ['{"format": 99}', /format must be 1, is 99/],
      ['{"format": 1, "measurements": {"a": {"b": {}}}}', /measurements.a.b.options is missing/],
    ] as const) {
      await writeFile(file.path, text);
      provideTuningStore(freshMachine(file));
      const { choices, notes } = await opened(undefined);
      expect(choices.some(({ measured }) => measured)).toBe(false);
      expect(notes).toEqual([expect.stringMatching(reason)]);
    }
  });

  it("is of float32 alone: matrix units have one form, whose times must not choose for other devices", async () => {
    const device = await openDevice("webgpu", { profile: "software" });
    const matrices = { m: 16, n: 16, k: 16, lanes: 32 };
    expect(choicesInUse(device.profile)).not.toEqual([]);
    expect(choicesInUse({ ...device.profile, matrices })).toEqual([]);
    device.destroy();
  });

  it("must be one of its values", async () => {
    await expect(opened("yes")).rejects.toThrow(/KILOGRAD_TUNE must be "off", "on" or "force", got "yes"/);
  });
});
