// `kilograd train`: trains a model of the zoo, measures it, and leaves model, figures and a report in a folder.
import { join } from "node:path";
import { exactOptional, type GenericSchema, object } from "valibot";
import { withOutputFolder } from "../io/folder-lock.js";
import { count, parse, ruled, text } from "../io/json.js";
import { Report } from "../io/report.js";
import { assignWeights, type ModelFile, readModelFile, saveModel } from "../nn/checkpoint.js";
import { UsageError } from "../tensor/errors.js";
import { integer, number } from "../tensor/options.js";
import type { WebGpuDevice } from "../webgpu/device.js";
import { checkDataName, loadData } from "./lib/frame/data.js";
import { checkMemory } from "./lib/frame/memory-limit.js";
import { machineText, precisionOption, type RunContext, writeResults } from "./lib/frame/run.js";
import { type CommandOptions, counted } from "./lib/report/text.js";
import { addTrainingSections, trainingCards, trainingPictures } from "./lib/report/train-report.js";
import { type ZooModel, zooArchitecture, zooModel } from "./lib/training/models.js";
import { profileText } from "./lib/training/profile.js";
import {
  evaluatedCount,
  modelNotes,
  optimizerText,
  profileTraining,
  runTraining,
  setsOf,
  type TrainConfig,
  type TrainRun,
  trainCommand,
  trainingMetrics,
  trainingSummary,
} from "./lib/training/train-run.js";

/** As the command line gives them; what is absent has the model's default. */
export interface TrainOptions {
  readonly model: string;
  readonly data?: string;
  readonly dataDir?: string;
  readonly epochs?: number;
  /** Ends training after so many steps. */
  readonly steps?: number;
  readonly batch?: number;
  readonly limitTrain?: number;
  readonly limitTest?: number;
  readonly lr?: number;
  readonly ema?: number;
  readonly seed?: number;
  /** Checkpoint to go on from; the settings above then default to its own. */
  readonly resume?: string;
  /** Whether to list the kernels of a step; the device must have been opened for it. */
  readonly profile?: boolean;
  readonly out?: string;
}

const positive = exactOptional(ruled<number>(integer({ from: 1 })));
/** What a checkpoint of an earlier run says of it. */
const storedConfig: GenericSchema<unknown, Partial<TrainConfig>> = object(
  {
    model: exactOptional(text),
    data: exactOptional(text),
    epochs: exactOptional(count),
    steps: exactOptional(count),
    ...{ batch: positive, limitTrain: positive, limitTest: positive },
    lr: exactOptional(ruled<number>(number({ from: 0 }))),
    ema: exactOptional(ruled<number>(number({ from: 0, below: 1 }))),
    seed: exactOptional(ruled<number>(number())),
  },
  "an object",
);

/** Runs the command. Gives what `metrics.json` holds, and where. */
export async function train(options: TrainOptions, context: RunContext) {
  const zoo = zooModel(options.model);
  const resume = options.resume === undefined ? undefined : await readModelFile(options.resume);
  const config = configOf(zoo, options, resume);
  const architecture = zooArchitecture(zoo);
  checkMemory("batch", { network: architecture, images: config.batch });
  const device = await context.openDevice({ tinyDispatches: architecture.hasTinyDispatches(config.batch) });
  const model = architecture.build({ device, seed: config.seed });
  try {
    if (resume !== undefined) assignWeights(model, resume); // Before anything is loaded or written: does it fit?
    const dataset = await loadData(config.data, {
      dataDir: options.dataDir,
      trainCount: config.limitTrain,
      testCount: evaluatedCount(config),
      signal: context.signal,
      say: context.say,
    });
    const sets = setsOf(zoo, config, dataset);
    return await withOutputFolder(options.out ?? join("out", `train-${zoo.name}`), async (folder) => {
      const more = surroundings(device, options.dataDir);
      const goOnWith = { ...more, out: options.out };
      const setup = { model, zoo, config, dataset, sets, folder, goOnWith, ...(resume && { resume }) };
      const run = await runTraining(setup, context);
      await saveModel(join(folder, "model.safetensors"), model, { notes: modelNotes(run) });
      const profile = options.profile ? await profileTraining(run, device) : undefined;
      if (profile !== undefined) context.say(`\n${profileText(profile)}`);
      const metrics = { ...trainingMetrics(run, device), ...(profile && { profile }) };
      const report = trainReport(run, device, trainCommand(config, more));
      await writeResults(folder, { pictures: trainingPictures(run), report, metrics });
      return { folder, metrics, summary: trainingSummary(run) };
    });
  } finally {
    model.dispose();
  }
}

/** Settings: what was given, else what the checkpoint was trained with, else the model's own. */
function configOf(zoo: ZooModel, options: TrainOptions, resume: ModelFile | undefined): TrainConfig {
  const stored =
    resume === undefined ? {} : parse(storedConfig, resume.notes["config"] ?? {}, `${resume.path}: notes.config`);
  if (resume !== undefined && resume.training === undefined) {
    throw new UsageError(
      `resume: needs a checkpoint, ${resume.path} holds a finished model; name a file checkpoint.safetensors`,
    );
  }
  const done = resume?.training?.iterations ?? 0;
  if (options.steps !== undefined && options.steps < done) {
    throw new UsageError(
      `steps: must be at least the ${counted(done, "step")} that ${resume!.path} has behind it, given ${options.steps}`,
    );
  }
  for (const name of ["data", "batch", "limitTrain", "lr", "ema", "seed"] as const) {
    if (options[name] === undefined || stored[name] === undefined || options[name] === stored[name]) continue;
    throw new UsageError(
      `resume: ${name} must be as before, ${stored[name]}, given ${options[name]}; leave it out, or train anew`,
    );
  }
  const data = options.data ?? stored.data ?? "mnist";
  checkDataName(data);
  const limitTrain = options.limitTrain ?? stored.limitTrain;
  const limitTest = options.limitTest ?? stored.limitTest;
  const ema = options.ema ?? stored.ema;
  return {
    model: zoo.name,
    data,
    epochs: options.epochs ?? stored.epochs ?? zoo.epochs,
    ...(options.steps !== undefined && { steps: options.steps }),
    batch: options.batch ?? stored.batch ?? zoo.batchSize,
    ...(limitTrain !== undefined && { limitTrain }),
    ...(limitTest !== undefined && { limitTest }),
    lr: options.lr ?? stored.lr ?? zoo.learningRate,
    ...(ema !== undefined && { ema }),
    seed: options.seed ?? stored.seed ?? 0,
  };
}

/**
 * Options of the command that a training's result depends on besides its configuration, where they are not the default.
 */
const surroundings = (device: WebGpuDevice, dataDir: string | undefined): CommandOptions => ({
  "data-dir": dataDir,
  ...precisionOption(device),
});

function trainReport(run: TrainRun, device: WebGpuDevice, command: string): string {
  const { zoo, dataset, config, sets } = run;
  const report = new Report({
    title: `${zoo.name} on ${dataset.name === "mnist" ? "MNIST" : "the built-in digits"}`,
    subtitle: `${counted(sets.train.count, "image")}, ${counted(config.epochs, "epoch")}, batch ${config.batch}, ${optimizerText(zoo, config)}, seed ${config.seed}`,
    footer: `${machineText(device)}. ${command}`,
  });
  report.figures(trainingCards(run));
  addTrainingSections(report, run, device);
  return report.html();
}
