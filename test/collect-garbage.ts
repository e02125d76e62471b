// Collects garbage now and then in a process of many test files. Bind groups that nobody has any more come back only
// so. lavapipe maps a page for each, and Linux gives a process 65,530 maps.
import { afterEach } from "vitest";

const EVERY = 100;
let tests = 0;

afterEach(() => {
  if (++tests % EVERY > 0) return;
  if (globalThis.gc === undefined) throw new Error("tests need node --expose-gc, see vitest.config.ts");
  globalThis.gc();
});
