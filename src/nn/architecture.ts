// The shape of a sequential model without its weights: layers in order, each with its name, its input and output shape and
// its weights' shapes. Costs nothing to make, however large the model; `build` allocates.
import { type Device, deviceRule } from "../tensor/device.js";
import { ShapeError, UsageError } from "../tensor/errors.js";
import { array, callable, checkOptions, integer, object, type Rules, string, text } from "../tensor/options.js";
import { randomKey } from "../tensor/random.js";
import { keep } from "../tensor/scope.js";
import { checkShape, formatShape, type Shape, sameShape, sizeOf } from "../tensor/shape.js";
import { checkDevice, requireTensor, type Tensor } from "../tensor/tensor.js";
import { initialize } from "./initializers.js";
import { checkLayers, type Layer, type LayerConfig, type WeightSpec } from "./layer.js";
import { layerFromConfig } from "./layers/registry.js";
import { BoundLayer, Sequential } from "./model.js";
import { countParameters, formatSummary, type ParameterCount, type SummaryRow } from "./summary.js";

export interface ArchitectureOptions {
  /** Shape of one sample, without the batch axis, e.g. [28, 28, 1]. */
  readonly inputShape: Shape;
  /** Default "sequential". */
  readonly name?: string;
}

/** A layer at its place in a model. */
export interface PlacedLayer {
  readonly name: string;
  readonly layer: Layer;
  readonly inputShape: Shape;
  readonly outputShape: Shape;
  readonly weights: readonly WeightSpec[];
}

/** A model as plain data, JSON through and through. */
export interface ModelConfig {
  readonly className: "Sequential";
  readonly name: string;
  readonly inputShape: Shape;
  readonly layers: readonly { readonly className: string; readonly config: LayerConfig }[];
}

export interface BuildOptions {
  readonly device: Device;
  /** Every weight's initial values derive from it, and dropout; default 0. */
  readonly seed?: number;
  /** Instead of initial values: the weight of this name (`conv2d/kernel`), which the model takes over. */
  readonly weights?: (name: string, spec: WeightSpec) => Tensor;
}

const architectureRules: Rules<ArchitectureOptions> = { inputShape: array, name: text };
const buildRules: Rules<BuildOptions> = { device: deviceRule, seed: integer(), weights: callable };
const sequentialRules: Rules<ArchitectureOptions & BuildOptions> = { ...architectureRules, ...buildRules };

/** A layer's weights that inputs are multiplied by. */
const kernelsOf = ({ weights }: PlacedLayer) => weights.filter(({ shape }) => shape.length > 1);

