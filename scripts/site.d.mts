// Types of site.mjs.
export interface SiteOptions {
  /** Default: site/dist. */
  readonly outDir?: string;
  /** Whether the docs are rendered; default true. */
  readonly docs?: boolean;
  /** A folder of runs whose reports go along. */
  readonly reports?: string;
}
export function buildSite(options?: SiteOptions): Promise<unknown>;
export function serveSite(folder: string, port?: number): Promise<{ readonly address: string; close(): void }>;
