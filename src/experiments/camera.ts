// `kilograd camera`: what a model says of the face in every frame of a camera, a video or a folder of pictures. It says
// so as frames come, with frames per second and latency.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { loadModel, readModelFile } from "../nn/checkpoint.js";
import { Rescaling } from "../nn/layers/preprocessing.js";
import type { Model } from "../nn/model.js";
import { buildModel } from "../nn/stored-model.js";
import type { Device } from "../tensor/device.js";
import { UsageError } from "../tensor/errors.js";
import { formatShape } from "../tensor/shape.js";
import { type Box, checkBox, cropped, middleSquare, parseBox } from "./lib/faces/crop.js";
import { FaceFinder, FaceFollower } from "./lib/faces/face-finder.js";
import { FACE_SIDE, FaceClassifier, LEAST_CONFIDENCE, PIXELS, STANDARDIZED, standardized } from "./lib/faces/faces.js";
import { defaultDevice, type Frame, type FrameSource, frames } from "./lib/faces/frames.js";
import { Preview } from "./lib/faces/preview.js";
import type { RunContext } from "./lib/frame/run.js";
import { counted, milliseconds, percent } from "./lib/report/text.js";

/** As the command line gives them. */
export interface CameraOptions {
  /** Default: the model of the last `kilograd run emotion`. */
  readonly model?: string;
  readonly device?: string;
  readonly video?: string;
  readonly frames?: string;
  /** "x,y,width,height": the face; by default it is looked for. */
  readonly crop?: string;
  /** Names of the model's classes, separated by commas; default: those in its file. */
  readonly classes?: string;
  /** Which pixels the model takes; default: as its file says, else 0-1. */
  readonly pixels?: "0-1" | "0-255";
  /** Least probability of the class that is named; below it none is. Default {@link LEAST_CONFIDENCE}. */
  readonly threshold?: number;
  /** A page on this machine that shows frames with boxes: `true` at any free port, or a port. */
  readonly preview?: boolean | number;
  readonly json?: boolean;
}

/** What is told of a frame. */
export interface FrameReport {
  readonly frame: number;
  /** What was classified, in pixels of the frame; null where no face was found. Then nothing is said of it. */
  readonly face: Box | null;
  /** The finder's probability that it is one; null where its place was given. */
  readonly faceConfidence: number | null;
  /** Null where there is no face, and where the likeliest class is less likely than the threshold. */
  readonly class: string | null;
  /** Of the likeliest class. */
  readonly confidence: number | null;
  readonly probabilities: Readonly<Record<string, number>> | null;
  /** From the complete frame to the answer. */
  readonly latencyMs: number;
  /** Over the last second. */
  readonly framesPerSecond: number;
}

/** Where `kilograd run emotion` leaves its model, the better one first. */
const usualModels = ["reference", "quick"].map((preset) => join("out", `emotion-${preset}`, "emotion.h5"));
/** The face finder's file, beside the model. */
const FINDER_FILE = "face-finder.h5";
/** Milliseconds between two plain lines; on a terminal the line is refreshed with every frame. */
const LINE_EVERY_MS = 1000;

