// The public names of `io` that need nothing but memory; node.ts adds files, pictures and reports.
export { toJson } from "./json.js";
export { decodeNpy, encodeNpy, type NpyArray, type NpyData, type NpyOptions } from "./npy.js";
export { decodeNpz, encodeNpz, type NpzEntry } from "./npz.js";
export {
  decodeSafetensors,
  encodeSafetensors,
  type Safetensors,
  type StoredArrays,
  type StoredDtype,
  type StoredTensor,
} from "./safetensors.js";
