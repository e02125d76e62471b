// Types of soak-pages.mjs.
import type { Browser } from "playwright-core";

/** What is in use after so many steps, in bytes. */
export interface Sample {
  readonly step: number;
  readonly page: number;
  readonly worker: number;
  readonly gpu: number;
  readonly resident: number | undefined;
}
export const MOST_GROWTH: Readonly<Record<"page" | "worker" | "gpu" | "resident", number>>;
export function soakPage(
  browser: Browser,
  address: string,
  options: { readonly seconds: number; readonly say?: (sample: Sample) => void },
): Promise<Sample[]>;
export function growthOf(samples: readonly Sample[]): string[];
