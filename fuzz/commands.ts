// Random command lines over all commands, each in a process of its own. They have options that exist and that do not,
// values in and out of range, and arguments of every kind. A process ends by itself or when it is asked to, with exit
// code 0, 1 or 2, without a stack trace. A refusal is one line on stderr and nothing on stdout.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RandomStream } from "../src/tensor/random.js";
import { command, type Ended } from "./process.js";
import { type Finding, pick, type Suite } from "./suite.js";

/** A command that has done nothing wrong by then is asked to end. */
const ASKED_AFTER = 4000;
/** How long it then may take. */
const PATIENCE = 10_000;

const numbers = [
  ...[
    "0",
    "1",
    "2",
    "3",
    "-1",
    "0.5",
    "1e-3",
    "28",
    "100",
    "1e9",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "0x10",
    "1_000",
  ],
  ...["", " ", "1.5", "9007199254740993", "-0", "1e-400", "٣", "two", "1,2", "--1", "+1", ".5", "5."],
];
const words = [
  ...["mnist", "digits", "mlp-64", "small-cnn", "all", "quick", "reference", "noise", "real", "float32", "mixed", "x"],
  ...[
    "",
    " ",
    "[]",
    "{}",
    "null",
    "\u{1f600}",
    "a\nb",
    "é",
    "--",
    "-",
    "..",
    "/",
    "/dev/null",
    "a".repeat(5000),
    "%s%n",
  ],
  ...["$(true)", "'", '"', "\\", "\t", "../x", "constructor", "__proto__", "toString"],
];
const targets = [
  "3",
  "all",
  "2:0.5,3:0.5",
  "[0,0,1,0,0,0,0,0,0,0]",
  "1:1e400",
  "1:NaN",
  ":",
  "9:1",
  "10",
  "0.1",
  "1,2,3",
  "[",
  "1:1,1:0",
];
const settings = [
  ...["epochs=1", "epochs=1e9", "epochs=-1", "epochs=x", "epochs", "=", "epochs=", "data=digits", "data=x", "x=1"],
  ...[
    "trainImages=64",
    "trainImages=0",
    "depths=[2]",
    "depths=[]",
    "depths=[1e9]",
    'models=["mlp-64"]',
    'models=["x"]',
  ],
  ...[
    "models=[[]]",
    "l2=[-1]",
    "linf=[1e400]",
    "factors=[null]",
    "noise=[1]",
    "filters=[0]",
    "__proto__=1",
    "batch=1e7",
  ],
];
const files = ["MODEL", "CHECKPOINT", "TEXT", "EMPTY", "FOLDER", "MISSING", "PICTURES"];
const boxes = ["0,0,1,1", "0,0,0,0", "1,2,3", "-1,0,1,1", "1e9,0,1,1", "a,b,c,d", "0,0,99999999999999999999,1"];

/** By option: values worth a try besides any number, word or file. */
const options: Readonly<Record<string, readonly string[]>> = {
  ...{ "--data": words, "--data-dir": files, "--epochs": numbers, "--steps": numbers, "--batch": numbers },
  ...{ "--limit-train": numbers, "--limit-test": numbers, "--lr": numbers, "--ema": numbers, "--seed": numbers },
  ...{ "--precision": words, "--resume": files, "--profile": [], "--out": ["OUT", ...files], "--json": [] },
  ...{
    "--model": files,
    "--target": targets,
    "--start": ["noise", "real", ...numbers],
    "--count": numbers,
    "--l2": numbers,
  },
  ...{
    "--tv": numbers,
    "--blur": numbers,
    "--jitter": numbers,
    "--preset": words,
    "--set": settings,
    "--device": words,
  },
  ...{ "--video": files, "--frames": files, "--crop": boxes, "--classes": words, "--pixels": ["0-1", "0-255", "1"] },
  ...{ "--to": ["tfjs", "keras-h5", "pytorch", ...words], "--skip": ["Lambda", "Dense", ...words] },
  ...{ "--help": [], "--version": [], "--epoch": numbers, "--sed": numbers, "--x": words, "-h": [], "-x": [] },
};
const own: Readonly<Record<string, readonly string[]>> = {
  doctor: ["--json", "--precision"],
  list: ["--json"],
  run: ["--preset", "--seed", "--data-dir", "--out", "--resume", "--set", "--set", "--json"],
  summary: ["--json"],
  convert: ["--to", "--skip", "--json"],
  train: "data data-dir epochs steps batch limit-train limit-test lr ema seed precision resume profile out json"
    .split(" ")
    .map((name) => `--${name}`),
  optimize: "model target start count steps lr l2 tv blur jitter seed data profile data-dir out json"
    .split(" ")
    .map((name) => `--${name}`),
  start: ["--preset", "--data", "--data-dir", "--seed", "--out", "--json"],
  camera: ["--model", "--device", "--video", "--frames", "--crop", "--classes", "--pixels", "--json"],
  help: [],
};
const positional: Readonly<Record<string, readonly string[]>> = {
  run: ["digits", "vanishing-gradients", "weight-decay", "robust", "emotion", "denoising", "all", "x", ...words],
  summary: ["small-cnn", "mlp-64", "alexnet-plus", "x", ...files, ...words],
  convert: files,
  train: ["mlp-64", "mlp-64", "small-cnn", "x", ...words],
  help: [...["run", "train", "camera", "x"], ...words],
};
/** Keeps what would run short; what follows on the line overrides it. */
const short: Readonly<Record<string, readonly string[]>> = {
  train: "--data digits --limit-train 40 --limit-test 20 --batch 20 --steps 2".split(" "),
  optimize: "--model MODEL --target 3 --steps 2".split(" "),
  run: "--set data=digits --set trainImages=64 --set testImages=20".split(" "),
  camera: "--frames PICTURES".split(" "),
  convert: ["OUT"],
};

