// What the experiments on adversarial examples share:
// - samples that a classifier knows,
// - the generators' examples for every sample and class,
// - FGSM and PGD over a range of epsilon.
//
// How reports show them is in example-report.ts.
import type { LabelledImages } from "../../../data/dataset.js";
import type { Norm } from "../../../inputs/attacks/attack.js";
import { attackImages } from "../../../inputs/attacks/attack-images.js";
import { fgsm } from "../../../inputs/attacks/fgsm.js";
import { pgd } from "../../../inputs/attacks/pgd.js";
import {
  type GeneratorRound,
  generatorDefaults as libraryDefaults,
  trainGenerators,
} from "../../../inputs/generators.js";
import type { Model } from "../../../nn/model.js";
import { UsageError } from "../../../tensor/errors.js";
import { sizeOf } from "../../../tensor/shape.js";
import type { ExperimentRun } from "../frame/experiment.js";
import { answersFor } from "../training/classify.js";

/** The attacks that classifiers are measured by, as Foolbox does them by default. */
export const sweptAttacks = { fgsm, pgd };
export type SweptAttack = keyof typeof sweptAttacks;

export const normTitles = { linf: "L∞", l2: "L2" } as const;

/** How generators are trained, see `GeneratorOptions`. */
export interface GeneratorSettings {
  readonly startSteps: number;
  readonly rounds: number;
  readonly fitSteps: number;
  readonly foolSteps: number;
  readonly generatorRate: number;
  readonly confidence: number;
}

const { learningRate: generatorRate, ...otherDefaults } = libraryDefaults;
export const generatorDefaults: GeneratorSettings = { ...otherDefaults, generatorRate };

/** One image, to stay close to. */
export interface Sample {
  /** Its number in its set. */
  readonly index: number;
  readonly label: number;
  /** [H, W, C] */
  readonly pixels: Float32Array;
}

/**
 * For each of the classes, the first image that every one of the classifiers knows. @throws UsageError where there is
 * none
 */
export async function knownSamples(
  models: readonly Model[],
  set: LabelledImages,
  classes: readonly number[],
): Promise<Sample[]> {
  const answers = await Promise.all(models.map((model) => answersFor(model, set.images)));
  const size = sizeOf(set.imageShape);
  return classes.map((label) => {
    const index = set.labels.findIndex(
      (of, i) => of === label && answers.every(({ predicted }) => predicted[i] === label),
    );
    if (index < 0) {
      throw new UsageError(
        `samples: class ${label} must have an image that the classifier knows, found none among ${set.count}; train for longer or choose another class`,
      );
    }
    return { index, label, pixels: set.images.slice(index * size, (index + 1) * size) };
  });
}

/** A pass to the images has two of the three products of a training step, forward and to the inputs. */
const PASS_SHARE = 2 / 3;

/** What generators take, where a training step for as many images takes `stepSeconds`. */
export function generatorSeconds({ rounds, foolSteps }: GeneratorSettings, stepSeconds: number): number {
  return PASS_SHARE * stepSeconds * rounds * foolSteps;
}

/** What one generator came to. */
export interface Example {
  /** Which sample it stays close to. */
  readonly sample: number;
  readonly target: number;
  readonly pixels: Float32Array;
  /** Whether the classifier answers with the target, as surely as was asked. */
  readonly fooled: boolean;
  readonly confidence: number;
  /** 0: never. */
  readonly firstRound: number;
  readonly l2: number;
  readonly linf: number;
}

export interface Examples {
  readonly examples: readonly Example[];
  readonly course: readonly GeneratorRound[];
  readonly seconds: number;
}

/** Generators for every sample and class, as a part of a run. */
export function generatedExamples(
  run: ExperimentRun,
  part: string,
  model: Model,
  { samples, settings }: { readonly samples: readonly Sample[]; readonly settings: GeneratorSettings },
): Promise<Examples> {
  return run.part(part, async (progress) => {
    const begun = performance.now();
    const classes = sizeOf(model.outputShape);
    const pairs = samples.flatMap(({ pixels }, sample) =>
      Array.from({ length: classes }, (_, target) => ({ pixels, sample, target })),
    );
    const size = sizeOf(model.inputShape);
    const starts = new Float32Array(pairs.length * size);
    for (const [i, { pixels }] of pairs.entries()) starts.set(pixels, i * size);
    const { startSteps, rounds, fitSteps, foolSteps, generatorRate, confidence } = settings;
    const found = await trainGenerators(model, {
      ...{ startSteps, rounds, fitSteps, foolSteps, confidence },
      ...{ samples: starts, targets: Int32Array.from(pairs, ({ target }) => target), seed: run.seed },
      ...{ learningRate: generatorRate, signal: run.signal },
      onProgress: ({ round, fooled, meanL2 }) =>
        progress(
          round / rounds,
          `${fooled} of ${pairs.length} fooled${fooled > 0 ? `, mean L2 ${meanL2.toFixed(2)}` : ""}`,
        ),
    });
    const examples = pairs.map(({ sample, target }, i) => ({
      ...{ sample, target, pixels: found.images.slice(i * size, (i + 1) * size) },
      ...{ fooled: found.firstRound[i]! > 0, confidence: found.confidence[i]!, firstRound: found.firstRound[i]! },
      ...{ l2: found.distances.l2[i]!, linf: found.distances.linf[i]! },
    }));
    return { examples, course: found.course, seconds: (performance.now() - begun) / 1000 };
  });
}

/** Figures of the examples whose target is not the sample's own class. */
export interface ExampleFigures {
  readonly count: number;
  readonly fooled: number;
  /** Means over those that fooled; NaN where none did. */
  readonly meanL2: number;
  readonly meanLinf: number;
  readonly meanConfidence: number;
  readonly lastFirstRound: number;
}

