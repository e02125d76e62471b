/**
 * All of `kilograd`, with what Node, Bun and Deno have besides: files, downloads, pictures and reports.
 *
 * @module
 */
import { nodeRuntime } from "./runtime/node.js";
import { provideRuntime } from "./runtime/runtime.js";

// A program that is bundled for Node has this module in it, and no file beside it to find.
provideRuntime(nodeRuntime);

export * as data from "./data/node.js";
export * from "./index.js";
export * as io from "./io/node.js";
export * as nn from "./nn/node.js";
