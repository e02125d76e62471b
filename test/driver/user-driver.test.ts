// A driver of the user's own, without fetching one:
// - what is taken for installed,
// - which way is taken to an adapter,
// - what is remembered,
// - that a program is started anew with the environment it takes.
//
// scripts/test-user-driver fetches and uses a real one.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Adapter, findAdapter } from "../../src/driver/choose.js";
import { libraryFolders, packagesToInstall, writeManifests } from "../../src/driver/install.js";
import {
  driversFolder,
  isInUse,
  leaveDriver,
  namedDrivers,
  thisSystem,
  userDriver,
  waysToAdapter,
} from "../../src/driver/user-driver.js";
import { build } from "../cli/run.js";

const onLinux = describe.skipIf(process.platform !== "linux");
let cache: string;
const before = { ...process.env };
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "kilograd-driver-"));
  process.env["XDG_CACHE_HOME"] = cache;
  // As on a machine without any of these.
  leaveDriver();
  for (const name of ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"]) delete process.env[name];
});
afterEach(() => {
  for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
  Object.assign(process.env, before);
  rmSync(cache, { recursive: true, force: true });
});

/** Puts files below `folder`, and the folders that it takes. */
function put(folder: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
}

const FOLDER = "0123456789abcdef";
const manifest = (library: string) =>
  JSON.stringify({ file_format_version: "1.0.0", ICD: { api_version: "1.3.0", library_path: library } });

/** Installs a driver whose manifest names the system's lavapipe. */
function install(changes: Record<string, unknown> = {}): void {
  put(driversFolder(), {
    [`${FOLDER}/icd.d/lvp_icd.json`]: manifest("libvulkan_lvp.so"),
    [`${FOLDER}/root/usr/lib/libnone.so`]: "",
    "installed.json": JSON.stringify({
      ...{ format: 1, folder: FOLDER, release: thisSystem().release, architecture: process.arch },
      ...{ packages: {}, manifests: ["icd.d/lvp_icd.json"], libraries: ["root/usr/lib"], ...changes },
    }),
  });
}

onLinux("what is taken for installed", () => {
  test("a whole driver that was made for this system", () => {
    expect(userDriver()).toBeUndefined();
    install();
    expect(userDriver()?.path).toBe(join(cache, "kilograd/driver", FOLDER));
  });
  test.each([
    ["another release's", { release: "debian 3" }],
    ["another architecture's", { architecture: "vax" }],
    ["one that lacks a file", { manifests: ["icd.d/lvp_icd.json", "icd.d/other.json"] }],
    ["a record that leads elsewhere", { folder: "../../elsewhere" }],
    ["a record of another format", { format: 2 }],
  ])("nothing else: %s", (_, changes) => {
    install(changes);
    expect(userDriver()).toBeUndefined();
  });
});

onLinux("the ways to an adapter", () => {
  test("the system comes first, then its drivers by our loader, then ours", () => {
    install();
    const path = join(driversFolder(), FOLDER);
    const files = join(path, "icd.d/lvp_icd.json");
    const libraries = `${join(path, "root/usr/lib")}:/opt/lib`;
    expect(waysToAdapter(userDriver(), { LD_LIBRARY_PATH: "/opt/lib" })).toEqual([
      { name: "system", variables: {} },
      { name: "loader", variables: { LD_LIBRARY_PATH: libraries } },
      {
        name: "driver",
        variables: { LD_LIBRARY_PATH: libraries, VK_DRIVER_FILES: files, VK_ICD_FILENAMES: files },
      },
    ]);
    expect(waysToAdapter(undefined, {}).map(({ name }) => name)).toEqual(["system"]);
  });
  test("a driver that the user names is not overruled", () => {
    install();
    const environment = { VK_DRIVER_FILES: "/opt/gpu.json" };
    expect(namedDrivers(environment)).toBe("VK_DRIVER_FILES");
    expect(waysToAdapter(userDriver(), environment).map(({ name }) => name)).toEqual(["system", "loader"]);
  });
  test("a process that has the variables needs nothing; what we added can be taken out again", () => {
    install();
    const environment: NodeJS.ProcessEnv = { LD_LIBRARY_PATH: "/opt/lib", HOME: "/home/a" };
    Object.assign(environment, waysToAdapter(userDriver(), environment).at(-1)!.variables);
    expect(isInUse(userDriver()!, environment)).toBe(true);
    expect(waysToAdapter(userDriver(), environment)).toEqual([{ name: "system", variables: {} }]);
    expect(namedDrivers(environment)).toBeUndefined();
    leaveDriver(environment);
    expect(environment).toEqual({ LD_LIBRARY_PATH: "/opt/lib", HOME: "/home/a" });
  });
});

