// What a run of "denoising" answers: what the autoencoder's parts and its loss do, where a digit is hard to recognise,
// where denoising pays and where it stops, and what random codes decode to.
import type { LayerRow } from "../layer-table.js";
import { counted, listed, lossText, percent, points } from "../text.js";
import type { Question } from "./questions.js";

/** Below this share of right answers a digit counts as hard to recognise. */
export const HARD = 0.5;
/** A curve within this of chance, 1 of 10, or of another curve says no more than it. */
const CLOSE = 0.02;
const CHANCE = 0.1;

/** Where a falling curve first reaches a height, in a straight line between two levels; undefined where it does not. */
export function fallsTo(
  levels: readonly number[],
  accuracies: readonly number[],
  height: number | readonly number[],
): number | undefined {
  const lead = accuracies.map((value, i) => value - (typeof height === "number" ? height : height[i]!));
  const after = lead.findIndex((value, i) => i > 0 && value <= 0 && lead[i - 1]! > 0);
  if (after < 0) return lead[0]! <= 0 ? levels[0] : undefined;
  const [from, to] = [lead[after - 1]!, lead[after]!];
  return levels[after - 1]! + (levels[after]! - levels[after - 1]!) * (from / (from - to));
}

/** The noise at which denoising stops: the denoised curve comes within CLOSE of chance, or of the noisy one again. */
export function denoisingStops(
  levels: readonly number[],
  { noisy, denoised }: { readonly noisy: readonly number[]; readonly denoised: readonly number[] },
): { readonly level: number; readonly meets: "chance" | "noisy" } | undefined {
  const chance = fallsTo(levels, denoised, CHANCE + CLOSE);
  // Only after denoising has gained anything.
  const gained = levels.findIndex((_, i) => denoised[i]! - noisy[i]! > CLOSE);
  const again =
    gained < 0
      ? undefined
      : fallsTo(
          levels.slice(gained),
          denoised.slice(gained),
          noisy.slice(gained).map((value) => value + CLOSE),
        );
  if (chance === undefined && again === undefined) return undefined;
  return (again ?? Number.POSITIVE_INFINITY) < (chance ?? Number.POSITIVE_INFINITY)
    ? { level: again!, meets: "noisy" }
    : { level: chance!, meets: "chance" };
}

export function denoisingQuestions({
  layers,
  encoderLayers,
  loss,
  cleanEntropy,
  levels,
  curves,
  crossing,
  classifier,
  trainedLevel,
  codes,
}: {
  readonly layers: readonly LayerRow[];
  /** How many of the layers encode. */
  readonly encoderLayers: number;
  /** Binary cross-entropy on the test part. */
  readonly loss: number;
  /** What it would be if every pixel were given exactly: pixels between black and white have an entropy. */
  readonly cleanEntropy: number;
  readonly levels: readonly number[];
  readonly curves: { readonly noisy: readonly number[]; readonly denoised: readonly number[] };
  readonly crossing: number | undefined;
  /** Name of the classifier that reads the digits. */
  readonly classifier: string;
  readonly trainedLevel: number;
  readonly codes: readonly { readonly kind: string; readonly sure: number; readonly met?: number }[];
}): Question[] {
  const recognised = "Recognised with and without";
  return [
    {
      question: "What do the parts of the autoencoder do?",
      answer: partsText(layers, encoderLayers),
      shown: "The autoencoder",
    },
    {
      question: "What is the loss, and what is its role?",
      answer: lossMeaning(loss, cleanEntropy),
      shown: "The autoencoder",
    },
    {
      question: "At which noise is a digit hard to recognise?",
      answer: hardText(levels, curves, classifier),
      shown: recognised,
    },
    {
      question: "Where does denoising stop working?",
      answer: stopText(levels, curves),
      shown: recognised,
    },
    {
      question: "Where does denoising pay, and why not below?",
      answer: paysText(levels, curves, crossing, trainedLevel),
      shown: recognised,
    },
    {
      question: "What do decoded random codes show?",
      answer: codesText(codes, classifier),
      shown: "Digits from random codes",
    },
  ];
}

