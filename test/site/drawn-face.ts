// A face that is drawn: the pictures of people that the networks were trained on are not the project's to give away.

interface Size {
  readonly width: number;
  readonly height: number;
}

/** A wall that is brighter on one side, as grey bytes. */
export function emptyRoom({ width, height }: Size): Uint8Array {
  return Uint8Array.from({ length: width * height }, (_, i) => 120 + Math.round((50 * (i % width)) / width));
}

/** A face on the wall, in a square of `side` pixels at (x, y). */
export function drawnFace(
  size: Size,
  at: { readonly x: number; readonly y: number; readonly side: number },
): Uint8Array {
  const pixels = emptyRoom(size);
  /** An ellipse at (u, v) of the square, from -1 to 1, `soft` at its edge. */
  const ellipse = (u: number, v: number, wide: number, tall: number, grey: number, soft = 0.15) => {
    for (let row = 0; row < size.height; row++) {
      for (let column = 0; column < size.width; column++) {
        const [p, q] = [(2 * (column - at.x)) / at.side - 1, (2 * (row - at.y)) / at.side - 1];
        const distance = Math.hypot((p - u) / wide, (q - v) / tall);
        const cover = Math.min(1, Math.max(0, (1 + soft / 2 - distance) / soft));
        const i = row * size.width + column;
        pixels[i] = Math.round(cover * grey + (1 - cover) * pixels[i]!);
      }
    }
  };
  ellipse(0, -0.1, 0.98, 1.15, 45, 0.1);
  ellipse(0, 0.1, 0.8, 0.98, 190, 0.2);
  ellipse(0.45, 0.2, 0.3, 0.6, 165, 1.6);
  for (const side of [-1, 1]) {
    ellipse(0.36 * side, -0.12, 0.24, 0.15, 120, 0.8);
    ellipse(0.36 * side, -0.1, 0.16, 0.08, 230, 0.3);
    ellipse(0.36 * side, -0.1, 0.075, 0.08, 20, 0.3);
    ellipse(0.36 * side, -0.3, 0.24, 0.045, 60, 0.6);
    ellipse(0.1 * side, 0.3, 0.06, 0.04, 90, 0.8);
  }
  ellipse(0.04, 0.1, 0.09, 0.25, 215, 1.2);
  ellipse(0, 0.57, 0.32, 0.09, 95, 0.5);
  ellipse(0, 0.56, 0.26, 0.02, 40, 0.8);
  return pixels;
}
