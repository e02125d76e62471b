// The code of guides and pages, run as a reader runs it: in a folder of its own, by the package's names alone. What a
// block begins with says what it is:
//
//   ```js             a part of the page's program; one that imports openDevice begins another program
//   ```js NAME.mjs    a file of that name beside the program
//   ```js fragment    not run: it needs what only a reader has
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { build } from "../cli/run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-programs-"));
beforeAll(() => {
  build();
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(resolve("."), join(folder, "node_modules/kilograd"));
}, 900_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Code {
  readonly programs: readonly string[];
  readonly files: ReadonlyMap<string, string>;
  readonly fragments: number;
}

/** What a page has in fences of JavaScript and TypeScript. */
function codeOf(text: string): Code {
  const programs: string[] = [];
  const files = new Map<string, string>();
  let fragments = 0;
  for (const [, word = "", code = ""] of text.matchAll(/^```[jt]s(?: ([^\n]+))?\n(.*?)^```$/gms)) {
    if (word === "fragment") fragments++;
    else if (/^[\w-]+\.m?js$/.test(word)) files.set(word, code);
    else if (word !== "") throw new Error(`a fence says "${word}", which is neither fragment nor a file's name`);
    else if (programs.length === 0 || /^import [^;]*\bopenDevice\b/m.test(code)) programs.push(code);
    else programs.push(`${programs.pop()}\n${code}`);
  }
  return { programs, files, fragments };
}

/** Runs a program of a page; gives what it prints. */
async function run(page: string, { files }: Code, program: string): Promise<string> {
  const own = mkdtempSync(join(folder, "page-"));
  for (const [name, code] of files) writeFileSync(join(own, name), code);
  writeFileSync(join(own, "program.mjs"), program);
  const child = spawn(process.execPath, ["program.mjs"], { cwd: own });
  let [printed, said] = ["", ""];
  child.stdout.on("data", (part) => (printed += part));
  child.stderr.on("data", (part) => (said += part));
  const status = await new Promise((done) => child.once("close", done));
  expect(status, `${page}\n${printed}${said}`).toBe(0);
  return printed;
}

/** What programs print, where their page says it. */
const outputs: Readonly<Record<string, readonly RegExp[]>> = {
  "README.md": [/\n$/, /^1568 0\.\d+ 39200 [\d.e-]+\n$/],
  "docs/guides/ten-lines.md": [/takes this for a 3 with 9\d\.\d %/s],
  "docs/guides/train.md": [/^2000 images, .*\ntrue\n/s],
  "docs/guides/optimise-inputs.md": [/^0\.9\d+\ntrue\n$/s],
  "docs/guides/attack.md": [/plain: \d+ %, attacked \d+ %\nrobust: \d+ %, attacked \d+ %\n.*median distance: \d/s],
  "docs/guides/own-layer.md": [/\[ 784, 32 \]\ntrue 18\n$/s],
  "docs/guides/own-kernel.md": [/-0\.75, 0, 0\.5.*1, 2, 1/s],
  "docs/guides/verify-a-gradient.md": [/^true 36\nGRADCHECK .*\ntrue\ntrue\nfalse 0 true\n1\.38177\d+ 1\.38177\d+\n$/s],
  "docs/guides/sweep.md": [/^30 \{.*\n0\.\d+\n$/s],
};

/** The README's first program trains on MNIST, which a machine need not reach. */
const replaced = [
  [/data\.loadDataset\("mnist"\)/, 'data.loadDataset("digits", { trainCount: 640, testCount: 64 })'],
] as const;

const guides = readdirSync("docs/guides").map((name) => `docs/guides/${name}`);

describe.each([...guides, "README.md", "docs/applications.md"])("%s", (page) => {
  const code = codeOf(readFileSync(page, "utf8"));

  test.each(code.programs.map((program, i) => [i + 1, program] as const))(
    "program %i",
    { timeout: 900_000 },
    async (i, program) => {
      const given = replaced.reduce((text, [from, to]) => text.replace(from, to), program);
      expect(await run(page, code, given)).toMatch(outputs[page]?.[i - 1] ?? /^/);
    },
  );

  test("has code, and few fragments", () => {
    expect(code.programs.length).toBeGreaterThan(0);
    expect(code.fragments).toBeLessThanOrEqual(1);
  });
});

test("fences are read", () => {
  const text =
    '```js\nimport { openDevice } from "k";\n```\n```js\nb();\n```\n```js a.mjs\nc();\n```\n```ts fragment\nd\n```\n';
  expect(codeOf(text)).toEqual({
    programs: ['import { openDevice } from "k";\n\nb();\n'],
    files: new Map([["a.mjs", "c();\n"]]),
    fragments: 1,
  });
  expect(() => codeOf("```js other\na\n```\n")).toThrow("other");
});
