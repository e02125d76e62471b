// Numbers in the documentation that the code decides, and how its prose is written: sentences of at most 25 words,
// lines of at most 120 characters.
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { gatherTile } from "../../src/kernels/conv2d/software-gather.js";
import { rolledLoop } from "../../src/kernels/rolled.js";
import type { TuningProfile } from "../../src/webgpu/family.js";

const kernels = readFileSync("docs/kernels.md", "utf8").replaceAll("\n", " ");

test("trips of streaming kernels", () => {
  const trips = (family: string) => rolledLoop({ family } as TuningProfile, 1e9).sizes.trips;
  expect(kernels).toContain(
    `long loops, up to ${trips("software")} trips an invocation | up to ${trips("hardware")} trips an invocation`,
  );
});

test("tiles of the gather kernel", () => {
  const tiles = Array.from({ length: 1000 }, (_, i) => gatherTile(i + 1));
  const most = (value: (tile: (typeof tiles)[number]) => number) => Math.max(...tiles.map(value));
  expect(kernels).toContain(
    `tiles of at most ${most(({ channels }) => channels)}. A tile has up to ${most(({ groups }) => groups)} groups of 8 positions, ` +
      `as many as give at most ${most(({ channels, groups }) => channels * groups)} registers of sums`,
  );
});

const MOST_WORDS = 25;
const MOST_CHARACTERS = 120;
const pages = [
  ...readdirSync("docs", { recursive: true, encoding: "utf8" }).map((name) => `docs/${name}`),
  "README.md",
  "CONTRIBUTING.md",
].filter((path) => path.endsWith(".md"));

/**
 * Sentences of more than 25 words, outside code, tables and headings. A sentence ends with a full stop, a colon or a
 * semicolon before a capital letter, a parenthesis or code, and with its paragraph or list item. A piece of code is one
 * word.
 */
function longSentences(text: string): string[] {
  const prose = text.replaceAll(/```.*?```/gs, "").replaceAll(/^\s*[|#].*$/gm, "");
  const paragraphs = prose.split(/\n\s*\n|\n(?=\s*[-*] |\s*\d+\. )/);
  const sentences = paragraphs.flatMap((paragraph) =>
    paragraph
      .replaceAll(/\s+/g, " ")
      .replaceAll(/`[^`]*`/g, "`code`")
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .split(/(?<=[.!?:;])\s+(?=[A-Z(`*])/),
  );
  const words = (sentence: string) => sentence.split(/\s+/).filter((word) => /[\p{L}\p{N}_]/u.test(word)).length;
  return sentences
    .filter((sentence) => words(sentence) > MOST_WORDS)
    .map((sentence) => `${words(sentence)} words: ${sentence.trim()}`);
}

/** Lines of more than 120 characters, outside code and tables. */
function longLines(text: string): string[] {
  const found: string[] = [];
  let code = false;
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trimStart().startsWith("```")) code = !code;
    if (!code && !line.trimStart().startsWith("|") && [...line].length > MOST_CHARACTERS) {
      found.push(`line ${i + 1}: ${[...line].length} characters`);
    }
  }
  return found;
}

test.each(pages)("prose of %s", (path) => {
  const text = readFileSync(path, "utf8");
  expect([...longSentences(text), ...longLines(text)]).toEqual([]);
});

test("breaches are found", () => {
  const words = (count: number) => Array.from({ length: count }, (_, i) => `w${i}`).join(" ");
  const allowed = [
    `# ${words(26)}`,
    `| ${words(60)} |`,
    ` | ${words(60)} |`,
    `\`\`\`\n${words(60)}\n\`\`\``,
    `- ${words(20)}\n- ${words(20)}`,
    `${words(25)}; \`${words(5)}\` ${words(24)}`,
    `${words(12)}\n${words(13)}`,
  ];
  for (const text of allowed) expect(longSentences(text), text).toEqual([]);
  expect(longSentences(`Short. A ${words(12)}\n${words(13)}.`)).toEqual([`26 words: A ${words(12)} ${words(13)}.`]);
  expect(longLines(`${"µ".repeat(120)}\n\`\`\`\n${"x".repeat(121)}\n\`\`\`\n| ${"x".repeat(121)}\n`)).toEqual([]);
  expect(longLines(`\n${"x".repeat(121)}`)).toEqual(["line 2: 121 characters"]);
});
