#!/usr/bin/env node
// The `kilograd` command: options, exit codes, output. What the commands do is in experiments/, loaded when one is
// called.
import { createRequire } from "node:module";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import type { CameraOptions } from "./experiments/camera.js";
import type { ExperimentOptions } from "./experiments/lib/frame/experiment.js";
import type { RunContext } from "./experiments/lib/frame/run.js";
import {
  MOST_BATCH,
  MOST_BLUR,
  MOST_EPOCHS,
  MOST_IMAGES,
  MOST_RATE,
  MOST_STEPS,
} from "./experiments/lib/frame/setting-rules.js";
import type { OptimizeOptions } from "./experiments/optimize.js";
import type { StartOptions } from "./experiments/start.js";
import type { SweepCommandOptions } from "./experiments/sweep.js";
import type { TrainOptions } from "./experiments/train.js";
import type { WorkerOptions } from "./experiments/worker.js";
import { toJson } from "./io/json.js";
import { redactAddresses } from "./sweeps/queue/address.js";
import type { Precision } from "./tensor/device.js";
import { DataError, KilogradError, UsageError } from "./tensor/errors.js";
import { type Bounds, integer, number, type Rule } from "./tensor/options.js";
import type { WebGpuDevice } from "./webgpu/device.js";

/** What a run is aborted with by a signal, or by an output that takes nothing any more. */
class Interrupted extends Error {
  constructor(readonly exitCode: number) {
    super("interrupted");
  }
}

const stdout = (text: string) => process.stdout.write(`${text}\n`);
const stderr = (text: string) => process.stderr.write(`${text}\n`);

/** Aborts the run on its way, if there is one. */
let current: AbortController | undefined;
/** What an interrupted run may take to end where it has nothing to save. */
const GRACE_MS = 2000;
/** Of an output that failed, whatever the command comes to. */
let outputExitCode: number | undefined;

interface RunningOptions {
  readonly profile?: boolean;
  readonly precision?: Precision | undefined;
  /** Serves the growing report: at this port, or at any. */
  readonly live?: number | boolean | undefined;
}

/** Starts serving the growing report, and says where. */
async function liveServer(port: number | boolean) {
  const { LiveServer } = await import("./experiments/lib/frame/live.js");
  const server = await LiveServer.start(
    redactAddresses(`kilograd ${process.argv.slice(2).join(" ")}`),
    port === true ? 0 : Number(port),
  );
  stderr(`Live report: ${server.address}`);
  return server;
}

/** The page that a command wrote, of its results; undefined where it wrote none. */
async function writtenPage(result: unknown): Promise<string | undefined> {
  const { readTextIfAny } = await import("./io/files.js");
  const { folder } = (result ?? {}) as { readonly folder?: string };
  if (folder === undefined) return undefined;
  return (await readTextIfAny(`${folder}/report.html`)) ?? readTextIfAny(`${folder}/index.html`);
}

/**
 * Runs an experiment with a device that is opened when asked for and destroyed at the end, and signals that abort it.
 */
