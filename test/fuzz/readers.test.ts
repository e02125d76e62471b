// A small part of `npm run fuzz -- --suite readers`: damaged files of every format, from fixed seeds.
import { afterAll, expect, test } from "vitest";
import { allReaders, endReaders, trialOf } from "../../fuzz/readers.js";
import { DataError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";

afterAll(endReaders);

/** Each file in .h5 takes a worker of its own. */
const trials = (name: string) => (name === ".h5 files" ? 4 : name === "resumed trainings" ? 40 : 300);

test.each(allReaders.map((reader) => [reader.name, reader] as const))("%s", async (name, reader) => {
  for (let trial = 0; trial < trials(name); trial++) {
    expect(await trialOf(reader, new RandomStream(1, `${name} ${trial}`)), `trial ${trial}`).toBeUndefined();
  }
});

test("a foreign error, a wrong size and taken memory are findings; an error of this library is none", async () => {
  const finding = (trial: () => unknown) => trialOf({ name: "it", weight: 1, trial }, new RandomStream(1));
  const throwing = (error: Error) => () => {
    throw error;
  };
  expect(await finding(throwing(new TypeError("reading x")))).toMatch(/^it: TypeError: .*reading x/);
  expect(await finding(throwing(new DataError("file: damaged")))).toBeUndefined();
  expect(await finding(() => Promise.reject(new RangeError("later")))).toMatch(/^it: RangeError/);
  const held: Uint8Array[] = [];
  expect(await finding(() => held.push(new Uint8Array(600e6).fill(1)))).toMatch(/^it: took \d+ MB/);
});
