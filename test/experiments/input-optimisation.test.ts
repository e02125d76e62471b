// Input optimisation with tiny settings: every part's images, figures that follow from them, and settings that do not
// fit.
import { expect, test } from "vitest";
import { experiment } from "../../src/experiments/input-optimisation.js";
import { UsageError } from "../../src/tensor/errors.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
const common = [
  ...["data=digits", "trainImages=1500", "testImages=200", "epochs=2", "mlpEpochs=2", "cnnEpochs=1"],
  ...["starts=2", "steps=60", "shortSteps=4", "noiseImages=50"],
  ...["robustEpochs=4", "judgeEpochs=1", "attackSteps=2", "attackRadius=1.5", "readableStarts=2", "readableSteps=15"],
];

test("targets from every start, in few steps and many, and judged", { timeout: 240_000 }, async () => {
  const { metrics, report, said } = await runs.run(experiment, { set: common });
  expect(said).toMatch(
    /small-cnn .* a step, mlp-64 .*, sgd-cnn .*, robust small-cnn .*, judge CNN .* and judge MLP .* a step/,
  );
  // Ten digits from noise and from real ones, four changes; two mixed targets from noise and from a real 8; two starts
  // each.
  expect(metrics.single).toHaveLength(48);
  expect(metrics.fewSteps).toHaveLength(48);
  expect(metrics.mixed).toHaveLength(8);
  expect(metrics.mixed.map(({ startText }: { startText: string }) => startText.slice(0, 8))).toEqual(
    [..."nnrrnnrr"].map((kind) => (kind === "n" ? "uniform " : "a real 8")),
  );
  for (const { target, probabilities, met } of metrics.single) {
    expect(met).toBe(probabilities[Number(target)] >= 0.99);
  }
  const met = metrics.single.filter((image: { met: boolean }) => image.met).length;
  expect(met).toBeGreaterThan(40);
  expect(report).toContain(`${met} of 48`);
  for (const rates of Object.values<Record<string, number>>(metrics.transfer)) {
    expect(Object.keys(rates)).toEqual(["mlp-64", "sgd-cnn"]);
    for (const rate of Object.values(rates)) expect(rate >= 0 && rate <= 1).toBe(true);
  }
  for (const { shares, favourite, favouriteShare } of metrics.onNoise) {
    expect(shares.reduce((a: number, b: number) => a + b)).toBeCloseTo(1, 10);
    expect(shares[favourite]).toBe(favouriteShare);
  }
  expect(metrics.onNoise).toHaveLength(7);
  expect(metrics.images).toHaveLength(57);

  // Eight ways, for the plain and the robust classifier; the baseline first, the best combination last.
  expect(metrics.readable).toHaveLength(16);
  expect(metrics.readable[0]).toMatchObject({
    robust: false,
    regularizers: { l1: 0, l2: 0, totalVariation: 0, blur: 0, jitter: 0 },
  });
  expect(metrics.readable.at(-1).robust).toBe(true);
  for (const { transfer, byDigit, images } of metrics.readable) {
    expect(images).toBe(20);
    for (const judge of ["judge CNN", "judge MLP"]) {
      const mean = byDigit[judge].reduce((a: number, b: number) => a + b) / 10;
      expect(transfer[judge]).toBeCloseTo(mean, 10);
    }
  }
  expect(metrics.questions).toHaveLength(7);
  // A real 8 towards two digits, and a 7 that becomes a 2, with a picture of every step that there is.
  expect(report).toContain("at steps 0 to 4: under each picture the probabilities of the digits asked for");
  expect(report).toMatch(/2 from [^<]* at steps 0 to 4: under each picture the answer with its confidence/);
  // The classifier of adversarial training bears an attack better than the same network without.
  const underAttack = (name: string) =>
    metrics.models.find((model: { name: string }) => model.name === name).underAttack;
  expect(underAttack("robust small-cnn")).toBeGreaterThan(underAttack("small-cnn"));

  // Finished parts are read back: the same figures, nothing computed.
  const again = await runs.run(experiment, { set: common, resume: true });
  const { timing: _, memory: __, ...figures } = metrics;
  expect(again.metrics).toMatchObject(figures);
  const words = report.replace(/base64,[^"]*/g, "");
  expect(/NaN|undefined|Infinity/.exec(words)).toBeNull();
});

test("vectors that are no ten shares, and changes that are none, are refused before anything is trained", async () => {
  const refused = (set: string) => runs.run(experiment, { out: runs.at("refused"), set: [...common, set] });
  await expect(refused('mixed=["0,0,.5,.5,0,0,0,0"]')).rejects.toThrow("given 8 with sum 1");
  await expect(refused('mixed=["0,0,.5,.5,0,0,0,0,0"]')).rejects.toThrow("given 9 with sum 1");
  await expect(refused('changes=["5 to 5"]')).rejects.toThrow(UsageError);
});
