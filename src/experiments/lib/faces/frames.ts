// Frames from a camera, a video file or a folder of pictures, in grey, through the program ffmpeg. It writes PGM
// pictures to its standard output, which say their size themselves. What the frames show is nobody's business here.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import type { Readable } from "node:stream";
import { DataError, KilogradError, UsageError } from "../../../tensor/errors.js";
import { counted } from "../report/text.js";

/** A grey picture. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  /** [height, width], 0 to 255. */
  readonly pixels: Uint8Array;
  /** For messages: "frame 12 of FILE", or the file's name. */
  readonly name: string;
  /** When it was complete, as performance.now(). */
  readonly arrived: number;
}

/** Where frames come from. */
export type FrameSource =
  | { readonly kind: "device"; readonly device: string }
  | { readonly kind: "video"; readonly path: string }
  | { readonly kind: "folder"; readonly path: string };

export interface FrameOptions {
  /** Ends the frames when it is aborted. */
  readonly signal: AbortSignal;
  /** Is told what a camera complains about while it goes on. */
  readonly say: (message: string) => void;
  /** Default "ffmpeg". */
  readonly ffmpeg?: string;
}

const pictureEndings = [".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff"];

/** Of a frame: more than any camera has, and no more than memory holds a few times. */
const MOST_PIXELS = 2 ** 27;

/** The camera that is meant where none is named; Windows has only names. @throws UsageError */
export function defaultDevice(platform: NodeJS.Platform = process.platform): string {
  if (platform === "darwin") return "0";
  if (platform !== "win32") return "/dev/video0";
  throw new UsageError(
    "camera: Windows names its cameras; list them with `ffmpeg -list_devices true -f dshow -i dummy` and give one with --device",
  );
}

/** How ffmpeg is asked for a source. */
export function inputArguments(source: FrameSource, platform: NodeJS.Platform = process.platform): string[] {
  // A file is read strictly: a frame that cannot be decoded ends it. Of a camera it is dropped.
  if (source.kind === "video") return ["-xerror", "-err_detect", "explode", "-i", source.path];
  if (source.kind === "folder") throw new UsageError("frames: a folder is read picture by picture");
  const live = ["-fflags", "nobuffer", "-flags", "low_delay"];
  if (platform === "darwin") return [...live, "-f", "avfoundation", "-framerate", "30", "-i", `${source.device}:none`];
  if (platform === "win32") return [...live, "-f", "dshow", "-i", `video=${source.device}`];
  return [...live, "-f", "v4l2", "-i", source.device];
}

/**
 * The frames of a source, one after the other. Of a camera, frames that nobody took in time are passed over; of files
 * every one comes.
 *
 * @throws UsageError for a source that is not there
 * @throws DataError for a file that cannot be read, naming frame or file
 * @throws KilogradError `NO_FFMPEG` where the program is missing, `CAMERA_LOST` where a camera ends by itself
 */
export function frames(source: FrameSource, options: FrameOptions): AsyncGenerator<Frame> {
  checkSource(source);
  if (source.kind === "folder") return pictures(source.path, options);
  return source.kind === "video" ? videoFrames(source.path, source, options) : latestFrames(source, options);
}

function checkSource(source: FrameSource): void {
  if (source.kind === "device") {
    // Only here is a camera a file; elsewhere ffmpeg knows.
    if (process.platform === "linux" && !existsSync(source.device)) {
      throw new UsageError(
        `camera: there is no device ${source.device}; connect a camera, name another one with --device, or use --video or --frames`,
      );
    }
    return;
  }
  const option = source.kind === "video" ? "--video" : "--frames";
  const kind = existsSync(source.path) ? (statSync(source.path).isDirectory() ? "folder" : "video") : undefined;
  if (kind === source.kind) return;
  const wanted = source.kind === "video" ? "a video file" : "a folder of pictures";
  throw new UsageError(
    `camera: ${option} needs ${wanted}, ${source.path} ${kind === undefined ? "does not exist" : kind === "folder" ? "is a folder" : "is a file"}`,
  );
}

