// The page "Train": settings, curves, kernels, confusion, downloads.
import { Chart } from "../chart.js";
import { element, html, settingsInAddress } from "../dom.js";
import { picture } from "../picture.js";
import { onClick, startPage } from "../shell.js";
import type { TrainService } from "./service.js";
import type { Round } from "./training.js";

const form = element<HTMLFormElement>("settings");
settingsInAddress(form);
const [start, pause, stop] = ["start", "pause", "stop"].map((id) => element<HTMLButtonElement>(id)) as [
  HTMLButtonElement,
  HTMLButtonElement,
  HTMLButtonElement,
];
const status = element("status");
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const charts = {
  loss: new Chart({ title: "Loss", x: "step", logarithmic: true }),
  accuracy: new Chart({
    title: "Accuracy",
    x: "step",
    range: [0, 1],
    format: (share) => `${(100 * share).toFixed(0)} %`,
  }),
  time: new Chart({ title: "Time per step, ms", x: "step" }),
};
element("charts").append(...Object.values(charts).map(({ figure }) => figure));

const worker = await startPage<TrainService, { round: Round }>("train");
const filters: HTMLCanvasElement[] = [];

function showKernels(kernels: Float32Array): void {
  const count = kernels.length / 9;
  const place = element("kernels");
  for (let filter = 0; filter < count; filter++) {
    const values = Float32Array.from({ length: 9 }, (_, i) => kernels[i * count + filter]!);
    const options = { width: 3, height: 3, range: "signed", label: `kernel ${filter + 1} of ${count}` } as const;
    const canvas = picture(values, options, filters[filter]);
    if (filters[filter] === undefined) {
      filters.push(canvas);
      canvas.className = "kernel";
      place.append(canvas);
    }
  }
}

function showConfusion(confusion: Round["confusion"]): void {
  const head = html("tr", {}, html("th", { scope: "col" }, "is \\ said"));
  head.append(...confusion.map((_, said) => html("th", { scope: "col" }, String(said))));
  const rows = confusion.map((counts, is) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, String(is)),
      ...counts.map((count, said) =>
        html("td", { ...(is === said && { class: "right" }) }, count === 0 ? "·" : String(count)),
      ),
    ),
  );
  element("confusion").replaceChildren(html("table", {}, html("thead", {}, head), html("tbody", {}, ...rows)));
}

if (worker !== undefined) {
  worker.on("round", ({ step, steps, loss, accuracy, testAccuracy, stepMs, kernels, confusion }) => {
    charts.loss.add("loss", step, loss);
    charts.accuracy.add("training", step, accuracy);
    charts.accuracy.add("test", step, testAccuracy);
    charts.time.add("step", step, stepMs);
    for (const chart of Object.values(charts)) chart.draw();
    showKernels(kernels);
    showConfusion(confusion);
    status.textContent = `Step ${step} of ${steps}: loss ${loss.toFixed(4)}, test accuracy ${percent(testAccuracy)}, ${stepMs.toFixed(1)} ms a step`;
  });
  const begin = async () => {
    if (!form.reportValidity()) return;
    const values = new FormData(form);
    const settings = Object.fromEntries(
      ["rate", "batch", "count", "epochs", "seed"].map((name) => [name, Number(values.get(name))]),
    );
    for (const chart of Object.values(charts)) chart.clear();
    status.textContent = "Compiling kernels …";
    pause.disabled = stop.disabled = false;
    try {
      await worker.call("train", settings as never);
      status.textContent += ". Done.";
      element("downloads").hidden = false;
    } finally {
      pause.disabled = stop.disabled = true;
      pause.textContent = "Pause";
    }
  };
  onClick(start, begin);
  onClick(stop, () => worker.call("stop"));
  pause.addEventListener("click", async () => {
    const paused = pause.textContent === "Resume";
    await worker.call(paused ? "resume" : "pause");
    pause.textContent = paused ? "Pause" : "Resume";
  });
  const files = element<HTMLInputElement>("files");
  files.addEventListener("change", async () => {
    try {
      const bytes = await Promise.all(
        [...(files.files ?? [])].map(async (file) => new Uint8Array(await file.arrayBuffer())),
      );
      if (bytes.length > 0) status.textContent = `${await worker.call("files", bytes)} digits read.`;
    } catch (error) {
      status.textContent = (error as Error).message;
    }
  });
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-format]")) {
    onClick(button, async () => {
      const format = button.dataset["format"]!;
      const bytes = await worker.call("encode", format);
      const link = html("a", {
        href: URL.createObjectURL(new Blob([bytes as BlobPart])),
        download: `small-cnn.${format}`,
      });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}
