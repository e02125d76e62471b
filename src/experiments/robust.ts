// Classifiers that resist adversarial examples. The same networks are trained as usual and by adversarial training, on
// digits and on CIFAR-10. They are measured under FGSM, PGD and the generators of adversarial-mnist, before and after.
import { loadCifar10 } from "../data/cifar10.js";
import { type LabelledImages, limitImages } from "../data/dataset.js";
import { type PgdOptions, pgd } from "../inputs/attacks/pgd.js";
import { lineChart } from "../io/charts.js";
import { type KeyFigure, Report, type TableCell } from "../io/report.js";
import type { Model } from "../nn/model.js";
import { UsageError } from "../tensor/errors.js";
import { digitClassifier, photographClassifier } from "./lib/adversarial/adversarial-models.js";
import { adversarialPlan } from "./lib/adversarial/adversarial-training.js";
import {
  type AttackFigure,
  attackSweep,
  type Examples,
  epsilonText,
  exampleFigures,
  type GeneratorSettings,
  generatedExamples,
  generatorDefaults,
  generatorSeconds,
  knownSamples,
  normTitles,
  type Sample,
  sweepSeconds,
} from "./lib/adversarial/generated-examples.js";
import { defineExperiment, type ExperimentRun } from "./lib/frame/experiment.js";
import { exampleGrid, figure, sweepChart, sweepTable, withoutGradientRemark } from "./lib/report/example-report.js";
import { gridFiles } from "./lib/report/grids.js";
import { layerTable } from "./lib/report/layer-table.js";
import { type DefenceFigures, type DefendedStudy, robustQuestions } from "./lib/report/questions/adversarial.js";
import { recipes } from "./lib/report/questions/recipes.js";
import { counted, listed, milliseconds, percent, points } from "./lib/report/text.js";
import { shiftedAndMirrored } from "./lib/training/augment.js";
import { classify } from "./lib/training/classify.js";
import {
  measureStep,
  type TrainingNotes,
  type TrainingPlan,
  trainingSeconds,
  trainPart,
} from "./lib/training/experiment-training.js";
import { warmCosineAdam } from "./lib/training/models.js";
import { l2Attack } from "./lib/training/train-run.js";

// ---- Configuration

const reference = {
  data: "mnist",
  trainImages: 60_000,
  testImages: 10_000,
  batch: 128,
  plainEpochs: 5,
  epochs: 10,
  learningRate: 2e-3,
  /** Of the digits' network: two convolutions and a dense layer. */
  digitFilters: [32, 64] as readonly number[],
  digitUnits: 128,
  /** Of the headline. */
  epsilon: 0.3,
  /** Radius of the attack in training, as a share of epsilon, and epochs over which it grows from 0. */
  relativeEpsilon: 1.08,
  warmupEpochs: 2,
  /** Steps of that attack from anywhere in the ball, and their length as a share of its radius. */
  steps: 5,
  relativeStep: 0.3,
  /** Of how many test images the curves over epsilon are; the headline is of all. */
  attackImages: 2000,
  linf: [0.1, 0.2, 0.3, 0.4] as readonly number[],
  l2: [1, 2] as readonly number[],
  digits: [0, 2, 4, 7, 9] as readonly number[],

  /** Other defences of the digits' classifier, beside the one above: see `defences`. */
  defences: ["Gaussian noise", "L2 adversary"] as readonly string[],
  defenceEpochs: 8,
  /** Standard deviation of the noise that images are trained with. */
  noiseDeviation: 0.3,
  /** Radius of the L2 adversary. */
  defenceRadius: 2.5,

  photographs: true,
  photographFilters: [32, 64, 128] as readonly number[],
  photographConvolutions: [1, 1, 1] as readonly number[],
  photographPlainEpochs: 12,
  photographEpochs: 15,
  photographRate: 3e-3,
  photographWarmupEpochs: 6,
  photographShift: 3,
  /** In levels of 255. */
  photographEpsilon: 8,
  photographSteps: 1,
  photographRelativeStep: 1.25,
  photographLinf: [2, 4, 8, 16] as readonly number[],
  photographL2: [0.25, 0.5] as readonly number[],
  photographImages: 500,
  photographClasses: [3, 8] as readonly number[],
  photographGeneratorRate: 0.002,
  ...generatorDefaults,
  /**
   * From here on the class is the answer, whatever the others. A robust classifier is seldom surer than that of
   * photographs.
   */
  confidence: 0.5,
};
type RobustSettings = typeof reference;

