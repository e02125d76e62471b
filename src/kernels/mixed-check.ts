// Gives openDevice the check of devices of mixed precision, whose code comes with the first of them.
import { provideMixedCheck } from "../webgpu/open.js";

provideMixedCheck(async (device) => (await import("./subgroup-matrix-check.js")).checkMixed(device));