/** What a table has for a name, nothing for words such as "constructor". */
const of = (table: Readonly<Record<string, readonly string[]>>, name: string): readonly string[] =>
  Object.hasOwn(table, name) ? table[name]! : [];

/** A random command line; names in capitals stand for files. */
export function randomLine(random: RandomStream): string[] {
  const chance = (share: number) => random.uniform() < share;
  const name = chance(0.95) ? pick(random, Object.keys(own)) : pick(random, words);
  const line: string[] = [];
  if (chance(0.03)) line.push(pick(random, Object.keys(options)));
  line.push(name);
  const places = of(positional, name);
  if (places.length > 0 && chance(0.95)) line.push(pick(random, places));
  if (chance(0.8)) line.push(...of(short, name));
  for (let count = random.integer(4); count > 0; count--) {
    const known = of(own, name);
    const option = known.length > 0 && chance(0.9) ? pick(random, known) : pick(random, Object.keys(options));
    line.push(option);
    const values = of(options, option);
    if (values.length === 0 && chance(0.95)) continue;
    if (chance(0.97))
      line.push(
        chance(0.9) && values.length > 0 ? pick(random, values) : pick(random, [...numbers, ...words, ...files]),
      );
  }
  if (chance(0.05)) line.push(pick(random, words));
  return line;
}

/** Whatever Dawn says of limits that were lowered is not the command's. */
const lines = (text: string) => text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("Warning: "));

/** What is wrong with how a command ended. */
export function faultOf({ code, signal, stdout, stderr, sent, milliseconds }: Ended): string | undefined {
  if (/^\s+at .*:\d+:\d+\)?$/m.test(stderr)) return "a stack trace";
  if (signal === "SIGKILL")
    return `no end within ${PATIENCE / 1000} s of being asked to, after ${Math.round(milliseconds)} ms`;
  if (signal !== null) return signal === sent ? undefined : `ended by ${signal}`;
  if (sent !== undefined && code === 130) return undefined;
  if (code !== 0 && code !== 1 && code !== 2) return `exit code ${code}`;
  if (code === 0) return undefined;
  const last = lines(stderr).at(-1) ?? "";
  const isHelp = stderr.includes("Usage: kilograd");
  if (!isHelp && !/^(kilograd|error): /.test(last)) return `exit code ${code}, and the last line is no reason`;
  if (code === 2 && stdout !== "") return "exit code 2 with something on stdout";
  return undefined;
}

let folder: string | undefined;

/** Makes a folder with the files that command lines name. */
async function prepare(): Promise<void> {
  const made = mkdtempSync(join(tmpdir(), "kilograd-commands-"));
  const small = ["train", "mlp-64", ...short["train"]!, "--out", "model"];
  const { code, stderr } = await command(small, { cwd: made, signal: "SIGKILL", after: 120_000, patience: 0 });
  if (code !== 0) throw new Error(`a small model cannot be trained: ${stderr}`);
  mkdirSync(join(made, "pictures"));
  writeFileSync(
    join(made, "pictures", "a.pgm"),
    Buffer.concat([Buffer.from("P5 48 48 255\n"), Buffer.alloc(2304, 90)]),
  );
  writeFileSync(join(made, "text"), "neither a model nor anything else\n");
  writeFileSync(join(made, "empty"), "");
  folder = made;
}

/** What stands for a file, as its path. */
function placeOf(text: string): string {
  const at = folder!;
  const places: Readonly<Record<string, string>> = {
    MODEL: join(at, "model", "model.safetensors"),
    CHECKPOINT: join(at, "model", "checkpoint.safetensors"),
    ...{ TEXT: join(at, "text"), EMPTY: join(at, "empty"), FOLDER: at, MISSING: join(at, "missing") },
    ...{ PICTURES: join(at, "pictures"), OUT: join(at, "out") },
  };
  return Object.hasOwn(places, text) ? places[text]! : text;
}

/** One random command line. */
async function run(random: RandomStream): Promise<Finding | undefined> {
  const line = randomLine(random);
  // What earlier lines left behind would refuse later ones.
  for (const name of ["out", "cwd"]) rmSync(join(folder!, name), { recursive: true, force: true });
  const cwd = join(folder!, "cwd");
  mkdirSync(cwd);
  const ended = await command(line.map(placeOf), { cwd, signal: "SIGINT", after: ASKED_AFTER, patience: PATIENCE });
  const fault = faultOf(ended);
  if (fault === undefined) return undefined;
  return `kilograd ${line.map((word) => JSON.stringify(word.slice(0, 60))).join(" ")}: ${fault}\n${ended.stderr.slice(-600)}`;
}

export const commands: Suite = {
  name: "commands",
  count: 2000,
  deadline: ASKED_AFTER + PATIENCE + 2000,
  begin: prepare,
  run,
  async end() {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    folder = undefined;
  },
};
