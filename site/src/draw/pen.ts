// A pen on 28 x 28 pixels: by mouse, finger or keys. Lines have soft edges, as MNIST's digits do.

const SIDE = 28;
/** Radius of the pen, in pixels, and how soft its edge is. */
const [RADIUS, EDGE] = [1.1, 0.9];

export class Pen {
  /** [28, 28], 0 paper, 1 ink. */
  readonly pixels = new Float32Array(SIDE * SIDE);
  private x = SIDE / 2;
  private y = SIDE / 2;
  private down = false;

  constructor(
    private readonly pad: HTMLCanvasElement,
    private readonly changed: () => void,
  ) {
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      this.moveTo(event);
      this.down = true;
      this.lineTo(this.x, this.y);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) this.lineTo(...this.placeOf(event));
    });
    pad.addEventListener("pointerup", () => {
      this.down = false;
    });
    pad.addEventListener("keydown", (event) => this.onKey(event));
  }

  clear(): void {
    this.pixels.fill(0);
    this.changed();
  }

  set(pixels: Float32Array): void {
    this.pixels.set(pixels);
    this.changed();
  }

  private placeOf({ clientX, clientY }: PointerEvent): [number, number] {
    const { left, top, width, height } = this.pad.getBoundingClientRect();
    return [((clientX - left) / width) * SIDE, ((clientY - top) / height) * SIDE];
  }

  private moveTo(event: PointerEvent): void {
    [this.x, this.y] = this.placeOf(event);
  }

  private onKey(event: KeyboardEvent): void {
    const ways: Readonly<Record<string, readonly [number, number]>> = {
      ...{ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] },
    };
    const way = ways[event.key];
    if (event.key === " ") this.down = !this.down;
    else if (way === undefined) return;
    event.preventDefault();
    const inside = (at: number) => Math.min(SIDE - 1, Math.max(0, at));
    const [x, y] = [inside(this.x + (way?.[0] ?? 0)), inside(this.y + (way?.[1] ?? 0))];
    if (this.down) this.lineTo(x, y);
    else [this.x, this.y] = [x, y];
  }

  /** Inks the pixels near the way from where the pen is. */
  private lineTo(x: number, y: number): void {
    const [fromX, fromY] = [this.x, this.y];
    const squared = (x - fromX) ** 2 + (y - fromY) ** 2;
    for (let row = 0; row < SIDE; row++) {
      for (let column = 0; column < SIDE; column++) {
        const [cx, cy] = [column + 0.5, row + 0.5];
        const along = squared === 0 ? 0 : ((cx - fromX) * (x - fromX) + (cy - fromY) * (y - fromY)) / squared;
        const at = Math.min(1, Math.max(0, along));
        const distance = Math.hypot(cx - fromX - at * (x - fromX), cy - fromY - at * (y - fromY));
        const ink = Math.min(1, Math.max(0, (RADIUS + EDGE - distance) / EDGE));
        const place = row * SIDE + column;
        this.pixels[place] = Math.max(this.pixels[place]!, ink);
      }
    }
    [this.x, this.y] = [x, y];
    this.changed();
  }
}
