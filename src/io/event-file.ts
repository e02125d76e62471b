// Files of events as TensorBoard reads them: records of TFRecord's framing, each a message Event of protocol buffers.
//
//   record  = length (u64)  masked CRC-32C of the length (u32)  bytes  masked CRC-32C of the bytes (u32), little-endian
//   message = fields, each a varint 8 * number + wire type and its value; only the fields below are ever written
//
// https://github.com/tensorflow/tensorboard: tensorboard/compat/proto/event.proto and summary.proto
// https://github.com/tensorflow/tensorflow: tensorflow/core/lib/io/record_writer.h
import { closeSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { KilogradError } from "../tensor/errors.js";

/** What an event tells under a tag. */
export type EventValue =
  | { readonly scalar: number }
  | { readonly histogram: Histogram }
  | {
      readonly image: {
        readonly png: Uint8Array;
        readonly width: number;
        readonly height: number;
        readonly channels: 1 | 3;
      };
    };

/** Counts of values: `counts[i]` of them are above `limits[i - 1]`, or from `min` on, and at most `limits[i]`. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

/** Values by tag, or the beginning of a session, after which TensorBoard forgets later steps of earlier ones. */
export interface LoggedEvent {
  /** Seconds since 1970. */
  readonly time: number;
  readonly step: number;
  readonly values: Readonly<Record<string, EventValue>> | "session start";
}

const utf8 = new TextEncoder();

// ---- Protocol buffers

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** A whole number from 0 to 2^53 in groups of 7 bits, the lowest first. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}

const key = (field: number, wireType: number) => varint(8 * field + wireType);
const whole = (field: number, value: number) => Uint8Array.from([...key(field, VARINT), ...varint(value)]);

function double(field: number, value: number): Uint8Array {
  const bytes = Uint8Array.from([...key(field, FIXED64), 0, 0, 0, 0, 0, 0, 0, 0]);
  new DataView(bytes.buffer).setFloat64(bytes.length - 8, value, true);
  return bytes;
}

function float(field: number, value: number): Uint8Array {
  const bytes = Uint8Array.from([...key(field, FIXED32), 0, 0, 0, 0]);
  new DataView(bytes.buffer).setFloat32(bytes.length - 4, value, true);
  return bytes;
}

/** A text, bytes, or a message within a message. */
function bytesOf(field: number, content: Uint8Array | string): Uint8Array {
  const bytes = typeof content === "string" ? utf8.encode(content) : content;
  return joined([Uint8Array.from([...key(field, BYTES), ...varint(bytes.length)]), bytes]);
}

/** Doubles in a row, packed. */
function doubles(field: number, values: readonly number[]): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(8 * values.length));
  for (const [i, value] of values.entries()) bytes.setFloat64(8 * i, value, true);
  return bytesOf(field, new Uint8Array(bytes.buffer));
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function summaryValue(tag: string, value: EventValue): Uint8Array {
  if ("scalar" in value) return joined([bytesOf(1, tag), float(2, value.scalar)]);
  if ("image" in value) {
    const { png, width, height, channels } = value.image;
    return joined([
      bytesOf(1, tag),
      bytesOf(4, joined([whole(1, height), whole(2, width), whole(3, channels), bytesOf(4, png)])),
    ]);
  }
  const { min, max, count, sum, sumOfSquares, limits, counts } = value.histogram;
  const figures = [min, max, count, sum, sumOfSquares].map((figure, i) => double(i + 1, figure));
  return joined([bytesOf(1, tag), bytesOf(5, joined([...figures, doubles(6, limits), doubles(7, counts)]))]);
}

/** A message Event. */
function encodeEvent({ time, step, values }: LoggedEvent): Uint8Array {
  const head = [double(1, time), whole(2, step)];
  if (values === "session start") return joined([...head, bytesOf(7, whole(1, 1))]);
  const summary = Object.entries(values).map(([tag, value]) => bytesOf(1, summaryValue(tag, value)));
  return joined([...head, bytesOf(5, joined(summary))]);
}

// ---- Records

/** CRC-32C of Castagnoli, polynomial 0x1EDC6F41 reflected. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  return crc;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** As TFRecord stores it: turned by 15 bits and shifted, so that a CRC of bytes that hold one is not trivial. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function record(bytes: Uint8Array): Uint8Array {
  const framed = new Uint8Array(bytes.length + 16);
  const view = new DataView(framed.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(8, maskedCrc(framed.subarray(0, 8)), true);
  framed.set(bytes, 12);
  view.setUint32(12 + bytes.length, maskedCrc(bytes), true);
  return framed;
}

/** The records of a file's beginning: its version. */
export const encodeHead = (time: number): Uint8Array => record(joined([double(1, time), bytesOf(3, "brain.Event:2")]));

/** An event as a record. */
export const encodeRecord = (event: LoggedEvent): Uint8Array => record(encodeEvent(event));

// ---- Files

/**
 * A new file of events in a folder. Each write is one call of the system with whole records. So a killed process leaves
 * whole records and at most one that is cut off, which readers wait for or leave out.
 */
export class EventFile {
  private readonly descriptor: number;
  readonly path: string;

  /** @throws KilogradError `FILE_WRITE` */
  constructor(folder: string, time: number) {
    const name = `events.out.tfevents.${Math.floor(time)}.${hostname()}.${process.pid}`;
    for (let nth = 0; ; nth++) {
      const path = join(folder, `${name}.${nth}`);
      try {
        this.descriptor = openSync(path, "wx");
        this.path = path;
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw refused(path, error);
      }
    }
    this.write(encodeHead(time));
  }

  /** Adds records. @throws KilogradError `FILE_WRITE` */
  write(records: Uint8Array): void {
    try {
      for (let done = 0; done < records.length; ) done += writeSync(this.descriptor, records, done);
    } catch (error) {
      throw refused(this.path, error);
    }
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

const refused = (path: string, error: unknown) =>
  new KilogradError("FILE_WRITE", `cannot write ${path}: ${(error as Error).message}`, { cause: error });
