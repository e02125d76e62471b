// Models of stored configurations.
import { Architecture, type BuildOptions } from "./architecture.js";
import type { Model } from "./model.js";
import type { ModelConfig } from "./model-config.js";
import { partsOfConfig } from "./stored-parts.js";

/** @throws UsageError for what is not a stored configuration */
export function architectureFromConfig(config: ModelConfig): Architecture {
  return new Architecture(...partsOfConfig(config));
}

/** A model of a stored configuration, with new weights. */
export function fromConfig(config: ModelConfig, options: BuildOptions): Model {
  return architectureFromConfig(config).build(options);
}
