// Which system this is and how a driver comes to it, from the texts that describe systems and apt's sources.
import { describe, expect, test } from "vitest";
import {
  type AptPlan,
  backportsSource,
  describeSystem,
  driverPlan,
  parseAptSources,
  systemCommands,
} from "../../src/driver/system.js";

const osRelease = {
  debian12: 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nID=debian\n',
  debian11: 'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nVERSION_ID="11"\nVERSION_CODENAME=bullseye\nID=debian\n',
  debian13: 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nID=debian\n',
  testing: 'PRETTY_NAME="Debian GNU/Linux forky/sid"\nVERSION_CODENAME=forky\nID=debian\n',
  ubuntu: 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n',
  mint: 'PRETTY_NAME="Linux Mint 22"\nID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n',
  fedora: 'PRETTY_NAME="Fedora Linux 43"\nID=fedora\nVERSION_ID=43\n',
  arch: 'PRETTY_NAME="Arch Linux"\nID=arch\n',
  alpine: 'PRETTY_NAME="Alpine Linux v3.22"\nID=alpine\nVERSION_ID=3.22.1\n',
};
const linux = (name: keyof typeof osRelease) => describeSystem({ platform: "linux", osRelease: osRelease[name] });

test("describeSystem tells systems and releases apart", () => {
  expect(["debian12", "testing", "mint"].map((name) => linux(name as keyof typeof osRelease).release)).toEqual([
    "debian 12",
    "debian forky",
    "linuxmint 22",
  ]);
  const families = Object.fromEntries(
    Object.keys(osRelease).map((name) => [name, linux(name as keyof typeof osRelease).family]),
  );
  expect(families).toEqual({
    debian12: "debian",
    debian11: "debian",
    debian13: "debian",
    testing: "debian",
    ubuntu: "ubuntu",
    mint: "ubuntu",
    fedora: "fedora",
    arch: "arch",
    alpine: "linux",
  });
  expect(linux("debian12")).toMatchObject({
    version: 12,
    codename: "bookworm",
    name: "Debian GNU/Linux 12 (bookworm)",
  });
  expect(describeSystem({ platform: "darwin" })).toMatchObject({ family: "darwin", name: "macOS" });
  expect(describeSystem({ platform: "linux" })).toMatchObject({ family: "linux", name: "Linux" });
});

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
const deb822 = {
  path: "/etc/apt/sources.list.d/debian.sources",
  text: `# made by the installer
Types: deb deb-src
# an older mirror
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: ${keyring}

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: ${keyring}
`,
};
const vendor = {
  path: "/etc/apt/sources.list.d/vendor.list",
  text: "deb [arch=amd64 signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.test/debian bookworm main\n",
};
const oneLine = {
  path: "/etc/apt/sources.list",
  text: `#deb cdrom:[Debian 12]/ bookworm main
deb-src http://sources.test/debian bookworm main
deb http://mirror.test/debian/ bookworm main non-free-firmware # comment
deb http://mirror.test/debian/ bookworm-updates main
`,
};

describe("parseAptSources", () => {
  test("reads one-line entries and passes over comments and deb-src", () => {
    expect(parseAptSources(oneLine)).toEqual([
      {
        uris: ["http://mirror.test/debian/"],
        suites: ["bookworm"],
        components: ["main", "non-free-firmware"],
        signedBy: undefined,
      },
      { uris: ["http://mirror.test/debian/"], suites: ["bookworm-updates"], components: ["main"], signedBy: undefined },
    ]);
    expect(parseAptSources(vendor)[0]?.signedBy).toBe("/etc/apt/keyrings/vendor.gpg");
  });
  test("reads deb822 stanzas, embedded keys included, and passes over disabled ones", () => {
    expect(parseAptSources(deb822).map((entry) => entry.suites)).toEqual([
      ["bookworm", "bookworm-updates"],
      ["bookworm-security"],
    ]);
    const key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----";
    const text = `Types: deb\nURIs: http://a.test/debian\nSuites: bookworm\nComponents: main\nSigned-By:${key}\n\nEnabled: no\n${deb822.text}`;
    expect(parseAptSources({ path: "x.sources", text }).map((entry) => entry.signedBy)).toEqual([key, keyring]);
  });
});

