// What is told of a model read from Keras that is not quite the same here.

/** What does not come over from Keras, layer by layer. Answers are the same without it, or nearly. */
export class Remarks {
  private readonly lacking: string[] = [];
  private readonly policies = new Map<string, string>();

  constructor(private readonly path: string) {}

  /** Something that only training needs. */
  lacks(layer: string, what: string): void {
    this.lacking.push(`${what} of layer "${layer}"`);
  }

  /** A precision other than float32. */
  computes(layer: string, policy: string): void {
    this.policies.set(policy, this.policies.get(policy) ?? layer);
  }

  sentences(): string[] {
    const { path, lacking, policies } = this;
    return [
      ...[...policies].map(
        ([policy, layer]) =>
          `${path}: Keras computes its layers in ${policy} ("${layer}" is the first); here they are computed in the device's ` +
          "precision, float32 by default, so that answers differ by rounding",
      ),
      ...(lacking.length === 0
        ? []
        : [`${path}: answers as in Keras, but training it further would lack the ${lacking.join(", the ")}`]),
    ];
  }
}
