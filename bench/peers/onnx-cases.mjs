// How many of ONNX's official node cases other engines in JavaScript pass: `node onnx-cases.mjs ENGINE`, which is
// onnxruntime, onnxruntime-webgpu or jax, in this folder after `npm install`. WebGPU is that of Chromium on
// SwiftShader; what ONNX Runtime has no kernel for there it computes in Wasm. The cases are those of
// test/nn/formats/onnx-node-cases.gz; Kilograd's own count is printed by `npx vitest run
// test/nn/formats/onnx-node-cases.test.ts`, by the same tolerances.
//
// A case is attempted where the file has tensors of it, and the engine has their types and all operators. It passes
// where all outputs have their shapes, and values as close as the case says.
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { gunzipSync } from "node:zlib";
import { provideWorkers } from "./workers.mjs";

const content = gunzipSync(readFileSync(new URL("../../test/nn/formats/onnx-node-cases.gz", import.meta.url)));
const length = Number(content.subarray(0, 8).toString());
const { cases } = JSON.parse(content.subarray(8, 8 + length).toString());
const payload = content.subarray(8 + length);
const bytesAt = ([offset, size]) => Uint8Array.from(payload.subarray(offset, offset + size));

/** The model of a case. ONNX Runtime 1.30 takes IR versions up to 13, which differ from 14 in nothing that is here. */
function modelOf({ model }) {
  const bytes = bytesAt(model);
  const [field, version] = bytes;
  if (field === 8 && version > 13) bytes[1] = 13;
  return bytes;
}

const arrays = {
  ...{ float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array },
  ...{ int16: Int16Array, uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array },
  ...{ int64: BigInt64Array, uint64: BigUint64Array, float16: Uint16Array },
};

function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const typed = ({ type, at }) => {
  const array = arrays[type];
  if (array === undefined) throw new Error(`has no elements of ${type}`);
  return new array(bytesAt(at).buffer);
};
const numbersOf = (data, type) => {
  // Later versions of Node have arrays of halves.
  const isBits = type === "float16" && data instanceof Uint16Array;
  return isBits ? Array.from(data, half) : Array.from(data, Number);
};

/** Runs in the page: a session of a model, and what it gives. Arrays go and come as lists of numbers. */
const inPage = {
  async begin(script) {
    const ort = await import(script);
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "fatal";
    globalThis.ort = ort;
    const adapter = await navigator.gpu?.requestAdapter();
    return adapter ? `${adapter.info.vendor} ${adapter.info.architecture}` : undefined;
  },
  async create(model) {
    const options = { executionProviders: ["webgpu"], logSeverityLevel: 4 };
    globalThis.session = await ort.InferenceSession.create(Uint8Array.from(model), options);
    return [session.inputNames, session.outputNames];
  },
  async run(inputs) {
    const feeds = inputs.map(([name, type, shape, bytes]) => {
      const arrays = {
        float16: globalThis.Float16Array,
        uint64: BigUint64Array,
        int64: BigInt64Array,
        bool: Uint8Array,
      };
      const names = { float32: "Float32Array", float64: "Float64Array", int8: "Int8Array", uint8: "Uint8Array" };
      Object.assign(names, { int16: "Int16Array", uint16: "Uint16Array", int32: "Int32Array", uint32: "Uint32Array" });
      const array = arrays[type] ?? globalThis[names[type]];
      return [name, new ort.Tensor(type, new array(Uint8Array.from(bytes).buffer), shape)];
    });
    const found = await session.run(Object.fromEntries(feeds));
    const results = [];
    for (const name of session.outputNames) {
      const data = Array.from(await found[name].getData(), (each) => String(Number(each)));
      results.push({ shape: [...found[name].dims], data });
    }
    await session.release();
    return results;
  },
};

