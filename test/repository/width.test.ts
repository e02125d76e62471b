// The width of comments and of prose, which the formatter leaves as they are.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const MOST = 120;

/** Lines over MOST characters that are no exception, with their places. */
function wideLines(patterns: readonly string[], counts: (line: string, fenced: boolean) => boolean): string[] {
  const files = execFileSync("git", ["ls-files", ...patterns], { encoding: "utf8" })
    .trim()
    .split("\n");
  return files.flatMap((file) => {
    let fenced = false;
    return readFileSync(file, "utf8")
      .split("\n")
      .flatMap((line, i) => {
        if (line.startsWith("```")) fenced = !fenced;
        return line.length > MOST && counts(line, fenced) ? [`${file}:${i + 1}: ${line.trim()}`] : [];
      });
  });
}

test(`lines of comments have at most ${MOST} characters`, () => {
  // Lines that are a comment and nothing else; one in a string, such as WGSL's, counts as well. Directives take one
  // line.
  const isComment = (line: string) => /^\s*(\/\/|\/?\*)/.test(line) && !/biome-ignore|@ts-expect-error/.test(line);
  expect(wideLines(["*.ts", "*.mts", "*.mjs", "*.js"], isComment)).toEqual([]);
});

test(`lines of prose have at most ${MOST} characters`, () => {
  // Not rows of tables, pictures and what stands in fences.
  expect(wideLines(["*.md"], (line, fenced) => !fenced && !/^(\||!\[)/.test(line))).toEqual([]);
});