/** What is wanted of digits at epsilon 0.3. */
const GOAL = { underPgd: 0.85, clean: 0.98 };
/**
 * By the same way of training, with a network of the same shape for MNIST and a ResNet of 18 layers for all of
 * CIFAR-10.
 */
const PUBLISHED = {
  source: "Wong, Rice, Kolter: Fast is better than free (ICLR 2020)",
  mnist: { epsilon: 0.3, clean: 0.985, underPgd: 0.8877 },
  photographs: { epsilon: 8 / 255, clean: 0.8381, underPgd: 0.4606 },
};
const ATTACKS = ["fgsm", "pgd"] as const;

// ---- One data set, before and after

interface Defence {
  /** Of the headline. */
  readonly epsilon: number;
  /** PGD, in training. */
  readonly attack: Required<PgdOptions>;
  /** Over which its radius grows from 0. */
  readonly warmupEpochs: number;
}

/** What is to be done with a data set. */
interface Study extends Defence {
  readonly name: string;
  readonly classNames: readonly string[];
  readonly plan: TrainingPlan;
  readonly plainEpochs: number;
  readonly test: LabelledImages;
  readonly attacked: LabelledImages;
  readonly epsilons: { readonly linf: readonly number[]; readonly l2: readonly number[] };
  readonly classes: readonly number[];
  readonly generators: GeneratorSettings;
  readonly published: { readonly epsilon: number; readonly clean: number; readonly underPgd: number } | undefined;
  readonly goal: typeof GOAL | undefined;
  readonly judged: ExperimentRun["judged"];
}

/** One classifier of a study. */
interface Outcome {
  readonly name: "plain" | "robust";
  readonly notes: TrainingNotes;
  /** Accuracy on the whole test part, without an attack and under PGD at the headline's epsilon. */
  readonly clean: number;
  readonly underPgd: number;
  /** The attack of `underPgd`. */
  readonly headline: AttackFigure;
  /** Without an attack, of the images of the sweep. */
  readonly attackedClean: number;
  readonly figures: readonly AttackFigure[];
  readonly found: Examples;
}

interface Findings {
  readonly study: Study;
  readonly samples: readonly Sample[];
  readonly plain: Outcome;
  readonly robust: Outcome;
}

const KINDS = ["plain", "robust"] as const;

function plansOf({ plan, plainEpochs, attack, warmupEpochs }: Study) {
  return {
    plain: { ...plan, epochs: plainEpochs },
    robust: adversarialPlan(plan, { attack: pgd(attack), warmupEpochs }),
  };
}

/** Measures a step of each and gives what every part takes, in seconds. */
async function estimate(run: ExperimentRun, study: Study) {
  const seconds: Record<string, number> = {};
  const basis: string[] = [];
  const { attacked, test, epsilon, epsilons, generators, classes } = study;
  const plans = plansOf(study);
  let perImage = 0;
  for (const kind of KINDS) {
    const plan = plans[kind];
    const step = await measureStep(run, plan);
    if (kind === "plain") perImage = step / plan.batchSize;
    seconds[`${study.name}, ${kind}`] = trainingSeconds(plan, step);
    basis.push(`${milliseconds(1000 * step)} (${study.name}, ${kind})`);
  }
  for (const kind of KINDS) {
    const name = `${study.name}, ${kind}`;
    seconds[`${name}, generators`] = generatorSeconds(generators, 10 * classes.length * perImage);
    const headline = { attacks: ["pgd"] as const, epsilons: { linf: [epsilon] } };
    Object.assign(seconds, sweepSeconds(`${name}, all test images`, headline, test.count * perImage));
    Object.assign(seconds, sweepSeconds(name, { attacks: ATTACKS, epsilons }, attacked.count * perImage));
  }
  return { seconds, basis };
}

async function carryOut(run: ExperimentRun, study: Study): Promise<Findings> {
  const plans = plansOf(study);
  const models: Model[] = [];
  try {
    const notes: TrainingNotes[] = [];
    for (const kind of KINDS) {
      const trained = await trainPart(run, `${study.name}, ${kind}`, plans[kind]);
      models.push(trained.model);
      notes.push(trained.notes);
    }
    const samples = await knownSamples(models, study.test, study.classes);
    const outcomes: Outcome[] = [];
    for (const [i, kind] of KINDS.entries()) {
      const [model, name] = [models[i]!, `${study.name}, ${kind}`];
      const { test, attacked, epsilon, epsilons } = study;
      const [headline] = await attackSweep(run, `${name}, all test images`, model, {
        ...{ set: test, attacks: ["pgd"], epsilons: { linf: [epsilon] } },
      });
      const figures = await attackSweep(run, name, model, { set: attacked, attacks: ATTACKS, epsilons });
      const found = await generatedExamples(run, `${name}, generators`, model, {
        ...{ samples, settings: study.generators },
      });
      const { signal } = run;
      const [all, some] = [await classify(model, test, { signal }), await classify(model, attacked, { signal })];
      outcomes.push({
        ...{ name: kind, notes: notes[i]!, clean: all.accuracy, underPgd: headline!.accuracy, headline: headline! },
        ...{ attackedClean: some.accuracy, figures, found },
      });
    }
    return { study, samples, plain: outcomes[0]!, robust: outcomes[1]! };
  } finally {
    for (const model of models) model.dispose();
  }
}

