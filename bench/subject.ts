// Our own side of bench:steps and bench:peers: a task run through `fit` or through `optimizeInputs`, as users run them.
import { targetProbabilities } from "../src/inputs/objective.js";
import { optimizeInputs, STEPS_PER_READ, settlingRate } from "../src/inputs/optimise.js";
import { l2 } from "../src/inputs/regularisers.js";
import type { Callback } from "../src/nn/callbacks/callback.js";
import { architectureFromConfig } from "../src/nn/from-config.js";
import { binaryCrossEntropyFromLogits, crossEntropy } from "../src/nn/losses.js";
import type { Model } from "../src/nn/model.js";
import { adam, type Optimizer, sgd } from "../src/nn/optimizers.js";
import type { Device } from "../src/tensor/device.js";
import { tensor } from "../src/tensor/tensor.js";
import { GpuStep } from "../src/webgpu/recorded/step.js";
import { packed } from "./packed.js";
import type { Memory } from "./protocol.js";
import type { Task } from "./workloads.js";

/** What bench:peers asks of a contender. */
export interface Contender {
  /**
   * Takes a step at each of the given learning rates, from the weights or images of the task. Gives each step's loss
   * before it, and what they led to: trained weights one after the other, or images.
   */
  check(rates: readonly number[]): Promise<{ readonly losses: readonly number[]; readonly result: Float32Array }>;
  /** Takes more steps and waits for them; ours a number of its own. Milliseconds in all. */
  run(steps: number): Promise<{ readonly ms: number; readonly steps: number; readonly memory?: Memory }>;
}

/** A task on our engine. */
export interface Subject extends Contender {
  /** Takes steps in a run of their own, whose beginning is like any other's. */
  steps(count: number): Promise<void>;
  end(): Promise<void>;
}

export function makeSubject(device: Device, task: Task): Subject {
  const { spec, weights } = task;
  const build = () =>
    architectureFromConfig(spec.model).build({
      ...{ device, seed: 1 },
      ...(weights && {
        weights: (name, { shape, trainable }) => trainableTensor(device, weights.get(name)!, shape, trainable),
      }),
    });
  return spec.kind === "train" ? new TrainingSubject(build, task) : new OptimizingSubject(build(), task);
}

// Soon: a long training takes most of its steps with merged programs.
GpuStep.mergeAfter = { cached: 3, uncached: 3 };

/** Runs so many steps until all is compiled that a long training compiles on its way, and gives the last run. */
export async function settled(
  subject: Subject,
  steps: number,
): Promise<{ readonly ms: number; readonly steps: number }> {
  await subject.run(Math.max(steps, 8));
  while (GpuStep.merging > 0) await new Promise((resolve) => setTimeout(resolve, 100));
  return subject.run(steps);
}

function trainableTensor(device: Device, values: Float32Array, shape: readonly number[], trainable: boolean) {
  const made = tensor(device, values, { shape });
  made.requiresGrad = trainable;
  return made;
}

class Deferred<T> {
  resolve!: (value: T) => void;
  readonly promise = new Promise<T>((resolve) => {
    this.resolve = resolve;
  });
}

/** A `fit` whose epochs are the timed runs: each waits until it is asked for. */
class TrainingSubject implements Subject {
  private readonly abort = new AbortController();
  private asked = new Deferred<void>();
  private finished = new Deferred<number>();
  private begun = 0;
  private fit: Promise<unknown> | undefined;
  private readonly model: Model;
  /** For steps of their own while the fit waits: a model has one fit at a time. */
  private second: Model | undefined;

  constructor(
    private readonly build: () => Model,
    private readonly task: Task,
  ) {
    this.model = build();
  }

  async check({ length }: readonly number[]) {
    const losses: number[] = [];
    await this.steps(length, { name: "losses", onStepEnd: ({ loss }) => void losses.push(loss) });
    const values: Float32Array[] = [];
    for (const parameter of this.model.parameters()) values.push(Float32Array.from(await parameter.data()));
    return { losses, result: packed(values) };
  }

  async steps(count: number, callback?: Callback): Promise<void> {
    const model = this.fit === undefined ? this.model : (this.second ??= this.build());
    await this.start(model, { maxSteps: count, callbacks: callback === undefined ? [] : [callback] });
  }

  async run() {
    this.fit ??= this.start(this.model, {
      signal: this.abort.signal,
      callbacks: [
        {
          name: "runs",
          onEpochBegin: async () => {
            await this.asked.promise;
            this.asked = new Deferred();
            this.begun = performance.now();
          },
          onEpochEnd: () => this.finished.resolve(performance.now() - this.begun),
        },
      ],
    });
    this.finished = new Deferred();
    this.asked.resolve();
    const ended = this.fit.then((): never => {
      throw new Error("the training has ended");
    });
    return { ms: await Promise.race([this.finished.promise, ended]), steps: this.task.spec.batches };
  }

  async end(): Promise<void> {
    this.abort.abort();
    this.asked.resolve();
    await this.fit;
    this.model.dispose();
    this.second?.dispose();
  }

  private async start(
    model: Model,
    options: { maxSteps?: number; signal?: AbortSignal; callbacks: readonly Callback[] },
  ) {
    const { spec, inputs, targets } = this.task;
    const optimizer = optimizerOf(spec.optimizer);
    try {
      await model.fit(
        { inputs, targets },
        {
          ...{ optimizer, batchSize: spec.batch, shuffle: false, epochs: Number.MAX_SAFE_INTEGER },
          loss: spec.loss === "softmax" ? crossEntropy : binaryCrossEntropyFromLogits,
          ...options,
        },
      );
    } finally {
      optimizer.dispose();
    }
  }
}

function optimizerOf({ name, learningRate }: Task["spec"]["optimizer"]): Optimizer {
  return name === "adam" ? adam({ learningRate }) : sgd({ learningRate });
}

class OptimizingSubject implements Subject {
  constructor(
    private readonly model: Model,
    private readonly task: Task,
  ) {}

  async check({ length }: readonly number[]) {
    const { snapshots, loss } = await this.optimized(length);
    const meanOf = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
    return { losses: loss.map(meanOf), result: snapshots.at(-1)!.images };
  }

  async steps(count: number): Promise<void> {
    await this.optimized(count);
  }

  /** Timed between reads: the first step, which waits for pipelines, and the steps up to the next read are not. */
  async run() {
    const reads: { step: number; at: number }[] = [];
    await this.optimized(1 + STEPS_PER_READ + this.task.spec.timedSteps, ({ step }) => {
      reads.push({ step, at: performance.now() });
    });
    const [begin, end] = [reads[1]!, reads.at(-1)!];
    return { ms: end.at - begin.at, steps: end.step - begin.step };
  }

  async end(): Promise<void> {
    this.model.dispose();
  }

  private optimized(steps: number, onProgress?: (progress: { readonly step: number }) => void) {
    const { spec, inputs, targets } = this.task;
    return optimizeInputs(this.model, {
      ...{ starts: inputs, steps, seed: 1, snapshotEvery: steps },
      objective: targetProbabilities(targets as Float32Array),
      regularizers: spec.l2 > 0 ? [l2(spec.l2)] : [],
      optimizer: adam({ learningRate: settlingRate(spec.optimizer.learningRate, steps) }),
      ...(onProgress && { onProgress }),
    });
  }
}
