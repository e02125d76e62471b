// Procedural digits: a data set in MNIST's shape for machines without a network, drawn from a seed. Every image is a
// pen path of its class, deformed at random and rendered with anti-aliasing. No imitation of MNIST's statistics is
// intended, only its kind of task: classes that overlap for a linear model, but not for a convolutional one.

import { checkOptions, integer, type Rules } from "../tensor/options.js";
import { RandomStream } from "../tensor/random.js";
import type { ImageDataset, LabelledImages } from "./dataset.js";

/** How many digits there are by default. */
export const digitsCounts = { train: 10_000, test: 2_000 } as const;

/** Options of {@link digits}. */
export interface DigitsOptions {
  /** Same seed, same images. Default 1. */
  readonly seed?: number;
  /** Default 10,000. */
  readonly trainCount?: number;
  /** Default 2,000. */
  readonly testCount?: number;
}

/** A million images are 3 GB. */
const count = integer({ from: 1, to: 1_000_000 });
export const digitsRules: Rules<DigitsOptions> = { seed: integer(), trainCount: count, testCount: count };

const size = 28;

type Point = readonly [x: number, y: number];
/** Points that a pen passes through on a smooth curve. */
type Stroke = readonly Point[];

// For each class the ways of writing it: points `x,y` with x to the right and y down, the digit's box being 0 to 100
// both ways; `|` begins a new stroke, which is also how a corner is made.
const ways: readonly (readonly (readonly Stroke[])[])[] = [
  ["50,0 17,17 5,50 17,83 50,100 83,83 95,50 83,17 50,0", "62,6 30,12 15,50 30,90 60,95 85,60 80,20 50,2 35,10"],
  ["50,0 50,100", "25,25 55,0 | 55,0 52,100", "30,20 52,0 | 52,0 52,100 | 20,100 85,100"],
  [
    "10,25 25,5 55,0 85,15 82,40 55,68 10,100 | 10,100 95,100",
    "10,20 40,0 80,15 75,50 40,85 13,96 10,80 30,76 60,95 98,93",
  ],
  [
    "10,12 45,0 80,14 75,36 40,46 | 40,46 80,57 90,80 50,100 5,88",
    "10,0 85,0 | 85,0 40,40 | 40,40 82,52 86,84 45,100 5,88",
    "10,10 50,0 82,20 60,43 35,48 62,50 90,75 50,100 5,90",
  ],
  [
    "20,0 8,55 | 8,55 95,50 | 75,0 70,100",
    "70,0 5,65 | 5,65 98,65 | 70,0 70,100",
    "12,2 10,35 32,52 78,40 | 84,0 78,50 72,100",
  ],
  ["85,0 20,0 | 20,0 15,45 | 15,45 55,38 90,62 70,95 30,100 5,90", "85,3 40,2 18,28 50,45 85,66 65,97 10,95"],
  ["75,0 35,25 10,65 25,95 60,100 88,78 65,55 30,60 12,75", "45,0 20,40 10,78 40,100 80,90 78,60 40,55 13,72"],
  [
    "5,0 90,0 | 90,0 60,45 40,100",
    "5,0 90,0 | 90,0 60,45 40,100 | 30,50 85,50",
    "8,20 10,2 | 10,2 90,4 | 90,4 55,50 45,100",
  ],
  [
    "78,14 45,0 15,20 45,45 85,75 50,100 12,78 50,47 82,25 74,10",
    "50,0 20,22 50,46 80,22 50,0 | 50,46 12,73 50,100 88,73 50,46",
  ],
  ["85,15 50,0 12,22 30,50 68,44 85,15 | 85,15 80,60 72,100", "85,25 50,0 15,20 30,48 65,45 87,15 87,60 65,95 20,95"],
].map((texts) => texts.map(parseWay));

function parseWay(text: string): Stroke[] {
  return text.split(" | ").map((stroke) =>
    stroke.split(" ").map((point): Point => {
      const [x, y] = point.split(",");
      return [Number(x) / 100, Number(y) / 100];
    }),
  );
}

/**
 * Draws the data set, labels uniform over 0..9. Fewer images of the same seed are the first ones of more.
 *
 * @throws UsageError for a count that is not a whole number from 1 to 1,000,000
 * @example
 * const { train } = digits({ seed: 7, trainCount: 100 }); // train.images: [100, 28, 28, 1]
 */
export function digits(options: DigitsOptions = {}): ImageDataset {
  const {
    seed = 1,
    trainCount = digitsCounts.train,
    testCount = digitsCounts.test,
  } = checkOptions("digits", options, digitsRules);
  return {
    name: "digits",
    train: drawPart(new RandomStream(seed, "digits/train"), trainCount),
    test: drawPart(new RandomStream(seed, "digits/test"), testCount),
    classCount: 10,
    source: `built-in procedural digits, seed ${seed}`,
  };
}

function drawPart(random: RandomStream, count: number): LabelledImages {
  const images = new Float32Array(count * size * size);
  const labels = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    labels[i] = random.integer(10);
    drawDigit(labels[i]!, random, images.subarray(i * size * size, (i + 1) * size * size));
  }
  return { images, labels, count, imageShape: [size, size, 1] };
}

