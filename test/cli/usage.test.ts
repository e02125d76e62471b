// What the command says to wrong input: exit code 2, one clear message without a stack trace, nothing on stdout,
// nothing written. And the commands that need no training.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../src/io/safetensors-file.js";
import { loadModel } from "../../src/nn/checkpoint.js";
import { file, node } from "../nn/formats/onnx-graphs.js";
import { cpu } from "../support.js";
import { build, kilograd, kilogradSeveral, type OutcomeOfSeveral } from "./run.js";

/** By which the built command keeps Dawn's warnings from stderr, on Linux. */
const hasKoffi = existsSync("node_modules/koffi");

const folder = mkdtempSync(join(tmpdir(), "kilograd-cli-"));
const at = (name: string) => join(folder, name);
const out = at("out");

beforeAll(async () => {
  build();
  // A model and a checkpoint of one step, for what must be refused about them.
  const made = await kilograd([
    "train",
    "mlp-64",
    "--data",
    "digits",
    "--steps",
    "1",
    "--limit-test",
    "10",
    "--out",
    at("mlp"),
  ]);
  expect(made.stderr).not.toContain("kilograd:");
  expect(made.code).toBe(0);
  writeFileSync(at("file"), "I am a file, no folder");
  writeFileSync(at("keras.h5"), Buffer.from("\x89HDF\r\n\x1a\nmuch more of it", "latin1"));
  writeFileSync(at("cut.safetensors"), readFileSync(at("mlp/model.safetensors")));
  truncateSync(at("cut.safetensors"), 5000);
  const stranger = { dtype: "F32", shape: [2], data: new Float32Array(2) } as const;
  await writeSafetensors(at("foreign.safetensors"), new Map([["layer.weight", stranger]]));
});
afterAll(() => rmSync(folder, { recursive: true }));

const onDigits = ["--data", "digits", "--limit-test", "10", "--steps", "1", "--out", out];

/** Every number has an upper limit, which is named. */
const limits: [args: string[], message: RegExp][] = [
  [
    ["train", "mlp-64", "--epochs", "1e9"],
    /'--epochs <n>' argument '1e9' is invalid. It must be a whole number from 1 to 100000/,
  ],
  [["train", "mlp-64", "--steps", "1e12"], /from 1 to 10000000/],
  [["train", "mlp-64", "--batch", "1e7"], /from 1 to 100000/],
  [["train", "mlp-64", "--limit-train", "1e8"], /from 1 to 1000000/],
  [["train", "mlp-64", "--limit-test", "1e8"], /from 1 to 1000000/],
  [["train", "mlp-64", "--lr", "1e31"], /in \(0, 1e\+30\]/],
  [["optimize", "--count", "1e5"], /from 1 to 1000/],
  [["optimize", "--steps", "1e6"], /from 1 to 100000/],
  [["optimize", "--lr", "1e31"], /in \(0, 1e\+30\]/],
  [["optimize", "--l2", "1e31"], /from 0 to 1e\+30/],
  [["optimize", "--tv", "1e31"], /from 0 to 1e\+30/],
  [["optimize", "--blur", "1e9"], /'--blur <x>' argument '1e9' is invalid. It must be a finite number from 0 to 28/],
  [["optimize", "--jitter", "15"], /from 0 to 14/],
  [["run", "digits", "--set", "epochs=1e9"], /set: epochs must be a whole number from 0 to 100000, got 1000000000/],
  [
    ["run", "vanishing-gradients", "--set", "depths=[1e9]"],
    /set: depths must be a list of values, each a whole number from 1 to 1000/,
  ],
  [["run", "robust", "--set", "trainImages=1e12"], /set: trainImages must be a whole number from 1 to 1000000/],
];

