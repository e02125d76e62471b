// Experiments through the command line: what it refuses, and a run that is interrupted and goes on.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build, kilograd } from "./run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-run-"));
const at = (name: string) => join(folder, name);
const out = at("out");

beforeAll(() => {
  build();
  mkdirSync(at("other"));
  writeFileSync(at("other/run.json"), JSON.stringify({ experiment: "digits", finished: true }));
  // MNIST with its test labels missing, and with its test images cut off: 2 images of 28 x 28 are 1584 bytes.
  const idx = (magic: number[], sizes: number[], bytes: number) => {
    const header = [...magic, ...sizes.flatMap((size) => [0, 0, size >> 8, size & 255])];
    return gzipSync(Uint8Array.from({ length: header.length + bytes }, (_, i) => header[i] ?? 0));
  };
  for (const [name, files] of [
    [
      "cut",
      {
        "train-images-idx3-ubyte": 2 * 784,
        "train-labels-idx1-ubyte": 2,
        "t10k-images-idx3-ubyte": 1000,
        "t10k-labels-idx1-ubyte": 2,
      },
    ],
    [
      "missing",
      { "train-images-idx3-ubyte": 2 * 784, "train-labels-idx1-ubyte": 2, "t10k-images-idx3-ubyte": 2 * 784 },
    ],
  ] as const) {
    mkdirSync(at(name));
    for (const [file, bytes] of Object.entries(files)) {
      const images = file.includes("images");
      writeFileSync(join(at(name), `${file}.gz`), idx([0, 0, 8, images ? 3 : 1], images ? [2, 28, 28] : [2], bytes));
    }
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

const tiny = ["--set", "data=digits", "--set", "trainImages=320", "--set", "testImages=32", "--set", "epochs=1"];

describe("exit code 2, nothing written", () => {
  test.each<[what: string, args: string[], message: RegExp]>([
    ["an unknown experiment", ["digit"], /experiment: must be one of digits, .* or all, given "digit"/],
    ["an unknown preset", ["digits", "--preset", "fast"], /preset: must be quick or reference, given "fast"/],
    ["an unknown preset for all", ["all", "--preset", "fast"], /preset: must be quick or reference, given "fast"/],
    [
      "an unknown setting",
      ["digits", "--set", "speed=1"],
      /needs NAME=VALUE with a setting of digits .*given "speed=1"/,
    ],
    ["settings for all", ["all", "--set", "data=digits"], /is for one experiment, not for all/],
    ["nothing to resume", ["digits", "--resume"], /holds no run to go on with/],
  ])("%s", { timeout: 60_000 }, async (_, args, message) => {
    const { code, stdout, stderr } = await kilograd(["run", ...args, "--out", out]);
    expect(stderr).toMatch(message);
    expect(stderr).not.toContain("    at ");
    expect([code, stdout]).toEqual([2, ""]);
    expect(readdirSync(folder)).not.toContain("out");
  });

  test("an output folder of another experiment", { timeout: 60_000 }, async () => {
    const { code, stderr } = await kilograd(["run", "weight-decay", ...tiny, "--out", at("other")]);
    expect(stderr).toMatch(/other holds the results of digits, not of weight-decay/);
    expect(code).toBe(2);
    expect(readdirSync(at("other"))).toEqual(["run.json"]);
  });

  test.each([
    ["missing", /missing .*misses t10k-labels-idx1-ubyte/],
    ["cut", /t10k-images-idx3-ubyte\.gz .*must have 1584 bytes, has 1016 \(568 are missing\)/],
  ])("a data folder with a file %s", { timeout: 60_000 }, async (name, message) => {
    const { code, stderr } = await kilograd([
      "run",
      "weight-decay",
      "--data-dir",
      at(name),
      "--out",
      at(`out-${name}`),
    ]);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(readdirSync(at(`out-${name}`))).toEqual([]);
  });
});

test("interrupted, the run keeps what is finished; --resume goes on; list names it", { timeout: 180_000 }, async () => {
  const args = [
    "run",
    "vanishing-gradients",
    ...tiny,
    "--set",
    "depths=[2,3]",
    "--set",
    "gradientEpoch=1",
    "--seed",
    "3",
  ];
  let interrupted = false;
  const first = await kilograd([...args, "--out", at("cut-short")], {
    onStderr: (text, child) => {
      if (interrupted || !text.includes("[2/8] tanh, 2 layers")) return;
      interrupted = true;
      child.kill("SIGINT");
    },
  });
  expect(first.code).toBe(130);
  expect(first.stderr).toContain("What is finished is kept. Go on with");
  const kept = readdirSync(at("cut-short/parts"));
  expect(kept).toContain("ReLU_2_layers.safetensors");
  expect(kept.length).toBeLessThan(8);

  const refused = await kilograd([...args, "--out", at("cut-short")]);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("holds an unfinished run of vanishing-gradients; go on with --resume");

  const second = await kilograd([...args, "--out", at("cut-short"), "--resume", "--json"]);
  expect(second.code).toBe(0);
  expect(second.stderr).toMatch(/\d parts? of 8 done before/);
  expect(second.stderr).not.toContain("ReLU, 2 layers:");
  const printed = JSON.parse(second.stdout);
  expect(printed).toMatchObject({ experiment: "vanishing-gradients", seed: 3, folder: at("cut-short") });
  expect(printed.outcomes).toHaveLength(8);
  expect(readFileSync(at("cut-short/report.html"), "utf8")).toContain("Depth, activations and vanishing gradients");

  const list = await kilograd(["list", "--json"]);
  const names = JSON.parse(list.stdout).experiments.map(({ name }: { name: string }) => name);
  expect(names).toEqual(expect.arrayContaining(["digits", "vanishing-gradients", "weight-decay"]));
});
