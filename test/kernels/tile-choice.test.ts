// Tiles of the hardware profile: each of them computes right, rolled and unrolled, in every kernel that uses them; and
// products get the one that suits their size.
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { registerTiles } from "../../src/kernels/register-tile.js";
import { planTiles, TILES_FORM } from "../../src/kernels/tile-choice.js";
import type { Tile } from "../../src/kernels/tiled-product.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import type { TuningProfile } from "../../src/webgpu/family.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectParity, randomInput } from "../support.js";

/** The tile that every product gets. */
let forced: Tile | undefined;
vi.mock(import("../../src/kernels/tile-choice.js"), async (original) => {
  const actual = await original();
  return {
    ...actual,
    planTiles: (...sizes: Parameters<typeof planTiles>) => {
      const plan = actual.planTiles(...sizes);
      return forced === undefined ? plan : { ...plan, tile: forced };
    },
  };
});

const random = new RandomStream(5, "tile test");
const rolled = registerTiles({ rolled: true });
const unrolled = registerTiles({ rolled: false });

describe("every tile, hardware profile", () => {
  let device: WebGpuDevice;
  beforeAll(async () => {
    device = await openDevice("webgpu", { profile: "hardware" });
  });
  afterAll(() => device.destroy());
  const withTile = async (tile: Tile, run: () => Promise<unknown>) => {
    forced = tile;
    await run().finally(() => {
      forced = undefined;
    });
  };

  describe.each(rolled.map((tile) => [tile.name, tile] as const))("%s", (_, tile) => {
    it.each([
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ])("multiplies, transposed: %s, %s", async (transposeA, transposeB) => {
      // More than a tile of rows and columns and two steps of k, neither whole.
      const [m, n, k] = [tile.rows + 20, tile.columns + 12, 40];
      await withTile(tile, () =>
        expectParity(
          device,
          (a, b, bias) => matmul(a!, b!, { transposeA, transposeB, bias: bias!, activation: "tanh" }),
          [transposeA ? [k, m] : [m, k], transposeB ? [n, k] : [k, n], [n]].map((shape) => randomInput(random, shape)),
        ),
      );
    });

    it("convolves, with gradients", async () => {
      // 5 x 5 is no business of Winograd's.
      await withTile(tile, () =>
        expectParity(
          device,
          (x, kernel, bias) => conv2d(x!, kernel!, { padding: "same", bias: bias!, activation: "relu" }),
          [[2, 9, 8, 12], [5, 5, 12, 36], [36]].map((shape) => randomInput(random, shape)),
        ),
      );
    });
  });

  it.each(unrolled.filter(({ rows, columns }) => rows * columns <= 64 * 64).map((tile) => [tile.name, tile] as const))(
    "%s gives the same bits unrolled",
    async (name, tile) => {
      const [a, b] = [randomInput(random, [70, 40]), randomInput(random, [40, 68])];
      // Programs of equal names are compiled once on a device.
      const on = async (device: WebGpuDevice) => {
        const [x, y] = [a, b].map(({ values, shape }) => tensor(device, values, { shape }));
        return await matmul(x!, y!).data();
      };
      const other = new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, onProcessor: false });
      const results: ArrayLike<number>[] = [];
      await withTile(rolled.find((tile) => tile.name === name)!, async () => results.push(await on(device)));
      await withTile(tile, async () => results.push(await on(other)));
      expect(results[1]).toEqual(results[0]);
    },
  );
});

describe("planTiles", () => {
  const profile: TuningProfile = {
    family: "hardware",
    maxBindingBytes: 2 ** 31,
    maxStorageBuffers: 16,
    maxWorkgroupBytes: 32768,
  };
  const plan = (rows: number, columns: number, depth: number, { batch = 1, splits = 1, ...rest } = {}) =>
    planTiles({ ...profile, ...rest }, { rows, columns, depth, batch }, splits);

  it("gives large products large tiles, and small ones small tiles", () => {
    expect(plan(4096, 4096, 4096).tile.name).toBe("64x128");
    expect(plan(2048, 256, 256, { batch: 36 }).tile.name).toBe("64x128");
    expect(plan(1000, 1000, 30).tile.name).toBe("64x64");
    expect(plan(100_000, 32, 300).tile.name).toBe("64x32");
    expect(plan(64, 10, 128).tile.name).toBe("32x32");
    // Of a first convolution's kernel: 9 rows.
    expect(plan(9, 96, 100_352, { splits: 392 }).tile.name).toBe("16x64");
  });

  it("cuts a long k where there are few tiles, and no other", () => {
    expect(plan(128, 4096, 9216, { splits: 64 }).splits).toBeGreaterThan(1);
    expect(plan(4096, 4096, 4096, { splits: 32 }).splits).toBe(1);
    expect(plan(128, 4096, 9216).splits).toBe(1);
  });

  it("keeps to what was tuned, and to the adapter's workgroup memory", () => {
    const tuned = (option: string) => ({ ...profile, choices: { [TILES_FORM.name]: option } });
    const size = { rows: 4096, columns: 4096, depth: 4096, batch: 1 };
    expect(planTiles(tuned("up to 64 x 64"), size).tile.name).toBe("64x64");
    expect(planTiles(tuned("up to 32 x 32"), size).tile.name).toBe("32x32");
    expect(planTiles({ ...profile, maxWorkgroupBytes: 12_000 }, size).tile.name).toBe("64x64");
  });

  it("has tiles that fit every adapter", () => {
    for (const { invocations, workgroupBytes } of unrolled) {
      expect(invocations).toBeLessThanOrEqual(256);
      expect(workgroupBytes).toBeLessThanOrEqual(16384);
    }
  });
});
