// What the page "Look inside" computes of a model and a picture.
import { type nn, noGrad, scope, tensor } from "../../../src/index.js";
import {
  Activations,
  attributions,
  logarithmicSteps,
  objectives,
  optimizeInputs,
  parametrizations,
  regularizers,
  transforms,
} from "../../../src/inputs.js";

/** A model in words. */
export interface Description {
  readonly name: string;
  /** Of one input, [height, width, channels] for pictures. */
  readonly inputShape: readonly number[];
  readonly parameters: number;
  readonly layers: readonly {
    readonly name: string;
    readonly className: string;
    readonly outputShape: readonly number[];
    readonly parameters: number;
  }[];
}

const sizeOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

export function describe(model: nn.Model): Description {
  return {
    name: model.name,
    inputShape: model.inputShape,
    parameters: model.countParameters().total,
    layers: model.layers.map(({ name, placed }) => ({
      name,
      className: placed.layer.className,
      outputShape: placed.outputShape,
      parameters: placed.weights.reduce((total, { shape }) => total + sizeOf(shape), 0),
    })),
  };
}

/** What the model says, and by how much each value of the picture moves its strongest answer. */
export async function look(model: nn.Model, image: Float32Array) {
  const { data } = await model.predict(image);
  const outputs = Float32Array.from(data);
  const strongest = outputs.indexOf(outputs.reduce((a, b) => Math.max(a, b)));
  const { values } = await attributions.saliency(model, image, { target: strongest });
  return { outputs, strongest, saliency: values };
}

/** Maps of a layer's first channels, [channels][height, width]; of a layer without places one row. */
export async function activationsOf(model: nn.Model, image: Float32Array, layer: string, most: number) {
  const output = noGrad(() =>
    scope(() => new Activations(model, tensor(model.device, image, { shape: [1, ...model.inputShape] })).layer(layer)),
  );
  const values = Float32Array.from(await output.data());
  const shape = output.shape.slice(1);
  output.dispose();
  if (shape.length !== 3) return { height: 1, width: values.length, maps: [values] };
  const [height, width, channels] = shape as [number, number, number];
  const maps = Array.from({ length: Math.min(most, channels) }, (_, channel) =>
    Float32Array.from({ length: height * width }, (_, i) => values[i * channels + channel]!),
  );
  return { height, width, maps };
}

/** A picture that a channel answers to, out of noise. */
export async function featureOf(
  model: nn.Model,
  { layer, channel, steps }: { readonly layer: string; readonly channel: number; readonly steps: number },
  tell: (value: { readonly step: number; readonly image: Float32Array }) => void,
): Promise<void> {
  await optimizeInputs(model, {
    objective: objectives.channel(layer, channel),
    parametrization: parametrizations.blurred(parametrizations.pixels(), { sigma: 0.7 }),
    transforms: [transforms.jitter(2)],
    regularizers: [regularizers.totalVariation(1e-4)],
    steps,
    snapshotSteps: logarithmicSteps(steps),
    onSnapshot: ({ step, images }) => tell({ step, image: images }),
  });
}
