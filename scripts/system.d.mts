// Types of scripts/system.mjs, for its tests.
export interface TextFile {
  path: string;
  text: string;
}
export interface System {
  family: string;
  name: string;
  codename: string;
  version: number;
}
export interface DriverPlan {
  automatic: boolean;
  note: string;
  commands: string[];
}
export interface AptEntry {
  uris: string[];
  suites: string[];
  components: string[];
  signedBy: string | undefined;
}
export const backportsFile: string;
export function staleModules(lockText: string, installedText: string | undefined): string | undefined;
export function sourceDigest(files: Iterable<readonly [path: string, text: string]>): string;
export function versionAtLeast(version: string, minimum: string): boolean;
export function describeSystem(from: { platform: string; osRelease?: string | undefined }): System;
export function parseAptSources(file: TextFile): AptEntry[];
export function backportsSource(files: TextFile[], codename: string): string | undefined;
export function driverPlan(options: { system: System; isRoot: boolean; sources: TextFile[] }): DriverPlan;