/** Runs until the source ends or Ctrl-C; returns what was done in all. */
export async function camera(options: CameraOptions, context: RunContext, out: NodeJS.WriteStream = process.stdout) {
  const source = sourceOf(options);
  const { threshold = LEAST_CONFIDENCE } = options;
  if (!(threshold >= 0 && threshold <= 1)) {
    throw new UsageError(`camera: --threshold must be from 0 to 1, given ${threshold}`);
  }
  const wantedCrop = options.crop === undefined ? undefined : parseBox(options.crop);
  const path = options.model ?? usualModels.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new UsageError(
      `camera: needs a model, and there is none at ${usualModels.join(" or ")}; run \`kilograd run emotion\` first, or name one with --model`,
    );
  }
  const file = await readModelFile(path);
  for (const remark of file.remarks) context.say(remark);
  const device = await context.openDevice();
  const model = buildModel(file, device);
  const display = new Display(out, options.json ?? false);
  const clock = new Clock();
  let preview: Preview | undefined;
  try {
    if (options.preview !== undefined && options.preview !== false) {
      preview = await Preview.start(options.preview === true ? 0 : options.preview);
      context.say(`Frames with boxes are at ${preview.address}, for browsers of this machine.`);
    }
    const names = classNamesOf(model, { given: options.classes, noted: file.notes["classNames"], path });
    const prepare = preparationOf(options.pixels, file.notes["pixels"], model);
    const faceOf = wantedCrop === undefined ? await faceLookup(path, device, context) : cropLookup(wantedCrop);
    const classifier = new FaceClassifier(model, prepare);
    try {
      // The first answers compile and record: not while a camera waits.
      for (let i = 0; i < 2; i++) await classifier.answer(new Float32Array(FACE_SIDE * FACE_SIDE));
      for await (const frame of frames(source, context)) {
        const found = await faceOf.find(frame);
        const face = found?.box;
        const size = { width: FACE_SIDE, height: FACE_SIDE, factor: 1 / 255 };
        const answer = face && (await classifier.answer(cropped(frame, face, size)));
        if (context.signal.aborted) break;
        context.savable?.(true);
        const report: FrameReport = {
          frame: clock.frames,
          face: face ?? null,
          faceConfidence: found?.confidence ?? null,
          class: answer && answer.confidence >= threshold ? names[answer.predicted]! : null,
          confidence: answer?.confidence ?? null,
          probabilities: answer ? Object.fromEntries(names.map((name, i) => [name, answer.probabilities[i]!])) : null,
          ...clock.tick(frame),
        };
        display.show(report);
        preview?.show(frame, { text: wordsOf(report), face: report.face, figures: figuresOf(report) });
      }
    } finally {
      classifier.dispose();
      faceOf.dispose();
    }
  } finally {
    display.end();
    await preview?.close();
    model.dispose();
  }
  const { frames: count, meanRate, meanLatency } = clock;
  context.say(
    `${counted(count, "frame")}, ${meanRate.toFixed(1)} frames/s, latency ${milliseconds(meanLatency)} in the mean`,
  );
  return { frames: count, framesPerSecond: meanRate, latencyMs: meanLatency };
}

function sourceOf({ device, video, frames: folder }: CameraOptions): FrameSource {
  const given = Object.entries({ "--device": device, "--video": video, "--frames": folder }).filter(
    ([, value]) => value,
  );
  if (given.length > 1) {
    throw new UsageError(`camera: takes one source, given ${given.map(([name]) => name).join(" and ")}`);
  }
  if (video !== undefined) return { kind: "video", path: video };
  if (folder !== undefined) return { kind: "folder", path: folder };
  return { kind: "device", device: device ?? defaultDevice() };
}

/** Where the face is, and how sure the finder is of it. */
interface FoundBox {
  readonly box: Box;
  readonly confidence?: number;
}

/** Says where the face of a frame is. */
interface FaceLookup {
  find(frame: Frame): Promise<FoundBox | undefined>;
  dispose(): void;
}

function cropLookup(crop: Box): FaceLookup {
  return {
    async find(frame) {
      checkBox(crop, frame);
      return { box: crop };
    },
    dispose() {},
  };
}

/** The finder that was trained with the model; without one, the middle of the frame, which the user is told. */
async function faceLookup(modelPath: string, device: Device, { say }: RunContext): Promise<FaceLookup> {
  const path = join(dirname(modelPath), FINDER_FILE);
  if (!existsSync(path)) {
    say(
      `There is no face finder at ${path}: the middle of every frame is taken for the face. Give its place with --crop.`,
    );
    return { find: async (frame) => ({ box: middleSquare(frame) }), dispose() {} };
  }
  const model = await loadModel(path, { device });
  const finder = new FaceFinder(model);
  const follower = new FaceFollower(finder);
  return {
    async find(frame) {
      const found = await follower.find(frame);
      return found && { box: found.box, confidence: found.score };
    },
    dispose() {
      finder.dispose();
      model.dispose();
    },
  };
}

/** What becomes of pixels in [0, 1] before the model sees them. One that rescales them itself takes bytes. */
function preparationOf(
  given: CameraOptions["pixels"],
  noted: unknown,
  model: Model,
): (pixels: Float32Array) => Float32Array {
  const own = noted === PIXELS || model.layers[0]?.placed.layer.className === Rescaling.className;
  if (given === "0-255" || (given === undefined && own)) return (pixels) => pixels.map((value) => 255 * value);
  return given === undefined && noted === STANDARDIZED ? standardized : (pixels) => pixels;
}

