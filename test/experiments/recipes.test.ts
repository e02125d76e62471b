// "Do it yourself" of the reports: every recipe runs as it stands, and prints figures.
import { expect, test, vi } from "vitest";
import { recipes } from "../../src/experiments/lib/report/questions/recipes.js";
import * as kilograd from "../../src/index.js";
import * as inputs from "../../src/inputs.js";

const modules: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  kilograd,
  "kilograd/inputs": inputs,
};

const AsyncFunction = (async () => {}).constructor as new (
  ...text: string[]
) => (...values: unknown[]) => Promise<void>;

/** Runs a module's text with the sources in the package's place; gives what it printed, a list for each line. */
async function run(text: string): Promise<unknown[][]> {
  const given = new Map<string, unknown>();
  const body = text.replaceAll(/^import \{ ([^}]*) \} from "([^"]*)";$/gm, (_, names: string, from: string) => {
    for (const name of names.split(", ")) {
      expect(modules[from], `${name} of ${from}`).toHaveProperty(name);
      given.set(name, modules[from]![name]);
    }
    return "";
  });
  expect(body).not.toContain("import");
  const printed: unknown[][] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...values) => void printed.push(values));
  try {
    await new AsyncFunction(...given.keys(), body)(...given.values());
  } finally {
    log.mockRestore();
  }
  return printed;
}

const numbersIn = (value: unknown): number[] =>
  typeof value === "number" ? [value] : ArrayBuffer.isView(value) ? Array.from(value as unknown as number[]) : [];

/** What recipes print is what they are about. */
const judged: Partial<Record<string, (printed: unknown[][]) => void>> = {
  vanishing(printed) {
    const ratios = new Map(printed.map(([name, , first, , output]) => [name, (first as number) / (output as number)]));
    expect(ratios.get("sigmoid")!).toBeLessThan(1e-6);
    expect(ratios.get("lecunTanh")!).toBeGreaterThan(1e-2);
  },
  robust(printed) {
    const under = new Map(printed.map(([name, , , accuracy]) => [name, accuracy as number]));
    expect(under.get("robust")!).toBeGreaterThan(under.get("plain")!);
  },
  denoising(printed) {
    const [, before, , after] = printed[0]!;
    expect(after as number).toBeLessThan((before as number) / 2);
  },
};

test.each(Object.entries(recipes))("%s", async (name, text) => {
  for (const line of text.split("\n")) expect(line.length, line).toBeLessThanOrEqual(120);
  const printed = await run(text);
  const numbers = printed.flat().flatMap(numbersIn);
  expect(numbers.length).toBeGreaterThan(0);
  expect(numbers.filter((value) => !Number.isFinite(value))).toEqual([]);
  judged[name]?.(printed);
});
