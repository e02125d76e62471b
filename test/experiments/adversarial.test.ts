// The experiments on adversarial examples at tiny size: on the built-in digits, and on files in CIFAR-10's layout.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { digits, photographs } from "../../src/experiments/adversarial.js";
import { experiment as robust } from "../../src/experiments/robust.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();

/** Pictures of 10 classes in CIFAR-10's layout: stripes of one width and one colour per class, with noise. */
function writeCifar(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const records = (count: number) => {
    const bytes = Buffer.alloc(count * 3073);
    let state = count;
    const noise = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    for (let image = 0; image < count; image++) {
      const label = image % 10;
      bytes[image * 3073] = label;
      for (let i = 0; i < 3072; i++) {
        const [channel, row] = [Math.floor(i / 1024), Math.floor((i % 1024) / 32)];
        const stripe = Math.floor(row / (1 + (label % 5))) % 2;
        const coloured = channel === label % 3 ? 60 : 0;
        bytes[image * 3073 + 1 + i] = 40 + 80 * stripe + coloured + 40 * noise() + (label >= 5 ? 20 : 0);
      }
    }
    return bytes;
  };
  writeFileSync(join(folder, "data_batch_1.bin"), records(320));
  writeFileSync(join(folder, "test_batch.bin"), records(40));
}

const generators = ["rounds=6", "startSteps=60", "foolSteps=6", "attackImages=20"];

test("digits: five digits as ten classes, beside FGSM and PGD; an interrupted run goes on", {
  timeout: 120_000,
}, async () => {
  const set = [
    ...["data=digits", "trainImages=1500", "testImages=100", "epochs=3", "batch=32", "learningRate=0.003"],
    ...[...generators, "linf=[0.1,0.3]", "l2=[1]", "generatorRate=0.03"],
  ];
  const { metrics, report, summary, said } = await runs.run(digits, { set, out: runs.at("digits") });
  expect(said).toMatch(/about .* by a measured step/);
  expect(metrics.examples).toHaveLength(50);
  expect(metrics.generators.count).toBe(45);
  expect(metrics.generators.fooled).toBeGreaterThan(20);
  expect(metrics.testAccuracy).toBeGreaterThan(0.8);
  expect(metrics.samples.map(({ label }: { label: number }) => label)).toEqual([0, 2, 4, 7, 9]);
  // Five of one's own class, which need no change.
  const own = metrics.examples.filter(({ from, target }: { from: number; target: number }) => from === target);
  expect(own).toHaveLength(5);
  const of = (attack: string, epsilon: number) =>
    metrics.attacks.figures.find((f: Record<string, unknown>) => f["attack"] === attack && f["epsilon"] === epsilon)
      .accuracy;
  expect(of("pgd", 0.3)).toBeLessThanOrEqual(of("fgsm", 0.1));
  expect(of("pgd", 0.3)).toBeLessThan(metrics.attacks.clean);
  expect(metrics.attacks.smallestEpsilons).toHaveLength(4);
  expect(metrics.images.map(({ file }: { file: string }) => file)).toEqual(["examples.svg", "changes.svg"]);
  expect(report.match(/<svg class="kilograd-chart"/g)).toHaveLength(6);
  expect(report).toContain("Adversarial digits");
  expect(summary).toMatch(/of 45 generators fool the classifier/);
  for (const each of metrics.attacks.figures) expect(each.withoutGradient).toBe(0);
  expect(report).toContain("Every attack had a gradient to follow for every image.");
  // Read back, not computed again: the figures are the same ones.
  const again = await runs.run(digits, { set, out: runs.at("digits"), resume: true });
  expect(again.metrics.generators).toEqual(metrics.generators);
  expect(again.metrics.attacks).toEqual(metrics.attacks);
});

test("photographs: one picture as ten classes", { timeout: 120_000 }, async () => {
  writeCifar(runs.at("data"));
  const set = [
    ...["filters=[8,8]", "convolutions=[1,1]", "epochs=8", "batch=32", "learningRate=0.01", "shift=0", "photograph=4"],
    ...[...generators, "generatorRate=0.05", "linf=[8]", "l2=[1]"],
  ];
  const { metrics, report } = await runs.run(photographs, {
    set,
    dataDir: runs.at("data"),
    out: runs.at("photographs"),
  });
  expect([metrics.trainImages, metrics.testImages]).toEqual([320, 40]);
  expect(metrics.testAccuracy).toBeGreaterThan(0.5);
  expect(metrics.examples).toHaveLength(10);
  expect(metrics.generators.count).toBe(9);
  expect(report).toContain("airplane");
  expect(report).toContain("trained on 320 images of CIFAR-10");
});

test("robust: the defence raises the accuracy under PGD on both data sets", { timeout: 240_000 }, async () => {
  writeCifar(runs.at("data"));
  const set = [
    ...["data=digits", "trainImages=1000", "testImages=60", "attackImages=40", "batch=32", "learningRate=0.004"],
    ...["epochs=6", "plainEpochs=3", "epsilon=0.08", "linf=[0.08]", "l2=[1]", "digits=[1,7]"],
    ...[
      "photographFilters=[8,8]",
      "photographConvolutions=[1,1]",
      "photographPlainEpochs=5",
      "photographEpochs=7",
      "photographRate=0.01",
    ],
    "photographWarmupEpochs=3",
    ...[
      "photographShift=0",
      "photographLinf=[8]",
      "photographL2=[0.5]",
      "photographImages=20",
      "photographClasses=[4]",
    ],
    ...["rounds=3", "startSteps=40", "foolSteps=6", "defenceEpochs=2", "defenceRadius=1"],
  ];
  await expect(runs.run(robust, { set: [...set, "l2=[]"], out: runs.at("no-l2") })).rejects.toThrow("a radius each");
  const { metrics, report, summary } = await runs.run(robust, {
    set,
    dataDir: runs.at("data"),
    out: runs.at("robust"),
  });
  const { digits: digitFigures, "CIFAR-10": photographFigures } = metrics;
  expect(digitFigures.robust.underPgd).toBeGreaterThan(digitFigures.plain.underPgd + 0.1);
  expect(digitFigures.robust.generators.count).toBe(18);
  expect(photographFigures.robust.underPgd).toBeGreaterThanOrEqual(photographFigures.plain.underPgd);
  expect(photographFigures.robust.generators.count).toBe(9);
  expect(photographFigures.attack).toEqual({
    norm: "linf",
    epsilon: 8 / 255,
    steps: 1,
    relativeStep: 1.25,
    randomStart: true,
  });
  // The sweep and the headline are the same attack, on a part and on all of the test images.
  expect(digitFigures.attackedImages).toBe(40);
  expect(digitFigures.plain.figures).toHaveLength(4);
  expect(metrics.images).toHaveLength(4);
  expect(metrics.defences.map(({ name }: { name: string }) => name)).toEqual(["Gaussian noise", "L2 adversary"]);
  expect(metrics.questions).toHaveLength(4);
  // Goals and published figures are those of MNIST at epsilon 0.3.
  expect(report).not.toContain("at least 85 %");
  expect(report).toContain("published, robust");
  expect(report.match(/<svg class="kilograd-chart"/g)).toHaveLength(9);
  expect(summary).toMatch(/CIFAR-10, robust: .* under PGD-40 at 8\/255/);
});

test("photographs without their data end with a message that names the folder", async () => {
  await expect(runs.run(photographs, { dataDir: runs.at("nowhere"), out: runs.at("none") })).rejects.toThrow("nowhere");
});