// ---- Run

export const experiment = defineExperiment<RobustSettings>({
  presets: {
    reference,
    quick: {
      ...reference,
      ...{ trainImages: 20_000, plainEpochs: 2, epochs: 5, attackImages: 250, testImages: 400, rounds: 30 },
      ...{ linf: [0.1, 0.2, 0.3], l2: [1], defenceEpochs: 2 },
      // A smaller network, and an attack of one step.
      ...{ digitFilters: [16, 32], digitUnits: 100, learningRate: 4e-3 },
      ...{ relativeEpsilon: 1, warmupEpochs: 1, steps: 1, relativeStep: 1.25 },
      ...{
        photographFilters: [24, 48, 96],
        photographPlainEpochs: 4,
        photographEpochs: 6,
        photographWarmupEpochs: 3,
        photographImages: 100,
      },
      ...{ photographLinf: [2, 8], photographL2: [0.25], photographClasses: [8] },
    },
  },

  async run(run) {
    const { settings } = run;
    if (settings.l2.length === 0 || settings.photographL2.length === 0) {
      throw new UsageError("robust: l2 and photographL2 must have a radius each, given none");
    }
    const studies = [await digitStudy(run, settings)];
    if (settings.photographs) studies.push(await photographStudy(run, settings));
    const estimates: Awaited<ReturnType<typeof estimate>>[] = [];
    for (const study of studies) estimates.push(await estimate(run, study));
    const seconds: Record<string, number> = Object.assign({}, ...estimates.map((estimated) => estimated.seconds));
    Object.assign(seconds, await defenceSeconds(run, studies[0]!));
    run.plan(seconds, `training steps of ${listed(estimates.flatMap(({ basis }) => basis))}`);
    const all: Findings[] = [];
    for (const study of studies) all.push(await carryOut(run, study));
    const defended = await otherDefences(run, all[0]!);

    // ---- Report

    const report = new Report({
      title: "Classifiers that resist adversarial examples",
      subtitle: `Plain and adversarial training on ${listed(studies.map(({ name }) => name))}, under FGSM, PGD and generator networks`,
      footer: run.footer,
    });
    const pictures = new Map<string, Uint8Array | string>();
    for (const findings of all) addStudy(report, findings, pictures);
    addDefences(report, all[0]!, defended);
    report.section("The defence", (section) => {
      section.text(
        `A plain classifier is trained on images as they are, and is free to use whatever tells the classes apart there, however small a change of the pixels destroys it. Adversarial training (Madry et al., ICLR 2018) asks for more: at every step each image of the batch is replaced by the worst one that an attack finds within the ball of radius epsilon around it, for the weights as they are at that step, and the weights are trained to classify that one. In the end no point of the balls that such an attack finds should be worth its while.`,
      );
      section.text(
        `${studies.map(attackRemark).join(" ")} Steps may be learned by heart: then FGSM fails and PGD succeeds at once, which is why PGD is measured below with its own 40 small steps and random start. The radius grows from 0 over the first epochs (${listed(studies.map(({ name, warmupEpochs }) => `${name}: ${warmupEpochs}`))}), since from the whole radius many networks do not begin to learn; the learning rate falls as a cosine. Attack and training step are one recorded step on the device, and the attack computes no gradient of a weight.`,
      );
      section.list(all.map(defenceRemark));
    });
    const questions = robustQuestions(all.map((findings, i) => defendedStudy(findings, i === 0 ? defended : [])));
    return {
      ...{ report, pictures, questions, recipe: recipes.robust },
      figures: all.flatMap(cards),
      metrics: {
        ...Object.fromEntries(all.map((findings) => [findings.study.name, metricsOf(findings)])),
        defences: defended.map(({ figures }) => figures),
      },
      summary: all.map(summaryOf).join("\n"),
    };
  },
});

// ---- Other defences

/** A classifier with another defence, and what it came to. */
interface Defended {
  readonly figures: DefenceFigures;
  readonly notes: TrainingNotes;
}

