// Pictures to train and test a face finder on, where nobody has photographs with marked faces. They are collages of
// CIFAR-10 pictures in grey, with a face of FER2013 laid in softly. What is measured on them says nothing certain about
// real rooms.

import type { LabelledImages } from "../../../data/dataset.js";
import { RandomStream } from "../../../tensor/random.js";
import { type Box, cropped, type GreyPicture, overlap } from "./crop.js";
import { WINDOW } from "./face-finder.js";
import { FACE_SIDE, standardized } from "./faces.js";

const [WIDTH, HEIGHT] = [160, 120];
/** Pictures of a collage, besides the one that fills it. */
const PIECES = 6;
const WINDOW_PIXELS = WINDOW * WINDOW;

interface Scene extends GreyPicture {
  readonly pixels: Float32Array;
}

/** A collage: one picture that fills it, others of random sizes on it. */
export function scene(backgrounds: LabelledImages, random: RandomStream): Scene {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const pixels = new Float32Array(WIDTH * HEIGHT);
  for (let piece = 0; piece <= PIECES; piece++) {
    const picture = greyImage(backgrounds, random.integer(backgrounds.count));
    const side = piece === 0 ? WIDTH : Math.round(between(20, 90));
    const [x, y] = piece === 0 ? [0, 0] : [between(-side / 2, WIDTH - side / 2), between(-side / 2, HEIGHT - side / 2)];
    const whole = { x: 0, y: 0, width: picture.width, height: picture.height };
    const scaled = cropped(picture, whole, { width: side, height: side });
    lay(scaled, side, { pixels, width: WIDTH, height: HEIGHT }, Math.round(x), Math.round(y), () => 1);
  }
  return { pixels, width: WIDTH, height: HEIGHT };
}

function greyImage({ images, imageShape: [height, width, channels] }: LabelledImages, index: number): GreyPicture {
  const size = height * width;
  const start = index * size * channels;
  const pixels = Float32Array.from({ length: size }, (_, i) => {
    const at = start + i * channels;
    // Luma of ITU-R BT.601.
    return channels === 1 ? images[at]! : 0.299 * images[at]! + 0.587 * images[at + 1]! + 0.114 * images[at + 2]!;
  });
  return { width, height, pixels };
}

/** Lays a square picture on a scene; `cover` says how much of it is seen at (u, v) in [-1, 1]. */
function lay(
  picture: Float32Array,
  side: number,
  target: Scene,
  x: number,
  y: number,
  cover: (u: number, v: number) => number,
): void {
  for (let row = Math.max(0, -y); row < Math.min(side, target.height - y); row++) {
    for (let column = Math.max(0, -x); column < Math.min(side, target.width - x); column++) {
      const at = (y + row) * target.width + x + column;
      const seen = cover((2 * column + 1) / side - 1, (2 * row + 1) / side - 1);
      target.pixels[at] = seen * picture[row * side + column]! + (1 - seen) * target.pixels[at]!;
    }
  }
}

/** Full in the middle, fading out before the edges, so that no edge gives the face away. */
const softly = (u: number, v: number) => Math.min(1, Math.max(0, 2.5 * (1 - (u ** 4 + v ** 4))));

/** Lays a face on a scene, wholly inside, 30 to 95 % of its height; says where. */
export function layFace(target: Scene, faces: LabelledImages, index: number, random: RandomStream): Box {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const side = Math.round(between(0.32, 0.95) * target.height);
  const [x, y] = [random.integer(target.width - side + 1), random.integer(target.height - side + 1)];
  const whole = { x: 0, y: 0, width: FACE_SIDE, height: FACE_SIDE };
  lay(cropped(greyImage(faces, index), whole, { width: side, height: side }), side, target, x, y, softly);
  return { x, y, width: side, height: side };
}

/** Faces laid on each collage, one after the other on fresh copies, and windows taken of each, of either kind. */
const FACES_EACH = 4;
const WINDOWS_EACH = 2;
/** More overlap with a face than this is no miss, and no find. */
const MOST_MISSED = 0.35;

/**
 * Windows [24, 24], standardised, with label 1 where they frame a face. Of each collage there are some of anything.
 * Each face on it has as many that frame it as that miss it but show a part of it.
 */
export function finderWindows(
  faces: LabelledImages,
  backgrounds: LabelledImages,
  options: { readonly count: number; readonly seed: number; readonly onProgress?: (share: number) => void },
): LabelledImages {
  const { count, seed, onProgress } = options;
  const random = new RandomStream(seed, "face-finder/windows");
  const images = new Float32Array(count * WINDOW_PIXELS);
  const labels = new Int32Array(count);
  let made = 0;
  const add = (picture: Scene, box: Box, label: number) => {
    if (made === count) return;
    images.set(cropped(picture, box, { width: WINDOW, height: WINDOW }), made * WINDOW_PIXELS);
    labels[made++] = label;
  };
  while (made < count) {
    const empty = scene(backgrounds, random);
    for (let k = 0; k < FACES_EACH; k++) add(empty, anyBox(empty, random), 0);
    for (let f = 0; f < FACES_EACH; f++) {
      const picture = { ...empty, pixels: empty.pixels.slice() };
      const face = layFace(picture, faces, random.integer(faces.count), random);
      for (let k = 0; k < WINDOWS_EACH; k++) {
        add(picture, framing(face, random), 1);
        add(picture, missing(face, picture, random), 0);
      }
    }
    onProgress?.(made / count);
  }
  return { images: standardized(images, WINDOW_PIXELS), labels, count, imageShape: [WINDOW, WINDOW, 1] };
}

/** A box that frames a face about as well as a window of the finder's steps can. */
function framing(face: Box, random: RandomStream): Box {
  const between = (low: number, high: number) => low + (high - low) * random.uniform();
  const side = face.width * between(0.9, 1.12);
  const shift = () => (face.width - side) / 2 + face.width * between(-0.07, 0.07);
  return { x: face.x + shift(), y: face.y + shift(), width: side, height: side };
}

/** A box that shows a part of a face, or the face and much else; of what random boxes offer. */
function missing(face: Box, picture: GreyPicture, random: RandomStream): Box {
  while (true) {
    const box = anyBox(picture, random);
    const shared = overlap(box, face);
    if (shared > 0 && shared <= MOST_MISSED) return box;
  }
}

function anyBox({ width, height }: GreyPicture, random: RandomStream): Box {
  const side = WINDOW + random.integer(height - WINDOW + 1);
  return { x: random.integer(width - side + 1), y: random.integer(height - side + 1), width: side, height: side };
}
