// `node scripts/site-networks.mjs`: trains the small networks that the pages ship with on MNIST, by the command line,
// and writes them with their figures into site/public/networks. The same seed gives the same networks on one adapter.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nn, openDevice } from "../dist/node.js";

const target = join(import.meta.dirname, "../site/public/networks");
const seed = 7;
const networks = { plain: "small-cnn", robust: "robust-cnn" };

mkdirSync(target, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "kilograd-networks-"));
try {
  const figures = {};
  const device = await openDevice("cpu");
  for (const [name, model] of Object.entries(networks)) {
    const args = ["train", model, "--seed", String(seed)];
    const out = join(folder, name);
    const { status } = spawnSync(process.execPath, ["dist/cli.js", ...args, "--out", out], { stdio: "inherit" });
    if (status !== 0) throw new Error(`kilograd ${args.join(" ")} ended with ${status}`);
    // The weights alone, without what the training noted of this machine.
    const trained = await nn.loadModel(join(out, "model.safetensors"), { device });
    await nn.saveModel(join(target, `${name}.safetensors`), trained);
    const { test } = JSON.parse(readFileSync(join(out, "metrics.json"), "utf8"));
    figures[name] = { command: `kilograd ${args.join(" ")}`, test: { loss: test.loss, accuracy: test.accuracy } };
  }
  writeFileSync(join(target, "networks.json"), `${JSON.stringify(figures, null, 2)}\n`);
} finally {
  rmSync(folder, { recursive: true });
}
