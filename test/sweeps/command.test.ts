// `kilograd sweep` and `run --workers` as users run them, in processes of their own.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { build, kilograd } from "../cli/run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-sweep-command-"));
const at = (name: string) => join(folder, name);
beforeAll(() => {
  build();
  mkdirSync(at("node_modules"));
  symlinkSync(resolve("."), at("node_modules/kilograd"));
}, 600_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The block of the documentation that has a word. */
function shown(word: string): string {
  const blocks = Array.from(
    readFileSync("docs/sweeps.md", "utf8").matchAll(/^```js\n(.*?)^```$/gms),
    (match) => match[1]!,
  );
  return blocks.find((block) => block.includes(word))!;
}

/** What of metrics comes again: no times, no memory. */
function figures(out: string): unknown {
  const text = readFileSync(join(out, "metrics.json"), "utf8");
  return JSON.parse(text, (key, value) => (/timing|seconds|memory|stepMs/i.test(key) ? undefined : value));
}

describe("what docs/sweeps.md shows", { timeout: 300_000 }, () => {
  it("runs as a trial's file, is gone on with, shown and reported", async () => {
    writeFileSync(at("trial.js"), shown("export default"));
    writeFileSync(at("package.json"), '{"type": "module"}');
    const out = at("digits");
    const first = await kilograd(["sweep", at("trial.js"), "--trials", "2", "--workers", "2", "--out", out, "--json"], {
      timeout: 200_000,
    });
    expect(first.stderr).not.toContain("kilograd:");
    expect(JSON.parse(first.stdout)).toMatchObject({ name: "trial", trials: 2, finished: 2, failed: 0 });
    const more = await kilograd(["sweep", at("trial.js"), "--trials", "3", "--resume", "--out", out, "--json"], {
      timeout: 200_000,
    });
    expect(JSON.parse(more.stdout)).toMatchObject({ trials: 3, finished: 3 });
    const status = await kilograd(["sweep", "status", out, "--json"]);
    expect(JSON.parse(status.stdout)).toMatchObject({ finished: 3, running: false });
    rmSync(join(out, "report.html"));
    expect((await kilograd(["sweep", "report", out])).stdout.trim()).toBe(join(out, "report.html"));
    const page = readFileSync(join(out, "report.html"), "utf8");
    for (const part of ["Sweep trial", "Best accuracy so far", "Parameters and what came of them", "activation"])
      expect(page).toContain(part);
    const csv = readFileSync(join(out, "trials.csv"), "utf8").trimEnd().split("\n");
    expect(csv[0]).toBe('"number","status","seed","rate","units","activation","accuracy","attempts","seconds","error"');
    expect(csv).toHaveLength(4);
    expect(JSON.parse(readFileSync(join(out, "trials.json"), "utf8")).trials).toHaveLength(3);
  });

  it("runs as a program", () => {
    writeFileSync(at("program.js"), shown("30, seed: 1"));
    const { stdout, stderr } = spawnSync(process.execPath, ["program.js"], { cwd: folder, encoding: "utf8" });
    expect(stderr).toBe("");
    expect(stdout).toBe("30 true\n");
  });
});

describe("kilograd sweep", { timeout: 300_000 }, () => {
  const space = JSON.stringify({
    x: { kind: "uniform", from: 0, to: 1 },
    steps: { kind: "choice", values: [40] },
    ms: { kind: "choice", values: [25] },
  });
  const file = resolve("test/sweeps/trial.mjs");
  const args = (out: string, ...more: string[]) => [
    "sweep",
    file,
    "--space",
    space,
    "--minimize",
    "loss",
    "--trials",
    "6",
    "--workers",
    "2",
    "--out",
    out,
    ...more,
  ];

  it.each<[string, (pid: number, out: string) => void, number | null]>([
    ["Ctrl-C", (pid) => process.kill(pid, "SIGINT"), 130],
    ["sweep stop", (_, out) => void spawnSync(process.execPath, ["dist/cli.js", "sweep", "stop", out]), 1],
    ["kill -9", (pid) => process.kill(pid, "SIGKILL"), null],
  ])("goes on to the same figures after %s", async (name, end, code) => {
    const out = at(`ended by ${name}`);
    const child = spawn(process.execPath, ["dist/cli.js", ...args(out)], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      said += text;
    });
    const ended = new Promise<number | null>((done) => child.on("close", done));
    // Until a trial has ended and others have checkpoints.
    const journal = join(out, "journal.jsonl");
    while (!existsSync(journal) || !readFileSync(journal, "utf8").includes('"ended')) {
      await new Promise((later) => setTimeout(later, 50));
      expect(child.exitCode, said).toBe(null);
    }
    await new Promise((later) => setTimeout(later, 500));
    end(child.pid!, out);
    expect(await ended, said).toBe(code);
    if (code !== null) expect(said).toContain("Go on with");
    const again = await kilograd(args(out, "--resume", "--json"), { timeout: 200_000 });
    expect(again.code, again.stderr).toBe(0);
    const whole = at("whole");
    if (!existsSync(whole)) expect((await kilograd(args(whole), { timeout: 200_000 })).code).toBe(0);
    // Times and workers differ.
    const trials = (of: string) =>
      JSON.parse(readFileSync(join(of, "trials.json"), "utf8"), (key, value) =>
        ["worker", "seconds", "attempts", "series"].includes(key) ? undefined : value,
      ).trials;
    expect(trials(out)).toEqual(trials(whole));
    expect(readdirSync(join(out, "checkpoints"))).toEqual([]);
  });

  it.each<[string[], string]>([
    [["sweep", "nothing"], "experiment: must be one of"],
    [["sweep", "nothing.js"], "trial: cannot read"],
    [["sweep", file], "sweep: space must be an object"],
    [["sweep", file, "--space", "{"], "space: is no JSON"],
    [["sweep", file, "--space", "none.json"], "none.json, which is not there"],
    [["sweep", file, "--space", '{"x":{"kind":"choice","values":[1]}}'], "goal: needs a figure; give --minimize NAME"],
    [
      ["sweep", "digits", "--space", '{"rate":{"kind":"choice","values":[1]}}', "--minimize", "x"],
      "set: needs NAME=VALUE with a setting of digits",
    ],
    [["sweep", "status", "nowhere"], "sweep: nowhere holds no sweep"],
    [["sweep", "stop", "nowhere"], "sweep: nowhere holds no sweep"],
    [["sweep", "report", "nowhere"], "sweep: nowhere is not there"],
  ])("refuses what does not fit, %#", async (words, message) => {
    const { code, stderr } = await kilograd(words);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });
});

