// The page "Dream": sliders for a mixture, and the pictures of both networks as they come about.
import { element, html, settingsInAddress } from "../dom.js";
import type { NetworkName } from "../networks.js";
import { picture } from "../picture.js";
import { onClick, startPage } from "../shell.js";
import type { Dream } from "./dreaming.js";
import type { DreamService } from "./service.js";

const form = element<HTMLFormElement>("settings");
settingsInAddress(form);
const status = element("status");
const stop = element<HTMLButtonElement>("stop");
const sliders = Array.from({ length: 10 }, (_, digit) =>
  html("input", { type: "range", min: 0, max: 1, step: 0.05, value: digit === 3 ? 1 : 0, id: `share-${digit}` }),
);
element("mixture").append(...sliders.map((slider, digit) => html("label", {}, `Digit ${digit}`, slider)));

const worker = await startPage<DreamService, { dream: Dream & { readonly network: NetworkName } }>("dream");

if (worker !== undefined) {
  worker.on("dream", ({ network, step, steps, images, probabilities }) => {
    const place = element(network);
    for (let i = 0; i < images.length / 784; i++) {
      const shares = probabilities.subarray(10 * i, 10 * i + 10);
      const digit = shares.indexOf(shares.reduce((a, b) => Math.max(a, b)));
      const caption = `${digit}, ${(100 * shares[digit]!).toFixed(1)} %`;
      const cell =
        place.children[i] ??
        place.appendChild(html("figure", {}, html("canvas", { class: "digit" }), html("figcaption")));
      const options = { width: 28, height: 28, label: `image that the ${network} network takes for ${caption}` };
      picture(images.subarray(784 * i, 784 * (i + 1)), options, cell.querySelector("canvas")!);
      cell.querySelector("figcaption")!.textContent = caption;
    }
    status.textContent = `${network === "plain" ? "Plain" : "Robust"} network: step ${step} of ${steps}`;
  });
  const run = async (targets: readonly (readonly number[])[]) => {
    if (!form.reportValidity()) return;
    const values = new FormData(form);
    for (const id of ["plain", "robust"]) element(id).replaceChildren();
    status.textContent = "Loading two networks, compiling kernels …";
    stop.disabled = false;
    try {
      await worker.call("dream", { targets, steps: Number(values.get("steps")), seed: Number(values.get("seed")) });
      status.textContent = "Done.";
    } catch (error) {
      if ((error as Error).message !== "stopped") throw error;
      status.textContent += ": stopped.";
    } finally {
      stop.disabled = true;
    }
  };
  onClick(element<HTMLButtonElement>("start"), () => {
    const shares = sliders.map(({ value }) => Number(value));
    const total = shares.reduce((a, b) => a + b);
    if (total === 0) throw new Error("Move at least one digit's slider: the network shall say something.");
    return run([shares.map((share) => share / total)]);
  });
  onClick(element<HTMLButtonElement>("all"), () =>
    run(Array.from({ length: 10 }, (_, digit) => Array.from({ length: 10 }, (_, i) => Number(i === digit)))),
  );
  stop.addEventListener("click", () => void worker.call("stop"));
}