/** Keras's class name in snake case: MaxPooling2D is max_pooling2d. */
export function snakeCase(className: string): string {
  return className
    .replace(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}

/** The architecture of a sequential model. */
export class Architecture {
  readonly name: string;
  readonly inputShape: Shape;
  readonly layers: readonly PlacedLayer[];

  /** @throws ShapeError naming the layer that does not fit, UsageError for a name given twice */
  constructor(options: ArchitectureOptions, layers: readonly Layer[]) {
    const given = checkOptions("architecture", options, architectureRules, ["inputShape"]);
    const { inputShape, name = "sequential" } = given;
    checkShape(name, inputShape);
    checkLayers(name, layers);
    this.name = name;
    this.inputShape = inputShape;
    const taken = new Set(layers.flatMap(({ config }) => config.name ?? []));
    const counts = new Map<string, number>();
    const freeName = (base: string): string => {
      const count = counts.get(base) ?? 0;
      counts.set(base, count + 1);
      const candidate = count === 0 ? base : `${base}_${count}`;
      return taken.has(candidate) ? freeName(base) : candidate;
    };
    const used = new Set<string>();
    let shape = inputShape;
    this.layers = layers.map((layer) => {
      const layerName = layer.config.name ?? freeName(snakeCase(layer.className));
      if (used.has(layerName)) throw new UsageError(`${name}: two layers have the name "${layerName}"`);
      used.add(layerName);
      const placed: PlacedLayer = {
        name: layerName,
        layer,
        inputShape: shape,
        outputShape: fitting(name, layerName, layer, () => layer.outputShape(shape)),
        weights: layer.weights(shape),
      };
      shape = placed.outputShape;
      checkShape(`${name}: layer "${layerName}"`, shape);
      return placed;
    });
  }

  get outputShape(): Shape {
    return this.layers.at(-1)!.outputShape;
  }

  /** Scalars in the weights, as Keras counts them. */
  countParameters(): ParameterCount {
    return countParameters(this.rows());
  }

  /** Multiply-adds of all kernels for one sample, forward. */
  multiplyAdds(): number {
    // A kernel's last axis is the output's: each of the output's positions takes all of it once.
    const ofLayer = (layer: PlacedLayer) =>
      kernelsOf(layer).reduce((sum, { shape }) => sum + (sizeOf(shape) * sizeOf(layer.outputShape)) / shape.at(-1)!, 0);
    return this.layers.reduce((sum, layer) => sum + ofLayer(layer), 0);
  }

  /**
   * Whether steps of `batchSize` samples are so little work that a device opened with `tinyDispatches` is the faster one:
   * `openDevice("webgpu", { tinyDispatches: architecture.hasTinyDispatches(128) })`. Measured on lavapipe with two cores.
   */
  hasTinyDispatches(batchSize: number): boolean {
    return this.multiplyAdds() * batchSize < 1e6 * this.layers.flatMap(kernelsOf).length;
  }

  /** The table that Keras prints. */
  summary(): string {
    return formatSummary(this.name, this.rows());
  }

  /** Everything needed to make it again: `fromConfig(architecture.config())`. */
  config(): ModelConfig {
    return {
      className: "Sequential",
      name: this.name,
      inputShape: this.inputShape,
      layers: this.layers.map(({ name, layer }) => ({ className: layer.className, config: { ...layer.config, name } })),
    };
  }

  /** Allocates the weights on a device and gives them their initial values. */
  build(options: BuildOptions): Sequential {
    const { device, seed = 0, weights } = checkOptions(this.name, options, buildRules, ["device"]);
    const layers = this.layers.map((placed) => {
      const tensors = placed.weights.map((spec) => {
        const name = `${placed.name}/${spec.name}`;
        const tensor = weights?.(name, spec) ?? initialize(device, spec.shape, spec.initializer, randomKey(seed, name));
        requireTensor(this.name, `the weight ${name}`, tensor);
        checkDevice(this.name, device, tensor);
        if (tensor.dtype !== "f32" || !sameShape(tensor.shape, spec.shape)) {
          throw new ShapeError(
            `${this.name}: the weight ${name} must be f32 ${formatShape(spec.shape)}, got ${tensor.dtype} ${formatShape(tensor.shape)}`,
          );
        }
        tensor.name = name;
        return [spec.name, keep(tensor)] as const;
      });
      const bound = new BoundLayer(placed, Object.fromEntries(tensors));
      bound.trainable = placed.layer.config.trainable ?? true;
      return bound;
    });
    return new Sequential({ name: this.name, inputShape: this.inputShape, device, seed }, layers);
  }

  private rows(): SummaryRow[] {
    return this.layers.map((placed) => ({ ...placed, trainable: placed.layer.config.trainable ?? true }));
  }
}

/** Runs `check`; what does not fit is reported with the layer's name. */
function fitting<T>(model: string, name: string, layer: Layer, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(`${model}: layer "${name}" (${layer.className}) ${error.message}`, { cause: error });
  }
}

/** The architecture of a sequential model; `build` makes a model of it, `summary` and `countParameters` need none. */
export function architecture(options: ArchitectureOptions, layers: readonly Layer[]): Architecture {
  return new Architecture(options, layers);
}

/**
 * A model of layers one after the other, with its weights on `device`.
 * @example
 * const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
 *   nn.conv2d({ filters: 24, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2), nn.flatten(), nn.dense({ units: 10 }),
 * ]);
 */
export function sequential(options: ArchitectureOptions & BuildOptions, layers: readonly Layer[]): Sequential {
  const { inputShape, name, ...building } = checkOptions("sequential", options, sequentialRules, [
    "inputShape",
    "device",
  ]);
  return new Architecture({ inputShape, ...(name !== undefined && { name }) }, layers).build(building);
}

const entryRules: Rules<ModelConfig["layers"][number]> = { className: string, config: object };

/** @throws UsageError for what is not a stored configuration */
export function architectureFromConfig(config: ModelConfig): Architecture {
  if (config?.className !== "Sequential" || !Array.isArray(config.layers) || !Array.isArray(config.inputShape)) {
    throw new UsageError('fromConfig: needs a model\'s config(), { className: "Sequential", inputShape, layers }');
  }
  const { inputShape, name, layers } = config;
  return new Architecture(
    { inputShape, name },
    layers.map((entry, i) => {
      const { className, config: layer } = checkOptions(`fromConfig: layers[${i}]`, entry, entryRules, [
        "className",
        "config",
      ]);
      return layerFromConfig(className, layer);
    }),
  );
}

/** A model of a stored configuration, with new weights. */
export function fromConfig(config: ModelConfig, options: BuildOptions): Sequential {
  return architectureFromConfig(config).build(options);
}
