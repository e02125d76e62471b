// `node scripts/site-networks.mjs [digits|faces]`: trains the small networks that the pages ship with, by the command
// line, and writes them with their figures into site/public/networks. Those of digits take MNIST, those of faces
// FER2013 and CIFAR-10. The same seed gives the same networks on one adapter.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nn, openDevice } from "../dist/node.js";

const target = join(import.meta.dirname, "../site/public/networks");
const figuresFile = join(target, "networks.json");
const seed = 7;

mkdirSync(target, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "kilograd-networks-"));
const device = await openDevice("webgpu");
const figures = existsSync(figuresFile) ? JSON.parse(readFileSync(figuresFile, "utf8")) : {};

/** Runs a command of `kilograd`; what it wrote is in the folder that it gives. */
function run(name, args) {
  const out = join(folder, name);
  const { status } = spawnSync(process.execPath, ["dist/cli.js", ...args, "--out", out], { stdio: "inherit" });
  if (status !== 0) throw new Error(`kilograd ${args.join(" ")} ended with ${status}`);
  const metrics = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"));
  return { out, metrics, command: `kilograd ${args.join(" ")}` };
}

/** The weights alone, without what the training noted of this machine. */
async function ship(name, path, figuresOfIt) {
  await nn.saveModel(join(target, `${name}.safetensors`), await nn.loadModel(path, { device }));
  figures[name] = figuresOfIt;
  writeFileSync(figuresFile, `${JSON.stringify(figures, null, 2)}\n`);
}

const groups = {
  async digits() {
    for (const [name, model] of Object.entries({ plain: "small-cnn", robust: "robust-cnn" })) {
      const { out, metrics, command } = run(name, ["train", model, "--seed", String(seed)]);
      const { loss, accuracy } = metrics.test;
      await ship(name, join(out, "model.safetensors"), { command, test: { loss, accuracy } });
    }
  },
  async faces() {
    // A classifier smaller than the experiment's own, and the finder of its reference preset.
    const finder = ["finderWindows=45000", "finderEpochs=4", "finderScenes=200"];
    const settings = ["filters=[16,32,64,112]", "epochs=10", ...finder].flatMap((setting) => ["--set", setting]);
    const { out, metrics, command } = run("emotion", ["run", "emotion", "--seed", String(seed), ...settings]);
    const { testAccuracy: accuracy, testLoss: loss } = metrics;
    await ship("emotion", join(out, "emotion.h5"), { command, test: { loss, accuracy } });
    const { found, falseAlarms } = metrics.finder;
    await ship("finder", join(out, "face-finder.h5"), { command, test: { found, falseAlarms } });
  },
};

try {
  for (const name of process.argv[2] === undefined ? Object.keys(groups) : [process.argv[2]]) await groups[name]();
} finally {
  device.destroy();
  rmSync(folder, { recursive: true });
}
