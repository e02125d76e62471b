// Installing a software Vulkan driver where there is no adapter.
// - The user's own: apt resolves, fetches and checks the packages as this user. It has lists, archives and locks of its
//   own in the cache folder, and the packages are unpacked there.
// - The system's: apt as root, on request.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { basename, join, relative } from "node:path";
import { writeFileAtomic } from "../io/files.js";
import { isAlive } from "../runtime/node-processes.js";
import { DeviceError } from "../tensor/errors.js";
import { type Finding, findAdapter } from "./choose.js";
import { type AptPlan, backportsFile, driverPlan, systemCommands, type TextFile } from "./system.js";
import {
  driversFolder,
  type Installed,
  leaveDriver,
  namedDrivers,
  thisSystem,
  userDriver,
  type Variables,
} from "./user-driver.js";

export type Say = (message: string) => void;

const fail = (message: string, cause?: unknown): never => {
  throw new DeviceError("NO_ADAPTER", message, { cause });
};
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Finds an adapter, installing a driver of the user's own where there is none. Silent where all is as it was. */
export async function ensureAdapter(say: Say): Promise<void> {
  let found = await findAdapter();
  if ("failure" in found) {
    say(`WebGPU adapter: none. Dawn says:\n${found.failure}`);
    found = await installAndFind(say);
  }
  const { adapter, variables, remembered } = found;
  if (remembered) return;
  const how = Object.keys(variables).length > 0 ? `, by the driver in ${driversFolder()}` : "";
  say(`WebGPU adapter: ${adapter.description || adapter.device} (${adapter.vendor} ${adapter.architecture})${how}`);
}

/**
 * What `doctor --install-driver` does: `system` as asked for, `user` where the system has no adapter, renewing an older
 * one.
 */
export async function installDriver(where: "user" | "system", say: Say): Promise<void> {
  if (where === "system") return installInSystem(say);
  // Started by a shell that has sourced the environment file, this process would take its driver for the system's.
  leaveDriver();
  const found = await findAdapter();
  if ("adapter" in found && Object.keys(found.variables).length === 0) {
    const name = found.adapter.description || found.adapter.device;
    return say(`There is an adapter already, ${name}, and it would be preferred: nothing was fetched.`);
  }
  await installAndFind(say);
  say(
    "The kilograd command uses this driver by itself. For programs of your own, in the shell that starts them:\n" +
      `  . ${environmentFile()}`,
  );
}

async function installAndFind(say: Say): Promise<Extract<Finding, { adapter: unknown }>> {
  await installUserDriver(say);
  const found = await findAdapter();
  if ("failure" in found) return fail(`a driver is installed, yet there is no adapter. Dawn says:\n${found.failure}`);
  await writeFileAtomic(environmentFile(), environmentText(found.variables));
  return found;
}

/** For shells, with a path that stays when drivers are renewed. */
const environmentFile = () => join(driversFolder(), "env.sh");

function environmentText(variables: Variables): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(value)}`);
  return `# Sourced by a shell: programs started from it find the Vulkan driver that Kilograd has unpacked here.\n${lines.join("\n")}\n`;
}

function plan(sources: readonly TextFile[]): AptPlan {
  const system = thisSystem();
  const made = driverPlan(system, sources);
  return "advice" in made
    ? fail(`no software driver can be installed on ${system.name} by Kilograd. ${made.advice}`)
    : made;
}

function installInSystem(say: Say): void {
  const made = plan(aptSources(aptFolders()));
  const isRoot = process.getuid?.() === 0;
  const commands = systemCommands(made, { isRoot });
  say(`installing ${made.note} in the system, by\n${commands.join("\n")}`);
  const hadBackports = existsSync(backportsFile);
  for (const command of commands) {
    // sudo may ask for a password.
    if (spawnSync(command, { shell: true, stdio: ["inherit", 2, 2] }).status === 0) continue;
    // A source that does not answer would spoil every later apt-get update.
    if (!hadBackports && existsSync(backportsFile)) {
      spawnSync(`${isRoot ? "" : "sudo "}rm ${backportsFile}`, { shell: true, stdio: ["inherit", 2, 2] });
    }
    fail(`"${command.split("\n")[0]}" failed; its output is above`);
  }
}

