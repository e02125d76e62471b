// Tree-structured Parzen estimators (Bergstra, Bardenet, Bengio, Kégl: "Algorithms for hyper-parameter optimization",
// NIPS 2011), with the settings of Optuna's default sampler. No library for Node has a model-based search that is kept
// up, so the smallest sound one is here.
//
// Past trials are split by their loss: the best ones, and the rest. For each parameter l(x) is a density of the best
// ones' values and g(x) of the rest's. Of some candidates drawn from l, the one with the largest l(x) / g(x) is taken,
// which has the largest expected improvement. A parameter looks at the trials that had it.
import { checkOptions, integer, type Rules } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import type { PastTrial, Proposal, Search } from "./search.js";
import { random } from "./search.js";
import { trialSeed } from "./seeds.js";
import { isActive, type Parameter, positionOf, valueAt } from "./space.js";

/** Options of {@link tpe}. */
export interface TpeOptions {
  /** Random trials before the first that is chosen by a model; default 10. */
  readonly startup?: number;
  /** Candidates of each choice; default 24. */
  readonly candidates?: number;
}

const tpeRules: Rules<TpeOptions> = {
  startup: integer({ from: 1, to: 100_000 }),
  candidates: integer({ from: 1, to: 10_000 }),
};

/** Of n trials the best ceil(n / 10), at most 25. */
const BEST_SHARE = 0.1;
const MOST_BEST = 25;

/**
 * Tree-structured Parzen estimators: parameters that resemble the best trials' more than the others'. Each parameter is
 * chosen by itself. A trial that failed counts as one of the worst.
 * @example tpe({ startup: 20 })
 * @throws UsageError for numbers below 1
 */
export function tpe(options: TpeOptions = {}): Search {
  const { startup = 10, candidates = 24 } = checkOptions("tpe", options, tpeRules);
  const begin = random();
  return {
    ...{ name: "tpe", options: { startup, candidates }, learns: true },
    count: () => undefined,
    propose(proposal) {
      if (proposal.past.length < startup) return begin.propose(proposal);
      return proposed(proposal, candidates);
    },
  };
}

function proposed({ space, seed, number, past }: Proposal, candidates: number): Record<string, unknown> {
  const stream = new RandomStream(trialSeed(seed, number, "tpe"));
  const rank = ({ loss }: PastTrial) => (Number.isNaN(loss) ? Number.POSITIVE_INFINITY : loss);
  const compare = (a: PastTrial, b: PastTrial) => {
    const [first, second] = [rank(a), rank(b)];
    return first === second ? a.number - b.number : first - second;
  };
  const sorted = past.toSorted(compare);
  const count = Math.min(MOST_BEST, Math.ceil(BEST_SHARE * sorted.length));
  const [best, rest] = [sorted.slice(0, count), sorted.slice(count)];
  const config: Record<string, unknown> = {};
  for (const [name, parameter] of Object.entries(space)) {
    if (!isActive(parameter, config)) continue;
    const positions = (trials: readonly PastTrial[]) =>
      trials.flatMap(({ config }) => (Object.hasOwn(config, name) ? [positionOf(parameter, config[name])] : []));
    const [l, g] = [densityOf(parameter, positions(best)), densityOf(parameter, positions(rest))];
    let chosen = 0;
    let most = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < candidates; i++) {
      const position = l.draw(stream);
      const gain = l.log(position) - g.log(position);
      if (gain > most) [chosen, most] = [position, gain];
    }
    config[name] = valueAt(parameter, chosen);
  }
  return config;
}

/** A density over [0, 1). */
interface Density {
  draw(stream: RandomStream): number;
  log(position: number): number;
}

const densityOf = (parameter: Parameter, positions: readonly number[]): Density =>
  parameter.kind === "choice" ? categorical(parameter.values.length, positions) : parzen(positions);

/**
 * A mixture of shares of k values: one for each position, and an even one of all that is possible. Of n in all, that of
 * a position has 1 + 1/n parts for its own value and 1/n for each other, so that few trials exclude nothing.
 */
function categorical(k: number, positions: readonly number[]): Density {
  const n = positions.length + 1;
  const each = 1 / (1 + k / n);
  const shares = new Array<number>(k).fill((1 / k + (positions.length * each) / n) / n);
  const indexOf = (position: number) => Math.min(k - 1, Math.floor(position * k));
  for (const position of positions) shares[indexOf(position)]! += each / n;
  return {
    draw(stream) {
      let left = stream.uniform();
      const found = shares.findIndex((share) => (left -= share) < 0);
      return ((found < 0 ? k - 1 : found) + 0.5) / k;
    },
    log: (position) => Math.log(shares[indexOf(position)]!),
  };
}

/**
 * A mixture of normal distributions within [0, 1]: one at each position, and a wide one of all that is possible. Each
 * is as wide as it is far to the farther of its neighbours, at least 1 / min(100, n + 2), so that many trials make it
 * sharp.
 */
function parzen(positions: readonly number[]): Density {
  const centres = [...positions, 0.5].toSorted((a, b) => a - b);
  const least = 1 / Math.min(100, centres.length + 1);
  const prior = centres.indexOf(0.5);
  const kernels = centres.map((centre, i) => {
    const reach = Math.max(centre - (centres[i - 1] ?? centre), (centres[i + 1] ?? centre) - centre);
    const width = i === prior ? 1 : Math.min(1, Math.max(least, reach));
    const below = normalBelow(-centre / width);
    const within = normalBelow((1 - centre) / width) - below;
    return { centre, width, within };
  });
  return {
    draw(stream) {
      const { centre, width } = kernels[stream.integer(kernels.length)]!;
      // Of the part within [0, 1], which is at least a third of a kernel: its centre is in it.
      for (;;) {
        const position = centre + width * stream.normal();
        if (position >= 0 && position < 1) return position;
      }
    },
    log(position) {
      const terms = kernels.map(({ centre, width, within }) => {
        const z = (position - centre) / width;
        return -0.5 * z * z - Math.log(width * within);
      });
      const largest = Math.max(...terms);
      return largest + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - largest), 0) / kernels.length);
    },
  };
}

/** Share of a standard normal distribution below x (Abramowitz and Stegun 7.1.26, to 1.5e-7). */
function normalBelow(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * z);
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const half = 0.5 * tail * Math.exp(-z * z);
  return x < 0 ? half : 1 - half;
}
