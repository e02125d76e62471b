// Finding the face in a frame. A small network looks at square windows of all places and sizes. It says whether they
// show a face as FER2013 frames it (upright, from the front). The windows that agree most make the box. Faces smaller
// than a third of the frame's shorter side are not looked for, and one face only is given.

import { noGrad } from "../../../autograd/tape.js";
import { type Architecture, architecture } from "../../../nn/architecture.js";
import { conv2d } from "../../../nn/layers/conv2d.js";
import { flatten } from "../../../nn/layers/core.js";
import { dense } from "../../../nn/layers/dense.js";
import { dropout } from "../../../nn/layers/dropout.js";
import { maxPool2d } from "../../../nn/layers/pooling.js";
import type { Model } from "../../../nn/model.js";
import { StepPlan } from "../../../tensor/step-plan.js";
import { type Box, cropped, type GreyPicture, overlap } from "./crop.js";
import { standardized } from "./faces.js";

/** Height and width of the windows that the network sees. */
export const WINDOW = 24;
const WINDOW_PIXELS = WINDOW * WINDOW;
/**
 * The shorter side of the largest picture of the pyramid: the smallest window is 24 of 64. With 80 a frame has nearly
 * twice as many windows, and on collages, whose smallest faces are 32 % of the height, no more faces are found.
 */
const SHORTER_SIDE = 64;
/** From one picture of the pyramid to the next. */
const SHRINKING = 1.25;
/** Pixels between windows. */
const STRIDE = 4;
/** Least probability of a window that may show a face. */
const LEAST_SCORE = 0.5;
/** Windows that overlap by this much may show the same face. */
const SAME_FACE = 0.55;
/**
 * Least sum of the probabilities of windows that show the same face. By collages that are neither trained nor tested
 * on: with a tenth of false alarms four of five faces are found; by the best window alone it is three of four.
 */
const LEAST_SUPPORT = 1.15;

/** A network for windows [24, 24, 1]: 0 no face, 1 a face. */
export function finderArchitecture(): Architecture {
  const same = { padding: "same", activation: "relu", kernelInitializer: "heNormal" } as const;
  return architecture({ name: "face-finder", inputShape: [WINDOW, WINDOW, 1] }, [
    conv2d({ filters: 12, kernelSize: 5, strides: 2, ...same }),
    conv2d({ filters: 24, kernelSize: 3, ...same }),
    maxPool2d(2),
    conv2d({ filters: 32, kernelSize: 3, ...same }),
    flatten(),
    dropout(0.2),
    dense({ units: 2, activation: "softmax" }),
  ]);
}

/** A face, or what is taken for one. */
export interface FoundFace {
  readonly box: Box;
  /** Probability of the best window. */
  readonly score: number;
}

/** The windows of a frame: those of every picture of the pyramid. */
function windowsOf(frame: GreyPicture): { boxes: Box[]; values: Float32Array } {
  const shorter = Math.min(frame.width, frame.height);
  const whole = { x: 0, y: 0, width: frame.width, height: frame.height };
  const boxes: Box[] = [];
  const windows: Float32Array[] = [];
  let picture: GreyPicture = frame;
  for (let side = SHORTER_SIDE; side >= WINDOW; side /= SHRINKING) {
    const scale = shorter / side;
    const [width, height] = [Math.round(frame.width / scale), Math.round(frame.height / scale)];
    const from = side === SHORTER_SIDE ? whole : { x: 0, y: 0, width: picture.width, height: picture.height };
    picture = { width, height, pixels: cropped(picture, from, { width, height }) };
    for (let y = 0; y + WINDOW <= height; y += STRIDE) {
      for (let x = 0; x + WINDOW <= width; x += STRIDE) {
        boxes.push({ x: x * scale, y: y * scale, width: WINDOW * scale, height: WINDOW * scale });
        windows.push(windowAt(picture, x, y));
      }
    }
  }
  const values = new Float32Array(windows.length * WINDOW_PIXELS);
  windows.forEach((window, i) => {
    values.set(window, i * WINDOW_PIXELS);
  });
  return { boxes, values: standardized(values, WINDOW_PIXELS) };
}

function windowAt({ width, pixels }: GreyPicture, x: number, y: number): Float32Array {
  const window = new Float32Array(WINDOW_PIXELS);
  for (let row = 0; row < WINDOW; row++) {
    for (let column = 0; column < WINDOW; column++) {
      window[row * WINDOW + column] = pixels[(y + row) * width + x + column]!;
    }
  }
  return window;
}

/** Looks for the face in frame after frame. */
export class FaceFinder {
  private readonly plan: StepPlan;

  constructor(private readonly model: Model) {
    this.plan = new StepPlan(model.device, (x) => noGrad(() => [model.call(x!)]));
  }

  /** Every window of a frame with its pixels, standardised, and the probability that it frames a face. */
  async windows(frame: GreyPicture): Promise<{ box: Box; score: number; pixels: Float32Array }[]> {
    const { boxes, values } = windowsOf(frame);
    const [output] = this.plan.run({ values, shape: [boxes.length, ...this.model.inputShape] });
    const probabilities = await output!.data();
    return boxes.map((box, i) => ({
      ...{ box, score: probabilities[2 * i + 1]! },
      pixels: values.subarray(i * WINDOW_PIXELS, (i + 1) * WINDOW_PIXELS),
    }));
  }

  /** The face that most windows agree on; undefined where there is none. @param frame grey values of any range */
  async find(frame: GreyPicture): Promise<FoundFace | undefined> {
    const likely = (await this.windows(frame)).filter(({ score }) => score >= LEAST_SCORE);
    const supportOf = (windows: typeof likely) => windows.reduce((sum, { score }) => sum + score, 0);
    let alike: typeof likely = [];
    for (const { box } of likely) {
      const around = likely.filter((other) => overlap(other.box, box) >= SAME_FACE);
      if (supportOf(around) > supportOf(alike)) alike = around;
    }
    const support = supportOf(alike);
    if (support < LEAST_SUPPORT) return undefined;
    const mean = (key: keyof Box) => alike.reduce((sum, { box, score }) => sum + score * box[key], 0) / support;
    const side = Math.min(Math.round(mean("width")), frame.width, frame.height);
    const within = (at: number, size: number) => Math.min(Math.max(Math.round(at), 0), size - side);
    const box = {
      x: within(mean("x"), frame.width),
      y: within(mean("y"), frame.height),
      width: side,
      height: side,
    };
    return { box, score: Math.max(...alike.map(({ score }) => score)) };
  }

  dispose(): void {
    this.plan.dispose();
  }
}

/** The face of frame after frame. One that stays is held still: half of each change counts. */
export class FaceFollower {
  private last: Box | undefined;

  constructor(private readonly finder: FaceFinder) {}

  /** As `find` of {@link FaceFinder}. */
  async find(frame: GreyPicture): Promise<FoundFace | undefined> {
    const found = await this.finder.find(frame);
    this.last =
      found && this.last && overlap(found.box, this.last) > STEADY ? between(found.box, this.last) : found?.box;
    return found && this.last && { box: this.last, score: found.score };
  }
}
/** Least overlap with the face of the frame before to be taken for the same. */
const STEADY = 0.5;

/** The box half way between two squares, in whole pixels, within what holds both. */
function between(a: Box, b: Box): Box {
  const half = (p: number, q: number) => Math.floor((p + q) / 2);
  return { x: half(a.x, b.x), y: half(a.y, b.y), width: half(a.width, b.width), height: half(a.height, b.height) };
}