/** How each is trained. */
const defences: Readonly<Record<string, (plan: TrainingPlan, settings: RobustSettings) => TrainingPlan>> = {
  "Gaussian noise": (plan, { noiseDeviation }) => ({
    ...plan,
    augment: (pixels, { random }) => {
      for (let i = 0; i < pixels.length; i++) pixels[i] = pixels[i]! + noiseDeviation * random.normal();
    },
  }),
  "L2 adversary": (plan, { defenceRadius: epsilon }) =>
    adversarialPlan(plan, { attack: l2Attack({ epsilon, steps: 3 }), warmupEpochs: plan.epochs / 2 }),
};

function defencePlan(study: Study, name: string, settings: RobustSettings): TrainingPlan {
  const make = defences[name];
  if (make === undefined) {
    throw new UsageError(`robust: defences must be of ${listed(Object.keys(defences))}, given "${name}"`);
  }
  return make({ ...study.plan, epochs: settings.defenceEpochs }, settings);
}

const defencePart = ({ name }: Study, defence: string) => `${name}, ${defence}`;
/** Both balls that defences are compared in: of the training's attack, and the largest in L2. */
const comparedBalls = ({ epsilon, epsilons }: Study) => ({ linf: [epsilon], l2: [epsilons.l2.at(-1)!] });

async function defenceSeconds(run: ExperimentRun<RobustSettings>, study: Study) {
  const seconds: Record<string, number> = {};
  const perImage = (await measureStep(run, study.plan)) / study.plan.batchSize;
  for (const defence of run.settings.defences) {
    const [plan, part] = [defencePlan(study, defence, run.settings), defencePart(study, defence)];
    seconds[part] = trainingSeconds(plan, await measureStep(run, plan));
    seconds[`${part}, generators`] = generatorSeconds(study.generators, 10 * study.classes.length * perImage);
    const swept = { attacks: ["pgd"] as const, epsilons: comparedBalls(study) };
    Object.assign(seconds, sweepSeconds(part, swept, study.attacked.count * perImage));
  }
  return seconds;
}

async function otherDefences(run: ExperimentRun<RobustSettings>, { study, samples }: Findings): Promise<Defended[]> {
  const defended: Defended[] = [];
  for (const defence of run.settings.defences) {
    const part = defencePart(study, defence);
    const { model, notes } = await trainPart(run, part, defencePlan(study, defence, run.settings));
    try {
      const swept = await attackSweep(run, part, model, {
        ...{ set: study.attacked, attacks: ["pgd"], epsilons: comparedBalls(study) },
      });
      const found = await generatedExamples(run, `${part}, generators`, model, {
        ...{ samples, settings: study.generators },
      });
      const { accuracy: clean } = await classify(model, study.attacked, { signal: run.signal });
      defended.push({ figures: defenceFigures(study, samples, { name: defence, clean, swept, found, notes }), notes });
    } finally {
      model.dispose();
    }
  }
  return defended;
}

function defenceFigures(
  study: Study,
  samples: readonly Sample[],
  outcome: {
    readonly name: string;
    readonly clean: number;
    readonly swept: readonly AttackFigure[];
    readonly found: Examples;
    readonly notes: TrainingNotes;
  },
): DefenceFigures {
  const balls = comparedBalls(study);
  const under = (norm: "linf" | "l2") =>
    outcome.swept.find((f) => f.attack === "pgd" && f.norm === norm && f.epsilon === balls[norm][0])!.accuracy;
  const { fooled, count, meanL2 } = exampleFigures(outcome.found, samples);
  return {
    ...{ name: outcome.name, clean: outcome.clean, linf: under("linf"), l2: under("l2") },
    ...{ fooled, count, meanL2, stepMs: outcome.notes.timing.stepMsMedian },
  };
}

/** All defences of a data set, the plain classifier first. */
function defendedStudy({ study, samples, plain, robust }: Findings, others: readonly Defended[]): DefendedStudy {
  const { linf, l2 } = comparedBalls(study);
  const own = [plain, robust].map(({ name, attackedClean, figures, headline, found, notes }) =>
    defenceFigures(study, samples, {
      ...{ name: name === "robust" ? "L∞ adversary" : name, clean: attackedClean, found, notes },
      // The epsilon of training may not be among those of the sweep.
      swept: [...figures, headline],
    }),
  );
  return {
    ...{ name: study.name, trained: `L∞ ${epsilonText(linf[0]!)}`, other: `L2 ${epsilonText(l2[0]!)}` },
    defences: [...own, ...others.map(({ figures }) => figures)],
  };
}