/** Every picture of a folder in the order of the names; the next one is read while one is used. */
async function* pictures(folder: string, options: FrameOptions): AsyncGenerator<Frame> {
  const names = (await readdir(folder)).filter((name) => pictureEndings.includes(extname(name).toLowerCase())).sort();
  if (names.length === 0) {
    throw new UsageError(`camera: ${folder} has no pictures (${pictureEndings.join(", ")})`);
  }
  const read = (name: string | undefined) => {
    const picture = name === undefined ? undefined : onlyFrame(join(folder, name), options);
    picture?.catch(() => {}); // Reported where it is awaited; after an interruption nobody does.
    return picture;
  };
  let next = read(names[0]);
  for (let i = 0; i < names.length && !options.signal.aborted; i++) {
    const current = next;
    next = read(names[i + 1]);
    const frame = await current;
    if (frame === undefined) return; // Interrupted.
    yield frame;
  }
}

async function onlyFrame(path: string, options: FrameOptions): Promise<Frame | undefined> {
  for await (const frame of videoFrames(path, { kind: "video", path }, options)) return { ...frame, name: path };
  return undefined;
}

/** Every frame of a file. */
async function* videoFrames(path: string, source: FrameSource, options: FrameOptions): AsyncGenerator<Frame> {
  const program = await start(source, options);
  let count = 0;
  try {
    for await (const frame of parsePgm(program.output)) {
      yield { ...frame, name: `frame ${count++} of ${path}`, arrived: performance.now() };
    }
    const { code, complaint } = await program.ended;
    if (options.signal.aborted) return;
    if (code !== 0 || count === 0) {
      const where = count === 0 ? "no frame of it can be read" : `frame ${count} cannot be read`;
      throw new DataError(`camera: ${path}: ${where}: ${complaint || "it has no pictures"}`);
    }
  } finally {
    program.stop();
  }
}

/** The latest frame of a camera whenever one is asked for, each once. */
async function* latestFrames(source: FrameSource & { kind: "device" }, options: FrameOptions): AsyncGenerator<Frame> {
  const program = await start(source, options);
  let latest: Frame | undefined;
  let count = 0;
  let finished = false;
  let wake = () => {};
  const reading = (async () => {
    for await (const frame of parsePgm(program.output)) {
      latest = { ...frame, name: `frame ${count++} of ${source.device}`, arrived: performance.now() };
      wake();
    }
  })().finally(() => {
    finished = true;
    wake();
  });
  reading.catch(() => {}); // Awaited below.
  try {
    while (true) {
      if (latest === undefined && !finished) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (latest === undefined) break;
      const frame = latest;
      latest = undefined;
      yield frame;
    }
    await reading;
    const { complaint } = await program.ended;
    if (options.signal.aborted) return;
    if (count === 0)
      throw new UsageError(`camera: ${source.device} gives no frames: ${complaint || "no reason given"}`);
    throw new KilogradError(
      "CAMERA_LOST",
      `camera: ${source.device} was lost after ${counted(count, "frame")}: ${complaint || "it ended"}; is it still connected?`,
    );
  } finally {
    program.stop();
  }
}

interface Program {
  readonly output: Readable;
  /** Exit code and the last thing it complained about. */
  readonly ended: Promise<{ readonly code: number | null; readonly complaint: string }>;
  /** Whether it has said that it does not know how it was asked to keep every frame. */
  refused(): boolean;
  stop(): void;
}

/** How ffmpeg is asked to pass every frame on as it comes: from version 5.1 on, and before. */
const EVERY_FRAME = ["-fps_mode", "-vsync"] as const;
type EveryFrame = (typeof EVERY_FRAME)[number];
/** By program: what it knows. */
const knownWords = new Map<string, EveryFrame>();

