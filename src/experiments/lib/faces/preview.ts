// `kilograd camera --preview`: a page on this machine that shows the last frame with a box around the face and what is
// said of it. Frames are encoded when a browser asks for one.
import { createHash } from "node:crypto";
import { html, Markup } from "../../../io/markup.js";
import { encodeGrayPng } from "../../../io/png.js";
import { EVENTS, LocalServer, type Served } from "../frame/local-server.js";
import { type Box, cropped, type GreyPicture } from "./crop.js";

/** What is shown with a frame. */
export interface PreviewCaption {
  /** "happy 93 %", "no face" */
  readonly text: string;
  readonly face: Box | null;
  readonly figures: string;
}

/** Width of the pictures that browsers get, in pixels, at most. */
const WIDEST = 640;
/** Milliseconds between two pictures. */
const EVERY_MS = 60;

const style = `:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 16px; max-width: 960px; font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 12px; font-size: 1.2rem; }
.frame { position: relative; line-height: 0; background: #000; }
.frame img { width: 100%; min-height: 120px; }
.box { position: absolute; box-sizing: border-box; border: 3px solid #ffb000; box-shadow: 0 0 0 1px #000; }
.box[hidden] { display: none; }
.said { margin: 12px 0 2px; font-size: 1.6rem; font-weight: 650; }
p { margin: 0; }`;

const script = `const [image, box, said, figures] = ["img", ".box", ".said", ".figures"].map((at) => document.querySelector(at));
const events = new EventSource("${EVENTS}");
events.onmessage = ({ data }) => {
  const { number, width, height, face, text, figures: words } = JSON.parse(data);
  const next = new Image();
  next.onload = () => {
    image.src = next.src;
    box.hidden = face === null;
    if (face !== null) {
      const share = (value, of) => 100 * value / of + "%";
      Object.assign(box.style, { left: share(face.x, width), top: share(face.y, height),
        width: share(face.width, width), height: share(face.height, height) });
    }
    said.textContent = text;
    figures.textContent = words;
  };
  next.src = "/frame.png?" + number;
};
events.onerror = () => { figures.textContent = "The camera has ended."; };`;

const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'sha256-${createHash("sha256").update(script).digest("base64")}'">
<title>kilograd camera</title>
<style>${new Markup(style)}</style>
</head>
<body>
<h1>kilograd camera</h1>
<div class="frame"><img alt="The last frame"><div class="box" hidden></div></div>
<p class="said" aria-live="polite"></p>
<p class="figures">Waiting for a frame.</p>
<script>${new Markup(script)}</script>
</body>
</html>
`.text;

/** The page while it is served. */
export class Preview {
  private server!: LocalServer;
  private last: GreyPicture | undefined;
  private number = 0;
  private shownAt = Number.NEGATIVE_INFINITY;

  private constructor() {}

  /** @param port of this machine; 0 for any free one. @throws UsageError where it cannot be had */
  static async start(port: number): Promise<Preview> {
    const preview = new Preview();
    preview.server = await LocalServer.start((path) => preview.at(path), port, "preview");
    return preview;
  }

  get address(): string {
    return this.server.address;
  }

  /** Shows a frame to who looks on; frames that come faster than pages can follow are passed over. */
  show(frame: GreyPicture, { text, face, figures }: PreviewCaption): void {
    // Pixels are copied, for the source may use their place again.
    const now = performance.now();
    if (this.last !== undefined && now - this.shownAt < EVERY_MS) return;
    this.shownAt = now;
    this.last = { ...frame, pixels: Uint8Array.from(frame.pixels) };
    this.number++;
    const { width, height } = frame;
    this.server.tell(JSON.stringify({ number: this.number, width, height, face, text, figures }));
  }

  close(): Promise<void> {
    return this.server.close();
  }

  private at(path: string): Served | undefined {
    if (path === "/") return { type: "text/html; charset=utf-8", body: page };
    if (path !== "/frame.png" || this.last === undefined) return undefined;
    return { type: "image/png", body: pictureOf(this.last) };
  }
}

/** A frame as PNG, made smaller where it is wide. */
function pictureOf(frame: GreyPicture): Uint8Array {
  const width = Math.min(WIDEST, frame.width);
  const height = Math.max(1, Math.round((frame.height * width) / frame.width));
  const whole = { x: 0, y: 0, width: frame.width, height: frame.height };
  return encodeGrayPng(cropped(frame, whole, { width, height, factor: 1 / 255 }), { width, height });
}