describe("exit code 2, nothing written", () => {
  const cases: readonly [what: string, args: () => string[], message: RegExp][] = [
    ["an unknown command", () => ["fly"], /unknown command 'fly'/],
    ["an unknown option", () => ["list", "--fast"], /unknown option '--fast'/],
    ["an unknown model", () => ["train", "resnet", ...onDigits], /model: must be one of small-cnn, .* given "resnet"/],
    ["an unknown model to summarise", () => ["summary", "resnet"], /must be one of small-cnn/],
    ["no model", () => ["train"], /missing required argument 'model'/],
    [
      "an unknown data set",
      () => ["train", "mlp-64", "--data", "fashion", "--out", out],
      /data: must be one of mnist, digits, given "fashion"/,
    ],
    [
      "a data folder that is not there",
      () => ["train", "mlp-64", "--data-dir", at("nowhere"), "--out", out],
      /nowhere .* does not exist/,
    ],
    ["a data folder without the data", () => ["train", "mlp-64", "--data-dir", folder, "--out", out], /mnist: neither/],
    [
      "batch 0",
      () => ["train", "mlp-64", ...onDigits, "--batch", "0"],
      /'--batch <n>' argument '0' is invalid.*whole number from 1/,
    ],
    [
      "a batch larger than the data",
      () => ["train", "mlp-64", ...onDigits, "--batch", "10001"],
      /batch: must be from 1 to the 10,000 training images, given 10001/,
    ],
    [
      "a batch larger than the limited data",
      () => ["train", "mlp-64", ...onDigits, "--limit-train", "20", "--batch", "32"],
      /from 1 to the 20 training images/,
    ],
    ...["train mlp-64", "run digits", "start", "optimize --model x --target 3", "doctor"].map(
      (command): [string, () => string[], RegExp] => [
        `an unknown precision of ${command}`,
        () => [...command.split(" "), "--precision", "half"],
        /'--precision <name>' argument 'half' is invalid. Allowed choices are float32, mixed/,
      ],
    ),
    [
      "epochs that are no number",
      () => ["train", "mlp-64", ...onDigits, "--epochs", "many"],
      /'--epochs <n>' argument 'many' is invalid/,
    ],
    [
      "an averaging of nothing new",
      () => ["train", "mlp-64", ...onDigits, "--ema", "1"],
      /'--ema <momentum>' argument '1' is invalid. It must be a finite number in \[0, 1\)/,
    ],
    [
      "a negative learning rate",
      () => ["train", "mlp-64", ...onDigits, "--lr", "-1"],
      /'--lr <x>' argument '-1' is invalid/,
    ],
    ["a seed beyond 32 bits", () => ["train", "mlp-64", ...onDigits, "--seed", "4294967296"], /from 0 to 4294967295/],
    [
      "an out folder that is a file",
      () => ["train", "mlp-64", "--data", "digits", "--limit-train", "200", "--steps", "1", "--out", at("file")],
      /out folder: needs a folder that can be written/,
    ],
    [
      "an out folder below a file",
      () => ["train", "mlp-64", "--data", "digits", "--limit-train", "200", "--steps", "1", "--out", at("file/deeper")],
      /a part of the path is a file/,
    ],
    [
      "a checkpoint that is not there",
      () => ["train", "mlp-64", ...onDigits, "--resume", at("none.safetensors")],
      /cannot read .*none\.safetensors/,
    ],
    [
      "a checkpoint of another architecture",
      () => ["train", "small-cnn", ...onDigits, "--resume", at("mlp/checkpoint.safetensors")],
      /another architecture than "small-cnn": "conv2d\/kernel" \[3, 3, 1, 24\] is missing/,
    ],
    [
      "a model instead of a checkpoint",
      () => ["train", "mlp-64", ...onDigits, "--resume", at("mlp/model.safetensors")],
      /needs a checkpoint/,
    ],
    [
      "a checkpoint with another batch",
      () => [
        "train",
        "mlp-64",
        "--resume",
        at("mlp/checkpoint.safetensors"),
        "--batch",
        "5",
        "--steps",
        "2",
        "--out",
        out,
      ],
      /resume: batch must be as before, 128, given 5/,
    ],
    [
      "a model file that is not there",
      () => ["optimize", "--model", at("none"), "--target", "3", "--out", out],
      /cannot read .*none/,
    ],
    [
      "a truncated model file",
      () => ["optimize", "--model", at("cut.safetensors"), "--target", "3", "--out", out],
      /cut short/,
    ],
    [
      "a foreign model file",
      () => ["optimize", "--model", at("foreign.safetensors"), "--target", "3", "--out", out],
      /not a model that Kilograd wrote/,
    ],
    [
      "a damaged HDF5 model file",
      () => ["optimize", "--model", at("keras.h5"), "--target", "3", "--out", out],
      /is HDF5, but cut off or damaged/,
    ],
    [
      "no target",
      () => ["optimize", "--model", at("mlp/model.safetensors"), "--out", out],
      /required option '--target <t>' not specified/,
    ],
    [
      "a target of eight numbers",
      () => ["optimize", "--model", at("mlp/model.safetensors"), "--target", "0,0,.5,.5,0,0,0,0", "--out", out],
      /given 8 with sum 1;/,
    ],
    [
      "a target of another sum",
      () => ["optimize", "--model", at("mlp/model.safetensors"), "--target", "2:0.5,3:0.6", "--out", out],
      /given 2 with sum 1\.1;/,
    ],
    [
      "an unknown start",
      () => ["optimize", "--model", at("mlp/model.safetensors"), "--target", "3", "--start", "grey", "--out", out],
      /start: must be noise, real or the index/,
    ],
    [
      "a test image that is not there",
      () => ["optimize", "--model", at("mlp/model.safetensors"), "--target", "3", "--start", "2000", "--out", out],
      /images 0 to 1999, given 2000/,
    ],
    [
      "an option that is nearly one",
      () => ["train", "mlp-64", "--epoch", "3"],
      /unknown option '--epoch' \(Did you mean --epochs\?\)/,
    ],
    [
      "a model that is nearly one",
      () => ["train", "small-cn", ...onDigits],
      /given "small-cn"; did you mean small-cnn\?/,
    ],
    ["an experiment that is nearly one", () => ["run", "digit"], /given "digit"; did you mean digits\?/],
    [
      "a setting that is nearly one",
      () => ["run", "digits", "--set", "epoch=1"],
      /given "epoch=1"; did you mean epochs\?/,
    ],
    ...limits.map(([args, limit]): [string, () => string[], RegExp] => [
      args.join(" "),
      () =>
        args[0] === "optimize"
          ? [...args, "--model", at("mlp/model.safetensors"), "--target", "3"]
          : [...args, "--out", out],
      limit,
    ]),
    [
      "more steps than are kept",
      () => ["train", "mlp-64", "--data", "digits", "--batch", "1", "--epochs", "100000", "--out", out],
      /epochs: a training may have up to 10,000,000 steps, .* asked for are 1,000,000,000/,
    ],
    ["an unknown preset", () => ["start", "--preset", "slow", "--out", out], /Allowed choices are quick, reference/],
  ];
  let before: string[];
  let outcomes: OutcomeOfSeveral[];
  beforeAll(async () => {
    before = readdirSync(folder).sort();
    outcomes = await kilogradSeveral(
      cases.map(([, args]) => args()),
      folder,
    );
  });

  test.each(cases.map(([what, , message], i) => [what, i, message] as const))("%s", (_, i, message) => {
    const { code, stdout, stderr, files } = outcomes[i]!;
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(files).toEqual(before);
  });

  test("as a process of its own, too", async () => {
    for (const [, args, message] of [cases[0]!, cases.find(([what]) => what === "a truncated model file")!]) {
      const { code, stdout, stderr } = await kilograd(args());
      expect(stderr).toMatch(message);
      expect([code, stdout]).toEqual([2, ""]);
    }
  });
});