/** @throws UsageError for a model of something else than faces, or another number of names than it has classes */
function classNamesOf(
  model: Model,
  { given, noted, path }: { readonly given: string | undefined; readonly noted: unknown; readonly path: string },
): string[] {
  const [classes] = model.outputShape;
  if (formatShape(model.inputShape) !== formatShape([FACE_SIDE, FACE_SIDE, 1]) || model.outputShape.length !== 1) {
    throw new UsageError(
      `camera: needs a model from [${FACE_SIDE}, ${FACE_SIDE}, 1] to classes, ${path} goes from ${formatShape(model.inputShape)} to ${formatShape(model.outputShape)}`,
    );
  }
  if (given !== undefined) {
    const wanted = given.split(",").map((name) => name.trim());
    if (wanted.length === classes && wanted.every((name) => name !== "") && new Set(wanted).size === classes)
      return wanted;
    throw new UsageError(
      `camera: --classes must be ${classes} different names, as ${path} has classes, given "${given}"`,
    );
  }
  const names = Array.isArray(noted) && noted.length === classes ? noted.map(String) : undefined;
  return names ?? Array.from({ length: classes! }, (_, i) => `class ${i}`);
}

/** Counts frames and their times. */
class Clock {
  frames = 0;
  private readonly begun = performance.now();
  private readonly recent: number[] = [];
  private latencySum = 0;

  tick(frame: Frame): { latencyMs: number; framesPerSecond: number } {
    const now = performance.now();
    const latencyMs = now - frame.arrived;
    this.frames++;
    this.latencySum += latencyMs;
    this.recent.push(now);
    while (this.recent[0]! < now - 1000) this.recent.shift();
    const span = now - this.recent[0]!;
    return { latencyMs, framesPerSecond: span > 0 ? (1000 * (this.recent.length - 1)) / span : 0 };
  }

  get meanRate(): number {
    return this.frames / ((performance.now() - this.begun) / 1000);
  }

  get meanLatency(): number {
    return this.latencySum / Math.max(1, this.frames);
  }
}

/** "happy 93 %", "no face", or where it is less sure than is asked for "unsure: happy 24 %". */
function wordsOf({ class: name, face, confidence, probabilities }: FrameReport): string {
  if (face === null || probabilities === null) return "no face";
  if (name !== null) return `${name} ${percent(confidence!, 0)}`;
  const [likeliest] = Object.entries(probabilities).reduce((a, b) => (b[1] > a[1] ? b : a));
  return `unsure: ${likeliest} ${percent(confidence!, 0)}`;
}
const placeOf = ({ face, faceConfidence }: FrameReport) =>
  face === null
    ? ""
    : `face ${face.width}x${face.height} at ${face.x},${face.y}${faceConfidence === null ? "" : ` (${percent(faceConfidence, 0)})`}`;
/** All but what is said of the face. */
const figuresOf = (report: FrameReport) =>
  `${report.framesPerSecond.toFixed(1).padStart(5)} frames/s  ${milliseconds(report.latencyMs).padStart(7)}  ${placeOf(report)}  frame ${report.frame}`;

/** One line that is refreshed in place on a terminal, now and then a plain line elsewhere, or JSON for every frame. */
class Display {
  private lastLine = Number.NEGATIVE_INFINITY;
  private lastClass: string | undefined;

  constructor(
    private readonly out: NodeJS.WriteStream,
    private readonly json: boolean,
  ) {}

  show(report: FrameReport): void {
    if (this.json) {
      this.out.write(`${JSON.stringify(report)}\n`);
      return;
    }
    const line = `${wordsOf(report).padEnd(16)}  ${figuresOf(report)}`;
    if (this.out.isTTY) {
      this.out.write(`\r\x1b[K${line.slice(0, Math.max(1, (this.out.columns || 80) - 1))}`);
      return;
    }
    const now = performance.now();
    const said = report.class ?? (report.face === null ? "" : "unsure");
    if (said === this.lastClass && now - this.lastLine < LINE_EVERY_MS) return;
    this.out.write(`${line}\n`);
    this.lastLine = now;
    this.lastClass = said;
  }

  end(): void {
    if (!this.json && this.out.isTTY) this.out.write("\n");
  }
}