function addDefences(report: Report, findings: Findings, others: readonly Defended[]): void {
  if (others.length === 0) return;
  const { study, plain, robust } = findings;
  const { trained, other, defences: compared } = defendedStudy(findings, others);
  report.section(`${study.name}: other defences`, (section) => {
    section.text(
      "The same network trained in other ways: on images with Gaussian noise, which no attack chose, and on the worst images that PGD of 3 steps finds in an L2 ball, which grows over the first half of the training. The plain and the robust one of above stand beside them.",
    );
    section.table({
      columns: [
        ...["defence", "no attack", `PGD, ${trained}`, `PGD, ${other}`],
        ...["generators that succeed", "their mean L2", "training step, median"],
      ],
      rows: compared.map(({ name, clean, linf, l2, fooled, count, meanL2, stepMs }): TableCell[] => [
        name,
        ...[clean, linf, l2].map((share) => figure(percent(share))),
        figure(`${fooled} of ${count}`),
        Number.isFinite(meanL2) ? figure(meanL2.toFixed(2)) : null,
        stepMs === undefined ? null : figure(milliseconds(stepMs)),
      ]),
      caption: `Accuracy on ${counted(study.attacked.count, "test image")}; the others were trained for ${counted(others[0]!.notes.history["loss"]!.length, "epoch")}.`,
    });
    section.chart(
      lineChart({
        title: `${study.name}: accuracy of all defences by epoch, without an attack`,
        width: 900,
        series: [
          { name: "plain", y: plain.notes.history["val_accuracy"]! },
          { name: "L∞ adversary", y: robust.notes.history["val_accuracy"]! },
          ...others.map(({ figures, notes }) => ({ name: figures.name, y: notes.history["val_accuracy"]! })),
        ],
        x: { label: "epoch" },
        y: { percent: true },
      }),
    );
  });
}

// ---- Recipes

/** How the digits' classifier is trained, but for its images. */
export function digitTraining(settings: RobustSettings) {
  const { digitFilters: filters, digitUnits: units, learningRate, epochs, batch } = settings;
  return {
    architecture: digitClassifier({ filters, units }),
    ...{ optimizer: warmCosineAdam(learningRate), epochs, batchSize: batch },
  };
}

/** How that of the photographs is. */
export function photographTraining(settings: RobustSettings) {
  const { photographFilters: filters, photographConvolutions: convolutions, photographRate } = settings;
  return {
    architecture: photographClassifier({ filters, convolutions }),
    ...{ optimizer: warmCosineAdam(photographRate), epochs: settings.photographEpochs, batchSize: settings.batch },
    augment: shiftedAndMirrored({ shift: settings.photographShift }),
  };
}

/** What makes the training of digits adversarial: the radius of the headline, and the training's attack. */
export function digitDefence({ epsilon, relativeEpsilon, steps, relativeStep, warmupEpochs }: RobustSettings): Defence {
  const radius = relativeEpsilon * epsilon;
  return { epsilon, warmupEpochs, attack: { ...FROM_ANYWHERE, epsilon: radius, steps, relativeStep } };
}

/** And that of photographs. */
export function photographDefence(settings: RobustSettings): Defence {
  const { photographSteps: steps, photographRelativeStep: relativeStep } = settings;
  const epsilon = settings.photographEpsilon / 255;
  const warmupEpochs = settings.photographWarmupEpochs;
  return { epsilon, warmupEpochs, attack: { ...FROM_ANYWHERE, epsilon, steps, relativeStep } };
}

const FROM_ANYWHERE = { norm: "linf", randomStart: true } as const;

// ---- Data sets

async function digitStudy(run: ExperimentRun, settings: RobustSettings): Promise<Study> {
  const dataset = await run.images(settings.data, { train: settings.trainImages, test: settings.testImages });
  const test = limitImages(dataset.test, settings.testImages);
  const real = dataset.name === "mnist" && settings.epsilon === PUBLISHED.mnist.epsilon;
  return {
    name: dataset.name === "mnist" ? "MNIST" : dataset.name,
    classNames: Array.from({ length: dataset.classCount }, (_, digit) => String(digit)),
    plan: {
      ...digitTraining(settings),
      data: limitImages(dataset.train, settings.trainImages),
      validation: limitImages(test, settings.attackImages),
    },
    ...digitDefence(settings),
    ...{ plainEpochs: settings.plainEpochs, test, attacked: limitImages(test, settings.attackImages) },
    ...{
      epsilons: { linf: settings.linf, l2: settings.l2 },
      classes: settings.digits,
      generators: generators(settings),
    },
    ...{ published: real ? PUBLISHED.mnist : undefined, goal: real ? GOAL : undefined, judged: run.judged },
  };
}