/** Where apt is told to look on this system. */
interface AptFolders {
  readonly list: string;
  readonly parts: string;
  readonly status: string;
  readonly architecture: string;
}

function aptFolders(): AptFolders {
  const names = { list: "Dir::Etc::sourcelist/f", parts: "Dir::Etc::sourceparts/d", status: "Dir::State::status/f" };
  const asked = Object.entries({ ...names, architecture: "APT::Architecture" }).flat();
  const { status, stdout, error } = spawnSync("apt-config", ["shell", ...asked], { encoding: "utf8" });
  if (status !== 0)
    return fail(
      `apt is needed to install a driver, and apt-config does not run here${error ? `: ${error.message}` : ""}`,
    );
  const value = (name: string) => new RegExp(`^${name}='(.*)'$`, "m").exec(stdout)?.[1] ?? "";
  return { list: value("list"), parts: value("parts"), status: value("status"), architecture: value("architecture") };
}

function aptSources({ list, parts }: AptFolders): TextFile[] {
  const names = existsSync(parts) ? readdirSync(parts).filter((name) => /\.(list|sources)$/.test(name)) : [];
  const paths = [list, ...names.map((name) => join(parts, name))];
  return paths.filter((path) => existsSync(path)).map((path) => ({ path, text: readFileSync(path, "utf8") }));
}

/** Fetches the driver's packages as this user, unpacks them aside, and moves them into place. */
async function installUserDriver(say: Say): Promise<void> {
  const named = namedDrivers();
  if (named)
    fail(`${named} is set to ${process.env[named]}, which leads to no adapter; unset it, or name a driver that works`);
  const folders = aptFolders();
  const sources = aptSources(folders);
  const made = plan(sources);
  say(
    `fetching ${made.note}. It goes to ${driversFolder()} for this user alone: nothing in the system changes, and no rights are ` +
      "asked for. First come apt's lists of packages, 10 to 30 MB.",
  );
  const work = claimWorkFolder();
  const apt = prepareApt({ work, folders, sources, plan: made });
  const updated = apt(["update"]);
  const chosen = ["-y", "--no-install-recommends", ...(made.suite ? ["-t", made.suite] : []), ...made.packages];
  const simulated = apt(["install", "--simulate", ...chosen]);
  const names = made.packages.join(" and ");
  if (!simulated.done) fail(`apt does not resolve ${names}. It says:\n${updated.text}${simulated.text}`);
  const packages = packagesToInstall(simulated.text);
  if (packages.length === 0) fail(`apt has ${names} installed, yet Dawn finds no adapter`);
  // The C library belongs to the program that loads it.
  const libc = packages.find(({ name }) => name === "libc6");
  if (libc) {
    const advice = "upgrade the system, or run `kilograd doctor --install-driver system`";
    fail(`the driver needs another C library, libc6 ${libc.version}, which only the system can change: ${advice}`);
  }
  const { release } = thisSystem();
  const files = packages.map(({ file }) => file).sort();
  const folder = createHash("sha256")
    .update([release, ...files].join("\n"))
    .digest("hex")
    .slice(0, 16);
  if (userDriver()?.folder === folder) {
    say("The driver that is there is the current one.");
  } else {
    // 'URI' FILE BYTES HASH, of what is not there yet.
    const listed = apt(["install", "--print-uris", ...chosen]);
    const bytes = [...listed.text.matchAll(/^'.*' \S+ (\d+)/gm)].reduce((sum, [, size]) => sum + Number(size), 0);
    const archives = packages.map(({ file }) => join(work, "archives", file));
    const there = archives.filter((path) => existsSync(path)).reduce((sum, path) => sum + statSync(path).size, 0);
    // Packages hold four to five times their size, and lie beside what they hold for a while.
    const room = 6 * bytes + 5 * there;
    say(`${packages.length} packages, ${megabytes(bytes)} to download, ${megabytes(room)} of room on disk`);
    const disk = statfsSync(work);
    if (disk.bavail * disk.bsize < room) fail(`${work} has ${megabytes(disk.bavail * disk.bsize)} left`);
    // apt goes on with what an earlier attempt left, checks every file against the signed lists, and takes nothing
    // unsigned.
    const loaded = apt(["install", "--download-only", ...chosen], { show: true });
    if (!loaded.done) fail("the download failed; apt's words are above. Another attempt goes on where this one ended");
    const fresh = join(work, "fresh");
    rmSync(fresh, { recursive: true, force: true });
    unpack(
      packages.map(({ file }) => join(work, "archives", file)),
      join(fresh, "root"),
    );
    const libraries = libraryFolders(fresh);
    const manifests = writeManifests(fresh, libraries);
    const versions = Object.fromEntries(packages.map(({ name, version }) => [name, version]));
    const architecture = process.arch;
    await moveIntoPlace(fresh, { format: 1, folder, release, architecture, packages: versions, manifests, libraries });
    const main = packages.filter(({ name }) => made.packages.includes(name));
    say(`Unpacked: ${main.map(({ name, version }) => `${name} ${version}`).join(", ")} and what they need.`);
  }
  // Kept when something fails, for another attempt.
  rmSync(work, { recursive: true, force: true });
}

