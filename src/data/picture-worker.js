// @ts-check
// Decodes pictures in a thread of its own (picture-pool.ts starts it): PNG by pngjs, JPEG by the package that is loaded
// with the first one. Plain JavaScript, because a worker begins with a file that runs as it is, from src/ and dist/.
import { readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { parentPort } from "node:worker_threads";

/** Largest picture and file: more is damage, or no data for a network. */
const MOST_PIXELS = 2 ** 26;
const MOST_BYTES = 2 ** 28;

/**
 * A picture as bytes of red, green, blue and alpha, row after row.
 * @typedef {{ width: number, height: number, data: Uint8Array }} Picture
 */

/** @type {((bytes: Uint8Array) => Picture) | undefined} */
let decodePng;
/** @type {((bytes: Uint8Array) => Promise<Picture>) | undefined} */
let decodeJpeg;

/** @param {Uint8Array} bytes */
async function decode(bytes) {
  const is = (/** @type {number[]} */ ...magic) => magic.every((byte, i) => bytes[i] === byte);
  if (is(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 33) throw new Error("it is cut off within its header");
    checkPixels(view.getUint32(16), view.getUint32(20));
    decodePng ??= await loadPng();
    return decodePng(bytes);
  }
  if (is(0xff, 0xd8, 0xff)) {
    checkJpegPixels(bytes);
    decodeJpeg ??= await loadJpeg();
    return await decodeJpeg(bytes);
  }
  const first = [...bytes.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  throw new Error(bytes.length === 0 ? "it is empty" : `it is neither PNG nor JPEG, it begins with ${first}`);
}

/** @param {number} width @param {number} height */
function checkPixels(width, height) {
  if (width > 0 && height > 0 && width * height <= MOST_PIXELS) return;
  throw new Error(`a picture may have up to ${MOST_PIXELS} pixels, it says it has ${width} x ${height}`);
}

/** Looks for the frame header, which has the size. @param {Uint8Array} bytes */
function checkJpegPixels(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 2; at + 9 < bytes.length; at += 2 + view.getUint16(at + 2)) {
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at++;
    const marker = bytes[at] === 0xff ? (bytes[at + 1] ?? 0) : 0;
    // What the decoder has words for.
    if (marker < 0xc0 || at + 9 >= bytes.length) return;
    const isFrame = marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) return checkPixels(view.getUint16(at + 7), view.getUint16(at + 5));
  }
}

