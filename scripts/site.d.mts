// Types of site.mjs.
export function buildSite(): Promise<unknown>;
export function serveSite(folder: string, port?: number): Promise<{ readonly address: string; close(): void }>;
