// The page "Faces": frames of a camera or a video, or a picture, and what is seen in them.
import { element, html, settingsInAddress } from "../dom.js";
import { picture } from "../picture.js";
import { onClick, showProblem, startPage } from "../shell.js";
import type { Seen } from "./seeing.js";
import type { FacesService } from "./service.js";

/** In the order of the network's answers: FER2013's. */
const emotions = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"] as const;
/** Longer side of what is looked at; a larger picture tells the networks nothing more. */
const LONGEST = 640;
/** Milliseconds between two things that are read out. */
const SAID_EVERY = 1500;

const [view, status, answer, speed] = [
  element<HTMLCanvasElement>("view"),
  element("status"),
  // They change with every frame: not for reading aloud, as what an <output> says would be.
  element("answer"),
  element("speed"),
];
const [camera, stop] = [element<HTMLButtonElement>("camera"), element<HTMLButtonElement>("stop")];
const threshold = element<HTMLInputElement>("threshold");
settingsInAddress(element<HTMLFormElement>("settings"));
/** Kept on one line. */
const percent = (share: number) => `${(100 * share).toFixed(0)}\u00a0%`;
const meters = emotions.map((name) => {
  const meter = html("meter", { min: 0, max: 1, value: 0, "aria-label": name });
  const share = html("span");
  element("emotions").append(html("span", {}, name), meter, share);
  return { meter, text: share };
});

const worker = await startPage<FacesService, Record<string, never>>("faces");

/** What a face shows, in words: the likeliest emotion, or none where it is less likely than is asked for. */
function wordsOf(seen: Seen | undefined): string {
  if (seen === undefined) return "No face is found.";
  const most = seen.probabilities.reduce((a, b) => Math.max(a, b));
  const name = emotions[seen.probabilities.indexOf(most)]!;
  const least = threshold.checkValidity() ? Number(threshold.value) / 100 : 0;
  if (most < least) return `A face, unsure: ${name} ${percent(most)}.`;
  return `A face: ${name} ${percent(most)}.`;
}

function show(frame: ImageBitmap, seen: Seen | undefined): void {
  if (view.width !== frame.width || view.height !== frame.height) {
    [view.width, view.height] = [frame.width, frame.height];
  }
  const context = view.getContext("2d")!;
  context.drawImage(frame, 0, 0);
  const words = wordsOf(seen);
  view.setAttribute("aria-label", words);
  answer.textContent = words;
  for (const [i, { meter, text }] of meters.entries()) {
    const share = seen?.probabilities[i];
    meter.value = share ?? 0;
    text.textContent = share === undefined ? "" : percent(share);
  }
  const place = element("face");
  if (seen === undefined) {
    place.replaceChildren();
    return;
  }
  const { x, y, width, height } = seen.box;
  context.lineWidth = Math.max(2, frame.width / 160);
  for (const [colour, away] of [
    ["#000", 0],
    ["#ffd24a", context.lineWidth],
  ] as const) {
    context.strokeStyle = colour;
    context.strokeRect(x - away, y - away, width + 2 * away, height + 2 * away);
  }
  answer.textContent = `${words} The place is ${percent(seen.faceConfidence)} sure.`;
  const side = Math.sqrt(seen.pixels.length);
  const options = { width: side, height: side, label: "the face that was found" };
  const canvas = picture(seen.pixels, options, place.querySelector("canvas") ?? undefined);
  canvas.className = "seen";
  if (canvas.parentElement === null) place.append(canvas);
}

/** A bitmap of at most {@link LONGEST} pixels along its longer side. */
async function bitmapOf(source: Blob | HTMLVideoElement): Promise<ImageBitmap> {
  const whole = await createImageBitmap(source, { colorSpaceConversion: "none" });
  const scale = LONGEST / Math.max(whole.width, whole.height);
  if (scale >= 1) return whole;
  const small = await createImageBitmap(whole, {
    resizeWidth: Math.max(1, Math.round(scale * whole.width)),
    resizeHeight: Math.max(1, Math.round(scale * whole.height)),
    resizeQuality: "high",
  });
  whole.close();
  return small;
}

/** Looks at a frame and shows it. @param next whether it follows the frame before */
async function look(frame: ImageBitmap, next: boolean): Promise<Seen | undefined> {
  const seen = await worker!.call("look", await createImageBitmap(frame), next);
  show(frame, seen);
  frame.close();
  return seen;
}

function silentVideo(): HTMLVideoElement {
  const video = html("video", { playsinline: true });
  // Browsers start what is silent without asking.
  video.muted = true;
  return video;
}

/** Ends what runs: the camera, or a video. */
let end: (() => void) | undefined;

