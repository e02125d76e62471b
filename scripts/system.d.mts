// Types of scripts/system.mjs, for its tests.
export function staleModules(lockText: string, installedText: string | undefined): string | undefined;
export function sourceDigest(files: Iterable<readonly [path: string, text: string]>): string;
export function versionAtLeast(version: string, minimum: string): boolean;
