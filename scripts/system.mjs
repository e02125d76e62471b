// What the set-up decides from text alone: which node modules or build are stale, which system this is, and how to install a Vulkan
// driver on it. Pure functions: no files, processes or network here (scripts/setup.mjs does those). Plain JavaScript without
// dependencies, because it runs before node_modules exists.
import { createHash } from "node:crypto";

/**
 * Why the installed node modules do not match the lock file; undefined when they do. `installed` is npm's own record of what it
 * put there (node_modules/.package-lock.json), which npm writes last, so an interrupted install has none. Optional packages of other
 * platforms are in the lock file only.
 */
export function staleModules(lockText, installedText) {
  if (installedText === undefined) return "absent or incomplete";
  const installed = JSON.parse(installedText).packages;
  for (const [path, wanted] of Object.entries(JSON.parse(lockText).packages)) {
    const found = installed[path];
    if (path === "" || (wanted.optional && !found)) continue;
    if (found?.version !== wanted.version) {
      return `${path.replace(/^.*node_modules\//, "")} is ${found?.version ?? "absent"}, the lock file has ${wanted.version}`;
    }
  }
  return undefined;
}

/** A digest of paths and contents, `[path, text]` in any order: the build is stale when it differs from that of the last build. */
export function sourceDigest(files) {
  const hash = createHash("sha256");
  for (const [path, text] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) hash.update(`${path}\0${text}\0`);
  return hash.digest("hex");
}

/** Whether `version` ("20.19.0") is at least `minimum` ("20.19"). */
export function versionAtLeast(version, minimum) {
  return version.localeCompare(minimum, "en", { numeric: true }) >= 0;
}

/** The system as the driver installation sees it, from Node's `process.platform` and the text of /etc/os-release. */
export function describeSystem({ platform, osRelease = "" }) {
  if (platform !== "linux") {
    return {
      family: platform,
      name: { darwin: "macOS", win32: "Windows" }[platform] ?? platform,
      codename: "",
      version: 0,
    };
  }
  const field = (name) => new RegExp(`^${name}=["']?(.*?)["']?$`, "m").exec(osRelease)?.[1] ?? "";
  const ids = [field("ID"), ...field("ID_LIKE").split(" ")];
  const family = ["ubuntu", "debian", "fedora", "arch"].find((known) => ids.includes(known)) ?? "linux";
  // Derivatives number their own releases, so a version says something about Debian on Debian only; testing has none.
  const version = field("ID") === "debian" ? Number(field("VERSION_ID") || Number.POSITIVE_INFINITY) : Number.NaN;
  return { family, name: field("PRETTY_NAME") || "Linux", codename: field("VERSION_CODENAME"), version };
}

