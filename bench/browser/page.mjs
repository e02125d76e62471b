// The page of bench:browser: Kilograd and TensorFlow.js in one page, which ../browser.ts asks for one thing after the
// other.

import { openDevice } from "../../src/index.ts";
import { predict } from "../../src/nn/evaluate.ts";
import { architectureFromConfig } from "../../src/nn/from-config.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { packed, TASK_FILES, taskOf } from "../packed.ts";
import { contend } from "../peers/tfjs-contender.mjs";
import { makeSubject, settled } from "../subject.ts";

// As its makers built it, not bundled: the threads of its Wasm backend are started from the text of a function, which
// does not run once a bundler has renamed what it calls.
for (const name of ["core", "layers", "backend-webgpu", "backend-wasm"]) {
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `/tfjs/tfjs-${name}/dist/tf-${name}.es2017.min.js`;
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => reject(new Error(`${script.src} does not load`)));
    document.head.append(script);
  });
}
const { tf } = globalThis;
tf.wasm.setWasmPaths(new URL("/tfjs/tfjs-backend-wasm/dist/", location.href).href);
tf.wasm.setThreadsCount(navigator.hardwareConcurrency);

async function fetched(name) {
  const response = await fetch(`/task/${name}`);
  if (!response.ok) throw new Error(`/task/${name}: ${response.status}`);
  return response;
}

async function readTask() {
  const spec = await (await fetched("task.json")).json();
  const files = TASK_FILES.map(async (name) => new Uint8Array(await (await fetched(name)).arrayBuffer()));
  return taskOf(spec, await Promise.all(files));
}

/** Pictures of a prediction, and how many are given at once. */
const PICTURES = 1024;
const pictures = ({ spec, inputs }) => inputs.subarray(0, (PICTURES * inputs.length) / (spec.batch * spec.batches));

async function kilograd(task, profile) {
  const device = await openDevice("webgpu", profile === "auto" ? {} : { profile });
  const says = `profile ${device.profile.family}, ${device.profile.lanes ?? "no"} lanes`;
  if (task.spec.kind === "predict") {
    const model = architectureFromConfig(task.spec.model).build({
      device,
      weights: (name, { shape }) => tensor(device, task.weights.get(name), { shape }),
    });
    const once = async () => (await predict(model, pictures(task), { batchSize: task.spec.batch })).data;
    return { says, end: () => device.destroy(), ...predicting(once) };
  }
  const subject = makeSubject(device, task);
  let warm;
  return {
    says,
    check: (rates) => subject.check(rates),
    run: async (steps) => {
      await (warm ??= settled(subject, task.spec.timedSteps));
      return subject.run(steps);
    },
    end: async () => {
      await subject.end();
      device.destroy();
    },
  };
}

function predicting(once) {
  return {
    check: async () => ({ losses: [], result: Float32Array.from(await once()) }),
    async run(steps) {
      const begun = performance.now();
      for (let i = 0; i < steps; i++) await once();
      return { ms: performance.now() - begun, steps };
    },
  };
}

async function tfjs(task, backend) {
  const use = async () => {
    if (!(await tf.setBackend(backend))) throw new Error(`tfjs has no backend ${backend} here`);
    await tf.ready();
  };
  await use();
  const training = contend(tf, tf, { ...task, spec: { ...task.spec, kind: "train" } }, packed);
  const { batch, model } = task.spec;
  const once = async () => {
    const all = pictures(task);
    const each = all.length / PICTURES;
    const parts = [];
    // As its own `predict` does: batch by batch, read at the end.
    for (let at = 0; at < PICTURES; at += batch) {
      const count = Math.min(batch, PICTURES - at);
      parts.push(
        tf.tidy(() => {
          const x = tf.tensor(all.subarray(at * each, (at + count) * each), [count, ...model.inputShape]);
          return tf.softmax(training.model.predict(x, { batchSize: count }));
        }),
      );
    }
    const values = await Promise.all(parts.map((part) => part.data()));
    for (const part of parts) part.dispose();
    return packed(values);
  };
  const contender = task.spec.kind === "predict" ? predicting(once) : training;
  return {
    says: `tfjs ${tf.version_core ?? tf.version["tfjs-core"]}`,
    check: async (rates) => use().then(() => contender.check(rates)),
    run: async (steps) => use().then(() => contender.run(steps)),
    end: async () => use().then(() => training.model.dispose()),
  };
}

const makers = {
  "Kilograd, WebGPU": (task) => kilograd(task, "auto"),
  "Kilograd, software": (task) => kilograd(task, "software"),
  "Kilograd, hardware": (task) => kilograd(task, "hardware"),
  "tfjs, WebGPU": (task) => tfjs(task, "webgpu"),
  "tfjs, Wasm": (task) => tfjs(task, "wasm"),
};
const running = new Map();

globalThis.bench = {
  async adapter() {
    const adapter = await navigator.gpu?.requestAdapter();
    const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter?.info ?? {};
    return {
      vendor,
      architecture,
      device,
      description,
      subgroupMinSize,
      subgroupMaxSize,
      isolated: crossOriginIsolated,
    };
  },
  async start(name) {
    running.set(name, await makers[name](await readTask()));
    return running.get(name).says;
  },
  async check(name, rates) {
    const { losses, result } = await running.get(name).check(rates);
    return { losses: [...losses], result: [...result] };
  },
  run: (name, steps) => running.get(name).run(steps),
  async end(name) {
    const contender = running.get(name);
    running.delete(name);
    await contender?.end();
  },
};
