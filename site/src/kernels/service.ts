// What the worker of the page "Kernels" answers.

import { measureCeilings } from "../../../src/experiments/lib/training/profile.js";
import { openDevice } from "../../../src/index.js";
import { tell } from "../channel.js";
import { measure } from "./measuring.js";

export const service = {
  async measure(): Promise<{ readonly adapter: string; readonly ceilings: string }> {
    const device = await openDevice("webgpu");
    try {
      await measure(device, (row) => tell("row", row));
      const { vendor, architecture, description } = device.adapter.info;
      const names = [vendor, architecture, description].filter((name) => name !== "").join(", ");
      const adapter = `${names || "unnamed"}, kernels for the ${device.profile.family} family`;
      // They need the adapter's own clock.
      const ceilings = await measureCeilings(device).then(
        ({ gflops, gbs }) => `${gflops.toFixed(1)} GFLOP/s, ${gbs.toFixed(1)} GB/s`,
        (error: Error) => `not measured: ${error.message}`,
      );
      return { adapter, ceilings };
    } finally {
      device.destroy();
    }
  },
};
export type KernelsService = typeof service;