/** The enabled `deb` entries of one file of apt sources, in either of apt's formats: one line each (.list) or deb822 (.sources). */
export function parseAptSources({ path, text }) {
  const words = (value) => value?.split(/\s+/).filter(Boolean) ?? [];
  if (path.endsWith(".list")) {
    // deb [option=value ...] URI suite component ...
    return [...text.matchAll(/^\s*deb\s+(?:\[([^\]]*)\]\s+)?([^\s[]+)\s+(\S+)([^#\n]*)/gm)].map(
      ([, options, uri, suite, components]) => ({
        uris: [uri],
        suites: [suite],
        components: words(components),
        signedBy: /\bsigned-by=(\S+)/i.exec(options ?? "")?.[1],
      }),
    );
  }
  return text
    .replace(/^#.*\n?/gm, "")
    .split(/\n[ \t]*\n/)
    .map((stanza) => {
      // A value goes on in lines that begin with a blank; an embedded key is such a value and stays as it is.
      const fields = [...stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)];
      return Object.fromEntries(fields.map(([, name, value]) => [name.toLowerCase(), value.trimEnd()]));
    })
    .filter((fields) => words(fields.types).includes("deb") && fields.enabled?.toLowerCase() !== "no")
    .map((fields) => ({
      uris: words(fields.uris),
      suites: words(fields.suites),
      components: words(fields.components),
      signedBy: fields["signed-by"],
    }));
}

/**
 * The deb822 text that adds Debian's backports from the mirror this machine already uses for `codename`. "configured" when a source has
 * them already; undefined when no source is recognised as Debian's archive. Other vendors use Debian's suite names too, so an
 * entry counts when Debian's keyring signs it, when it also carries the -updates suite, or when it is unsigned and its path is
 * Debian's.
 */
export function backportsSource(files, codename) {
  const entries = files.flatMap(parseAptSources);
  if (entries.some((entry) => entry.suites.includes(`${codename}-backports`))) return "configured";
  const updates = entries
    .filter((entry) => entry.suites.includes(`${codename}-updates`))
    .flatMap((entry) => entry.uris);
  const candidates = entries.filter((entry) => entry.suites.includes(codename) && entry.components.includes("main"));
  const mirror =
    candidates.find((entry) => entry.signedBy?.includes("debian-archive")) ??
    candidates.find((entry) => entry.uris.some((uri) => updates.includes(uri))) ??
    candidates.find((entry) => !entry.signedBy && entry.uris.some((uri) => /\/debian\/?$/.test(uri)));
  if (!mirror) return undefined;
  const lines = [
    "# Added by Kilograd's set-up: the Vulkan driver of the release itself is too old for WebGPU.",
    "Types: deb",
    `URIs: ${mirror.uris.join(" ")}`,
    `Suites: ${codename}-backports`,
    "Components: main",
  ];
  if (mirror.signedBy) lines.push(`Signed-By:${mirror.signedBy.startsWith("\n") ? "" : " "}${mirror.signedBy}`);
  return `${lines.join("\n")}\n`;
}

/** The file that the backports source is written to. */
export const backportsFile = "/etc/apt/sources.list.d/kilograd-backports.sources";

/**
 * How to get a software Vulkan driver on a system: shell `commands` (the ones that are run are the ones that are shown), whether the
 * set-up may run them (`automatic`), and a `note` for people. `sources` are the apt sources as `{ path, text }`.
 */
export function driverPlan({ system, isRoot, sources }) {
  const sudo = isRoot ? "" : "sudo ";
  const aptGet = `${sudo}env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120`;
  const packages = "mesa-vulkan-drivers libvulkan1";
  const install = (from = "") => [
    `${sudo}apt-get -o DPkg::Lock::Timeout=120 update`,
    `${aptGet} install -y --no-install-recommends${from} ${packages}`,
  ];
  const manual = (note, ...commands) => ({ automatic: false, note, commands });
  switch (system.family) {
    case "debian": {
      if (system.version < 12)
        return manual("Its Vulkan drivers are too old for WebGPU: Debian 12 or later is needed.");
      if (system.version !== 12)
        return { automatic: true, note: `Mesa's software Vulkan driver (${packages})`, commands: install() };
      const source = backportsSource(sources, "bookworm");
      if (!source) {
        return manual(
          "No apt source of Debian 12 (bookworm) is configured; add one with its bookworm-backports, then:",
          ...install(" -t bookworm-backports"),
        );
      }
      const add = `${sudo}tee ${backportsFile} >/dev/null <<'END'\n${source}END`;
      return {
        automatic: true,
        note: `Mesa's software Vulkan driver (${packages}) from bookworm-backports, as Debian 12's own is too old for WebGPU`,
        commands: [...(source === "configured" ? [] : [add]), ...install(" -t bookworm-backports")],
      };
    }
    case "ubuntu":
      return { automatic: true, note: `Mesa's software Vulkan driver (${packages})`, commands: install() };
    case "fedora":
      return manual("Install Mesa's Vulkan drivers:", `${sudo}dnf install -y mesa-vulkan-drivers vulkan-loader`);
    case "arch":
      return manual(
        "Install Mesa's software Vulkan driver:",
        `${sudo}pacman -S --needed vulkan-swrast vulkan-icd-loader`,
      );
    case "darwin":
      return manual(
        "WebGPU runs on the Metal driver that is part of macOS; it needs a Mac with a GPU that supports Metal.",
      );
    case "win32":
      return manual("WebGPU runs on the GPU's Direct3D 12 driver: install the current one from the GPU's vendor.");
    default:
      return manual(
        "Install a Vulkan driver and loader: the GPU vendor's, or Mesa's software driver lavapipe (23.1 or later; glibc is needed).",
      );
  }
}