/**
 * What apt's simulation of an installation would install, in lines of `Inst NAME [OLD VERSION] (VERSION SOURCE
 * [ARCHITECTURE])`.
 */
export function packagesToInstall(simulation: string): { name: string; version: string; file: string }[] {
  return [...simulation.matchAll(/^Inst ([^\s:]+)\S* (?:\[\S+\] )?\((\S+) .*\[(\S+)\]\)/gm)].map((match) => {
    const [name, version, architecture] = match.slice(1) as [string, string, string];
    // As apt names archives: the colon of an epoch is quoted.
    return { name, version, file: `${name}_${version.replaceAll(":", "%3a")}_${architecture}.deb` };
  });
}

/**
 * A folder to work in, with what an attempt that died left there. Taking one over is a rename, so of two processes one
 * gets it; two that install at the same time do so in two folders.
 */
function claimWorkFolder(): string {
  const parent = driversFolder();
  const work = join(parent, `work-${hostname()}-${process.pid}`);
  try {
    mkdirSync(parent, { recursive: true });
    for (const name of readdirSync(parent)) {
      const [, host, pid] = /^work-(.*)-(\d+)$/.exec(name) ?? [];
      const day = 24 * 3600 * 1000;
      const abandoned =
        host === hostname() ? !isAlive(Number(pid)) : Date.now() - statSync(join(parent, name)).mtimeMs > day;
      if (pid === undefined || !abandoned) continue;
      if (existsSync(work)) rmSync(join(parent, name), { recursive: true, force: true });
      else renameSync(join(parent, name), work);
    }
    for (const name of ["lists/partial", "archives/partial", "dpkg", "sources.list.d"]) {
      mkdirSync(join(work, name), { recursive: true });
    }
  } catch (error) {
    const advice = "make the folder writable, or set XDG_CACHE_HOME to one that is";
    fail(`the driver goes to ${parent}, which cannot be written: ${(error as Error).message}; ${advice}`, error);
  }
  return work;
}

/** apt-get with lists, archives, locks and sources of its own. What it prints is returned, or shown on stderr. */
function prepareApt({
  work,
  folders,
  sources,
  plan,
}: {
  readonly work: string;
  readonly folders: AptFolders;
  readonly sources: readonly TextFile[];
  readonly plan: AptPlan;
}): (command: readonly string[], options?: { readonly show?: boolean }) => { done: boolean; text: string } {
  // The locks of dpkg lie beside its status: what a link to that is for.
  const status = join(work, "dpkg/status");
  rmSync(status, { force: true });
  symlinkSync(folders.status, status);
  const parts = join(work, "sources.list.d");
  rmSync(parts, { recursive: true });
  mkdirSync(parts);
  for (const { path } of sources) if (path !== folders.list) symlinkSync(path, join(parts, basename(path)));
  if (plan.source !== undefined) writeFileSync(join(parts, basename(backportsFile)), plan.source);
  const configuration = join(work, "apt.conf");
  writeFileSync(configuration, aptConfiguration(work, folders.architecture));
  const quiet = process.stderr.isTTY ? [] : ["-qq"];
  return (command, { show = false } = {}) => {
    const { status, stdout, stderr, error } = spawnSync(
      // Ends with this process: another attempt takes over its folder.
      "setpriv",
      ["--pdeathsig", "KILL", "apt-get", "-c", configuration, ...(show ? quiet : ["-q"]), ...command],
      {
        encoding: "utf8",
        env: { ...process.env, LC_ALL: "C" },
        stdio: ["ignore", show ? 2 : "pipe", show ? 2 : "pipe"],
      },
    );
    return { done: status === 0, text: error ? `${error.message}\n` : `${stdout ?? ""}${stderr ?? ""}` };
  };
}