async function running<T>(
  experiment: (context: RunContext) => Promise<T>,
  { profile = false, precision, live }: RunningOptions = {},
): Promise<T> {
  const { startWithAdapter } = await import("./driver/launch.js");
  await startWithAdapter();
  const { openDevice } = await import("./webgpu/open-device.js");
  const abort = new AbortController();
  current = abort;
  if (outputExitCode !== undefined) abort.abort(new Interrupted(outputExitCode));
  let savable = false;
  const onSignal = (signal: NodeJS.Signals, number: number) => {
    if (abort.signal.aborted) return endBy(signal); // Asked twice.
    stderr("\nInterrupted: stopping after the work on its way. Once more ends at once.");
    abort.abort(new Interrupted(128 + number));
    // A driver may compile for long before the first step, and nobody would miss that.
    const end = () => {
      if (savable) return;
      stderr("Ended: nothing was on its way that could be saved.");
      endBy(signal);
    };
    if (!savable) setTimeout(end, GRACE_MS).unref();
  };
  const endBy = (signal: NodeJS.Signals) => {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    // Not process.exit(): that takes the driver down under the threads that compile.
    process.kill(process.pid, signal);
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  const opening = new Map<boolean, Promise<WebGpuDevice>>();
  const server = live === undefined || live === false ? undefined : await liveServer(live);
  try {
    const context: RunContext = {
      openDevice({ tinyDispatches = false } = {}) {
        const made = opening.get(tinyDispatches);
        const options = { tinyDispatches, profiling: profile, ...(precision !== undefined && { precision }) };
        const device = made ?? openDevice("webgpu", options);
        opening.set(tinyDispatches, device);
        return device;
      },
      signal: abort.signal,
      savable(is) {
        savable = is;
      },
      say(message) {
        stderr(message);
        server?.state.said(message);
      },
      ...(server && { live: server.state }),
    };
    const result = await experiment(context);
    const page = server && (await writtenPage(result));
    if (page !== undefined) await server?.finish(page);
    return result;
  } finally {
    await server?.close();
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
    // A device that did not open needs no end; its error was thrown where it was awaited.
    for (const device of opening.values()) (await device.catch(() => undefined))?.destroy();
  }
}

/** What an experiment leaves, as text or JSON. */
function printResult(
  { folder, metrics, summary }: { folder: string; metrics: Record<string, unknown>; summary: string },
  json = false,
  page = "report.html",
): void {
  stdout(json ? toJson({ ...metrics, folder }) : `\n${summary}\n\nReport: ${folder}/${page}`);
}

/** A number on the command line, by the rules that options of functions have. */
const numberOf = (rule: Rule) => (text: string) => {
  // Number() takes blanks, hexadecimal digits and more, which nobody means here.
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  if (rule.accepts(value)) return value;
  throw new InvalidArgumentError(`It must be ${rule.expected}.`);
};
const wholeNumber = (from: number, to: number) => numberOf(integer({ from, to }));
const decimalNumber = (bounds: Bounds) => numberOf(number(bounds));

/** Of the strength of a penalty. */
const penalty = { from: 0, to: MOST_RATE };

const option = (flags: string, description: string, parse?: (text: string) => unknown) => {
  const made = new Option(flags, description);
  return parse === undefined ? made : made.argParser(parse);
};
const options = {
  json: option("--json", "print the result as JSON on stdout, everything else on stderr"),
  dataDir: option(
    "--data-dir <folder>",
    "folder with the data set's files (default: $KILOGRAD_DATA_DIR, cache, download)",
  ),
  precision: option(
    "--precision <name>",
    "float32, or mixed: float16 operands on the adapter's matrix units (default: $KILOGRAD_PRECISION, float32)",
  ).choices(["float32", "mixed"]),
  seed: option("--seed <n>", "seed of everything random", wholeNumber(0, 2 ** 32 - 1)),
  out: option("--out <folder>", "where results are written"),
  live: option(
    "--live [port]",
    "serve the growing report on this machine while the run goes on, at this port or any free one",
    wholeNumber(1, 65_535),
  ),
  profile: option("--profile", "afterwards, list the kernels of a step by time (stderr, and in the JSON)"),
};

/** How a command's results are shown. */
interface Shown {
  readonly json?: boolean;
  readonly live?: number | boolean;
}

const program = new Command("kilograd")
  .description("Train CNNs and optimise their inputs on a WebGPU engine written from scratch.")
  .version(createRequire(import.meta.url)("../package.json").version)
  .addHelpText(
    "after",
    "\nKILOGRAD_DEBUG=1 shows where an error arose; KILOGRAD_PROFILE names the tuning profile, KILOGRAD_PRECISION float32 or mixed.",
  )
  .exitOverride()
  // `sweep status --json` is for status, not for sweep.
  .enablePositionalOptions()
  // One line, hint included.
  .configureOutput({ outputError: (text, write) => write(`${text.trimEnd().replace(/\s*\n\s*/g, " ")}\n`) });

program
  .command("doctor")
  .description("show adapter, driver, limits and tuning profile, and check a training step against the CPU reference")
  .addOption(options.precision)
  .addOption(
    option(
      "--install-driver [where]",
      "before that, install Mesa's software driver (Debian, Ubuntu): user (default), in your cache folder and used where the system " +
        "has no adapter; or system, by apt as root",
    )
      .choices(["user", "system"])
      .preset("user"),
  )
  .addOption(options.json)
  .action(async (given: { json?: boolean; precision?: Precision; installDriver?: "user" | "system" }) => {
    const { json, precision, installDriver: where } = given;
    if (where !== undefined) {
      const { installDriver } = await import("./driver/install.js");
      await installDriver(where, stderr);
      // Where the driver takes a new start, it is not installed again.
      const others = [json && "--json", precision && `--precision=${precision}`].filter(
        (text) => typeof text === "string",
      );
      process.argv.splice(2, Number.POSITIVE_INFINITY, "doctor", ...others);
    }
    const { doctor, doctorText } = await import("./experiments/doctor.js");
    const findings = await running(doctor, { precision });
    stdout(json ? toJson(findings) : doctorText(findings));
    if (!findings.selfTest.passed) process.exitCode = 1;
  });

program
  .command("list")
  .description("list the experiments that can be run and the models that can be trained")
  .addOption(options.json)
  .action(async ({ json }: { json?: boolean }) => {
    const { zooListing, zooListingText } = await import("./experiments/lib/training/models.js");
    const { experiments } = await import("./experiments/lib/frame/registry.js");
    const named = experiments.map(({ name, description }) => ({ name, description }));
    const lines = named.map(({ name, description }) => `${name.padEnd(20)} ${description}`);
    stdout(
      json
        ? toJson({ experiments: named, models: zooListing() })
        : `Experiments (kilograd run NAME, or all):\n${lines.join("\n")}\n\nModels (kilograd train NAME):\n${zooListingText()}`,
    );
  });

program
  .command("run")
  .description("run an experiment, or all of them; write figures and report")
  .argument("<experiment>", "name of an experiment, see `kilograd list`, or all")
  .addOption(option("--preset <name>", "quick (minutes) or reference (the full settings)").default("quick"))
  .addOption(options.seed)
  .addOption(options.dataDir)
  .addOption(options.precision)
  .addOption(options.out)
  .addOption(option("--resume", "go on with an interrupted run in the same folder"))
  .addOption(
    option("--set <name=value>", "change a setting of the preset; may be repeated").argParser(
      (text: string, before: string[] = []) => [...before, text],
    ),
  )
  .addOption(options.live)
  .addOption(options.json)
  .addOption(
    option(
      "--workers <n>",
      "processes that train independent networks at once (digits, vanishing-gradients, weight-decay); default: none",
      wholeNumber(1, 64),
    ),
  )
  .addOption(option("--queue <address>", "have them trained by workers of a queue: `kilograd worker --experiment all`"))
  .addOption(option("--store <where>", "with --queue: a folder that all machines share, or s3://bucket/prefix"))
  .action(async (name: string, { json, live, ...given }: ExperimentOptions & Shown) => {
    const { run, runAll } = await import("./experiments/run.js");
    const how = { precision: given.precision, live };
    if (name !== "all") return printResult(await running((context) => run(name, given, context), how), json);
    const { failed, ...result } = await running((context) => runAll(given, context), how);
    printResult(result, json, "index.html");
    if (failed.length > 0) process.exitCode = 1;
  });

program
  .command("summary")
  .description("show a model's layers and numbers of parameters: one that can be trained, or of a file")
  .argument("<model>", "name of a model, see `kilograd list`, or a file of any format that is read")
  .addOption(options.json)
  .action(async (model: string, { json }: { json?: boolean }) => {
    const { summary, summaryText } = await import("./experiments/summary.js");
    const { table, ...found } = await summary(model);
    stdout(json ? toJson(found) : summaryText({ table, ...found }));
  });

program
  .command("convert")
  .description("write a model in another format: Kilograd's, Keras's, TensorFlow.js's, ONNX, PyTorch's weights")
  .argument("<from>", "a file of any format that is read")
  .argument("<to>", "the file to write; its ending says the format: .safetensors, .h5, .json, .onnx, ...")
  .addOption(option("--to <format>", "the format, where the ending does not say it, such as pytorch"))
  .addOption(
    option(
      "--skip <classes>",
      "classes of layers or operators of ONNX, separated by commas, that Kilograd does not know: they are left out",
    ),
  )
  .addOption(options.json)
  .action(async (from: string, to: string, given: { to?: string; skip?: string; json?: boolean }) => {
    const { convert, convertText } = await import("./experiments/convert.js");
    const { to: format, skip, json } = given;
    const classes = skip?.split(",").map((name) => name.trim());
    const done = await convert({ from, to, ...(format && { format }), ...(classes && { skip: classes }) }, stderr);
    stdout(json ? toJson(done) : convertText(done));
  });

program
  .command("train")
  .description("train a model, measure it, write model, figures and report")
  .argument("<model>", "name of a model, see `kilograd list`")
  .addOption(option("--data <name>", "mnist or digits (built in); default mnist"))
  .addOption(options.dataDir)
  .addOption(option("--epochs <n>", "passes over the training images", wholeNumber(1, MOST_EPOCHS)))
  .addOption(
    option(
      "--steps <n>",
      "end after so many steps; then also at most max(1000, steps x batch) images are evaluated",
      wholeNumber(1, MOST_STEPS),
    ),
  )
  .addOption(option("--batch <n>", "images per step", wholeNumber(1, MOST_BATCH)))
  .addOption(option("--limit-train <n>", "train on the first n images only", wholeNumber(1, MOST_IMAGES)))
  .addOption(option("--limit-test <n>", "validate and test on the first n images only", wholeNumber(1, MOST_IMAGES)))
  .addOption(option("--lr <x>", "learning rate", decimalNumber({ above: 0, to: MOST_RATE })))
  .addOption(
    option(
      "--ema <momentum>",
      "test and write the weights' moving average instead of the last step's: 0.999 for thousands of steps, 0.98 for hundreds",
      decimalNumber({ from: 0, below: 1 }),
    ),
  )
  .addOption(options.seed)
  .addOption(options.precision)
  .addOption(option("--resume <file>", "go on from a checkpoint, with its settings where none are given"))
  .addOption(options.profile)
  .addOption(options.out)
  .addOption(options.live)
  .addOption(options.json)
  .action(async (model: string, options: Omit<TrainOptions, "model"> & Shown & { precision?: Precision }) => {
    const { json, precision, live, ...given } = options;
    const { train } = await import("./experiments/train.js");
    printResult(
      await running((context) => train({ model, ...given }, context), {
        profile: given.profile ?? false,
        precision,
        live,
      }),
      json,
    );
  });

program
  .command("optimize")
  .description("find images for which a trained model gives the asked answers")
  .addOption(option("--model <file>", "model that `train` wrote").makeOptionMandatory())
  .addOption(option("--target <t>", "3, all, 2:0.5,3:0.5 or ten numbers that sum to 1").makeOptionMandatory())
  .addOption(
    option("--start <s>", "noise, real (a digit of the target with noise) or the index of a test image").default(
      "noise",
    ),
  )
  .addOption(option("--count <k>", "starts per target", wholeNumber(1, 1000)).default(1))
  .addOption(
    option("--readable", "by the priors that make images readable, not only convincing; default: for robust models"),
  )
  .addOption(
    option(
      "--for <kind>",
      "plain, or robust: trained on adversarial examples; default: what the model's file says",
    ).choices(["plain", "robust"]),
  )
  .addOption(option("--steps <n>", "optimisation steps; default 500, readable 300", wholeNumber(1, 100_000)))
  .addOption(option("--lr <x>", "learning rate of Adam; default 0.05", decimalNumber({ above: 0, to: MOST_RATE })))
  .addOption(option("--l1 <x>", "penalty on the sum of pixels; default 0, readable 0.006", decimalNumber(penalty)))
  .addOption(
    option("--l2 <x>", "penalty on the sum of squared pixels; default 1e-4, readable 0.01", decimalNumber(penalty)),
  )
  .addOption(option("--tv <x>", "penalty on the total variation; default 0, readable 0.006", decimalNumber(penalty)))
  .addOption(
    option(
      "--blur <x>",
      "Gaussian blur in pixels that the image is seen through; default 0, readable 0.7",
      decimalNumber({ from: 0, to: MOST_BLUR }),
    ),
  )
  .addOption(
    option("--jitter <n>", "largest random shift in pixels at every step; default 0, readable 2", wholeNumber(0, 14)),
  )
  .addOption(options.seed)
  .addOption(option("--data <name>", "data set of real starts; default: the model's own"))
  .addOption(options.profile)
  .addOption(options.dataDir)
  .addOption(options.precision)
  .addOption(options.out)
  .addOption(options.live)
  .addOption(options.json)
  .action(async ({ json, precision, live, ...given }: OptimizeOptions & Shown & { precision?: Precision }) => {
    const { optimize } = await import("./experiments/optimize.js");
    printResult(
      await running((context) => optimize(given, context), { profile: given.profile ?? false, precision, live }),
      json,
    );
  });

program
  .command("start")
  .description("the main job: train small-cnn, measure it, find images for every digit, write one report")
  .addOption(
    option("--preset <name>", "quick (minutes) or reference (the full settings)")
      .choices(["quick", "reference"])
      .default("quick"),
  )
  .addOption(option("--data <name>", "mnist or digits; default mnist where it can be had, else digits"))
  .addOption(options.dataDir)
  .addOption(options.seed)
  .addOption(options.precision)
  .addOption(options.out)
  .addOption(options.live)
  .addOption(options.json)
  .action(async ({ json, precision, live, ...given }: StartOptions & Shown & { precision?: Precision }) => {
    const { start } = await import("./experiments/start.js");
    printResult(await running((context) => start(given, context), { precision, live }), json);
  });

program
  .command("camera")
  .description(
    "classify the face in every frame of a camera, a video or a folder of pictures, as they come (needs ffmpeg)",
  )
  .addOption(option("--model <file>", "model of faces, .h5 or .safetensors; default: that of `kilograd run emotion`"))
  .addOption(option("--device <name>", "camera: /dev/video0 (Linux), 0 (macOS), its name (Windows)"))
  .addOption(option("--video <file>", "a video file instead of a camera"))
  .addOption(option("--frames <folder>", "a folder of pictures instead of a camera"))
  .addOption(option("--crop <x,y,w,h>", "the part of the frame that is the face; default: it is looked for"))
  .addOption(
    option("--classes <names>", "names of the model's classes, separated by commas; default: as its file has them"),
  )
  .addOption(
    option("--pixels <range>", "which pixels the model takes; default: as its file says, else 0-1").choices([
      "0-1",
      "0-255",
    ]),
  )
  .addOption(
    option(
      "--threshold <share>",
      "name no class that is less likely, from 0 to 1; default 0.3",
      decimalNumber({ from: 0, to: 1 }),
    ),
  )
  .addOption(
    option(
      "--preview [port]",
      "show frames with boxes on a page of this machine, at this port or any free one",
      wholeNumber(1, 65_535),
    ),
  )
  .addOption(option("--json", "print a line of JSON for every frame"))
  .action(async (given: CameraOptions) => {
    const { camera } = await import("./experiments/camera.js");
    await running((context) => camera(given, context));
  });

const sweep = program
  .command("sweep")
  .description("try a training over a space of parameters: a trial's file, or an experiment's settings")
  .enablePositionalOptions()
  .argument("<what>", "a module (.js) whose default export is the trial, or an experiment, see `kilograd list`")
  .addOption(
    option(
      "--space <json>",
      'parameters as JSON, or a file of it: {"rate": {"kind": "logUniform", "from": 1e-4, "to": 0.1}}',
    ),
  )
  .addOption(option("--minimize <figure>", "what the sweep is after; of an experiment a path in its metrics.json"))
  .addOption(option("--maximize <figure>", "the same, the larger the better"))
  .addOption(option("--trials <n>", "how many; default 20, of a grid all", wholeNumber(1, 1_000_000)))
  .addOption(option("--workers <n>", "trials at once, each in a process; default 1", wholeNumber(1, 1024)))
  .addOption(option("--search <name>", "how parameters are chosen").choices(["random", "grid", "sobol", "tpe"]))
  .addOption(option("--stopping <name>", "end trials that fall behind").choices(["asha", "median"]))
  .addOption(options.seed)
  .addOption(option("--name <name>", "of the sweep; default: the file's or the experiment's"))
  .addOption(options.out)
  .addOption(option("--resume", "go on with the sweep in the same folder, with more trials if asked for"))
  .addOption(
    option(
      "--delay <n>",
      "tpe, asha and median look at the trials up to so many before; default: the number of workers",
      wholeNumber(1, 100_000),
    ),
  )
  .addOption(option("--attempts <n>", "tries of a trial before it has failed; default 3", wholeNumber(1, 100)))
  .addOption(option("--queue <address>", "hand the trials to workers of a queue, redis://..., see `kilograd worker`"))
  .addOption(option("--store <where>", "with --queue: a folder that all machines share, or s3://bucket/prefix"))
  .addOption(option("--preset <name>", "of an experiment: quick or reference; default quick"))
  .addOption(
    option("--set <name=value>", "of an experiment: a setting of all trials; may be repeated").argParser(
      (text: string, before: string[] = []) => [...before, text],
    ),
  )
  .addOption(options.dataDir)
  .addOption(options.live)
  .addOption(options.json)
  .action(async (what: string, { json, live, ...given }: SweepCommandOptions & Shown) => {
    const { sweepCommand } = await import("./experiments/sweep.js");
    printResult(await running((context) => sweepCommand(what, given, context), { live }), json);
  });
sweep
  .command("status")
  .description("show what the sweep in a folder has come to so far, or the sweeps on a queue")
  .argument("[folder]", "the sweep's folder; without it, those on the queue")
  .addOption(option("--queue <address>", "the queue; default $KILOGRAD_QUEUE"))
  .addOption(options.json)
  .action(async (folder: string | undefined, { json, queue }: { json?: boolean; queue?: string }) => {
    const { sweepStatus } = await import("./experiments/sweep.js");
    const { queueStatus } = await import("./experiments/worker.js");
    const { metrics, summary } = folder === undefined ? await queueStatus(queue, stderr) : await sweepStatus(folder);
    stdout(json ? toJson(metrics) : summary);
  });
sweep
  .command("stop")
  .description("end the sweep that is on its way in a folder; what is finished is kept")
  .argument("<folder>", "the sweep's folder; with --queue its name")
  .addOption(option("--queue <address>", "take the sweep of this name off the queue, with what no journal has yet"))
  .action(async (folder: string, { queue }: { queue?: string }) => {
    if (queue !== undefined) return await (await import("./experiments/worker.js")).queueStop(folder, queue, stderr);
    const { sweepStop } = await import("./experiments/sweep.js");
    await sweepStop(folder);
  });
sweep
  .command("report")
  .description("write report.html, trials.csv and trials.json of the sweep in a folder anew")
  .argument("<folder>", "the sweep's folder")
  .action(async (folder: string) => {
    const { sweepReport } = await import("./experiments/sweep.js");
    stdout(await sweepReport(folder));
  });

program
  .command("worker")
  .description("run trials of sweeps that are on a queue, until Ctrl-C; any number of workers, on any machines")
  .addOption(
    option("--queue <address>", "redis://[user:password@]host[:port][/database] or rediss://; default $KILOGRAD_QUEUE"),
  )
  .addOption(option("--trial <file>", "the file whose trials it runs: the same as the sweep's"))
  .addOption(
    option(
      "--experiment <name>",
      "instead of a file: the experiment whose settings are swept; all: for `kilograd run --queue`",
    ),
  )
  .addOption(option("--preset <name>", "of the experiment, as the sweep has it: quick or reference; default quick"))
  .addOption(
    option("--set <name=value>", "of the experiment, as the sweep has it; may be repeated").argParser(
      (text: string, before: string[] = []) => [...before, text],
    ),
  )
  .addOption(options.dataDir)
  .addOption(option("--out <folder>", "where an experiment's runs are written; default out/worker-NAME"))
  .addOption(option("--sweep <name>", "serve this sweep only; default: every sweep of the same code"))
  .addOption(option("--name <name>", "what the worker is called in reports; default: host and process"))
  .addOption(option("--concurrency <n>", "trials at once; default 1", wholeNumber(1, 1024)))
  .addOption(
    option("--store <where>", "a folder that all machines share, or s3://bucket/prefix: for what is above 8 MiB"),
  )
  .addOption(
    option(
      "--silence <seconds>",
      "end an attempt that neither reports nor keeps a checkpoint for so long; default 600",
      decimalNumber({ above: 0, to: 1e6 }),
    ),
  )
  .action(async (given: WorkerOptions) => {
    const { worker } = await import("./experiments/worker.js");
    await running((context) => worker(given, context));
  });

/** What went wrong, in words where it was foreseen, and the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // It has printed its message.
  if (error instanceof Interrupted) return error.exitCode;
  const foreseen = error instanceof KilogradError && !process.env["KILOGRAD_DEBUG"];
  const code = error instanceof UsageError || error instanceof DataError ? 2 : 1;
  // What the user gave may hold line breaks; what it came to is one line. Others may have to tell several commands.
  const message = code === 2 ? (error as Error).message.replace(/\s*\n\s*/g, " ") : (error as Error)?.message;
  stderr(foreseen ? `kilograd: ${message}` : String((error as Error)?.stack ?? error));
  return code;
}

// A reader that has seen enough (`kilograd list | head`) is no error, and needs no more work; a full disk is one.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (outputExitCode !== undefined) return;
  outputExitCode = error.code === "EPIPE" ? 0 : 1;
  if (outputExitCode !== 0) stderr(`kilograd: cannot write to standard output: ${error.message}`);
  current?.abort(new Interrupted(outputExitCode));
});
// Whoever closed it does not want to be told.
process.stderr.on("error", () => {});
process.on("exit", () => {
  if (outputExitCode !== undefined) process.exitCode = outputExitCode;
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
  // What was interrupted, such as a download, would keep the process alive.
  if (error instanceof Interrupted) process.exit();
}
