// `kilograd optimize`: images that make a trained model give the asked answers, found by gradient descent on the input.
import { basename, join } from "node:path";
import { withOutputFolder } from "../io/folder-lock.js";
import { Report } from "../io/report.js";
import { readModelFile } from "../nn/checkpoint.js";
import { architectureFromConfig } from "../nn/from-config.js";
import type { Model } from "../nn/model.js";
import { buildModel } from "../nn/stored-model.js";
import { UsageError } from "../tensor/errors.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { checkDataName, loadData } from "./lib/frame/data.js";
import { checkMemory } from "./lib/frame/memory-limit.js";
import {
  describeAdapter,
  type Figures,
  machineText,
  precisionOption,
  type RunContext,
  versions,
  writeResults,
} from "./lib/frame/run.js";
import {
  defaultSettings,
  type OptimizeSettings,
  optimizationConfig,
  optimizationMetrics,
  optimizationSummary,
  picturesOf,
  profileOptimization,
  readableSettings,
  runOptimization,
  targetsText,
  wishesFor,
} from "./lib/inputs/optimize-run.js";
import { parseStart, type StartKind } from "./lib/inputs/starts.js";
import { parseTargets } from "./lib/inputs/target.js";
import { addOptimizationSections, optimizationCards } from "./lib/report/optimize-report.js";
import { type CommandOptions, commandText, counted } from "./lib/report/text.js";
import { profileText } from "./lib/training/profile.js";

/** As the command line gives them; what is absent has its default. */
export interface OptimizeOptions {
  /** Model file that `train` wrote. */
  readonly model: string;
  readonly target: string;
  /** noise (default), real or the index of a test image. */
  readonly start?: string;
  /** Images per target; default 1. */
  readonly count?: number;
  readonly steps?: number;
  readonly lr?: number;
  /** By the priors that make images readable, whose strengths are then the defaults; default: for robust models. */
  readonly readable?: boolean;
  /** As which kind of classifier the model is taken; default: what its file says. */
  readonly for?: "plain" | "robust";
  readonly l1?: number;
  readonly l2?: number;
  readonly tv?: number;
  readonly blur?: number;
  readonly jitter?: number;
  readonly seed?: number;
  /** Data set of the real starts; default: that of the model's training. */
  readonly data?: string;
  readonly dataDir?: string;
  readonly out?: string;
  /** Whether to list the kernels of a step; the device must have been opened for it. */
  readonly profile?: boolean;
}

/** Runs the command. Gives what `metrics.json` holds, and where. */
export async function optimize(options: OptimizeOptions, context: RunContext) {
  const targets = parseTargets(options.target);
  const startKind = parseStart(options.start ?? "noise");
  const file = await readModelFile(options.model);
  for (const remark of file.remarks) context.say(remark);
  const notes = file.notes as { config?: { data?: string }; robust?: unknown } & Partial<
    Record<"train" | "validation" | "test", Figures>
  >;
  const data = options.data ?? notes.config?.data ?? "mnist";
  checkDataName(data);
  const real =
    startKind === "noise"
      ? undefined
      : await loadData(data, { dataDir: options.dataDir, trainCount: 1, signal: context.signal, say: context.say });
  const kind = options.for ?? (notes.robust === undefined ? "plain" : "robust");
  const readable = options.readable ?? kind === "robust";
  const basis = readable ? readableSettings : defaultSettings;
  if (readable && kind === "plain") {
    context.say(`${options.model} was not trained on adversarial examples: what it asks for may not be readable`);
  }
  const { regularizers } = basis;
  const settings: OptimizeSettings = {
    ...basis,
    steps: options.steps ?? basis.steps,
    learningRate: options.lr ?? basis.learningRate,
    regularizers: {
      l1: options.l1 ?? regularizers.l1,
      l2: options.l2 ?? regularizers.l2,
      totalVariation: options.tv ?? regularizers.totalVariation,
      blur: options.blur ?? regularizers.blur,
      jitter: options.jitter ?? regularizers.jitter,
    },
    seed: options.seed ?? basis.seed,
  };
  const count = options.count ?? 1;
  const architecture = architectureFromConfig(file.config);
  checkMemory("count", { network: architecture, images: count * targets.length, steps: settings.steps });
  const wishes = wishesFor(targets, startKind, { count, seed: settings.seed, images: real?.test });

  const tinyDispatches = architecture.hasTinyDispatches(wishes.length);
  const device = await context.openDevice({ tinyDispatches });
  const model = buildModel(file, device);
  try {
    checkClassifier(model, options.model);
    const out = options.out ?? join("out", `optimize-${model.name.replace(/\W+/g, "-")}`);
    return await withOutputFolder(out, async (folder) => {
      const run = await runOptimization(model, wishes, settings, context);
      const profile = options.profile ? await profileOptimization(model, run, device) : undefined;
      if (profile !== undefined) context.say(`\n${profileText(profile)}`);
      const config = {
        model: options.model,
        target: options.target,
        start: startKind,
        ...{ count, readable },
        ...optimizationConfig(settings),
        data: real === undefined ? null : data,
      };
      const metrics = {
        command: "optimize",
        config,
        seed: settings.seed,
        adapter: describeAdapter(device),
        versions: versions(),
        // The frozen model's own figures, as its file has them.
        ...{ train: notes.train ?? null, validation: notes.validation ?? null, test: notes.test ?? null },
        ...optimizationMetrics(run),
        memory: { peakBytes: run.peakBytes },
        ...(profile && { profile }),
      };
      const report = new Report({
        title: `Images for ${targetsText(wishes)}`,
        subtitle: `Gradient descent on the input of ${model.name} (${basename(options.model)}), ${counted(wishes.length, "image")} in one batch`,
        footer: `${machineText(device)}. ${commandOf(config, startKind, settings, { "data-dir": options.dataDir, ...precisionOption(device) })}`,
      }).figures(optimizationCards(run));
      addOptimizationSections(report, run, config);
      await writeResults(folder, { pictures: picturesOf(run), report: report.html(), metrics });
      return { folder, metrics, summary: optimizationSummary(run) };
    });
  } finally {
    model.dispose();
  }
}

/** The command that finds the same images again. */
function commandOf(
  {
    model,
    target,
    count,
    data: name,
    readable,
  }: Pick<OptimizeOptions, "model" | "target" | "count" | "readable"> & { readonly data: string | null },
  start: StartKind,
  settings: OptimizeSettings,
  surroundings: CommandOptions,
): string {
  const { steps, learningRate: lr, seed, regularizers } = settings;
  const { l1, l2, totalVariation: tv, blur, jitter } = regularizers;
  const data = name ?? undefined;
  return commandText(["optimize"], {
    ...{ model, target, start, count, readable, steps, lr, l1, l2, tv, blur, jitter, seed, data, ...surroundings },
  });
}

function checkClassifier(model: Model, path: string): void {
  if (sameShape(model.inputShape, [28, 28, 1]) && sameShape(model.outputShape, [10])) return;
  throw new UsageError(
    `optimize: needs a model from [28, 28, 1] to [10], ${path} goes from ${formatShape(model.inputShape)} to ${formatShape(model.outputShape)}`,
  );
}
