// Every operation on both WebGPU profiles against the float64 reference, values and gradients, on random shapes.
import { expect, it } from "vitest";
import { cast, mul, sub, tanh, where } from "../../src/autograd/ops/elementwise.js";
import { cpu, describeProfiles, expectParity, withSmallBindings } from "../support.js";
import { Draw, type Operation, operations, titleOf } from "./operations.js";

/** The reference is that of other files, too. */
const liveBefore = cpu.memory().liveCount;

/** Random cases of a row of the table. */
const roundsOf = ({ slow }: Operation) => (slow ? 2 : 4);

it("compares at least 200 random shapes", () => {
  const shapes = new Set<string>();
  for (const operation of operations) {
    for (let seed = 0; seed < roundsOf(operation); seed++) {
      const { inputs } = operation.draw(new Draw(seed, titleOf(operation), true));
      shapes.add(`${operation.op} ${inputs.map(({ shape }) => `[${shape}]`)}`);
    }
  }
  expect(shapes.size).toBeGreaterThanOrEqual(200);
});

describeProfiles((device) => {
  for (const operation of operations) {
    const title = titleOf(operation);
    it(title, async () => {
      for (let seed = 0; seed < roundsOf(operation); seed++) {
        const { fn, inputs, note } = operation.draw(new Draw(seed, title, true));
        await expectParity(device(), fn, inputs, { label: `${title}, seed ${seed}, ${note ?? ""}` });
      }
    });
  }

  it("elementwise operations on tensors larger than a binding", async () => {
    const small = withSmallBindings(device(), 4096);
    const random = new Draw(1, "windows", true);
    for (const shape of [[1023], [5001], [3, 2048]]) {
      const [a, b, c] = [random.normal(shape), random.normal(shape), random.ties(shape)];
      await expectParity(small, (x) => tanh(x!), [a]);
      await expectParity(small, (x, y) => mul(x!, y!), [a, b]);
      await expectParity(small, (x) => sub(1, x!), [a]);
      await expectParity(small, (x) => cast(x!, "i32"), [c]);
      await expectParity(small, (x, y, z) => where(x!, y!, z!), [{ ...c, dtype: "i32" }, a, b]);
    }
  });
});

it("nothing is left on the reference", () => {
  expect(cpu.memory().liveCount).toBe(liveBefore);
});
