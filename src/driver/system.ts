// Which system this is and how a software Vulkan driver comes to it, decided from text alone: no files, processes or
// network here.

/** The system as the installation of a driver sees it. */
export interface System {
  /** "debian", "ubuntu", "fedora", "arch", another "linux", or Node's name of another platform. */
  readonly family: string;
  readonly name: string;
  readonly codename: string;
  /** Debian's release, Infinity for testing; NaN where the number says nothing of Debian's. */
  readonly version: number;
  /** What libraries of one installation may be used on: distribution and release. */
  readonly release: string;
}

export interface TextFile {
  readonly path: string;
  readonly text: string;
}

/** One `deb` entry of apt's sources. */
export interface AptEntry {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
}

/**
 * Packages by apt, from `suite` where the release's own are too old, which `source` adds where it is not configured.
 */
export interface AptPlan {
  readonly packages: readonly string[];
  readonly suite?: string;
  /** deb822 text. */
  readonly source?: string;
  /** What is installed, for people. */
  readonly note: string;
}

/** What to tell people where nothing is installed for them. */
export interface ManualPlan {
  readonly advice: string;
}

/** The system, from Node's `process.platform` and the text of /etc/os-release. */
export function describeSystem({
  platform,
  osRelease = "",
}: {
  readonly platform: string;
  readonly osRelease?: string | undefined;
}): System {
  if (platform !== "linux") {
    const name = { darwin: "macOS", win32: "Windows" }[platform] ?? platform;
    return { family: platform, name, codename: "", version: Number.NaN, release: platform };
  }
  const field = (name: string) => new RegExp(`^${name}=["']?(.*?)["']?$`, "m").exec(osRelease)?.[1] ?? "";
  const ids = [field("ID"), ...field("ID_LIKE").split(" ")];
  const family = ["ubuntu", "debian", "fedora", "arch"].find((known) => ids.includes(known)) ?? "linux";
  // Derivatives number their own releases, so a version says something about Debian on Debian only; testing has none.
  const version = field("ID") === "debian" ? Number(field("VERSION_ID") || Number.POSITIVE_INFINITY) : Number.NaN;
  const codename = field("VERSION_CODENAME");
  const release = [field("ID"), field("VERSION_ID") || codename].filter(Boolean).join(" ");
  return { family, name: field("PRETTY_NAME") || "Linux", codename, version, release };
}

/**
 * The enabled `deb` entries of one file of apt sources, in either of apt's formats: one line each (.list) or deb822
 * (.sources).
 */
export function parseAptSources({ path, text }: TextFile): AptEntry[] {
  const words = (value: string | undefined) => value?.split(/\s+/).filter(Boolean) ?? [];
  if (path.endsWith(".list")) {
    // deb [option=value ...] URI suite component ...
    return [...text.matchAll(/^\s*deb\s+(?:\[([^\]]*)\]\s+)?([^\s[]+)\s+(\S+)([^#\n]*)/gm)].map(
      ([, options, uri, suite, components]) => ({
        uris: [uri!],
        suites: [suite!],
        components: words(components),
        signedBy: /\bsigned-by=(\S+)/i.exec(options ?? "")?.[1],
      }),
    );
  }
  return text
    .replace(/^#.*\n?/gm, "")
    .split(/\n[ \t]*\n/)
    .map((stanza): Record<string, string> => {
      // A value goes on in lines that begin with a blank; an embedded key is such a value and stays as it is.
      const fields = [...stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)];
      return Object.fromEntries(fields.map(([, name, value]) => [name!.toLowerCase(), value!.trimEnd()]));
    })
    .filter((fields) => words(fields["types"]).includes("deb") && fields["enabled"]?.toLowerCase() !== "no")
    .map((fields) => ({
      uris: words(fields["uris"]),
      suites: words(fields["suites"]),
      components: words(fields["components"]),
      signedBy: fields["signed-by"],
    }));
}

/**
 * The deb822 text that adds Debian's backports from the mirror this machine already uses for `codename`. "configured"
 * when a source has them already; undefined when no source is recognised as Debian's archive. Other vendors use
 * Debian's suite names too, so an entry counts in three cases:
 * - Debian's keyring signs it.
 * - It also carries the -updates suite.
 * - It is unsigned and its path is Debian's.
 */
export function backportsSource(files: readonly TextFile[], codename: string): string | undefined {
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
    "# Added by Kilograd: the Vulkan driver of the release itself is too old for WebGPU.",
    "Types: deb",
    `URIs: ${mirror.uris.join(" ")}`,
    `Suites: ${codename}-backports`,
    "Components: main",
  ];
  if (mirror.signedBy) lines.push(`Signed-By:${mirror.signedBy.startsWith("\n") ? "" : " "}${mirror.signedBy}`);
  return `${lines.join("\n")}\n`;
}

/** How to get a software Vulkan driver on a system. `sources` are the files of apt's sources. */
export function driverPlan(system: System, sources: readonly TextFile[]): AptPlan | ManualPlan {
  const packages = ["mesa-vulkan-drivers", "libvulkan1"];
  const note = "Mesa's software Vulkan driver";
  switch (system.family) {
    case "debian": {
      if (system.version < 12) {
        return { advice: "Its Vulkan drivers are too old for WebGPU: Debian 12 or later is needed." };
      }
      if (system.version !== 12) return { packages, note };
      const suite = "bookworm-backports";
      const source = backportsSource(sources, "bookworm");
      if (source === undefined) {
        return {
          advice: `No apt source of Debian 12 (bookworm) is configured; add one, with ${suite} or not, and try again.`,
        };
      }
      const from = `${note}, from ${suite} as Debian 12's own is too old for WebGPU`;
      return { packages, suite, ...(source !== "configured" && { source }), note: from };
    }
    case "ubuntu":
      return { packages, note };
    case "fedora":
      return { advice: "Install Mesa's Vulkan drivers: sudo dnf install -y mesa-vulkan-drivers vulkan-loader" };
    case "arch":
      return {
        advice: "Install Mesa's software Vulkan driver: sudo pacman -S --needed vulkan-swrast vulkan-icd-loader",
      };
    case "darwin":
      return {
        advice: "WebGPU runs on the Metal driver that is part of macOS; it needs a Mac with a GPU that supports Metal.",
      };
    case "win32":
      return { advice: "WebGPU runs on the GPU's Direct3D 12 driver: install the current one from the GPU's vendor." };
    default:
      return {
        advice:
          "Install a Vulkan driver and loader: the GPU vendor's, or Mesa's software driver lavapipe (23.1 or later; glibc is needed).",
      };
  }
}

/** The file that the backports source is written to by an installation in the system. */
export const backportsFile = "/etc/apt/sources.list.d/kilograd-backports.sources";

/** The shell commands of an installation in the system; the ones that are run are the ones that are shown. */
export function systemCommands(
  { packages, suite, source }: AptPlan,
  { isRoot }: { readonly isRoot: boolean },
): string[] {
  const sudo = isRoot ? "" : "sudo ";
  const aptGet = `${sudo}env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120`;
  const from = suite === undefined ? "" : ` -t ${suite}`;
  return [
    ...(source === undefined ? [] : [`${sudo}tee ${backportsFile} >/dev/null <<'END'\n${source}END`]),
    `${aptGet} update`,
    `${aptGet} install -y --no-install-recommends${from} ${packages.join(" ")}`,
  ];
}