async function photographStudy(run: ExperimentRun, settings: RobustSettings): Promise<Study> {
  const dataset = await loadCifar10({ dataDir: run.loading.dataDir, onMessage: run.loading.say });
  const test = limitImages(dataset.test, settings.testImages);
  const { epsilon } = photographDefence(settings);
  return {
    ...{ name: "CIFAR-10", classNames: dataset.classNames! },
    plan: {
      ...photographTraining(settings),
      data: limitImages(dataset.train, settings.trainImages),
      validation: limitImages(test, settings.photographImages),
    },
    ...photographDefence(settings),
    ...{ plainEpochs: settings.photographPlainEpochs, test, attacked: limitImages(test, settings.photographImages) },
    epsilons: { linf: settings.photographLinf.map((levels) => levels / 255), l2: settings.photographL2 },
    classes: settings.photographClasses,
    generators: { ...generators(settings), generatorRate: settings.photographGeneratorRate },
    published: epsilon === PUBLISHED.photographs.epsilon ? PUBLISHED.photographs : undefined,
    goal: undefined,
    judged: run.judged,
  };
}

function generators(settings: RobustSettings): GeneratorSettings {
  const { startSteps, rounds, fitSteps, foolSteps, generatorRate, confidence } = settings;
  return { startSteps, rounds, fitSteps, foolSteps, generatorRate, confidence };
}

// ---- What a report tells

function addStudy(report: Report, findings: Findings, pictures: Map<string, Uint8Array | string>): void {
  const { study, samples, plain, robust } = findings;
  const { name, classNames, test, attacked, epsilon, published, goal, judged, plan } = study;
  const slug = name.toLowerCase().replace(/[^a-z0-9]+/g, "");
  const curves = [plain, robust].map((outcome) => ({
    ...{ name: outcome.name, clean: outcome.attackedClean, figures: outcome.figures },
  }));
  report.section(`${name}: before and after`, (section) => {
    section.text(
      `Trained on ${counted(plan.data.count, "image")}, tested on ${counted(test.count, "image")}. ${pgdRemark(findings)}`,
    );
    section.table({
      columns: [
        ...["", "plain", "robust"],
        ...(goal ? ["goal, reference preset"] : []),
        ...(published ? [{ label: "published, robust", reference: true }] : []),
      ],
      rows: (
        [
          ["Without an attack", "clean"],
          [`PGD-40, L∞ ${epsilonText(epsilon)}`, "underPgd"],
        ] as const
      ).map(([label, key]): TableCell[] => [
        label,
        figure(percent(plain[key])),
        { ...figure(percent(robust[key])), ...(goal && judged(robust[key] >= goal[key])) },
        ...(goal ? [figure(`at least ${percent(goal[key], 0)}`)] : []),
        ...(published ? [figure(percent(published[key]))] : []),
      ]),
      caption: `Accuracy on the whole test part. PGD as Foolbox does it: 40 steps of 1/30 epsilon from a random start.${published ? ` Published: ${PUBLISHED.source}, with PGD of 50 steps and 10 restarts.` : ""}`,
    });
    section.row((row) => {
      row.chart(sweepChart(curves, "linf", `${name}: accuracy within a ball in L∞`));
      row.chart(sweepChart(curves, "l2", `${name}: accuracy within a ball in L2, not trained for`));
    });
    for (const norm of ["linf", "l2"] as const) {
      section.table({
        ...sweepTable(curves, norm),
        caption: `Accuracy by epsilon in ${normTitles[norm]}, ${counted(attacked.count, "test image")}.`,
      });
    }
    section.text(overfittingRemark(findings));
    for (const { name: kind, headline, figures } of [plain, robust]) {
      const all = withoutGradientRemark([headline], test.count);
      const some = withoutGradientRemark(figures, attacked.count);
      section.text(
        `The ${kind} classifier: ${all === some ? all : `on the whole test part: ${all} On a part of it: ${some}`}`,
      );
    }
  });
  report.section(`${name}: generators`, (section) => {
    section.text(generatorRemark(findings));
    section.table({
      columns: ["", "plain", "robust"],
      rows: generatorRows(findings),
      caption: `Generators for ${counted(samples.length, "sample")} and every other class, with the same settings for both classifiers. A success is an answer with the class at ${percent(study.generators.confidence, 0)} or more; distances are means over the successes.`,
    });
    for (const { name: kind, found } of [plain, robust]) {
      const file = `${slug}-${kind}.svg`;
      const grid = exampleGrid(found, samples, { imageShape: test.imageShape, classNames, scale: 2 });
      for (const [name, svg] of gridFiles({ [file]: grid })) pictures.set(name, svg);
      section.grid(grid.cells, {
        ...grid.options,
        alt: `adversarial examples for the ${kind} classifier`,
        caption: `${kind === "plain" ? "Plain" : "Robust"} classifier: left the original, then the closest image answered with the class above; red where there is none.`,
      });
    }
  });
  report.section(`${name}: training`, (section) => {
    const history = robust.notes.history;
    section.text(trainingRemark(findings));
    section.row((row) => {
      row.chart(
        lineChart({
          title: `${name}: accuracy by epoch`,
          series: [
            { name: "robust, attacked", y: history["accuracy"]! },
            { name: "robust", y: history["val_accuracy"]! },
            { name: "plain", y: plain.notes.history["val_accuracy"]!, dashed: true },
          ],
          x: { label: "epoch" },
          y: { percent: true },
        }),
        "Attacked: the training images as they are attacked during the epoch. Else test images as they are.",
      );
      row.chart(
        lineChart({
          title: `${name}: training loss by epoch`,
          series: [
            { name: "robust, attacked", y: history["loss"]! },
            { name: "plain", y: plain.notes.history["loss"]!, dashed: true, colour: 2 },
          ],
          x: { label: "epoch" },
          y: { scale: "log" },
        }),
      );
    });
    section.details("Layers", (layers) => layers.table(layerTable(plan.architecture)));
  });
}

