// `node scripts/launch.mjs PROGRAM ARGUMENTS`: runs a program of this repository with the environment that its adapter
// takes. Where that is a driver of the user's own the program is started anew, otherwise it runs right here.
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { startWithAdapter } from "../dist/driver/launch.js";

await startWithAdapter();
process.argv.splice(1, 1);
process.argv[1] = resolve(process.argv[1]);
await import(pathToFileURL(process.argv[1]).href);