describe("doctor", () => {
  test("shows the adapter and passes its self-test; as JSON nothing else is on stdout", async () => {
    const { code, stdout } = await kilograd(["doctor", "--json"]);
    expect(code).toBe(0);
    const findings = JSON.parse(stdout);
    expect(findings).toMatchObject({
      adapter: { device: expect.any(String) },
      backend: expect.any(String),
      driver: expect.any(String),
      profile: { family: expect.stringMatching(/software|hardware/), maxBindingBytes: expect.any(Number) },
      limits: { maxStorageBufferBindingSize: expect.any(Number) },
      selfTest: { passed: true },
    });
    expect(findings.features).toContain("core-features-and-limits");
    expect(findings.selfTest.largestError).toBeLessThan(1e-3);
    expect(findings.selfTest.largestError).toBeGreaterThan(0);
  });

  test("as text names profile and verdict", async () => {
    const { code, stdout } = await kilograd(["doctor"], { env: { KILOGRAD_PROFILE: "hardware" } });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^profile +hardware/m);
    expect(stdout).toMatch(/^self-test +passed/m);
  });

  test.skipIf(!hasKoffi)("has no word of Dawn's on stderr (skipped without the optional koffi)", async () => {
    expect(await kilograd(["doctor"])).toMatchObject({ code: 0, stderr: "" });
  });

  test("refuses Dawn's null backend, which computes nothing", async () => {
    const { code, stdout, stderr } = await kilograd(["doctor", "--json"], { env: { DAWNNODE_BACKEND: "null" } });
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("null backend");
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("refuses a profile that does not exist", async () => {
    const { code, stderr } = await kilograd(["doctor"], { env: { KILOGRAD_PROFILE: "fastest" } });
    expect(stderr).toMatch(/profile must be "software" or "hardware", got "fastest"/);
    expect(code).toBe(2);
  });
});

describe("standard output", () => {
  const shell = (command: string) => {
    const cli = [process.execPath, "dist/cli.js"].map((part) => `'${part}'`).join(" ");
    const { status, stdout, stderr } = spawnSync("bash", ["-c", `set -o pipefail; ${command.replaceAll("CLI", cli)}`], {
      encoding: "utf8",
      timeout: 60_000,
    });
    return { status, stdout, stderr: stderr.replace(/^Warning: maxDynamic.*\n/gm, "") };
  };

  test
    .skipIf(!existsSync("/dev/full"))
    .each(["list", "list --json", "summary mlp-64", "--help", "--version", "doctor"])(
    "that is full: %s ends with one line and exit code 1",
    (command) => {
      const { status, stderr } = shell(`CLI ${command} >/dev/full`);
      expect(stderr).toMatch(/^kilograd: cannot write to standard output: .*ENOSPC[^\n]*\n$/);
      expect(status).toBe(1);
    },
  );

  test.skipIf(process.platform === "win32").each(["list", "summary alexnet-plus --json", "--help"])(
    "that nobody reads: %s ends quietly",
    (command) => {
      const { status, stderr } = shell(`CLI ${command} | true`);
      expect([status, stderr]).toEqual([0, ""]);
    },
  );
});

test("list names every model, summary counts as Keras does", async () => {
  const list = await kilograd(["list"]);
  for (const name of ["small-cnn", "sgd-cnn", "mlp-64", "alexnet-plus", "best-cnn"]) {
    expect(list.stdout).toMatch(new RegExp(`^${name} `, "m"));
  }
  const summary = await kilograd(["summary", "alexnet-plus", "--json"]);
  expect(JSON.parse(summary.stdout)).toMatchObject({ total: 62735658, trainable: 62734250, nonTrainable: 1408 });
  expect((await kilograd(["summary", "small-cnn"])).stdout).toContain("Total params: 66,430 (259.49 KB)");
  const help = await kilograd(["--help"]);
  expect(help.code).toBe(0);
  expect(help.stdout).toContain("doctor");
});

test("convert --skip leaves operators out of an ONNX file", async () => {
  const described = {
    inputs: { x: ["N", 4] },
    nodes: [node("MatMul", ["x", "w"], "a"), node("Frobnicate", ["a"], "b"), node("Relu", ["b"], "y")],
    weights: { w: [4, 2] },
    outputs: ["y"],
  };
  writeFileSync(at("strange.onnx"), file(described));
  const convert = (...more: string[]) => kilograd(["convert", at("strange.onnx"), at("plain.safetensors"), ...more]);
  const plain = await convert();
  expect(plain.code).toBe(2);
  expect(plain.stderr).toContain("the operator Frobnicate is not known");
  expect(existsSync(at("plain.safetensors"))).toBe(false);
  const unused = await convert("--skip", "Frobnicate,Mystery");
  expect(unused.code).toBe(2);
  expect(unused.stderr).toContain('has no operator "Mystery", which is to be skipped');
  const skipped = await convert("--skip", "Frobnicate");
  expect([skipped.code, skipped.stderr]).toEqual([0, expect.not.stringContaining("Error")]);
  const model = await loadModel(at("plain.safetensors"), { device: cpu });
  expect(model.layers.map(({ placed }) => placed.layer.className)).toEqual(["Dense", "Activation"]);
});