function pgdRemark({ study, plain, robust }: Findings): string {
  const epsilon = epsilonText(study.epsilon);
  return `PGD with 40 steps at ${epsilon} leaves the plain classifier ${percent(plain.underPgd)} of its answers right, the robust one ${percent(robust.underPgd)}. Without an attack the robust one is right in ${percent(robust.clean)}, the plain one in ${percent(plain.clean)}: ${points(robust.clean - plain.clean)}.`;
}

/** The attack of the training. */
function attackRemark({ name, attack }: Study): string {
  const { steps, relativeStep, epsilon } = attack;
  const from = `from a random point of the ball of radius ${epsilonText(epsilon)}`;
  return steps === 1
    ? `${name}: the attack in training has one step of ${relativeStep} times the radius ${from}, after ${PUBLISHED.source}; it takes about two passes more than plain training, where PGD with 40 steps takes forty times two.`
    : `${name}: the attack in training has ${steps} steps of ${relativeStep} times the radius ${from}.`;
}

/** One step may be learned by heart, so that FGSM fails where PGD succeeds. */
function overfittingRemark({ study, robust }: Findings): string {
  const { epsilon } = study;
  const at = (attack: string) =>
    robust.figures.find((f) => f.attack === attack && f.norm === "linf" && f.epsilon === epsilon)?.accuracy;
  const [fgsm, pgd] = [at("fgsm"), at("pgd")];
  if (fgsm === undefined || pgd === undefined) return "";
  const text = `At ${epsilonText(epsilon)} the robust classifier has ${percent(fgsm)} under FGSM and ${percent(pgd)} under PGD`;
  return pgd < fgsm / 2
    ? `${text}: less than half: it has learned the steps of the training's attack and little else (catastrophic overfitting).`
    : `${text}: it has not merely learned the training's attack by heart.`;
}

function generatorRows({ plain, robust, samples }: Findings): TableCell[][] {
  const [before, after] = [plain, robust].map(({ found }) => exampleFigures(found, samples));
  const row = (label: string, of: (figures: NonNullable<typeof before>) => string): TableCell[] => [
    label,
    ...[before!, after!].map((figures) => figure(of(figures))),
  ];
  const number = (value: number) => (Number.isFinite(value) ? value.toFixed(2) : "–");
  return [
    row("Successes", ({ fooled, count }) => `${fooled} of ${count}`),
    row("Success rate", ({ fooled, count }) => percent(fooled / count, 1)),
    row("Mean L2 distance", ({ meanL2 }) => number(meanL2)),
    row("Mean L∞ distance", ({ meanLinf }) => number(meanLinf)),
    row("First success of the slowest, round", ({ lastFirstRound }) =>
      lastFirstRound === 0 ? "–" : String(lastFirstRound),
    ),
  ];
}