/** Looks at a video's frames as fast as they are answered, until it ends or is stopped. */
async function watch(video: HTMLVideoElement, running: AbortSignal): Promise<number> {
  const times: number[] = [];
  let [frames, saidAt, said] = [0, Number.NEGATIVE_INFINITY, ""];
  while (!running.aborted && !video.ended) {
    await nextFrame(video, running);
    if (running.aborted || video.ended || video.videoWidth === 0) break;
    const begun = performance.now();
    const seen = await look(await bitmapOf(video), frames > 0);
    frames++;
    const now = performance.now();
    times.push(now);
    while (times[0]! < now - 1000) times.shift();
    const rate = times.length > 1 ? (1000 * (times.length - 1)) / (now - times[0]!) : 0;
    speed.textContent = `${rate.toFixed(1)} frames a second, ${(now - begun).toFixed(0)} ms each`;
    const words = wordsOf(seen);
    // What is read out changes with the emotion, not with every percentage.
    const kind = words.replace(/[\d\s%]/g, "");
    if (kind === said || now - saidAt < SAID_EVERY) continue;
    [said, saidAt] = [kind, now];
    status.textContent = words;
  }
  return frames;
}

/** Waits for a new frame, or for what ends the video. */
const nextFrame = (video: HTMLVideoElement, running: AbortSignal) =>
  new Promise<void>((resolve) => {
    const done = () => {
      running.removeEventListener("abort", done);
      video.removeEventListener("ended", done);
      resolve();
    };
    running.addEventListener("abort", done);
    video.addEventListener("ended", done);
    video.requestVideoFrameCallback(done);
  });

/** Runs one source; a source that runs already ends. */
async function run(source: (running: AbortSignal) => Promise<string>): Promise<void> {
  end?.();
  const stopping = new AbortController();
  const ended = () => stopping.abort();
  end = ended;
  stop.disabled = false;
  element("problem").hidden = true;
  try {
    const words = await source(stopping.signal);
    if (end === ended) status.textContent = words;
  } catch (error) {
    if (end === ended) status.textContent = "Nothing is looked at.";
    throw error;
  } finally {
    if (end === ended) {
      end = undefined;
      stop.disabled = true;
      speed.textContent = "";
    }
  }
}

/** Why there is no camera, in words; browsers tell it by the error's name. */
function withoutCamera(error: unknown): Error {
  const { name, message } = error as DOMException;
  const instead = "A picture or a video can be dropped instead.";
  const known: Readonly<Record<string, string>> = {
    NotAllowedError: `The camera was not allowed. Allow it for this page in the browser's address bar, and start again. ${instead}`,
    NotFoundError: `There is no camera on this machine. ${instead}`,
    NotReadableError: `The camera gives no picture; another program may use it. ${instead}`,
  };
  return new Error(known[name] ?? `The camera could not be started: ${message} ${instead}`);
}

async function watchCamera(running: AbortSignal): Promise<string> {
  if (navigator.mediaDevices === undefined) {
    throw new Error("Browsers give the camera to pages of https and of this machine only. Drop a picture or a video.");
  }
  const wanted = { video: { width: { ideal: LONGEST }, facingMode: "user" }, audio: false };
  const stream = await navigator.mediaDevices.getUserMedia(wanted).catch((error: unknown) => {
    throw withoutCamera(error);
  });
  try {
    const gone = new AbortController();
    for (const track of stream.getTracks()) track.addEventListener("ended", () => gone.abort());
    const video = silentVideo();
    video.srcObject = stream;
    await video.play();
    status.textContent = "Looking; the first answer takes longest.";
    await watch(video, AbortSignal.any([running, gone.signal]));
    return gone.signal.aborted ? "The camera has gone." : "The camera is off.";
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

async function watchFile(file: File, running: AbortSignal): Promise<string> {
  const unreadable = `This browser cannot read ${file.name} as a picture or a video.`;
  status.textContent = `Reading ${file.name} …`;
  if (!file.type.startsWith("video/")) {
    const frame = await bitmapOf(file).catch(() => {
      throw new Error(unreadable);
    });
    return wordsOf(await look(frame, false));
  }
  const video = silentVideo();
  const address = URL.createObjectURL(file);
  video.src = address;
  try {
    await video.play().catch(() => {
      throw new Error(unreadable);
    });
    return `${await watch(video, running)} frames of ${file.name} were looked at.`;
  } finally {
    video.pause();
    video.removeAttribute("src");
    URL.revokeObjectURL(address);
  }
}

/** What is known of a network that is shipped. */
interface Figures {
  readonly emotion: { readonly test: { readonly accuracy: number } };
  readonly finder: { readonly test: { readonly found: number; readonly falseAlarms: number } };
}

async function showFigures(): Promise<void> {
  const { emotion, finder } = (await (await fetch("./networks/networks.json")).json()) as Figures;
  const share = (value: number) => `${(100 * value).toFixed(1)} %`;
  element("figures").textContent =
    `The first finds ${share(finder.test.found)} of the faces on rendered scenes and sees one in ${share(finder.test.falseAlarms)} of those without. ` +
    `The second names ${share(emotion.test.accuracy)} of FER2013's test faces as they are labelled; people name about 65 %.`;
}

if (worker !== undefined) {
  void showFigures();
  const chosen = element<HTMLInputElement>("file");
  const take = (file: File | undefined) => {
    if (file === undefined) return;
    run((running) => watchFile(file, running)).catch((error: Error) => showProblem(error.message));
  };
  onClick(camera, () => run(watchCamera));
  stop.addEventListener("click", () => end?.());
  chosen.addEventListener("change", () => take(chosen.files?.[0]));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer?.files[0]);
  });
} else {
  camera.disabled = true;
}