/** Draws one digit into `image` [28, 28], white on black. */
function drawDigit(label: number, random: RandomStream, image: Float32Array): void {
  const between = (low: number, high: number): number => low + (high - low) * random.uniform();
  const strokes = ways[label]![random.integer(ways[label]!.length)]!;
  const toPixels = randomDeformation(random, between);
  const startRadius = between(0.7, 1.9);
  const endRadius = startRadius * between(0.6, 1.3);

  // Ink where a pixel's centre is nearer to the pen path than the pen's radius, with an edge one pixel wide.
  for (const stroke of strokes) {
    const path = smooth(stroke).map(toPixels);
    for (let i = 1; i < path.length; i++) {
      const radius = startRadius + (endRadius - startRadius) * (i / path.length);
      drawSegment(image, path[i - 1]!, path[i]!, radius);
    }
  }
  const ink = between(0.7, 1);
  const noise = between(0, 0.12);
  for (let i = 0; i < image.length; i++) {
    image[i] = Math.min(1, Math.max(0, ink * image[i]! + noise * random.normal()));
  }
}

/** Box coordinates to pixels: elastic displacement, size, slant, rotation, shift. */
function randomDeformation(random: RandomStream, between: (low: number, high: number) => number) {
  const width = between(9, 18);
  const height = between(15, 21);
  const slant = between(-0.3, 0.5);
  const angle = 0.12 * random.normal();
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const centreX = size / 2 - 0.5 + between(-2, 2);
  const centreY = size / 2 - 0.5 + between(-2, 2);
  // Elastic: displacements on a 4 x 4 grid over the box, in box units, blended smoothly in between.
  const grid = Float64Array.from({ length: 2 * 4 * 4 }, () => 0.055 * random.normal());
  return ([x, y]: Point): Point => {
    const [dx, dy] = displacement(grid, x, y);
    const u = (x + dx - 0.5) * width;
    const v = (y + dy - 0.5) * height;
    const slanted = u - slant * v;
    return [centreX + cos * slanted - sin * v, centreY + sin * slanted + cos * v];
  };
}

function displacement(grid: Float64Array, x: number, y: number): Point {
  const cell = (t: number): [number, number] => {
    const scaled = 3 * Math.min(0.9999, Math.max(0, t));
    const fraction = scaled % 1;
    return [Math.floor(scaled), fraction * fraction * (3 - 2 * fraction)];
  };
  const [column, a] = cell(x);
  const [row, b] = cell(y);
  const blend = (axis: number): number => {
    const at = (r: number, c: number): number => grid[2 * (4 * r + c) + axis]!;
    const top = at(row, column) * (1 - a) + at(row, column + 1) * a;
    const bottom = at(row + 1, column) * (1 - a) + at(row + 1, column + 1) * a;
    return top * (1 - b) + bottom * b;
  };
  return [blend(0), blend(1)];
}

/** Uniform Catmull-Rom spline through the points, the ends doubled; straight lines are subdivided as well. */
function smooth(points: Stroke): Point[] {
  const steps = 6;
  const path: Point[] = [points[0]!];
  for (let i = 1; i < points.length; i++) {
    const [p1, p2] = [points[i - 1]!, points[i]!];
    const [p0, p3] = [points[i - 2] ?? p1, points[i + 1] ?? p2];
    for (let step = 1; step <= steps; step++) {
      const t = step / steps;
      const at = (axis: 0 | 1): number =>
        p1[axis] +
        0.5 *
          t *
          (p2[axis] -
            p0[axis] +
            t *
              (2 * p0[axis] -
                5 * p1[axis] +
                4 * p2[axis] -
                p3[axis] +
                t * (3 * (p1[axis] - p2[axis]) + p3[axis] - p0[axis])));
      path.push([at(0), at(1)]);
    }
  }
  return path;
}

/** Draws a line with round ends; keeps the brighter of what is there and what comes. */
function drawSegment(image: Float32Array, [ax, ay]: Point, [bx, by]: Point, radius: number): void {
  const reach = radius + 0.5;
  const lengthSquared = (bx - ax) ** 2 + (by - ay) ** 2 || 1;
  const lastRow = Math.min(size - 1, Math.floor(Math.max(ay, by) + reach));
  const lastColumn = Math.min(size - 1, Math.floor(Math.max(ax, bx) + reach));
  for (let row = Math.max(0, Math.ceil(Math.min(ay, by) - reach)); row <= lastRow; row++) {
    for (let column = Math.max(0, Math.ceil(Math.min(ax, bx) - reach)); column <= lastColumn; column++) {
      const along = ((column - ax) * (bx - ax) + (row - ay) * (by - ay)) / lengthSquared;
      const t = Math.min(1, Math.max(0, along));
      const distance = Math.hypot(column - ax - t * (bx - ax), row - ay - t * (by - ay));
      const ink = Math.min(1, reach - distance);
      if (ink > image[size * row + column]!) image[size * row + column] = ink;
    }
  }
}
