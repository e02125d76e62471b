// What an adapter's matrix units multiply, for devices of mixed precision; loaded with the first of them.
import { DeviceError } from "../tensor/errors.js";
import { MATRIX_FEATURES, type MatrixUnits } from "./family.js";

/** Experimental, and therefore not in @webgpu/types: the sizes of matrices that the adapter multiplies. */
export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/**
 * The largest float16 matrices with float32 sums that the adapter multiplies, with subgroups of one fixed size.
 * @throws DeviceError where it has none, naming what is missing
 */
export function matrixUnits({ info, features }: Pick<GPUAdapter, "info" | "features">): MatrixUnits {
  const known = info as GPUAdapterInfo & { readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  const configs = [...(known.subgroupMatrixConfigs ?? [])];
  const fitting = configs.filter((c) => c.componentType === "f16" && c.resultComponentType === "f32");
  const missing = MATRIX_FEATURES.find((name) => !(features as ReadonlySet<string>).has(name));
  const reason =
    missing !== undefined
      ? `lacks the feature ${missing}`
      : fitting.length === 0
        ? `multiplies no f16 matrices with f32 sums (${configs.map((c) => `${c.componentType} to ${c.resultComponentType}`).join(", ") || "no matrices at all"})`
        : info.subgroupMinSize !== info.subgroupMaxSize
          ? `has subgroups of ${info.subgroupMinSize} to ${info.subgroupMaxSize} lanes instead of one size`
          : undefined;
  if (reason !== undefined) {
    throw new DeviceError(
      "LIMIT",
      `openDevice: precision "mixed" needs matrix units for float16, but ${info.description || info.device || "this adapter"} ${reason}; update its driver or use precision "float32"`,
    );
  }
  const size = (c: SubgroupMatrixConfig) => c.M * c.N * c.K;
  const { M, N, K } = fitting.reduce((a, b) => (size(b) > size(a) ? b : a));
  return { m: M, n: N, k: K, lanes: info.subgroupMaxSize! };
}