/** Starts ffmpeg. Where it is found to be older than its options, it is started again with those of its time. */
async function start(source: FrameSource, options: FrameOptions): Promise<Program> {
  const name = options.ffmpeg ?? "ffmpeg";
  const word = knownWords.get(name) ?? EVERY_FRAME[0];
  const program = launch(source, options, word);
  const failed = program.ended.catch(() => {}); // Where it does not start its output ends with the reason.
  await Promise.race([new Promise((resolve) => program.output.once("readable", resolve)), failed]);
  if (program.output.readableLength === 0) await failed;
  if (!program.refused() || word !== EVERY_FRAME[0]) {
    if (program.output.readableLength > 0) knownWords.set(name, word);
    return program;
  }
  knownWords.set(name, EVERY_FRAME[1]);
  return launch(source, options, EVERY_FRAME[1]);
}

function launch(source: FrameSource, { signal, say, ffmpeg = "ffmpeg" }: FrameOptions, word: EveryFrame): Program {
  const output = ["-an", "-f", "image2pipe", "-c:v", "pgm", "-pix_fmt", "gray", word, "passthrough", "-"];
  const child: ChildProcessByStdio<null, Readable, Readable> = spawn(
    ffmpeg,
    ["-hide_banner", "-nostdin", "-loglevel", "error", ...inputArguments(source), ...output],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  // Where it does not start its output ends with the reason, which whoever reads it gets, now or later.
  child.stdout.on("error", () => {});
  let complaint = "";
  let said = "";
  const refused = () => said.includes(`Unrecognized option '${word.slice(1)}'`);
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(0, 2000);
    const lines = text.trim().split(/\r?\n/);
    complaint =
      (lines.find((line) => line.includes(": ")) ?? lines.at(-1) ?? "").replace(/^\[[^\]]*\] /, "") || complaint;
    if (source.kind === "device" && !refused()) say(`ffmpeg: ${complaint}`);
  });
  const stop = () => void child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  const ended = new Promise<{ code: number | null; complaint: string }>((resolve, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => {
      const missing = cause.code === "ENOENT";
      const message = missing
        ? "camera: needs the program ffmpeg, which is not installed or not in PATH; install it (apt install ffmpeg, brew install ffmpeg, winget install ffmpeg)"
        : `camera: ffmpeg does not start: ${cause.message}`;
      const error = new KilogradError("NO_FFMPEG", message, { cause });
      child.stdout.destroy(error);
      reject(error);
    });
    child.once("close", (code) => {
      const both = `${ffmpeg} knows neither ${EVERY_FRAME.join(" nor ")}; install ffmpeg 4 or newer`;
      resolve({ code, complaint: refused() ? both : complaint });
    });
  }).finally(() => signal.removeEventListener("abort", stop));
  ended.catch(() => {}); // The same error ends the output, where it is awaited.
  if (signal.aborted) stop();
  return { output: child.stdout, ended, refused, stop };
}

/**
 * The pictures of a stream of binary PGM: "P5 WIDTH HEIGHT 255\n", then a byte per pixel. What is cut off at the end is
 * left.
 */
export async function* parsePgm(
  stream: AsyncIterable<Uint8Array>,
): AsyncGenerator<Pick<Frame, "width" | "height" | "pixels">> {
  let pieces: Uint8Array[] = [];
  let length = 0;
  let needed = 1;
  for await (const piece of stream) {
    pieces.push(piece);
    length += piece.length;
    while (length >= needed) {
      const bytes = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
      pieces = [bytes];
      const head = /^P5\s+(\d+)\s+(\d+)\s+255\s/.exec(Buffer.from(bytes.subarray(0, 40)).toString("latin1"));
      if (head === null) {
        if (length > 40) throw new DataError("camera: ffmpeg gave something else than PGM pictures");
        needed = length + 1;
        break;
      }
      const [text, width, height] = [head[0], Number(head[1]), Number(head[2])];
      if (width * height > MOST_PIXELS) {
        throw new DataError(
          `camera: a frame must have at most ${MOST_PIXELS.toLocaleString("en-US")} pixels, has ${width} x ${height}`,
        );
      }
      const end = text.length + width * height;
      if (length < end) {
        needed = end;
        break;
      }
      yield { width, height, pixels: bytes.subarray(text.length, end) };
      pieces = [bytes.subarray(end)];
      length -= end;
      needed = 1;
    }
  }
}