/** ONNX Runtime Web on WebGPU, in a page of Chromium. */
async function inChromium() {
  const { chromium } = await import("playwright-core");
  const dist = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
  const kinds = { ".mjs": "text/javascript", wasm: "application/wasm" };
  const server = createServer(({ url }, response) => {
    const path = new URL(`.${url.split("?")[0]}`, dist);
    response.setHeader("content-type", kinds[url.slice(-4)] ?? "text/html");
    response.end(url === "/" ? "<!doctype html>" : existsSync(path) ? readFileSync(path) : "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await chromium.launch({
    executablePath: process.env.KILOGRAD_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
  });
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const adapter = await page.evaluate(inPage.begin, "/ort.webgpu.min.mjs");
  if (adapter === undefined) throw new Error("Chromium has no WebGPU adapter");
  console.log(`Chromium ${browser.version()}, ${adapter}`);
  return async (model, { inputs, outputs }) => {
    for (const each of [...inputs, ...outputs]) typed(each); // Has its elements.
    const [names] = await page.evaluate(inPage.create, [...model]);
    return async () => {
      const feeds = names.map((name, i) => [name, inputs[i].type, inputs[i].shape, [...bytesAt(inputs[i].at)]]);
      const found = await page.evaluate(inPage.run, feeds);
      return found.map(({ shape, data }) => ({ shape, data: data.map(Number) }));
    };
  };
}

/** By engine: takes a model, and gives what runs it on a case's inputs: outputs with shape and numbers, in order. */
const engines = {
  async onnxruntime() {
    const ort = await import("onnxruntime-web");
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "fatal";
    return async (model, { inputs, outputs }) => {
      const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 4 });
      return async () => {
        const feeds = Object.fromEntries(
          session.inputNames.map((name, i) => {
            const { type, shape } = inputs[i];
            const data = typed(inputs[i]);
            const halves = type === "float16" && typeof Float16Array !== "undefined";
            return [name, new ort.Tensor(type, halves ? new Float16Array(data.buffer) : data, shape)];
          }),
        );
        const found = await session.run(feeds);
        const results = session.outputNames.map((name, i) => ({
          shape: found[name].dims,
          data: numbersOf(found[name].data, outputs[i].type),
        }));
        await session.release();
        return results;
      };
    };
  },
  "onnxruntime-webgpu": inChromium,
  async jax() {
    provideWorkers();
    const jax = await import("@jax-js/jax");
    await jax.init("wasm");
    jax.defaultDevice("wasm");
    const { ONNXModel } = await import("@jax-js/onnx");
    const dtypes = {
      float32: "float32",
      int32: "int32",
      uint32: "uint32",
      bool: "bool",
      float16: "float16",
      int64: "int32",
    };
    return async (bytes, { inputs }) => {
      const model = new ONNXModel(bytes);
      return async () => {
        const names = model.model.graph.input.map(({ name }) => name);
        const feeds = Object.fromEntries(
          names.map((name, i) => {
            const { type, shape } = inputs[i];
            if (dtypes[type] === undefined) throw new Error(`has no elements of ${type}`);
            const data = numbersOf(typed(inputs[i]), type);
            const flat = type === "bool" ? data.map(Boolean) : data;
            return [name, jax.numpy.array(flat, { shape, dtype: dtypes[type] })];
          }),
        );
        const found = model.run(feeds);
        const results = [];
        for (const { name } of model.model.graph.output) {
          const { shape } = found[name];
          results.push({ shape, data: Array.from(await found[name].data(), Number) });
        }
        return results;
      };
    };
  },
};

function differs(found, { outputs, rtol, atol }) {
  for (const [i, expected] of outputs.entries()) {
    const { shape, data } = found[i];
    if (`${shape}` !== `${expected.shape}`) return `output ${i} is [${shape}], expected [${expected.shape}]`;
    for (const [k, right] of numbersOf(typed(expected), expected.type).entries()) {
      const close = Number.isFinite(right)
        ? Math.abs(data[k] - right) <= atol + rtol * Math.abs(right)
        : Object.is(data[k], right);
      if (!close) return `output ${i}: element ${k} is ${data[k]}, expected ${right}`;
    }
  }
  return undefined;
}

const [engine, verbose] = process.argv.slice(2);
if (!Object.hasOwn(engines, engine ?? "")) {
  console.error(`Usage: node onnx-cases.mjs ${Object.keys(engines).join("|")} [--verbose]`);
  process.exit(2);
}
const take = await engines[engine]();
let [passed, attempted] = [0, 0];
for (const each of cases) {
  if (each.leftOut !== undefined) continue;
  let stage = "not taken";
  let problem;
  try {
    const run = await take(modelOf(each), each);
    stage = "failed";
    problem = differs(await run(), each);
  } catch (error) {
    problem = `${error?.message ?? error}`;
    if (/Unsupported ONNX operation|has no elements/.test(problem)) stage = "not taken";
  }
  if (stage === "failed") attempted++;
  if (problem === undefined) passed++;
  else if (verbose === "--verbose") console.log(`${each.name}: ${stage}: ${problem.split("\n")[0].slice(0, 200)}`);
}
console.log(`${engine}: ${passed} pass, ${attempted} attempted, ${cases.length} in all`);
process.exit(0);
