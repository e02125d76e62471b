// What reports answer: sentences of figures that were made up, among them those of runs that went otherwise.
import { describe, expect, test } from "vitest";
import { autoencoderDiagram } from "../../src/experiments/lib/report/autoencoder-diagram.js";
import { checkedDerivatives, derivatives } from "../../src/experiments/lib/report/backpropagation.js";
import { layerRows } from "../../src/experiments/lib/report/layer-table.js";
import {
  type DefenceFigures,
  type ExampleDistance,
  exampleQuestions,
  robustQuestions,
} from "../../src/experiments/lib/report/questions/adversarial.js";
import { denoisingQuestions, denoisingStops, fallsTo } from "../../src/experiments/lib/report/questions/denoising.js";
import { type DigitModel, digitQuestions } from "../../src/experiments/lib/report/questions/digits.js";
import { emotionQuestions } from "../../src/experiments/lib/report/questions/emotion.js";
import { inputQuestions } from "../../src/experiments/lib/report/questions/inputs.js";
import { moreOrLess, type Question } from "../../src/experiments/lib/report/questions/questions.js";
import { vanishingQuestions } from "../../src/experiments/lib/report/questions/vanishing.js";
import { weightDecayQuestions } from "../../src/experiments/lib/report/questions/weight-decay.js";
import type { Activation, DepthFigures } from "../../src/experiments/lib/report/vanishing-findings.js";
import { activations } from "../../src/experiments/lib/report/vanishing-findings.js";
import { autoencoder, zooArchitecture, zooModel } from "../../src/experiments/lib/training/models.js";
import { variant, variantChanges } from "../../src/experiments/lib/training/variants.js";
import { grad, loss, nn, openDevice, tensor } from "../../src/index.js";

/** The answer to the one question that matches. */
function answer(questions: readonly Question[], asked: RegExp): string {
  const found = questions.filter(({ question }) => asked.test(question));
  expect(found.map(({ question }) => question)).toHaveLength(1);
  return found[0]!.answer;
}

test("more, less, and as much", () => {
  expect([0.0012, -0.003, 0.00001].map((value) => moreOrLess(value))).toEqual([
    "0.12 points more",
    "0.30 points less",
    "as much",
  ]);
});

