// Memory of recorded steps: what is needed at the same time lies apart, what one dispatch uses lies in buffers of its
// own, and all of it takes little more than what is alive at once. Also the pool's reuse of larger buffers.
import { expect, test } from "vitest";
import { RandomStream } from "../../src/tensor/random.js";
import { BufferPool, type PooledBuffer } from "../../src/webgpu/pool.js";
import { StepMemory } from "../../src/webgpu/recorded/memory.js";

const poolOf = () => new BufferPool((size) => ({ size, destroy: () => {} }) as unknown as GPUBuffer);

/** A step of random groups, each of which makes a buffer and reads some that were made before. */
function randomStep(seed: number, groups = 60) {
  const random = new RandomStream(seed, "step memory");
  const memory = new StepMemory(poolOf());
  const made: PooledBuffer[] = [];
  const uses = Array.from({ length: groups }, () => {
    made.push(memory.acquire(256 * (1 + random.integer(random.uniform() < 0.2 ? 4000 : 100))));
    const read = Array.from({ length: 1 + random.integer(3) }, () => made[random.integer(made.length)]!);
    return new Set([made.at(-1)!, ...read]);
  });
  const kept = [made.at(-1)!, made[random.integer(groups)]!];
  const exclusive = [made[random.integer(groups)]!];
  return { memory, made, uses, kept, exclusive };
}

test.each([1, 2, 3, 4, 5])("of random steps, seed %i", (seed) => {
  const { memory, made, uses, kept, exclusive } = randomStep(seed);
  memory.place(uses, kept, exclusive);
  const life = (buffer: PooledBuffer) => {
    if (kept.includes(buffer) || exclusive.includes(buffer)) return [0, uses.length] as const;
    const groups = [...uses.keys()].filter((i) => uses[i]!.has(buffer));
    return [groups[0]!, groups.at(-1)!] as const;
  };
  for (const [i, a] of made.entries()) {
    for (const b of made.slice(i + 1)) {
      const [[fromA, toA], [fromB, toB]] = [life(a), life(b)];
      if (fromA > toB || fromB > toA) continue;
      const apart = a.gpu !== b.gpu || a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
      expect(apart, `buffers ${i} and ${made.indexOf(b)}`).toBe(true);
      if (uses.some((group) => group.has(a) && group.has(b))) expect(a.gpu).not.toBe(b.gpu);
    }
    expect(a.offset % 256).toBe(0);
    expect(a.offset + a.bytes).toBeLessThanOrEqual(a.gpu.size);
  }
  const alive = [...uses.keys()].map((i) =>
    made.reduce((sum, buffer) => sum + (life(buffer)[0] <= i && i <= life(buffer)[1] ? buffer.bytes : 0), 0),
  );
  const taken = [...new Set(made.map(({ gpu }) => gpu))].reduce((sum, { size }) => sum + size, 0);
  expect(taken).toBeLessThan(1.3 * Math.max(...alive));
});

test("what outlives a step has memory of its own, and stays when the step is disposed", () => {
  const pool = poolOf();
  const memory = new StepMemory(pool);
  const [first, second, result] = [memory.acquire(1024), memory.acquire(1024), memory.acquire(512)];
  memory.place([[first], [first, second], [second, result]], [result], []);
  const { gpu } = result;
  expect([first.gpu, second.gpu]).not.toContain(gpu);
  memory.dispose([result]);
  expect(pool.memory()).toMatchObject({ liveBytes: 512, pooledBytes: 2048, liveCount: 1 });
  expect([result.gpu, result.offset]).toEqual([gpu, 0]);
  pool.release(result);
  expect(pool.memory().liveBytes).toBe(0);
});

test("a large buffer takes a free one of up to twice its size before memory grows", () => {
  const pool = poolOf();
  const megabytes = (count: number) => count * 2 ** 20;
  const larger = pool.acquire(megabytes(16));
  pool.release(larger);
  const taken = pool.acquire(megabytes(10));
  expect(taken).toBe(larger);
  expect(pool.memory()).toMatchObject({ liveBytes: megabytes(16), pooledBytes: 0, peakBytes: megabytes(16) });
  pool.release(taken);
  expect(pool.acquire(megabytes(7))).not.toBe(larger);
  expect(pool.memory().peakBytes).toBe(megabytes(16 + 7));
});
