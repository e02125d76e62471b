// A page, then a worker of it: each tells the server that sent it what it found.
import { tell } from "./tell.js";

await tell("page");
new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
