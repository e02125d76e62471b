// @ts-check
// HDF5 through h5wasm: a file goes in and out as a tree of groups, with texts as attributes and arrays as bytes. Knows
// nothing of Keras. Plain JavaScript, because workers begin with files that run as they are, from src/ and dist/:
// h5-worker.js in Node, h5-web-worker.js in browsers.

/** @typedef {import("./h5-files.js").H5Group} H5Group */
/** @typedef {import("./h5-files.js").H5Array} H5Array */

/** Groups and arrays of a file, and how deep they may lie: links may lead in circles. */
const MOST_MEMBERS = 100_000;
const MOST_DEPTH = 32;

/** @typedef {{ task: "read" | "write", content: any, mostBytes: number, skip: readonly string[] }} Task */

const NAME = "kilograd.h5";

/**
 * Reads bytes as a tree, or writes a tree as bytes.
 * @param {typeof import("h5wasm")} module
 * @param {Task} given
 * @returns {Promise<{ result: unknown, transfer: ArrayBuffer[] }>} the memory of the result may move to who asked
 */
export async function runTask({ default: h5wasm, FS }, { task, content, mostBytes, skip }) {
  const library = await h5wasm.ready;
  library.activate_throwing_error_handler(); // Instead of printing to stderr and going on.
  const files = FS ?? /** @type {any} */ (library).FS;
  /** @type {ArrayBuffer[]} */
  const transfer = [];
  return { result: task === "read" ? read(content) : write(content), transfer };
  /** @param {Uint8Array} bytes */
  function read(bytes) {
    files.writeFile(NAME, bytes);
    const file = new h5wasm.File(NAME, "r");
    let members = 0;
    let total = 0;
    const found = readGroup(file, 0);
    file.close();
    files.unlink(NAME); // The worker may read another.
    return found;

    /**
     * @param {import("h5wasm").Group} group
     * @param {number} depth
     * @returns {H5Group}
     */
    function readGroup(group, depth) {
      /** @type {H5Group} */
      const found = { attributes: readAttributes(group), groups: {}, arrays: {} };
      for (const name of group.keys()) {
        if (depth === 0 && skip.includes(name)) continue;
        if (depth >= MOST_DEPTH || ++members > MOST_MEMBERS)
          throw new Error("its groups lie too deep, or are too many");
        const member = group.get(name);
        if (member instanceof h5wasm.Group) found.groups[name] = readGroup(member, depth + 1);
        else if (member instanceof h5wasm.Dataset) found.arrays[name] = readArray(member);
      }
      return found;
    }

    /** @param {import("h5wasm").Group} group */
    function readAttributes(group) {
      /** @type {Record<string, string | string[]>} */
      const found = {};
      const { H5T_STRING } = library.H5T_class_t;
      for (const [name, attribute] of Object.entries(group.attrs)) {
        const { type, size, total_size: count, shape } = attribute.metadata;
        if (count === 0)
          found[name] = []; // An empty list has a type of numbers, as h5py writes it.
        else if (type === H5T_STRING.value && shape !== null) {
          claim(size * count);
          const { value } = attribute;
          found[name] = Array.isArray(value) ? value.map(String) : String(value);
        }
      }
      return found;
    }

    /**
     * The elements' bytes, which the library turns to little-endian, whatever they mean: h5wasm itself knows no halves.
     * @param {import("h5wasm").Dataset} dataset
     * @returns {H5Array}
     */
    function readArray(dataset) {
      const { type, size, signed, shape, total_size: count, vlen } = dataset.metadata;
      const { H5T_FLOAT, H5T_INTEGER } = library.H5T_class_t;
      const kind =
        type === H5T_FLOAT.value ? "float" : type === H5T_INTEGER.value ? (signed ? "int" : "uint") : "other";
      const form = { kind, bits: 8 * size, shape: shape ?? [] };
      if (kind === "other" || vlen || shape === null || count === 0) return { ...form, bytes: new Uint8Array(0) };
      const length = claim(size * count);
      const pointer = library._malloc(length);
      if (pointer === 0) throw new Error(`no memory for ${length} bytes of ${dataset.path}`);
      library.get_dataset_data(dataset.file_id, dataset.path, null, null, null, BigInt(pointer));
      const bytes = library.HEAPU8.slice(pointer, pointer + length);
      library._free(pointer);
      transfer.push(/** @type {ArrayBuffer} */ (bytes.buffer));
      return { ...form, bytes };
    }

    /**
     * What a file announces is no measure of what it has.
     * @param {number} bytes
     */
    function claim(bytes) {
      total += bytes;
      if (!(total <= mostBytes)) throw new Error(`it announces ${total} bytes of content, more than ${mostBytes}`);
      return bytes;
    }
  }

  /** @param {H5Group} content */
  function write(content) {
    const file = new h5wasm.File(NAME, "w");
    writeGroup(file, content);
    file.close();
    const bytes = files.readFile(NAME);
    files.unlink(NAME);
    transfer.push(bytes.buffer);
    return bytes;

    /**
     * @param {import("h5wasm").Group} group
     * @param {H5Group} content
     */
    function writeGroup(group, { attributes, groups, arrays }) {
      for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "string") group.create_attribute(name, value);
        // Fixed-length texts, as h5py wrote them for Keras; an empty list is an empty attribute of numbers, as there.
        else if (value.length === 0) group.create_attribute(name, new Float64Array(0), [0]);
        else {
          const longest = Math.max(...value.map((text) => new TextEncoder().encode(text).length));
          group.create_attribute(name, [...value], [value.length], `S${longest}`);
        }
      }
      for (const [name, child] of Object.entries(groups)) writeGroup(group.create_group(name), child);
      for (const [name, { bytes, shape }] of Object.entries(arrays)) {
        const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
        group.create_dataset({ name, data, shape: [...shape], dtype: "<f" });
      }
    }
  }
}