onLinux("findAdapter", () => {
  const adapter: Adapter = { vendor: "v", architecture: "a", device: "d", description: "an adapter" };
  /** Finds an adapter with these variables only, and counts. */
  function asking(works: (names: string[]) => boolean) {
    const asked: string[][] = [];
    const ask = (variables: Readonly<Record<string, string>>) => {
      const names = Object.keys(variables);
      asked.push(names);
      return works(names) ? { adapter } : { failure: `nothing by [${names}]` };
    };
    return { ask, asked };
  }

  test("takes the first way that works and remembers it until a driver comes or goes", async () => {
    const none = asking(() => false);
    expect(await findAdapter(none.ask)).toEqual({ failure: "nothing by []" });
    install();
    const ours = asking((names) => names.includes("VK_DRIVER_FILES"));
    expect(await findAdapter(ours.ask)).toMatchObject({ adapter, remembered: false });
    expect(ours.asked).toEqual([[], ["LD_LIBRARY_PATH"], ["LD_LIBRARY_PATH", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"]]);
    const again = asking(() => true);
    const known = await findAdapter(again.ask);
    expect(known).toMatchObject({ adapter, remembered: true });
    expect("variables" in known && Object.keys(known.variables)).toContain("VK_DRIVER_FILES");
    expect(again.asked).toEqual([]);
    // Another environment may lead to another adapter: the system's is asked first.
    process.env["VK_LOADER_DEBUG"] = "none";
    expect(await findAdapter(again.ask)).toMatchObject({ variables: {}, remembered: false });
  });
  test("what was remembered and is damaged is asked again", async () => {
    const { ask, asked } = asking(() => true);
    await findAdapter(ask);
    writeFileSync(join(cache, "kilograd/adapter.json"), "{");
    await findAdapter(ask);
    expect(asked).toHaveLength(2);
  });
  test("a cache folder that cannot be made is no hindrance", async () => {
    writeFileSync(join(cache, "file"), "");
    process.env["XDG_CACHE_HOME"] = join(cache, "file");
    expect(await findAdapter(asking(() => true).ask)).toMatchObject({ adapter, remembered: false });
  });
});

describe("installing", () => {
  test("packages are read from apt's simulation", () => {
    const simulation = `Reading package lists...
Inst libdrm2 [2.4.114-1+b1] (2.4.123-1~bpo12+1 Debian Backports:stable-backports [amd64]) []
Inst libllvm15 (1:15.0.6-4+b1 Debian:12.11/oldstable, Debian-Security:12 [amd64])
Inst libx11-data (2:1.8.4-2 Debian:12.11/oldstable [all])
Inst libc6:i386 (2.36-9 Debian:12.11/oldstable [i386])
Conf libdrm2 (2.4.123-1~bpo12+1 Debian Backports:stable-backports [amd64])
`;
    expect(packagesToInstall(simulation)).toEqual([
      { name: "libdrm2", version: "2.4.123-1~bpo12+1", file: "libdrm2_2.4.123-1~bpo12+1_amd64.deb" },
      { name: "libllvm15", version: "1:15.0.6-4+b1", file: "libllvm15_1%3a15.0.6-4+b1_amd64.deb" },
      { name: "libx11-data", version: "2:1.8.4-2", file: "libx11-data_2%3a1.8.4-2_all.deb" },
      { name: "libc6", version: "2.36-9", file: "libc6_2.36-9_i386.deb" },
    ]);
  });
  test("manifests are written with paths to the unpacked libraries, which move with the folder", () => {
    put(join(cache, "root"), {
      "usr/lib/x86_64-linux-gnu/libvulkan_lvp.so": "",
      "usr/lib/x86_64-linux-gnu/dri/other.so": "",
      "lib/x86_64-linux-gnu/libexpat.so.1": "",
      "usr/lib/llvm/README": "",
      "usr/share/vulkan/icd.d/lvp_icd.json": manifest("libvulkan_lvp.so"),
      "usr/share/vulkan/icd.d/absent_icd.json": manifest("/usr/lib/x86_64-linux-gnu/libvulkan_absent.so"),
    });
    const libraries = libraryFolders(cache);
    expect(libraries).toEqual(["root/usr/lib/x86_64-linux-gnu", "root/lib/x86_64-linux-gnu"]);
    expect(writeManifests(cache, libraries)).toEqual(["icd.d/lvp_icd.json"]);
    const { ICD } = JSON.parse(readFileSync(join(cache, "icd.d/lvp_icd.json"), "utf8"));
    expect(ICD).toEqual({ api_version: "1.3.0", library_path: "../root/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so" });
  });
});

// Hiding the system's manifests leaves its libraries, which the manifest of the installed driver names.
const others = ["/etc/vulkan/icd.d"].filter((path) => existsSync(path)).flatMap((path) => readdirSync(path));
const lavapipe = existsSync("/usr/share/vulkan/icd.d/lvp_icd.json") && others.length === 0;
describe.skipIf(!lavapipe)("a program that needs the driver's environment (where the system has lavapipe)", () => {
  beforeAll(() => build());
  /** Runs a script by scripts/launch.mjs where the system's drivers are hidden. */
  function launch(script: string, args: string[] = []): { child: ChildProcess; output: () => string } {
    const path = join(cache, "script.mjs");
    writeFileSync(path, script);
    const child = spawn(process.execPath, [resolve("scripts/launch.mjs"), path, ...args], {
      env: { ...process.env, XDG_DATA_DIRS: "/nowhere", HOME: cache },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    child.stdout!.on("data", (data) => (text += data));
    return { child, output: () => text };
  }

  test("is started anew with it and its arguments, and ends with its exit code", async () => {
    install();
    const { child, output } = launch(
      `console.log(JSON.stringify([process.env.VK_DRIVER_FILES, process.argv.slice(2), process.env.KILOGRAD_STARTED_BY ?? null]));
       process.exitCode = 7;`,
      ["one", "--two=3 4"],
    );
    expect(await once(child, "close")).toEqual([7, null]);
    const files = join(driversFolder(), FOLDER, "icd.d/lvp_icd.json");
    expect(JSON.parse(output())).toEqual([files, ["one", "--two=3 4"], null]);
  });

  const waiting = `process.on("SIGTERM", () => { console.log("told once"); process.exit(3); });
    console.log(process.pid); setInterval(() => {}, 1000);`;
  test("is told of signals, once", async () => {
    install();
    const { child, output } = launch(waiting);
    await once(child.stdout!, "data");
    child.kill("SIGTERM");
    expect(await once(child, "close")).toEqual([3, null]);
    expect(output()).toMatch(/^\d+\ntold once\n$/);
  });
  test("ends when the process that waits for it is killed", async () => {
    install();
    const { child, output } = launch(waiting);
    await once(child.stdout!, "data");
    child.kill("SIGKILL");
    // Its output ends when the program has ended, too.
    await once(child, "close");
    expect(output()).toContain("told once");
  });
  test("is told what to do where there is no driver, and where it was started without it", async () => {
    const opening = `import { openDevice } from ${JSON.stringify(pathToFileURL(resolve("dist/index.js")).href)};
      await openDevice("webgpu").catch((error) => console.log(error.code, error.message));`;
    const first = launch(opening);
    await once(first.child, "close");
    expect(first.output()).toMatch(/^NO_ADAPTER webgpu: no adapter was found; .*kilograd doctor --install-driver/m);
    put(driversFolder(), { "env.sh": "" });
    const second = launch(opening);
    await once(second.child, "close");
    expect(second.output()).toContain(`. ${join(driversFolder(), "env.sh")}`);
  });
  test("runs where it is when no driver is installed", async () => {
    const { child, output } = launch("console.log(process.env.VK_DRIVER_FILES ?? null, process.ppid);");
    expect(await once(child, "close")).toEqual([0, null]);
    expect(output()).toBe(`null ${process.pid}\n`);
  });
});