describe("backportsSource", () => {
  const stanza = (uri: string, signedBy?: string) =>
    new RegExp(
      `^# .*\nTypes: deb\nURIs: ${uri}\nSuites: bookworm-backports\nComponents: main\n${signedBy ? `Signed-By: ${signedBy}\n` : ""}$`,
    );

  test("takes over mirror and key of Debian's own entry, not another vendor's", () => {
    expect(backportsSource([vendor, deb822], "bookworm")).toMatch(stanza("http://mirror.test/debian", keyring));
    expect(backportsSource([vendor, oneLine], "bookworm")).toMatch(stanza("http://mirror.test/debian/"));
  });
  test("recognises an unsigned mirror without updates by its path", () => {
    const minimal = { path: "/etc/apt/sources.list", text: "deb http://mirror.test/debian bookworm main\n" };
    expect(backportsSource([vendor, minimal], "bookworm")).toMatch(stanza("http://mirror.test/debian"));
    expect(backportsSource([vendor], "bookworm")).toBeUndefined();
    expect(backportsSource([], "bookworm")).toBeUndefined();
  });
  test("writes an embedded key back as it was", () => {
    const text =
      "Types: deb\nURIs: http://a.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By:\n KEY\n .\n";
    expect(backportsSource([{ path: "a.sources", text }], "bookworm")).toContain("\nSigned-By:\n KEY\n .\n");
  });
  test("finds backports that are configured already", () => {
    const backports = { path: "b.list", text: "deb http://mirror.test/debian bookworm-backports main\n" };
    expect(backportsSource([deb822, backports], "bookworm")).toBe("configured");
  });
});

describe("driverPlan", () => {
  const plan = (name: keyof typeof osRelease, sources = [deb822]) => driverPlan(linux(name), sources);

  test("Debian 12 takes the driver from backports of its own mirror", () => {
    const { suite, source } = plan("debian12") as AptPlan;
    expect(suite).toBe("bookworm-backports");
    expect(source).toContain("URIs: http://mirror.test/debian\n");
    expect(plan("debian12", [])).toEqual({ advice: expect.stringContaining("bookworm") });
  });
  test("later Debians and Ubuntu take it from the release itself", () => {
    for (const name of ["debian13", "testing", "ubuntu", "mint"] as const) {
      expect(plan(name)).toEqual({
        packages: ["mesa-vulkan-drivers", "libvulkan1"],
        note: "Mesa's software Vulkan driver",
      });
    }
  });
  test("elsewhere each system is told what to do", () => {
    expect(plan("fedora")).toEqual({ advice: expect.stringContaining("sudo dnf install") });
    expect(plan("arch")).toEqual({ advice: expect.stringContaining("pacman -S") });
    expect(plan("debian11")).toEqual({ advice: expect.stringContaining("Debian 12 or later") });
    expect(plan("alpine")).toEqual({ advice: expect.stringContaining("lavapipe") });
    for (const platform of ["darwin", "win32"]) {
      expect(driverPlan(describeSystem({ platform }), [])).toEqual({ advice: expect.stringContaining("GPU") });
    }
  });
  test("in the system, apt installs it as root", () => {
    const commands = systemCommands(plan("debian12") as AptPlan, { isRoot: true });
    expect(commands).toHaveLength(3);
    expect(commands[0]).toMatch(
      /^tee \/etc\/apt\/sources\.list\.d\/kilograd-backports\.sources .*URIs: http:\/\/mirror/s,
    );
    expect(commands[2]).toMatch(/apt-get .*install -y .*-t bookworm-backports mesa-vulkan-drivers libvulkan1$/);
    const asUser = systemCommands(plan("debian12") as AptPlan, { isRoot: false });
    expect(asUser.every((command) => command.startsWith("sudo "))).toBe(true);
    expect(systemCommands(plan("ubuntu") as AptPlan, { isRoot: true })).toHaveLength(2);
  });
});