async function loadPng() {
  const { PNG } = (await import("pngjs")).default;
  return (/** @type {Uint8Array} */ bytes) => PNG.sync.read(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
}

/** The decoder of libjpeg (MozJPEG's, as WebAssembly), whose pixels are those that Python's Pillow gives. */
async function loadJpeg() {
  // Not one of the names that TypeScript looks up: it is there where it is installed.
  const { default: decode, init } = await import(/** @type {string} */ ("@jsquash/jpeg/decode.js"));
  const path = createRequire(import.meta.url).resolve("@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm");
  const module = new WebAssembly.Module(readFileSync(path));
  /** @type {string[]} */
  let said = [];
  const start = () => init(module, { print() {}, printErr: (/** @type {string} */ text) => said.push(text) });
  await start();
  return async (/** @type {Uint8Array} */ bytes) => {
    said = [];
    /** @type {Picture} */
    let picture;
    try {
      picture = await decode(bytes);
    } catch (error) {
      // It ends its program at an error, and is of no use afterwards.
      await start();
      throw new Error(
        `it is no JPEG that can be read: ${said[0] ?? (error instanceof Error ? error.message : "unknown")}`,
      );
    }
    // Where the data is cut off or damaged, it fills with grey and only says so. Bytes too many do no harm.
    const damage = said.find((text) => !text.includes("extraneous bytes"));
    if (damage === undefined) return picture;
    throw new Error(`its JPEG is damaged: ${damage}`);
  };
}

/**
 * Writes a picture, resized, as `channels` values in [0, 1] a pixel, to `target`.
 *
 * Bilinear, between the four nearest pixels, as Keras's Resizing: the centre of output pixel i of n lies over
 * (i + 1/2) N / n - 1/2 of N pixels, and pixels beyond the edge are those at the edge. Nothing is averaged besides:
 * what is made much smaller is sampled.
 * @param {Picture} picture
 * @param {Float32Array} target
 * @param {{ height: number, width: number, channels: number }} shape
 */
function place(picture, target, { height, width, channels }) {
  const { data } = picture;
  if (picture.height === height && picture.width === width) return convert(data, target, channels);
  const rows = positions(picture.height, height);
  const columns = positions(picture.width, width);
  for (let y = 0, at = 0; y < height; y++) {
    const { low: y0, high: y1, share: v } = /** @type {Position} */ (rows[y]);
    for (let x = 0; x < width; x++) {
      const { low: x0, high: x1, share: u } = /** @type {Position} */ (columns[x]);
      const [a, b] = [4 * (y0 * picture.width + x0), 4 * (y0 * picture.width + x1)];
      const [c, d] = [4 * (y1 * picture.width + x0), 4 * (y1 * picture.width + x1)];
      let grey = 0;
      for (let channel = 0; channel < 3; channel++) {
        const top = value(a + channel) * (1 - u) + value(b + channel) * u;
        const bottom = value(c + channel) * (1 - u) + value(d + channel) * u;
        const between = (top * (1 - v) + bottom * v) / 255;
        if (channels === 3) target[at++] = between;
        else grey += (LUMA[channel] ?? 0) * between;
      }
      if (channels === 1) target[at++] = grey;
    }
  }

  /** @param {number} i */
  function value(i) {
    return /** @type {number} */ (data[i]);
  }
}

/**
 * A picture of the right size.
 * @param {Uint8Array} data
 * @param {Float32Array} target
 * @param {number} channels
 */
function convert(data, target, channels) {
  for (let from = 0, to = 0; to < target.length; from += 4) {
    const [red, green, blue] = [data[from] ?? 0, data[from + 1] ?? 0, data[from + 2] ?? 0];
    if (channels === 3) {
      target[to++] = red / 255;
      target[to++] = green / 255;
      target[to++] = blue / 255;
    } else {
      target[to++] = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue) / 255;
    }
  }
}

/** Shares of red, green and blue in grey (ITU-R BT.601), as in JPEG. */
const LUMA = /** @type {const} */ ([0.299, 0.587, 0.114]);

/** @typedef {{ low: number, high: number, share: number }} Position */

/** Where the pixels of an axis of `n` lie between those of one of `from`. @param {number} from @param {number} n */
function positions(from, n) {
  return Array.from({ length: n }, (_, i) => {
    const at = Math.min(from - 1, Math.max(0, ((i + 0.5) * from) / n - 0.5));
    const low = Math.floor(at);
    return { low, high: Math.min(from - 1, low + 1), share: at - low };
  });
}

/** @param {import("./picture-pool.js").PictureTask} task */
async function answer({ files, size, resizes, channels }) {
  /** @type {{ index: number, reason: string }[]} */
  const failures = [];
  let [height, width] = size ?? [0, 0];
  let pixels = new Float32Array(files.length * height * width * channels);
  let count = 0;
  for (const [index, file] of files.entries()) {
    try {
      const info = statSync(file);
      if (!info.isFile()) throw new Error("it is no regular file");
      if (info.size > MOST_BYTES) throw new Error(`a file may have up to ${MOST_BYTES} bytes, it has ${info.size}`);
      const picture = await decode(readFileSync(file));
      if (height === 0) {
        [height, width] = [picture.height, picture.width];
        pixels = new Float32Array(files.length * height * width * channels);
      }
      if (!resizes && (picture.height !== height || picture.width !== width)) {
        throw new Error(
          `all pictures must be ${height} x ${width} as the first is, it is ${picture.height} x ${picture.width}; pass size`,
        );
      }
      const length = height * width * channels;
      place(picture, pixels.subarray(count * length, (count + 1) * length), { height, width, channels });
      count++;
    } catch (error) {
      failures.push({ index, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { pixels: pixels.subarray(0, count * height * width * channels), height, width, failures };
}

parentPort?.on("message", async (/** @type {import("./picture-pool.js").PictureTask} */ task) => {
  const result = await answer(task);
  parentPort?.postMessage(result, [/** @type {ArrayBuffer} */ (result.pixels.buffer)]);
});