function generatorRemark({ plain, robust, samples, study }: Findings): string {
  const [before, after] = [plain, robust].map(({ found }) => exampleFigures(found, samples)) as [
    ReturnType<typeof exampleFigures>,
    ReturnType<typeof exampleFigures>,
  ];
  const successes = `${before.fooled} of ${before.count} generators fool the plain classifier, ${after.fooled} of ${after.count} the robust one.`;
  if (before.fooled === 0 || after.fooled === 0) return successes;
  const longer = after.meanL2 / before.meanL2;
  return `${successes} Those that do must go ${longer.toFixed(2)} times as far in L2 (${before.meanL2.toFixed(2)} before, ${after.meanL2.toFixed(2)} after), and change the most changed pixel by ${before.meanLinf.toFixed(2)} before and ${after.meanLinf.toFixed(2)} after. The generators have no limit but [0, 1]: the robust classifier was trained for changes up to ${epsilonText(study.attack.epsilon)}, and ${after.meanLinf > study.attack.epsilon ? "what fools it lies outside of that on average" : "is fooled within that on average"}.`;
}

function trainingRemark({ plain, robust }: Findings): string {
  const ms = (notes: TrainingNotes) => notes.timing.stepMsMedian;
  const [before, after] = [ms(plain.notes), ms(robust.notes)];
  const accuracy = robust.notes.history["accuracy"]!;
  const times =
    before === undefined || after === undefined
      ? ""
      : ` A step takes ${milliseconds(after)} with the attack, ${(after / before).toFixed(1)} times the ${milliseconds(before)} without.`;
  return `Under the training's attack the robust classifier is right in ${percent(accuracy[0]!)} of its training images in the first epoch and in ${percent(accuracy.at(-1)!)} in the last of ${accuracy.length}; the plain one was trained for ${counted(plain.notes.history["loss"]!.length, "epoch")}.${times}`;
}

function defenceRemark(findings: Findings): string {
  const { study, plain, robust, samples } = findings;
  const [before, after] = [exampleFigures(plain.found, samples), exampleFigures(robust.found, samples)];
  return `${study.name}: accuracy under PGD at ${epsilonText(study.epsilon)} from ${percent(plain.underPgd)} to ${percent(robust.underPgd)}; successes of the generators from ${before.fooled} to ${after.fooled} of ${before.count}${before.fooled > 0 && after.fooled > 0 ? `, at L2 distances of ${before.meanL2.toFixed(2)} and ${after.meanL2.toFixed(2)}` : ""}.`;
}

function cards({ study, plain, robust, samples }: Findings): KeyFigure[] {
  const [before, after] = [exampleFigures(plain.found, samples), exampleFigures(robust.found, samples)];
  const { goal, judged } = study;
  return [
    {
      label: `${study.name}, PGD-40 at ${epsilonText(study.epsilon)}`,
      value: percent(robust.underPgd),
      note: `before ${percent(plain.underPgd)}${goal ? `, goal ${percent(goal.underPgd, 0)}` : ""}`,
      ...(goal && judged(robust.underPgd >= goal.underPgd)),
    },
    {
      label: `${study.name}, no attack`,
      value: percent(robust.clean),
      note: `before ${percent(plain.clean)}${goal ? `, goal ${percent(goal.clean, 0)}` : ""}`,
      ...(goal && judged(robust.clean >= goal.clean)),
    },
    {
      label: `${study.name}, generators`,
      value: `${after.fooled} of ${after.count}`,
      note: `L2 ${Number.isFinite(after.meanL2) ? after.meanL2.toFixed(2) : "–"}; before ${before.fooled}, L2 ${Number.isFinite(before.meanL2) ? before.meanL2.toFixed(2) : "–"}`,
    },
  ];
}

function metricsOf({ study, samples, ...outcomes }: Findings) {
  const of = ({ found, ...rest }: Outcome) => ({
    ...rest,
    generators: { ...exampleFigures(found, samples), seconds: found.seconds, course: found.course },
  });
  return {
    ...{ trainImages: study.plan.data.count, testImages: study.test.count, attackedImages: study.attacked.count },
    ...{ attack: study.attack, plain: of(outcomes.plain), robust: of(outcomes.robust) },
  };
}

function summaryOf({ study, plain, robust, samples }: Findings): string {
  return [plain, robust]
    .map((outcome) => {
      const { fooled, count, meanL2 } = exampleFigures(outcome.found, samples);
      return `${study.name}, ${outcome.name.padEnd(6)}: ${percent(outcome.clean)}, under PGD-40 at ${epsilonText(study.epsilon)} ${percent(outcome.underPgd)}; generators ${fooled} of ${count}${fooled > 0 ? `, L2 ${meanL2.toFixed(2)}` : ""}`;
    })
    .join("\n");
}