function partsText(layers: readonly LayerRow[], encoderLayers: number): string {
  const sizes = layers.filter(({ parameters }) => parameters > 0).map(({ outputShape }) => outputShape.at(-1)!);
  const code = layers[encoderLayers - 1]!.outputShape.at(-1)!;
  const pixels = sizes.at(-1)!;
  return `The encoder goes from ${pixels} pixels to a code of ${code} values, the decoder from there to ${pixels} pixels (${sizes.join(", ")} units). The code has ${percent(code / pixels, 0)} as many values as the image: what is not typical of digits, such as noise, finds no place in it. The decoder draws the digit that the code stands for.`;
}

function lossMeaning(loss: number, cleanEntropy: number): string {
  return `Binary cross-entropy of each pixel with the clean one, -(t log p + (1 - t) log(1 - p)), as a mean over all pixels: every pixel is a question of black or white. The network sees the noisy image, the loss the clean one, so that copying does not pay. It ends at ${lossText(loss)}; a network that answers one half has ${Math.LN2.toFixed(4)}, one that gives every pixel exactly ${lossText(cleanEntropy)}, which grey pixels cost anyway. So ${percent((Math.LN2 - loss) / (Math.LN2 - cleanEntropy), 0)} of what can be learned is.`;
}

function hardText(
  levels: readonly number[],
  { noisy, denoised }: { readonly noisy: readonly number[]; readonly denoised: readonly number[] },
  classifier: string,
): string {
  const at = (name: string, curve: readonly number[]) => {
    const level = fallsTo(levels, curve, HARD);
    return level === undefined ? `${name} at no level` : `${name} from ${level.toFixed(2)} on`;
  };
  return `For ${classifier}, by less than ${percent(HARD, 0)} right answers: ${at("noisy", noisy)}, ${at("denoised", denoised)}.`;
}

function stopText(
  levels: readonly number[],
  curves: { readonly noisy: readonly number[]; readonly denoised: readonly number[] },
): string {
  const stop = denoisingStops(levels, curves);
  const how = `within ${(100 * CLOSE).toFixed(0)} points counts as the same`;
  if (stop === undefined) return `At none of the levels up to ${levels.at(-1)} (${how}).`;
  return `At a noise of ${stop.level.toFixed(2)} the denoised curve meets ${stop.meets === "chance" ? "chance, 10 %" : "the noisy one again"} (${how}).`;
}

function paysText(
  levels: readonly number[],
  { noisy, denoised }: { readonly noisy: readonly number[]; readonly denoised: readonly number[] },
  crossing: number | undefined,
  trainedLevel: number,
): string {
  const gains = levels.map((_, i) => denoised[i]! - noisy[i]!);
  const best = gains.indexOf(Math.max(...gains));
  if (gains[best]! <= 0) return "At no level: the denoised curve lies below the noisy one everywhere.";
  const most = `It gains most at ${levels[best]}, ${points(gains[best]!, 1)}.`;
  if (crossing === undefined) return `From the start: no level is below the crossing. ${most}`;
  return `From ${crossing.toFixed(3)} on. Below, the digit is clear as it is, and what the autoencoder gives back is a copy from a narrow code, made for a noise of ${trainedLevel}: on clean digits that costs ${points(gains[0]!, 1).slice(1)}. ${most}`;
}

function codesText(
  codes: readonly { readonly kind: string; readonly sure: number; readonly met?: number }[],
  classifier: string,
): string {
  const [real, ...drawn] = codes;
  const sorted = drawn.toSorted((a, b) => b.sure - a.sure);
  const [best, worst] = [sorted[0]!, sorted.at(-1)!];
  const verdict =
    worst.sure < real!.sure / 2
      ? "the decoder draws digits where codes lie as real ones do, and strokes without a digit elsewhere"
      : "random codes decode to what passes for digits almost as often as real ones";
  const met = drawn.filter((each) => each.met !== undefined);
  return `${classifier} is sure of ${percent(real!.sure, 0)} of those from real codes, of ${percent(best.sure, 0)} (${best.kind}) to ${percent(worst.sure, 0)} (${worst.kind}) of those from random ones: ${verdict}.${met.length > 0 ? ` Drawn from the codes of one digit they are read as it in ${listed(met.map((each) => percent(each.met!, 0)))} of the cases.` : ""} ${counted(codes.length, "kind")} were drawn.`;
}
