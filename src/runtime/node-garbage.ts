// Garbage on request. V8 sees a small object of JavaScript where Dawn holds memory of the driver, and may not collect
// for minutes. Node has its collector under a flag only, which can also be set while it runs.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: (() => void) | undefined;

/** Collects garbage; does nothing where the engine has no collector to call (Deno). */
export function collectGarbage(): void {
  if (collect === undefined) {
    const bun = (globalThis as { Bun?: { gc(force: boolean): void } }).Bun;
    if (bun !== undefined) collect = () => bun.gc(true);
    else if (typeof globalThis.gc === "function") collect = () => void globalThis.gc!();
    else if (process.versions["v8"] !== undefined && !("Deno" in globalThis)) {
      setFlagsFromString("--expose-gc");
      collect = runInNewContext("gc") as () => void;
    } else collect = () => {};
  }
  collect();
}