export function exampleFigures({ examples }: Examples, samples: readonly Sample[]): ExampleFigures {
  const others = examples.filter(({ sample, target }) => samples[sample]!.label !== target);
  const fooled = others.filter((example) => example.fooled);
  const mean = (name: "l2" | "linf" | "confidence") =>
    fooled.reduce((sum, example) => sum + example[name], 0) / fooled.length;
  return {
    ...{ count: others.length, fooled: fooled.length },
    ...{ meanL2: mean("l2"), meanLinf: mean("linf"), meanConfidence: mean("confidence") },
    lastFirstRound: Math.max(0, ...fooled.map(({ firstRound }) => firstRound)),
  };
}

/** Accuracy of a classifier under one attack. */
export interface AttackFigure {
  readonly attack: SweptAttack;
  readonly norm: Norm;
  readonly epsilon: number;
  readonly accuracy: number;
  /** Means over all images. */
  readonly meanL2: number;
  readonly meanLinf: number;
  /** Images for which no step had a gradient, so that the attack did not try them. */
  readonly withoutGradient: number;
}

export interface SweepOptions {
  readonly set: LabelledImages;
  readonly attacks: readonly SweptAttack[];
  readonly epsilons: Readonly<Partial<Record<Norm, readonly number[]>>>;
}

/** The attacks of a sweep, in order. */
function sweepAttacks({ attacks, epsilons }: Pick<SweepOptions, "attacks" | "epsilons">) {
  return (Object.keys(epsilons) as Norm[]).flatMap((norm) =>
    attacks.flatMap((attack) => (epsilons[norm] ?? []).map((epsilon) => ({ attack, norm, epsilon }))),
  );
}

/** What its parts take, where a training step for as many images takes `stepSeconds`. */
export function sweepSeconds(
  name: string,
  options: Pick<SweepOptions, "attacks" | "epsilons">,
  stepSeconds: number,
): Record<string, number> {
  return Object.fromEntries(
    sweepAttacks(options).map((each) => [
      sweepPart(name, each),
      PASS_SHARE * stepSeconds * (sweptAttacks[each.attack]({ norm: each.norm, epsilon: each.epsilon }).passes + 1),
    ]),
  );
}

/** FGSM and PGD with Foolbox's defaults over a range of epsilon; a part of a run for each. */
export async function attackSweep(
  run: ExperimentRun,
  name: string,
  model: Model,
  options: SweepOptions,
): Promise<AttackFigure[]> {
  const figures: AttackFigure[] = [];
  for (const { attack, norm, epsilon } of sweepAttacks(options)) {
    figures.push(
      await run.part(sweepPart(name, { attack, norm, epsilon }), async (progress) => {
        const { set } = options;
        const { accuracy, distances, withoutGradient } = await attackImages(
          model,
          set,
          sweptAttacks[attack]({ norm, epsilon }),
          { seed: run.seed, signal: run.signal, onProgress: (done) => progress(done / set.count) },
        );
        const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;
        return {
          ...{ attack, norm, epsilon, accuracy },
          ...{ meanL2: mean(distances.l2), meanLinf: mean(distances.linf), withoutGradient },
        };
      }),
    );
  }
  return figures;
}

const sweepPart = (name: string, { attack, norm, epsilon }: Pick<AttackFigure, "attack" | "norm" | "epsilon">) =>
  `${name}, ${attack.toUpperCase()} ${norm === "linf" ? "L-infinity" : "L2"} ${epsilonText(epsilon)}`;

/** Small ones that are whole levels of 255 as such, "8/255"; others as decimals. */
export function epsilonText(epsilon: number): string {
  const levels = Math.round(epsilon * 255);
  return epsilon < 0.1 && Math.abs(epsilon * 255 - levels) < 1e-6
    ? `${levels}/255`
    : String(Number(epsilon.toPrecision(4)));
}

/** For each sample, the smallest epsilon of a sweep at which an attack has the classifier answer another class. */
export interface SmallestEpsilons {
  readonly attack: SweptAttack;
  readonly norm: Norm;
  /** One per sample; infinite where none does. */
  readonly epsilons: readonly number[];
}

/** As a part of a run. */
export function smallestEpsilons(
  run: ExperimentRun,
  part: string,
  model: Model,
  { samples, ...options }: { readonly samples: readonly Sample[] } & Pick<SweepOptions, "attacks" | "epsilons">,
): Promise<SmallestEpsilons[]> {
  return run.part(part, async (progress) => {
    const size = sizeOf(model.inputShape);
    const images = new Float32Array(samples.length * size);
    for (const [i, { pixels }] of samples.entries()) images.set(pixels, i * size);
    const imageShape = model.inputShape as LabelledImages["imageShape"];
    const labels = Int32Array.from(samples, ({ label }) => label);
    const set = { images, labels, count: samples.length, imageShape };
    const found: SmallestEpsilons[] = [];
    const attacks = sweepAttacks(options);
    for (const [i, { attack, norm, epsilon }] of attacks.entries()) {
      let entry = found.find((of) => of.attack === attack && of.norm === norm);
      if (entry === undefined)
        found.push((entry = { attack, norm, epsilons: samples.map(() => Number.POSITIVE_INFINITY) }));
      const { predicted } = await attackImages(model, set, sweptAttacks[attack]({ norm, epsilon }), {
        ...{ seed: run.seed, signal: run.signal },
      });
      const epsilons = entry.epsilons as number[];
      for (const [sample, label] of labels.entries()) {
        if (predicted[sample] !== label) epsilons[sample] = Math.min(epsilons[sample]!, epsilon);
      }
      progress((i + 1) / attacks.length);
    }
    return found;
  });
}
