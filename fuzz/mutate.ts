// Random damage to bytes, texts and JSON.
import type { RandomStream } from "../src/tensor/random.js";
import { pick } from "./suite.js";

/** Sizes and numbers that no file has. */
const extremes = [
  "-1",
  "0",
  "1e308",
  "-1e308",
  "9007199254740993",
  "99999999999999999999",
  "2147483648",
  "4294967295",
  "0.5",
];

/** Bytes with one to four kinds of damage: flipped, cut off, longer, pieces moved, fields of sizes filled. */
export function mutateBytes(random: RandomStream, bytes: Uint8Array): Uint8Array {
  let result = Uint8Array.from(bytes);
  for (let times = 1 + random.integer(4); times > 0; times--) result = damage(random, result);
  return result;
}

function damage(random: RandomStream, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { length } = bytes;
  if (length === 0) return Uint8Array.of(random.integer(256));
  // Headers are at the beginning, and short.
  const at = random.integer(random.integer(2) === 0 ? Math.min(length, 64) : length);
  const run = 1 + random.integer(16);
  switch (random.integer(8)) {
    case 0:
      bytes[at]! ^= 1 << random.integer(8);
      return bytes;
    case 1:
      bytes[at] = random.integer(256);
      return bytes;
    case 2:
      return bytes.slice(0, at);
    case 3: {
      const longer = new Uint8Array(length + run);
      longer.set(bytes);
      return longer.fill(random.integer(256), length);
    }
    case 4:
      return bytes.fill(pick(random, [0x00, 0xff, 0x7f, 0x80, 0x30, 0x39]), at, at + run);
    case 5:
      return bytes.copyWithin(at, random.integer(length), random.integer(length + 1));
    case 6: // A piece left out.
      return Uint8Array.of(...bytes.subarray(0, at).slice(-50_000), ...bytes.subarray(at + run).slice(0, 50_000));
    default: {
      const text = new TextEncoder().encode(pick(random, extremes));
      bytes.set(text.subarray(0, length - at), at);
      return bytes;
    }
  }
}

/** A value with one part replaced, left out or added. */
export function mutateJson(random: RandomStream, value: unknown): unknown {
  if (typeof value !== "object" || value === null || random.integer(6) === 0) return strange(random);
  const keys = Object.keys(value);
  if (keys.length === 0) return strange(random);
  const key = pick(random, keys);
  const change = random.integer(8);
  if (Array.isArray(value)) {
    const copy = [...value];
    const i = Number(key);
    if (change === 0) copy.splice(i, 1);
    else if (change === 1) copy.push(strange(random));
    else copy[i] = mutateJson(random, copy[i]);
    return copy;
  }
  const copy: Record<string, unknown> = { ...value };
  if (change === 0) delete copy[key];
  else if (change === 1) copy[pick(random, ["__proto__", "constructor", "x", ""])] = strange(random);
  else copy[key] = mutateJson(random, copy[key]);
  return copy;
}

function strange(random: RandomStream): unknown {
  return pick(random, [
    ...[null, true, false, "", "x", [], {}, [null], [[]], { $number: "NaN" }, { $tensor: "tensor9" }],
    ...[-1, 0, 0.5, 1, 1e9, 2 ** 31, 2 ** 53, 1e308, -1e308],
    "x".repeat(1000),
    Array.from({ length: 100 }, () => 1),
  ]);
}

/** Text with a piece replaced, repeated or left out. */
export function mutateText(random: RandomStream, text: string): string {
  const from = random.integer(text.length + 1);
  const to = Math.min(text.length, from + random.integer(6));
  const piece = pick(random, [
    ...extremes,
    "",
    ",",
    ":",
    "[",
    "]",
    " ",
    "NaN",
    "\u0000",
    "é",
    text.slice(from, to).repeat(3),
  ]);
  return text.slice(0, from) + piece + text.slice(to);
}
