// Waiting for the GPU in Node. Its main thread busy-polls while a promise of Dawn is pending and takes a core from a
// software adapter's workers. So it sleeps in naps between polls (60 GEMMs of 512^3: 39 GFLOP/s with a plain await, 73
// with this). The naps are longer the longer it takes: each wakes a core that has other work.

const SHORTEST_NAP_MS = 0.1;
const LONGEST_NAP_MS = 2;
/** Of the time waited so far. */
const NAP_SHARE = 0.06;

let cell: Int32Array<SharedArrayBuffer> | undefined;

/** Resolves as `promise` does, sleeping in between; blocks JavaScript for at most a nap at a time. */
export async function waitNapping<T>(promise: Promise<T>): Promise<T> {
  cell ??= new Int32Array(new SharedArrayBuffer(4));
  let settled = false;
  const done = () => {
    settled = true;
  };
  promise.then(done, done);
  const begun = performance.now();
  while (!settled) {
    await new Promise((resolve) => setImmediate(resolve));
    const nap = Math.max(SHORTEST_NAP_MS, Math.min(LONGEST_NAP_MS, NAP_SHARE * (performance.now() - begun)));
    if (!settled) Atomics.wait(cell, 0, 0, nap);
  }
  return promise;
}