describe("backpropagation as it is written out", () => {
  test("gives the gradients that autodiff gives", async () => {
    const device = await openDevice("cpu");
    const [sizes, batch] = [[5, 4, 3], 2];
    const value = (i: number) => Math.sin(3 * i + 1) / 2;
    for (const activation of activations) {
      const f = {
        relu: (z: number) => Math.max(0, z),
        tanh: Math.tanh,
        sigmoid: (z: number) => 1 / (1 + Math.exp(-z)),
      };
      const apply =
        activation === "lecunTanh"
          ? (z: number) => 1.7159 * Math.tanh((2 * z) / 3) + 0.01 * z
          : f[activation as keyof typeof f];
      const model = nn.sequential({ device, inputShape: [5] }, [
        nn.dense({ units: 4, activation }),
        nn.dense({ units: 3, activation: "softmax" }),
      ]);
      const [w1, b1, w2, b2] = model.weights().map(({ tensor: weight }, k) => {
        const values = Float64Array.from({ length: weight.size }, (_, i) => value(10 * k + i));
        weight.assign(values);
        return values;
      }) as [Float64Array, Float64Array, Float64Array, Float64Array];
      const x = Float64Array.from({ length: batch * 5 }, (_, i) => value(100 + i));
      const labels = Int32Array.of(2, 0);
      loss.crossEntropy(model.logits(tensor(device, x, { shape: [batch, 5] })), tensor(device, labels)).backward();
      // By the equations, for each image; the loss is the mean over the batch.
      const expected = new Float64Array(sizes[0]! * sizes[1]!);
      for (let n = 0; n < batch; n++) {
        const a0 = x.subarray(n * 5, n * 5 + 5);
        const z1 = Array.from({ length: 4 }, (_, j) => a0.reduce((s, a, i) => s + a * w1[i * 4 + j]!, b1[j]!));
        const a1 = z1.map(apply);
        const z2 = Array.from({ length: 3 }, (_, j) => a1.reduce((s, a, i) => s + a * w2[i * 3 + j]!, b2[j]!));
        const total = z2.reduce((s, z) => s + Math.exp(z), 0);
        const d2 = z2.map((z, k) => Math.exp(z) / total - (labels[n] === k ? 1 : 0));
        const d1 = z1.map((z, i) => d2.reduce((s, d, k) => s + d * w2[i * 3 + k]!, 0) * derivatives[activation].at(z));
        for (let i = 0; i < 5; i++) for (let j = 0; j < 4; j++) expected[i * 4 + j]! += (a0[i]! * d1[j]!) / batch;
      }
      const found = await model.weights()[0]!.tensor.grad!.data();
      expected.forEach((each, i) => {
        expect(found[i], activation).toBeCloseTo(each, 6);
      });
    }
  });

  test("a derivative beyond its range does not hold, and its error is told", async () => {
    const device = await openDevice("cpu");
    const points = Float64Array.from({ length: 101 }, (_, i) => (i - 50) / 10);
    const slopes = await Promise.all(
      activations.map((name) => grad((at) => at[name]().sum())(tensor(device, points)).data()),
    );
    const right = checkedDerivatives(points, slopes);
    expect(right.map(({ holds }) => holds)).toEqual([true, true, true, true]);
    for (const { largestError } of right) expect(largestError).toBeLessThan(1e-6);
    const wrong = checkedDerivatives(
      points,
      slopes.map((values) => Array.from(values, (slope) => 2 * slope)),
    );
    expect(wrong.map(({ holds }) => holds)).toEqual([false, false, false, false]);
    expect(wrong[1]!.largestError).toBeCloseTo(1);
  });
});

