// The page "Draw": a pad, and what two networks say of it while it is drawn on.
import { element, html } from "../dom.js";
import { picture } from "../picture.js";
import { onClick, showProblem, startPage } from "../shell.js";
import { Pen } from "./pen.js";
import type { Changed, Reading } from "./reading.js";
import type { DrawService } from "./service.js";

const networks = ["plain", "robust"] as const;
const status = element("status");
const side = { width: 28, height: 28 } as const;
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

const worker = await startPage<DrawService, Record<string, never>>("draw");

function showReading(place: HTMLElement, { probabilities }: Reading): void {
  if (place.childElementCount === 0) {
    for (let digit = 0; digit < 10; digit++) {
      const meter = html("meter", { min: 0, max: 1, value: 0, "aria-label": `digit ${digit}` });
      place.append(html("span", {}, String(digit)), meter, html("output"));
    }
  }
  for (const [digit, share] of probabilities.entries()) {
    const [, meter, output] = [...place.children].slice(3 * digit, 3 * digit + 3) as [
      Element,
      HTMLMeterElement,
      HTMLOutputElement,
    ];
    meter.value = share;
    output.value = percent(share);
  }
}

function showChanged(place: HTMLElement, found: Readonly<Record<(typeof networks)[number], Changed>>): void {
  place.replaceChildren(
    ...networks.map((network) => {
      const { image, digit, probabilities, distance } = found[network];
      const caption = `${network}: ${digit}, ${percent(probabilities[digit]!)}; changed by ${distance.toFixed(2)}`;
      const canvas = picture(image, { ...side, label: caption });
      canvas.className = "digit";
      return html("figure", {}, canvas, html("figcaption", {}, caption));
    }),
  );
}

if (worker !== undefined) {
  let reading = false;
  let again = false;
  const pad = element<HTMLCanvasElement>("pad");
  const pen = new Pen(pad, () => {
    picture(pen.pixels, { ...side, label: pad.ariaLabel! }, pad);
    pad.setAttribute("role", "application");
    void readNow();
  });
  /** Reads the pad; what is drawn meanwhile is read once, afterwards. */
  async function readNow(): Promise<void> {
    again = true;
    if (reading) return;
    reading = true;
    try {
      while (again) {
        again = false;
        const image = Float32Array.from(pen.pixels);
        if (image.every((value) => value === 0)) {
          status.textContent = "Nothing is drawn yet.";
          continue;
        }
        const { attribution, ...readings } = await worker!.call("read", image);
        for (const network of networks) showReading(element(network), readings[network]);
        const { digit, probabilities } = readings.robust;
        const label = `what speaks for ${digit}`;
        const place = element("attribution");
        const canvas = picture(
          attribution,
          { ...side, range: "signed", label },
          place.querySelector("canvas") ?? undefined,
        );
        canvas.className = "digit";
        if (canvas.parentElement === null) place.append(canvas);
        status.textContent = `The plain network says ${readings.plain.digit}, the robust one ${digit} (${percent(probabilities[digit]!)}).`;
      }
    } catch (error) {
      showProblem((error as Error).message);
    } finally {
      reading = false;
    }
  }
  const drawn = () => {
    if (pen.pixels.every((value) => value === 0)) throw new Error("Draw a digit first, or take one of the test set.");
    return Float32Array.from(pen.pixels);
  };
  let sample = 0;
  element("clear").addEventListener("click", () => pen.clear());
  onClick(element<HTMLButtonElement>("sample"), async () => pen.set(await worker.call("sample", sample++)));
  onClick(element<HTMLButtonElement>("change"), async () => {
    const target = element<HTMLInputElement>("target");
    if (!target.reportValidity()) return;
    showChanged(element("changed"), await worker.call("change", drawn(), Number(target.value)));
  });
  const epsilon = element<HTMLInputElement>("epsilon");
  epsilon.addEventListener("input", () => {
    element<HTMLOutputElement>("epsilon-value").value = Number(epsilon.value).toFixed(2);
  });
  epsilon.addEventListener("change", async () => {
    try {
      element("problem").hidden = true;
      showChanged(element("attacked"), await worker.call("attack", drawn(), Number(epsilon.value)));
    } catch (error) {
      showProblem((error as Error).message);
    }
  });
  status.textContent = "Nothing is drawn yet.";
}
