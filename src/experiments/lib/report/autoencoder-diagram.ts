// The autoencoder as a picture: from the noisy image at the top through the narrow code to the clean image, each layer
// a bar as wide as it has values. SVG text, readable on a phone, in the colours of the page.
import { html } from "../../../io/markup.js";
import type { LayerRow } from "./layer-table.js";

const [WIDTH, ROW, BAR] = [380, 58, 18] as const;
/** Of the widest bar; the brackets at the side take the rest. */
const WIDEST = 250;
/** Labels are a little wider than the widest bar. */
const MIDDLE = WIDEST / 2 + 16;

/** @param encoderLayers how many of the layers encode */
export function autoencoderDiagram(layers: readonly LayerRow[], encoderLayers: number, loss: string): string {
  const code = layers[encoderLayers - 1]!.name;
  const drawn = layers.filter(({ parameters }) => parameters > 0);
  const pixels = drawn.at(-1)!.outputShape.at(-1)!;
  const rows = [
    { size: pixels, text: `image with noise, ${pixels} pixels` },
    ...drawn.map(({ name, outputShape, activation }, i) => {
      const size = outputShape.at(-1)!;
      const what = name === code ? "the code: dense" : i === drawn.length - 1 ? "clean image: dense" : "dense";
      return { size, text: `${what} ${size}, ${activation ?? "linear"}` };
    }),
    { size: 0, text: loss },
  ];
  const codeRow = 1 + drawn.findIndex(({ name }) => name === code);
  const [top, height] = [6, 6 + rows.length * ROW - 20];
  const y = (row: number) => top + row * ROW;
  const bars = rows.map(({ size, text }, row) => {
    const width = WIDEST * (size / pixels) ** 0.5;
    const last = row === rows.length - 1;
    return html`<g><text x="${MIDDLE}" y="${y(row) + (last ? 14 : BAR + 16)}" text-anchor="middle">${text}</text>${
      size > 0
        ? html`<rect x="${MIDDLE - width / 2}" y="${y(row)}" width="${width}" height="${BAR}" rx="3" class="${row === codeRow ? "code" : "bar"}"/>`
        : undefined
    }${row > 0 ? html`<path d="M${MIDDLE} ${y(row) - 16}v11m-4 -4l4 4l4 -4" class="line"/>` : undefined}</g>`;
  });
  const bracket = (from: number, to: number, text: string) => {
    const [start, end] = [y(from), y(to) + BAR];
    return html`<g><path d="M${WIDEST + 36} ${start}h8v${end - start}h-8" class="line"/><text x="${WIDEST + 50}" y="${(start + end) / 2 + 4}">${text}</text></g>`;
  };
  const style =
    ".kilograd-diagram{width:100%;max-width:480px;font:13px system-ui,sans-serif;color:inherit}.kilograd-diagram text{fill:currentColor}" +
    ".kilograd-diagram .line{fill:none;stroke:currentColor;stroke-width:1.4}.kilograd-diagram .bar{fill:#7a93b8}.kilograd-diagram .code{fill:#d55e00}";
  return html`<svg class="kilograd-diagram" role="img" aria-label="The layers of the autoencoder" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}"><style>${style}</style>${bars}${bracket(1, codeRow, "encoder")}${bracket(codeRow + 1, drawn.length, "decoder")}</svg>`
    .text;
}
