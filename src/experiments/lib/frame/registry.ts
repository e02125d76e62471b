// The experiments that `kilograd list` names and `kilograd run` runs, in the order of `run all`: a line each.
import { UsageError } from "../../../tensor/errors.js";
import { meantHint } from "../../../tensor/options.js";
import type { Experiment } from "./experiment.js";

/** An experiment by name; its script is loaded when it is run. */
export interface RegisteredExperiment {
  readonly name: string;
  /** One line for `kilograd list`. */
  readonly description: string;
  readonly load: () => Promise<{ readonly experiment: Experiment }>;
}

const entry = (
  name: string,
  description: string,
  load: () => Promise<{ readonly experiment: unknown }>,
): RegisteredExperiment => ({ name, description, load: load as RegisteredExperiment["load"] });

export const experiments: readonly RegisteredExperiment[] = [
  entry(
    "digits",
    "four CNNs for handwritten digits beside their reference figures, and one of 99.6 %",
    () => import("../../digits.js"),
  ),
  entry(
    "input-optimisation",
    "which images a frozen network takes for each digit: from noise, from digits, and readable ones",
    () => import("../../input-optimisation.js"),
  ),
  entry(
    "vanishing-gradients",
    "depth against activation: what of the gradient reaches the first layers",
    () => import("../../vanishing-gradients.js"),
  ),
  entry(
    "weight-decay",
    "plain networks, and what L2 penalties of five strengths do to one",
    () => import("../../weight-decay.js"),
  ),
  entry(
    "adversarial-mnist",
    "generator networks make five digits be answered as every class; FGSM and PGD beside them",
    async () => ({ experiment: (await import("../../adversarial.js")).digits }),
  ),
  entry("adversarial-cifar10", "the same for a photograph of CIFAR-10", async () => ({
    experiment: (await import("../../adversarial.js")).photographs,
  })),
  entry(
    "robust",
    "adversarial training on MNIST and CIFAR-10: FGSM, PGD and generators before and after",
    () => import("../../robust.js"),
  ),
  entry(
    "emotion",
    "seven emotions from faces (FER2013), by class, with speed; the model as .h5 for `kilograd camera`",
    () => import("../../emotion.js"),
  ),
  entry(
    "denoising",
    "an autoencoder takes salt and pepper off digits, a classifier judges it; digits from random codes",
    () => import("../../denoising.js"),
  ),
];

/** @throws UsageError for an unknown name */
export function registeredExperiment(name: string): RegisteredExperiment {
  const found = experiments.find((experiment) => experiment.name === name);
  if (found !== undefined) return found;
  const names = experiments.map((experiment) => experiment.name);
  throw new UsageError(
    `experiment: must be one of ${names.join(", ")} or all, given "${name}"${meantHint(name, [...names, "all"])}`,
  );
}
