// Types of scripts/python.mjs, for tests.
export const python: string;
export function pythonPackages(names: readonly string[], program?: string): Readonly<Record<string, string>>;
