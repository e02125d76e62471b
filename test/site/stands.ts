// What is asked of every page of the site.
import axe from "axe-core";
import type { Page } from "playwright-core";
import { expect } from "vitest";

/** A page fits into 390 pixels, axe finds nothing serious on it, and it has met no problem. */
export async function expectToStand(page: Page, problems: readonly string[]): Promise<void> {
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run();
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  });
  expect(found).toEqual([]);
  expect(problems).toEqual([]);
}