describe("experiments", { timeout: 600_000 }, () => {
  const tiny = ["--set", "data=digits", "--set", "trainImages=512", "--set", "testImages=100"];

  it("come to the same figures with workers, one of which is killed", async () => {
    const run = [
      "run",
      "vanishing-gradients",
      ...tiny,
      "--set",
      "depths=[2,3]",
      "--set",
      "epochs=2",
      "--set",
      "gradientEpoch=1",
    ];
    const [one, two] = [at("one"), at("two")];
    const alone = await kilograd([...run, "--out", one], { timeout: 300_000 });
    expect(alone.code, alone.stderr).toBe(0);
    let killed = 0;
    const several = await kilograd([...run, "--out", two, "--workers", "2"], {
      timeout: 300_000,
      onStderr(text, child) {
        if (killed > 0 || !text.includes("[1/8]")) return;
        const { stdout } = spawnSync("pgrep", ["-P", String(child.pid), "-f", "worker-process"], { encoding: "utf8" });
        const [worker] = stdout.trim().split("\n");
        if (!worker) return;
        process.kill(Number(worker), "SIGKILL");
        killed++;
      },
    });
    expect(several.code, several.stderr).toBe(0);
    expect(killed).toBe(1);
    expect(figures(two)).toEqual(figures(one));
  });

  it("are trials of a sweep", async () => {
    const space = JSON.stringify({ learningRate: { kind: "choice", values: [0.1, 0.01] } });
    const out = at("experiment");
    const words = [
      "sweep",
      "vanishing-gradients",
      "--space",
      space,
      "--search",
      "grid",
      "--maximize",
      "outcomes.0.testAccuracy",
    ];
    const swept = await kilograd(
      [
        ...words,
        ...tiny,
        "--set",
        "depths=[2]",
        "--set",
        "epochs=1",
        "--set",
        "gradientEpoch=1",
        "--out",
        out,
        "--json",
      ],
      { timeout: 300_000 },
    );
    expect(swept.code, swept.stderr).toBe(0);
    expect(JSON.parse(swept.stdout)).toMatchObject({ trials: 2, finished: 2 });
    expect(readdirSync(join(out, "trials")).sort()).toEqual(["trial-0", "trial-1"]);
  });
});
