// The page "Depth": gradients by layer, and the loss, of four activations.
import { Chart } from "../chart.js";
import { element, settingsInAddress } from "../dom.js";
import { onClick, startPage } from "../shell.js";
import type { Activation, Depth } from "./deep.js";
import type { DepthService } from "./service.js";

const titles: Readonly<Record<Activation, string>> = {
  ...{ relu: "ReLU", tanh: "tanh", sigmoid: "sigmoid", lecunTanh: "LeCun" },
};
const form = element<HTMLFormElement>("settings");
settingsInAddress(form);
const status = element("status");
const stop = element<HTMLButtonElement>("stop");
const scientific = (value: number) => value.toExponential(1);
const layers = { x: "layer", logarithmic: true, format: scientific } as const;
const charts = {
  untrained: new Chart({ title: "Largest gradient by layer, untrained", ...layers }),
  now: new Chart({ title: "Largest gradient by layer, latest", ...layers }),
  loss: new Chart({ title: "Loss of one batch", x: "step" }),
};
element("charts").append(...Object.values(charts).map(({ figure }) => figure));

const worker = await startPage<DepthService, { depth: Depth }>("depth");
if (worker !== undefined) {
  worker.on("depth", ({ activation, step, loss, gradients }) => {
    const name = titles[activation];
    for (const chart of step === 0 ? [charts.untrained, charts.now] : [charts.now]) {
      chart.set(
        name,
        gradients.map((gradient, layer) => [layer + 1, gradient]),
      );
    }
    charts.loss.add(name, step, loss);
    for (const chart of Object.values(charts)) chart.draw();
    status.textContent = `${name}, step ${step}: loss ${loss.toFixed(4)}, gradient of the first layer ${scientific(gradients[0]!)}, of the last ${scientific(gradients.at(-1)!)}`;
  });
  onClick(element<HTMLButtonElement>("start"), async () => {
    if (!form.reportValidity()) return;
    const values = new FormData(form);
    const [depth, steps, seed] = ["depth", "steps", "seed"].map((name) => Number(values.get(name))) as [
      number,
      number,
      number,
    ];
    for (const chart of Object.values(charts)) chart.clear();
    status.textContent = "Compiling kernels …";
    stop.disabled = false;
    try {
      await worker.call("compare", { depth, steps, seed });
      status.textContent += ". Done.";
    } catch (error) {
      if ((error as Error).message !== "stopped") throw error;
      status.textContent += ". Stopped.";
    } finally {
      stop.disabled = true;
    }
  });
  stop.addEventListener("click", () => void worker.call("stop"));
}