describe("vanishing gradients", () => {
  const network = (depth: number, activation: Activation, given: Partial<DepthFigures> = {}): DepthFigures => ({
    ...{ depth, activation, testAccuracy: 0.9, untrained: [1, 1], trained: [1, 1], curve: [1, 0.5] },
    ...given,
  });
  const checks = activations.map((activation) => ({
    ...{ activation, formula: "", range: "R", measured: { least: 0, most: 1 }, holds: true, largestError: 1e-7 },
  }));
  const asked = (outcomes: readonly DepthFigures[], given = checks) =>
    vanishingQuestions({ outcomes, depths: [5], checks: given });
  const four = (given: Partial<Record<Activation, Partial<DepthFigures>>>) =>
    activations.map((activation) => network(5, activation, given[activation]));

  test("failures: lost on the way back, faded on the way forward, neither, and none", () => {
    const outcomes = four({
      relu: { testAccuracy: 0.2, untrained: [1e-8, 2e-8] },
      tanh: { testAccuracy: 0.5 },
      sigmoid: { testAccuracy: 0.1, untrained: [1e-20, 1] },
    });
    const said = answer(asked(outcomes), /explain/);
    expect(said).toContain("3 networks of 4 did not learn.");
    expect(said).toMatch(/Lost on the way back .*: sigmoid with 5 layers \(1.0e-20\)/);
    expect(said).toMatch(/Faded on the way forward .*: ReLU with 5 layers \(2.0e-8 at most\)/);
    expect(said).toMatch(/Not explained .*: tanh with 5 layers \(50.0 %\)/);
    expect(answer(asked(outcomes), /before training/)).toMatch(/told .* for 3 of 4, not for tanh with 5 layers:/);
    expect(answer(asked(four({})), /explain/)).toBe("Every network learned; there is no failure to explain.");
    expect(answer(asked(four({})), /before training/)).toContain("for 4 of 4: ");
  });

  test("LeCun's curve: sooner, behind, and too short", () => {
    const said = (lecun: readonly number[], tanh: readonly number[]) =>
      answer(asked(four({ lecunTanh: { curve: lecun }, tanh: { curve: tanh } })), /LeCun's/);
    expect(said([1, 0.4, 0.2, 0.1], [1, 0.9, 0.6, 0.5])).toBe(
      "At 5 layers it needs 50 % of the steps for tanh's last loss, 150 steps (at the end 0.100 against 0.500).",
    );
    expect(said([1, 0.9], [1, 0.5])).toBe("At 5 layers it stays behind (at the end 0.900 against 0.500).");
    expect(said([], [1])).toContain("too short");
  });

  test("ranges that hold, and one that does not", () => {
    expect(answer(asked(four({})), /range/)).toMatch(/: all hold\.$/);
    const broken = checks.map((check) => ({ ...check, holds: check.activation !== "tanh", largestError: 0.3 }));
    expect(answer(asked(four({}), broken), /range/)).toMatch(/: not so for tanh\.$/);
    expect(answer(asked(four({}), broken), /error of a layer/)).toContain("by 0.3 at most");
  });
});

describe("weight decay", () => {
  const of = (name: string, testAccuracy: number) => ({
    ...{ name, layers: layerRows(zooArchitecture(zooModel(name))), testAccuracy },
  });
  const at = (mean: number, deviation: number) => ({ mean, deviation });
  const factor = (value: number, maximum: number, deviation: number, gap = 0.001) => ({
    ...{ factor: value, final: at(maximum, deviation), mean: at(maximum, deviation), maximum: at(maximum, deviation) },
    ...{ best: maximum, gap },
  });
  const given = {
    ...{ small: of("mlp-64", 0.97), large: of("mlp-64", 0.98), convolutional: of("small-cnn", 0.99) },
    ...{ smallLoss: 0.1, byFactor: [factor(1e-6, 0.982, 1e-3), factor(1e-3, 0.978, 1e-3)] },
    ...{ published: 0.9847, real: true, shorter: false },
  };
  const said = (asked: RegExp, more: Partial<typeof given> = {}) =>
    answer(weightDecayQuestions({ ...given, ...more }), asked);

  test("sizes, activations and loss are those of the networks", () => {
    expect(said(/How many layers/)).toContain(
      "mlp-64 has 3 layers with weights (64, 64 and 10 neurons, 138 in all) and 55,050 parameters, 91 % of them in the first.",
    );
    expect(said(/How many layers/)).toContain("The input has 784 numbers");
    expect(said(/activations/)).toMatch(/^Hidden: relu \(its derivative is 1 .* Output: softmax \(/);
    expect(said(/Which loss/)).toContain("gives the right digit 90.5 % in the geometric mean");
    expect(said(/Which loss/, { smallLoss: 5 })).toContain("surer of wrong answers than one that knows nothing");
  });

  test("factors that differ by more than chance, by less, and without error bars", () => {
    expect(said(/depend on the factor/)).toMatch(
      /Maximum: from 97.80 % ± 0.10 at 1e-3 to 98.20 % ± 0.10 at 1e-6, more than twice/,
    );
    const near = [factor(1e-6, 0.982, 1e-2), factor(1e-3, 0.981, 1e-2)];
    expect(said(/depend on the factor/, { byFactor: near })).toContain("no difference to speak of");
    const one = [factor(1e-6, 0.982, Number.NaN)];
    expect(said(/depend on the factor/, { byFactor: one })).toContain("without error bars, as there is one replicate");
  });

  test("the published figure: missed for reasons, reached, and of other images", () => {
    expect(said(/How near/)).toMatch(/98.20 % at a factor of 1e-6: −0.27 points\. .*: a published figure is the best/);
    const fitted = [factor(1e-6, 0.982, 1e-3, 0.02)];
    expect(said(/How near/, { byFactor: fitted, shorter: true })).toMatch(
      /: fewer epochs or images .*; overfitting: .* by 2.00 points/,
    );
    expect(said(/How near/, { byFactor: [factor(1e-6, 0.985, 1e-3)] })).toMatch(/^It is reached: .* 98.50 %/);
    expect(said(/How near/, { real: false })).toBe("It is of MNIST, which these digits are not.");
  });

  test("the convolutional network: better, and worse", () => {
    expect(said(/convolutional/)).toContain("has 1.00 points more than mlp-64, the better of the others");
    expect(said(/convolutional/)).toContain("shared by all places");
    const worse = said(/convolutional/, { convolutional: of("small-cnn", 0.9) });
    expect(worse).toContain("has 8.00 points less than mlp-64");
    expect(worse).not.toContain("shared by all places");
  });
});

describe("digits", () => {
  const model = (name: string, given: Partial<DigitModel> = {}): DigitModel => ({
    ...{ name, parameters: 66_430, weighted: 5, slow: false, steps: 100, trainAccuracy: 0.995, testAccuracies: [0.99] },
    ...{
      standardError: 0.001,
      mistakes: [1, 2, 3],
      confusion: [
        [9, 1],
        [2, 8],
      ],
    },
    ...given,
  });
  const said = (asked: RegExp, more: Partial<Parameters<typeof digitQuestions>[0]>) =>
    answer(digitQuestions({ models: [model("a")], variants: [], images: [], ...more }), asked);

  test("performance: with and without validation, replicates, and a few slow steps", () => {
    const models = [
      model("a", { validationAccuracy: 0.985, testAccuracies: [0.99, 0.98] }),
      model("b", { slow: true, steps: 20, testAccuracies: [0.11] }),
    ];
    expect(said(/How good/, { models })).toBe(
      "a: training 99.50 %, validation 98.50 %, test 98.50 % (mean of 2). " +
        "b, after 20 steps only: training 99.50 %, no validation, since all training images were trained on, test 11.00 %.",
    );
  });

  test("sizes beside AlexNet", () => {
    expect(said(/AlexNet in size/, { models: [model("a"), model("b", { parameters: 62_735_658 })] })).toMatch(
      /^AlexNet has 60,965,224 parameters in 8 layers .* a 66,430 parameters in 5 layers with weights \(1\/918 of it\); b .* \(1.03 times as many\)/,
    );
  });

  test("mistakes that all networks make, and those of one alone", () => {
    const best = model("best", { testAccuracies: [0.999] });
    expect(said(/confused/, { models: [best, model("b", { mistakes: [2, 3, 9] })] })).toMatch(
      /a 1 taken for a 0 \(2 times\) and a 0 taken for a 1 \(1 time\)\. 2 of its 3 mistakes are made by b, too: most are digits that are hard for anybody/,
    );
    expect(said(/confused/, { models: [best, model("b", { mistakes: [9] })] })).toContain("most are its own");
    expect(said(/confused/, { models: [best] })).toContain("No other network of this run can be asked.");
    expect(said(/confused/, { models: [model("a", { mistakes: [] })] })).toBe("a, the best, makes no mistake.");
  });

  test("a change by more than chance and by less; images that are met", () => {
    const of = (change: string, testAccuracy: number) => ({
      ...{ change, parameters: 1000, trainAccuracy: 0.99, testAccuracy, standardError: 0.001 },
    });
    const variants = [of("", 0.98), of("dropout 0.5", 0.985), of("batch normalisation", 0.979)];
    expect(said(/capacity/, { variants })).toMatch(
      /dropout 0.5 .*: 98.50 % on the test part, 0.50 points more, more than chance .* batch normalisation .*, 0.10 points less, no more than chance/,
    );
    const slow = model("big", { slow: true });
    const images = [{ model: "big", count: 10, met: 3, steps: 10 }];
    expect(said(/Which images/, { models: [model("a"), slow], images })).toBe(
      "big: after 10 steps from noise 3 of 10 images are answered with their digit at 99 %, though the network was hardly trained.",
    );
    expect(digitQuestions({ models: [slow], variants: [], images: [] }).map(({ question }) => question)).toHaveLength(
      2,
    );
  });

  test("variants are small-cnn with one thing changed", () => {
    const kinds = (change: (typeof variantChanges)[number]) => layerRows(variant(change)).map(({ kind }) => kind);
    const zoo = zooArchitecture(zooModel("small-cnn"));
    expect(layerRows(variant("")).map(({ kind, parameters }) => [kind, parameters])).toEqual(
      layerRows(zoo).map(({ kind, parameters }) => [kind, parameters]),
    );
    expect(kinds("batch normalisation").filter((kind) => kind === "BatchNormalization")).toHaveLength(3);
    expect(kinds("dropout 0.5").filter((kind) => kind === "Dropout")).toHaveLength(1);
    const parameters = variantChanges.map((change) => variant(change).countParameters().total);
    expect(parameters[1]!).toBeGreaterThan(3 * parameters[0]!);
    expect(parameters[3]).toBe(parameters[0]);
  });
});

describe("images for a frozen network", () => {
  const point = (step: number, loss: number, probability: number) => ({ step, loss, probability });
  const given: Parameters<typeof inputQuestions>[0] = {
    course: [point(0, 4, 0.1), point(1, 2, 0.3), point(10, 0.2, 0.95), point(500, 0.01, 0.999)],
    likeness: { starts: 0.01, found: 0.3 },
    recognised: [{ digit: 0, noise: [1, 1], before: [0, 0], real: [1, 1] }],
    priors: [
      { name: "gradient descent alone", robust: false, transfer: 0.2 },
      { name: "blur", robust: false, transfer: 0.5 },
      { name: "jitter", robust: false, transfer: 0.1 },
      { name: "gradient descent alone", robust: true, transfer: 0.9 },
      { name: "blur", robust: true, transfer: 0.8 },
    ],
    balance: {
      ...{ target: "2: 50 %, 3: 50 %", final: [0, 0, 0.29, 0.65, 0.06, 0, 0, 0, 0, 0], asked: [2, 3], steps: 10 },
      ...{ swing: 0.15, miss: 0.21, settled: { met: 10, count: 10, bar: 0.01 } },
    },
    change: {
      text: "7 to 2",
      course: [
        { step: 0, answer: 7, confidence: 0.999 },
        { step: 2, answer: 2, confidence: 0.93 },
      ],
      smallest: { step: 2, l2: 1.234, pixels: 77 },
    },
    noise: [
      { name: "a", favourite: 8, favouriteShare: 0.97, favouriteConfidence: 0.49 },
      { name: "b", favourite: 8, favouriteShare: 0.5, favouriteConfidence: 0.4 },
    ],
    noiseImages: 1000,
  };
  const said = (asked: RegExp, more: Partial<typeof given> = {}) =>
    answer(inputQuestions({ ...given, ...more }), asked);

  test("loss and picture: where half of the fall is, and whether it gets sure", () => {
    expect(said(/develop/)).toMatch(
      /step 0: 4.0000, 10.0 %; step 1: 2.0000, 30.0 %; step 10: .*Half of the fall is over by step 1\. 99 % is reached in the mean by step 500/,
    );
    expect(said(/develop/, { course: given.course.slice(0, 3) })).toContain("99 % is not reached in the mean.");
  });

  test("the start decides much, most, and little", () => {
    const verdict = (found: number) => said(/start decide/, { likeness: { starts: 0, found } });
    expect(verdict(0.8)).toContain("0.80 on average in the end, their starts by 0.00: the digit decides more");
    expect(verdict(0.3)).toContain("the start decides most, the digit some");
    expect(verdict(0.01)).toContain("the start decides nearly all");
  });

  test("priors that help, and none", () => {
    expect(said(/prior helps/)).toMatch(
      /plain classifier 20 % without any; blur helps most, 50 %.*robust classifier 90 % without any; no prior helps.* 70.00 points more recognisable/,
    );
  });

  test("the balance: a vector, jumps beside what may be missed, and whether it was mended", () => {
    expect(said(/balance hard/)).toMatch(
      /after 10 steps 2: 0.290 and 3: 0.650, all other digits 0.060 .*\(0.000, 0.000, 0.290, .*moves by 0.15 on average, 15 times .*: all 10 images are within 0.01 then\.$/,
    );
    const settled = { met: 3, count: 10, bar: 0.01 };
    expect(said(/balance hard/, { balance: { ...given.balance!, settled } })).toMatch(/3 of 10 images are within 0.01/);
  });

  test("a change: step by step, the smallest, and one that does not come about", () => {
    expect(said(/7 to 2/)).toBe(
      "The first one: step 0: a 7 with 99.9 %; step 2: a 2 with 93.0 %. The smallest change of all starts that suffices has an L2 length of 1.23 after 2 steps; it moves 77 pixels of 784 by more than a tenth.",
    );
    const { smallest: _, ...none } = given.change!;
    expect(said(/7 to 2/, { change: none })).toContain("None of the starts is taken for the new digit");
  });

  test("noise: networks that agree, some that do, and none", () => {
    expect(said(/to noise/)).toContain("a takes 97.0 % for an 8, 49 % sure on average. b says so most often, too.");
    const other = { name: "c", favourite: 2, favouriteShare: 0.6, favouriteConfidence: 0.5 };
    expect(said(/to noise/, { noise: [...given.noise, other] })).toContain("b agrees, the others do not: c says 2.");
    expect(said(/to noise/, { noise: [given.noise[0]!, other] })).toContain("No other network agrees: c says 2.");
  });
});

describe("adversarial examples", () => {
  const example = (from: string, to: string, given: Partial<ExampleDistance> = {}): ExampleDistance => ({
    ...{ from, to, fooled: true, l2: 2, linf: 0.3, changed: 0.1, ...given },
  });
  const examples = [example("0", "1", { l2: 1 }), example("0", "2", { l2: 3 }), example("7", "1", { l2: 2 })];
  const said = (asked: RegExp, given: readonly ExampleDistance[]) =>
    answer(exampleQuestions({ examples: given, nearestSample: 8, confidence: 0.9 }), asked);
  const none = examples.map((each) => ({ ...each, fooled: false }));

  test("distances of those that fool, and of none", () => {
    expect(said(/How far/, examples)).toBe(
      "3 of 3 are answered with the class wanted, 90 % sure or more: 2.00 away in L2 on average, from 1.00 (0 as 1) to 3.00 (0 as 2), and 0.300 in L∞.",
    );
    expect(said(/How far/, none)).toMatch(/^None of 3/);
  });

  test("what a person would notice", () => {
    expect(said(/person notice/, examples)).toMatch(/^10.0 % .* is 25 % of that .*: yes, as dirt/);
    expect(said(/person notice/, [example("0", "1", { changed: 0.001 })])).toContain("hardly, without the original");
    expect(said(/person notice/, [example("0", "1", { l2: 6 })])).toContain("the picture may be in doubt");
    expect(said(/person notice/, none)).toBe("There is no example to notice.");
  });

  test("hardest classes: the farthest, and before them those that fail", () => {
    expect(said(/hardest/, examples)).toBe(
      "As a target hardest are 2 (3.00 in L2) and 1 (1.50 in L2), easiest is 1 (1.50 in L2). As an original 0 (2.00 in L2) is hardest to change, 7 (2.00 in L2) easiest.",
    );
    expect(said(/hardest/, [...examples, example("7", "3", { fooled: false })])).toMatch(/hardest are 3 \(1 failure\)/);
  });
});

describe("robust classifiers", () => {
  const defence = (name: string, given: Partial<DefenceFigures> = {}): DefenceFigures => ({
    ...{ name, clean: 0.99, linf: 0, l2: 0.2, fooled: 45, count: 45, meanL2: 2, stepMs: 10, ...given },
  });
  const robust = defence("L∞ adversary", { clean: 0.98, linf: 0.9, l2: 0.7, fooled: 40, meanL2: 4, stepMs: 25 });
  const study = (...defences: readonly DefenceFigures[]) => [
    { name: "MNIST", trained: "L∞ 0.3", other: "L2 2", defences },
  ];

  test("a defence that holds and costs something, and one that fails", () => {
    const held = robustQuestions(study(defence("plain"), robust));
    expect(answer(held, /makes the robust/)).toContain(
      "leaves it 90.00 % right, the plain one 0.00 %: 90.00 points more.",
    );
    expect(answer(held, /cost/)).toBe(
      "MNIST: 1.00 points of accuracy without an attack, and 2.5 times the time of a training step.",
    );
    expect(answer(held, /not trained on/)).toBe(
      "MNIST: PGD in L2 2 leaves 70.00 % (plain: 20.00 %), so there it holds; 40 of 45 generators succeed (plain: 45), at 2.00 times the distance.",
    );
    expect(held).toHaveLength(3);
    const failed = robustQuestions(study(defence("plain"), defence("L∞ adversary", { stepMs: undefined })));
    expect(answer(failed, /makes the robust/)).toContain("the defence has failed");
    expect(answer(failed, /cost/)).toBe("MNIST: no accuracy without an attack.");
    expect(answer(failed, /not trained on/)).toMatch(
      /so there it does not hold; all 45 generators succeed, which know no/,
    );
  });

  test("several defences: one that is best in both balls, and one in each", () => {
    const noise = defence("Gaussian noise", { linf: 0.01, l2: 0.5 });
    const all = robustQuestions(study(defence("plain"), robust, noise));
    expect(answer(all, /compare/)).toMatch(
      /Gaussian noise: 99.0 % .*1.0 % and 50.0 %.* L∞ adversary is best in both balls\.$/,
    );
    const l2 = defence("L2 adversary", { linf: 0.4, l2: 0.9 });
    expect(answer(robustQuestions(study(defence("plain"), robust, l2)), /compare/)).toContain(
      "In L∞ 0.3 L∞ adversary is best, in L2 2 L2 adversary",
    );
  });
});

describe("denoising", () => {
  const levels = [0, 0.25, 0.5, 0.75, 1];
  const curves = { noisy: [0.99, 0.8, 0.4, 0.2, 0.05], denoised: [0.95, 0.94, 0.8, 0.3, 0.1] };
  const layers = layerRows(zooArchitecture(autoencoder));
  const given = {
    ...{ layers, encoderLayers: 3, loss: 0.12, cleanEntropy: 0.07, levels, curves, crossing: 0.1 },
    ...{ classifier: "sgd-cnn", trainedLevel: 0.4 },
    codes: [
      { kind: "real codes", sure: 0.9, met: 0.95 },
      { kind: "standard normal", sure: 0.1 },
      { kind: "one digit", sure: 0.8, met: 0.85 },
    ],
  };
  const said = (asked: RegExp, more: Partial<typeof given> = {}) =>
    answer(denoisingQuestions({ ...given, ...more }), asked);

  test("levels are read off between points", () => {
    expect(fallsTo(levels, curves.noisy, 0.5)).toBeCloseTo(0.25 + 0.25 * 0.75);
    expect(fallsTo(levels, [0.4, 0.3, 0.2, 0.1, 0.1], 0.5)).toBe(0);
    expect(fallsTo(levels, [0.9, 0.9, 0.9, 0.9, 0.9], 0.5)).toBeUndefined();
    expect(denoisingStops(levels, curves)).toMatchObject({ meets: "chance" });
    expect(denoisingStops(levels, curves)!.level).toBeCloseTo(0.975);
    const again = { noisy: [0.99, 0.8, 0.4, 0.3, 0.3], denoised: [0.95, 0.94, 0.8, 0.3, 0.3] };
    expect(denoisingStops(levels, again)).toMatchObject({ meets: "noisy" });
    const never = { noisy: [0.5, 0.5, 0.5, 0.5, 0.5], denoised: [0.9, 0.9, 0.9, 0.9, 0.9] };
    expect(denoisingStops(levels, never)).toBeUndefined();
    expect(denoisingStops(levels, { noisy: never.denoised, denoised: never.noisy })).toBeUndefined();
  });

  test("parts and loss are those of the network", () => {
    expect(said(/parts/)).toContain("from 784 pixels to a code of 96 values");
    expect(said(/parts/)).toContain("12 % as many values");
    expect(said(/loss/)).toMatch(/ends at 0.1200; .* exactly 0.0700, .* 92 % of what can be learned/);
  });

  test("hard, stopping and paying, and where they do not come about", () => {
    expect(said(/hard to recognise/)).toBe(
      "For sgd-cnn, by less than 50 % right answers: noisy from 0.44 on, denoised from 0.65 on.",
    );
    expect(said(/stop working/)).toContain("At a noise of 0.97 the denoised curve meets chance");
    const never = { noisy: [0.9, 0.9, 0.9, 0.9, 0.9], denoised: [0.8, 0.8, 0.8, 0.8, 0.8] };
    expect(said(/hard to recognise/, { curves: never })).toContain("noisy at no level, denoised at no level");
    expect(said(/stop working/, { curves: never })).toContain("At none of the levels up to 1");
    expect(said(/pay/)).toMatch(/^From 0.100 on\. .* costs 4.0 points\. It gains most at 0.5, \+40.0 points\.$/);
    expect(said(/pay/, { curves: never })).toContain("At no level");
    const { crossing: _, ...without } = given;
    const questions = denoisingQuestions({ ...without, crossing: undefined });
    expect(answer(questions, /pay/)).toMatch(/^From the start/);
  });

  test("random codes that are digits, and that are not", () => {
    expect(said(/random codes/)).toMatch(
      /90 % .* 80 % \(one digit\) to 10 % .*: the decoder draws digits where.* in 85 %/,
    );
    const codes = given.codes.map((each) => ({ ...each, sure: 0.9 }));
    expect(said(/random codes/, { codes })).toContain("almost as often as real ones");
  });

  test("the diagram has a bar for every layer and says what each is", () => {
    const svg = autoencoderDiagram(layers, 3, "loss: <that>");
    expect(svg.match(/<rect/g)).toHaveLength(5);
    for (const text of ["image with noise, 784 pixels", "the code: dense 96, relu", "dense 784, sigmoid", "encoder"]) {
      expect(svg).toContain(text);
    }
    expect(svg).toContain("loss: &lt;that&gt;");
  });
});

describe("emotions", () => {
  const given = {
    classes: [
      { name: "happy", count: 10, recall: 0.9 },
      { name: "fear", count: 10, recall: 0.1 },
      { name: "disgust", count: 0, recall: Number.NaN },
    ],
    ...{ accuracy: 0.58, standardError: 0.012, human: 0.65, faceMs: 8, facesPerSecond: 120, modelFile: "emotion.h5" },
    finder: { milliseconds: 36, found: 0.82 },
  };
  const said = (asked: RegExp, more: Partial<Parameters<typeof emotionQuestions>[0]> = {}) =>
    answer(emotionQuestions({ ...given, ...more }), asked);

  test("by emotion, without those that have no face, and what is below chance", () => {
    expect(said(/each emotion/)).toBe(
      "happy 90 % and fear 10 % of their faces are recognised. fear below chance, 33 %.",
    );
    expect(said(/each emotion/, { classes: given.classes.slice(0, 1) })).toContain("happy below chance, 100 %");
  });

  test("beside people: worse, the same, and better", () => {
    expect(said(/people/)).toMatch(/58.0 % .* −7.0 points: it is worse than people\.$/);
    expect(said(/people/, { accuracy: 0.66 })).toContain("no more than chance");
    expect(said(/people/, { accuracy: 0.7 })).toContain("better than people are said to be");
  });

  test("speed with and without a finder, fluent and not", () => {
    expect(said(/How fast/)).toMatch(
      /36 ms more \(82 % are found\), together 23 frames a second: continuous to the eye/,
    );
    expect(said(/How fast/, { finder: { milliseconds: 400, found: 0.5 } })).toContain("not continuous");
    expect(said(/How fast/, { finder: undefined })).toContain("no face finder");
    expect(said(/Python/)).toContain('load_model("emotion.h5", compile=False).predict(pixels)');
  });
});
