// @ts-check
// A limit on the memory that WebAssembly takes in this thread. Node's own limits of a worker count JavaScript's objects
// only.

const { grow } = WebAssembly.Memory.prototype;
let limit = Number.POSITIVE_INFINITY;

/**
 * Lets no WebAssembly memory grow beyond so many bytes: an allocation then fails inside the module, as where memory is
 * full.
 * @param {number} mostBytes
 */
export function limitWebAssemblyMemory(mostBytes) {
  limit = mostBytes;
  /** @param {number} pages */
  WebAssembly.Memory.prototype.grow = function (pages) {
    const wanted = this.buffer.byteLength + pages * 65_536;
    if (wanted > limit) throw new RangeError(`WebAssembly memory of ${wanted} bytes is more than ${limit}`);
    return grow.call(this, pages);
  };
}