/** Read after the system's own configuration, so that proxies, mirrors and credentials stay and these override. */
function aptConfiguration(work: string, architecture: string): string {
  return `// Written by Kilograd for an installation of its own.
Dir::State::Lists "${work}/lists";
Dir::State::status "${work}/dpkg/status";
Dir::Cache::archives "${work}/archives";
Dir::Cache::pkgcache "${work}/pkgcache.bin";
Dir::Cache::srcpkgcache "${work}/srcpkgcache.bin";
Dir::Etc::sourceparts "${work}/sources.list.d";
#clear APT::Architectures;
APT::Architectures "${architecture}";
// Nothing unsigned, whatever the system allows itself.
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Hooks would act on the system; translations, icons and lists of files are not needed.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::Contents-deb;
${process.getuid?.() === 0 ? '// The user of its sandbox may not read this folder.\nAPT::Sandbox::User "root";\n' : ""}`;
}

function unpack(archives: readonly string[], root: string): void {
  mkdirSync(root, { recursive: true });
  for (const archive of archives) {
    const { status, stderr, error } = spawnSync("dpkg-deb", ["--extract", archive, root], { encoding: "utf8" });
    if (status !== 0) fail(`dpkg-deb does not unpack ${archive}: ${error?.message ?? stderr.trim()}`);
  }
}

/** The folders below `fresh` that hold shared libraries, as paths in it. */
export function libraryFolders(fresh: string): string[] {
  const bases = ["root/usr/lib", "root/lib"].filter((path) => existsSync(join(fresh, path)));
  const folders = bases.flatMap((base) => [
    ...readdirSync(join(fresh, base))
      .filter((name) => /-linux-gnu/.test(name))
      .map((name) => `${base}/${name}`),
    base,
  ]);
  return folders.filter((path) => readdirSync(join(fresh, path)).some((name) => /\.so(\.|$)/.test(name)));
}

/**
 * Writes the drivers' manifests anew beside `root`, with paths relative to them where there were names that only the
 * system finds.
 */
export function writeManifests(fresh: string, libraries: readonly string[]): string[] {
  const source = join(fresh, "root/usr/share/vulkan/icd.d");
  if (!existsSync(source)) return [];
  const folder = join(fresh, "icd.d");
  mkdirSync(folder, { recursive: true });
  const written: string[] = [];
  for (const name of readdirSync(source)
    .filter((name) => name.endsWith(".json"))
    .sort()) {
    const manifest = JSON.parse(readFileSync(join(source, name), "utf8"));
    const {
      ICD: { library_path: named, ...rest },
    } = manifest;
    const library = basename(named);
    const found = libraries.map((path) => join(fresh, path, library)).find((path) => existsSync(path));
    if (found === undefined) continue;
    manifest.ICD = { library_path: relative(folder, found), ...rest };
    writeFileSync(join(folder, name), JSON.stringify(manifest, null, 2));
    written.push(`icd.d/${name}`);
  }
  return written;
}

/** From here on the driver is used: the folder is renamed, then the record that names it is written. Older ones go. */
async function moveIntoPlace(fresh: string, installed: Installed): Promise<void> {
  const parent = driversFolder();
  const place = join(parent, installed.folder);
  // Another process may have been as fast, with the same packages.
  if (userDriver()?.folder === installed.folder) return;
  rmSync(place, { recursive: true, force: true });
  renameSync(fresh, place);
  await writeFileAtomic(join(parent, "installed.json"), `${JSON.stringify(installed, null, 2)}\n`);
  for (const name of readdirSync(parent)) {
    if (/^[0-9a-f]{16}$/.test(name) && name !== installed.folder) rmSync(join(parent, name), { recursive: true });
  }
}
