// What a model is asked to answer: parsing of `--target`. A target is a probability for each class; this says nothing
// of how an image for it is found.
import { UsageError } from "../../../tensor/errors.js";

/** One wished-for output of a classifier. */
export interface Target {
  /** The classes with a share, e.g. "3" or "2+3": begins the names of the target's pictures. */
  readonly label: string;
  /** One per class, not negative, sum 1. */
  readonly probabilities: readonly number[];
  /** The class with the largest share, the first of equals. */
  readonly likeliest: number;
}

/** Whether one class is asked for, and no mixture. */
export const isSingle = ({ probabilities, likeliest }: Target): boolean => probabilities[likeliest] === 1;

/** How far from 1 a sum may lie through decimal rounding, as in `0:0.333333,1:0.333333,2:0.333334`. */
const SUM_TOLERANCE = 1e-6;

const FORMS = "give a digit such as 3, all, shares such as 2:0.5,3:0.5, or ten numbers such as 0,0,.5,.5,0,0,0,0,0,0";

const decimal = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * The targets that a text names: `3` (one digit), `all` (each digit in turn), `2:0.5,3:0.5` (shares of some) or ten
 * numbers, which may stand in brackets.
 * @throws UsageError for anything else; it says how many numbers were given and their sum
 * @example parseTargets("2:0.5,3:0.5")[0].label // "2+3"
 */
export function parseTargets(text: string): Target[] {
  const given = text
    .trim()
    .replace(/^\[(.*)\]$|^\((.*)\)$/s, "$1$2")
    .trim();
  if (given.toLowerCase() === "all") return Array.from({ length: 10 }, (_, digit) => oneHot(digit));
  if (/^\d+$/.test(given)) {
    if (Number(given) <= 9) return [oneHot(Number(given))];
    throw new UsageError(`target: a digit must be from 0 to 9, given ${given}; ${FORMS}`);
  }
  const parts = given.split(/[\s,;]+/).filter((part) => part !== "");
  if (given.includes(":")) return [targetOf(shares(parts), parts.length)];
  return [targetOf(parts.map((part) => numberOf(part, part)))];
}

/** The target of one digit alone. */
export function oneHot(digit: number): Target {
  return targetOf(Array.from({ length: 10 }, (_, i) => (i === digit ? 1 : 0)));
}

/** @param count how many numbers the user wrote */
function targetOf(probabilities: readonly number[], count = probabilities.length): Target {
  const sum = probabilities.reduce((a, b) => a + b, 0);
  const fits = probabilities.length === 10 && probabilities.every((p) => p >= 0) && Math.abs(sum - 1) <= SUM_TOLERANCE;
  if (!fits) {
    const negative = probabilities.find((p) => p < 0);
    throw new UsageError(
      `target: needs ten numbers from 0 that sum to 1 (shares leave the others 0), given ${count} with sum ${
        Number.parseFloat(sum.toPrecision(7)) // Without the rounding of binary fractions: 0.9, not 0.8999999999999999.
      }${negative === undefined ? "" : `, of which ${negative} is negative`}; ${FORMS}`,
    );
  }
  const label = probabilities.flatMap((p, digit) => (p > 0 ? [digit] : [])).join("+");
  return { label, probabilities, likeliest: probabilities.indexOf(Math.max(...probabilities)) };
}

/** `2:0.5`, `3:0.5` as ten numbers. */
function shares(parts: readonly string[]): number[] {
  const probabilities = new Array<number>(10).fill(0);
  const seen = new Set<number>();
  for (const part of parts) {
    const [name = "", share = "", ...rest] = part.split(":");
    if (!/^\d$/.test(name) || rest.length > 0) {
      throw new UsageError(`target: a share must be written DIGIT:NUMBER with a digit from 0 to 9, given "${part}"`);
    }
    const digit = Number(name);
    if (seen.has(digit)) throw new UsageError(`target: digit ${digit} must have one share, given several in "${part}"`);
    seen.add(digit);
    probabilities[digit] = numberOf(share, part);
  }
  return probabilities;
}

function numberOf(text: string, part: string): number {
  if (decimal.test(text)) return Number(text);
  throw new UsageError(`target: "${part}" is not understood; ${FORMS}`);
}

/** "3", or "2:0.5 3:0.5". */
export function targetText({ label, probabilities }: Target): string {
  const shares = probabilities.flatMap((p, digit) => (p > 0 ? [`${digit}:${p}`] : []));
  return shares.length === 1 ? label : shares.join(" ");
}
