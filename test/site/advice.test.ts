// What the pages say to browsers without WebGPU. Each browser's own name, as it sends it, leads to its own advice.
import { expect, it } from "vitest";
import { advice } from "../../site/src/advice.js";

const [webKit, like] = ["AppleWebKit/537.36 (KHTML, like Gecko)", "Safari/537.36"];

it.each([
  [
    "Firefox on Linux",
    "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
    /dom\.webgpu\.enabled/,
  ],
  ["Firefox on Windows", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", /141/],
  ["Chrome on Linux", `Mozilla/5.0 (X11; Linux x86_64) ${webKit} Chrome/140.0.0.0 ${like}`, /--enable-unsafe-webgpu/],
  ["Chrome on Windows", `Mozilla/5.0 (Windows NT 10.0) ${webKit} Chrome/140.0.0.0 ${like}`, /graphics acceleration/],
  ["Edge", `Mozilla/5.0 (Windows NT 10.0) ${webKit} Chrome/140.0.0.0 ${like} Edg/140.0.0.0`, /Chrome and Edge/],
  ["Chrome on Android", `Mozilla/5.0 (Linux; Android 10; K) ${webKit} Chrome/140.0.0.0 Mobile ${like}`, /Android 12/],
  [
    "Safari",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    /^Safari has WebGPU from version 26/,
  ],
  ["something else", "Lynx/2.9", /current Chrome, Edge, Firefox or Safari/],
] as const)("%s", (_, agent, expected) => {
  expect(advice(agent)).toMatch(expected);
  // A sentence, of what the user can do.
  expect(advice(agent)).toMatch(/^[A-Z].*\.$/);
});
