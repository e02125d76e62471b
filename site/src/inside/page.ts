// The page "Look inside": a model's layers, its answers for a picture, and what its channels look for.
import { element, html } from "../dom.js";
import { picture } from "../picture.js";
import { onClick, showProblem, startPage } from "../shell.js";
import type { Description } from "./looking.js";
import type { InsideService } from "./service.js";

interface Events {
  readonly remark: string;
  readonly feature: { readonly step: number; readonly image: Float32Array };
}

const status = element("status");
const layer = element<HTMLSelectElement>("layer");
const [activations, feature] = ["activations", "feature"].map((id) => element<HTMLButtonElement>(id)) as [
  HTMLButtonElement,
  HTMLButtonElement,
];
const worker = await startPage<InsideService, Events>("inside");
let model: Description | undefined;
let image: Float32Array | undefined;

/** [height, width, 1 or 3], where the model takes pictures. */
function pictureShape(): [height: number, width: number, channels: 1 | 3] {
  const [height, width, channels] = model?.inputShape ?? [];
  if (model?.inputShape.length === 3 && (channels === 1 || channels === 3)) return [height!, width!, channels];
  throw new Error(`the model takes inputs [${model?.inputShape}], which are no grey or coloured pictures`);
}

function show(place: string, values: Float32Array, label: string, range?: "signed"): void {
  const [height, width, channels] = pictureShape();
  const grey =
    channels === 3 && range === "signed"
      ? Float32Array.from(
          { length: height * width },
          (_, i) => values[3 * i]! + values[3 * i + 1]! + values[3 * i + 2]!,
        )
      : values;
  const drawn = { width, height, label, channels: range === "signed" ? 1 : channels, ...(range && { range }) } as const;
  const canvas = picture(grey, drawn);
  canvas.className = "seen";
  element(place).replaceChildren(canvas);
}

/** The pixels of a file in [0, 1], in the model's size. */
async function pixelsOf(file: Blob): Promise<Float32Array> {
  const [height, width, channels] = pictureShape();
  const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d")!;
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: height * width * channels }, (_, i) => {
    const at = 4 * Math.floor(i / channels);
    if (channels === 3) return data[at + (i % 3)]! / 255;
    return (0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!) / 255;
  });
}

function showModel(found: Description): void {
  model = found;
  image = undefined;
  for (const id of ["seen", "answers", "attribution", "channels", "features"]) element(id).replaceChildren();
  layer.replaceChildren(...found.layers.map(({ name }) => html("option", {}, name)));
  layer.disabled = feature.disabled = false;
  activations.disabled = true;
  const head = ["layer", "", "gives", "parameters"].map((title) => html("th", { scope: "col" }, title));
  const rows = found.layers.map(({ name, className, outputShape, parameters }) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, name),
      ...[className, outputShape.join(" x "), parameters.toLocaleString("en")].map((text) => html("td", {}, text)),
    ),
  );
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...rows));
  element("table").replaceChildren(table);
  status.textContent = `${found.name}: ${found.layers.length} layers, ${found.parameters.toLocaleString("en")} parameters, inputs ${found.inputShape.join(" x ")}.`;
}

if (worker !== undefined) {
  worker.on("remark", (text) => {
    status.textContent += ` ${text}.`;
  });
  worker.on("feature", ({ step, image: values }) => {
    show("features", values, `what channel ${element<HTMLInputElement>("channel").value} of ${layer.value} looks for`);
    status.textContent = `Step ${step}`;
  });
  const whenChosen = (id: string, take: (files: readonly File[]) => Promise<void>) =>
    element<HTMLInputElement>(id).addEventListener("change", async ({ target }) => {
      element("problem").hidden = true;
      try {
        const files = [...((target as HTMLInputElement).files ?? [])];
        if (files.length > 0) await take(files);
      } catch (error) {
        showProblem((error as Error).message);
      }
    });
  whenChosen("model", async (files) => {
    status.textContent = "Reading the model …";
    // What names the other files comes first.
    const sorted = [...files].sort(
      (a, b) => Number(/\.(json|onnx)$/.test(b.name)) - Number(/\.(json|onnx)$/.test(a.name)),
    );
    const bytes = await Promise.all(
      sorted.map(async (file) => [file.name, new Uint8Array(await file.arrayBuffer())] as const),
    );
    showModel(await worker.call("load", Object.fromEntries(bytes)));
  });
  whenChosen("picture", async ([file]) => {
    image = await pixelsOf(file!);
    show("seen", image, "the picture");
    const { outputs, strongest, saliency } = await worker.call("look", image);
    const best = [...outputs.keys()].sort((a, b) => outputs[b]! - outputs[a]!).slice(0, 5);
    const rows = best.map((index) => {
      const cells = [html("th", { scope: "row" }, `output ${index}`), html("td", {}, outputs[index]!.toPrecision(4))];
      return html("tr", {}, ...cells);
    });
    element("answers").replaceChildren(html("table", {}, html("tbody", {}, ...rows)));
    show("attribution", saliency, `what output ${strongest} rests on`, "signed");
    activations.disabled = false;
  });
  onClick(element<HTMLButtonElement>("example"), async () => showModel(await worker.call("example")));
  onClick(activations, async () => {
    const { height, width, maps } = await worker.call("activations", image!, layer.value);
    const drawn = maps.map((values, i) => {
      const canvas = picture(values, { width, height, range: "signed", label: `channel ${i} of ${layer.value}` });
      canvas.className = height === 1 ? "strip" : "digit";
      return canvas;
    });
    element("channels").replaceChildren(...drawn);
  });
  onClick(feature, async () => {
    const channel = element<HTMLInputElement>("channel");
    if (channel.reportValidity()) await worker.call("feature", layer.value, Number(channel.value));
  });
}
