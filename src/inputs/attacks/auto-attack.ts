// AutoAttack (Croce and Hein, ICML 2020): four attacks without parameters, each on the images that the ones before left
// right. Its accuracy is what a defence is judged by.
import { checkOptions, integer, type Rules } from "../../tensor/options.js";
import { apgd, remaining } from "./apgd.js";
import { epsilonRule, type Norm, normRule } from "./attack.js";
import { fab } from "./fab.js";
import { pick, row, type SearchAttack, searchAttack } from "./search-attack.js";
import { square } from "./square.js";

/** Options of {@link autoAttack}. */
export interface AutoAttackOptions {
  readonly norm: Norm;
  /** Radius of the ball, for values in [0, 1]. */
  readonly epsilon: number;
  /** Of APGD and FAB; default 100. Fewer are for looking around: figures that are told take the default. */
  readonly steps?: number;
  /** Of the square attack; default 5000. The same holds. */
  readonly queries?: number;
}

const autoAttackRules: Rules<AutoAttackOptions> = {
  norm: normRule,
  epsilon: epsilonRule,
  steps: integer({ from: 1 }),
  queries: integer({ from: 1 }),
};

/**
 * APGD on the cross-entropy, APGD on the targeted difference of logits ratio, targeted FAB, and the square attack: the
 * standard version. An image that none of them changes the answer of stays as it is. `withoutGradient` counts images
 * for which none of the first three had a gradient at any step; the square attack tries those all the same.
 * @throws UsageError naming the option that is out of range
 */
export function autoAttack(options: AutoAttackOptions): SearchAttack {
  const given = checkOptions("autoAttack", options, autoAttackRules, ["norm", "epsilon"]);
  const { norm, epsilon, steps = 100, queries = 5000 } = given;
  const byGradients = [
    apgd({ norm, epsilon, steps }),
    apgd({ norm, epsilon, steps, loss: "dlr-targeted" }),
    fab({ norm, epsilon, steps }),
  ];
  const members = [...byGradients, square({ norm, epsilon, queries, rescaleSchedule: false })];
  return searchAttack({
    ...{ name: "AutoAttack", norm, epsilon, passes: members.reduce((sum, { passes }) => sum + passes, 0) },
    async search(classifier, batch, seed) {
      const { size } = classifier;
      const images = Float32Array.from(batch.images);
      const wrong = classifier.wrong(await classifier.logits(images), batch.labels);
      const withoutGradient = wrong.map((is) => !is);
      let left = remaining(wrong);
      for (const member of members) {
        if (left.length === 0) break;
        const part = pick(batch, left, size);
        const found = await member.search(classifier, part, seed);
        const fooled = classifier.wrong(await classifier.logits(found.images), part.labels);
        for (const [k, i] of left.entries()) {
          if (byGradients.includes(member) && !found.withoutGradient[k]) withoutGradient[i] = false;
          if (fooled[k]) images.set(row(found.images, k, size), i * size);
        }
        left = left.filter((_, k) => !fooled[k]);
      }
      return { images, withoutGradient };
    },
  });
}
