// A matrix that is nowhere stored. Row (n, oy, ox) is the window of an image that a convolution's output pixel sees, as
// it lies in memory (im2col without the copy). Where a window starts and where its elements lie add up, because windows
// lie whole inside the image:
//
//   address = start(n, oy, ox) + offset(ky, kx, ci)
//
// A product advances from row to row like an odometer. All in vec4s.

export interface WindowRows {
  /** Windows of an image: rows of them, and windows in a row. */
  readonly height: number;
  readonly width: number;
  /** Elements from a window to the next in a row, from a row of windows to the next, from an image to the next. */
  readonly step: number;
  readonly rowStep: number;
  readonly imageStep: number;
  /** Elements of a window that lie side by side (kw Cin), and from the first of them to those of the next line. */
  readonly segment: number;
  readonly segmentStep: number;
}

/** The uniforms; every length is a multiple of 4. Jumps may be negative and arrive as two's complement. */
export function windowSizes({ height, width, step, rowStep, imageStep, segment, segmentStep }: WindowRows) {
  return {
    windowsDown: height,
    windowsAcross: width,
    windowStep: step / 4,
    windowRow: rowStep / 4,
    windowImage: imageStep / 4,
    windowRowJump: (rowStep - width * step) / 4,
    windowImageJump: (imageStep - height * rowStep) / 4,
    segment: segment / 4,
    segmentJump: (segmentStep - segment) / 4,
  };
}

/** WGSL that declares `ia`, where row `row` begins, and the odometer; `base` is that of the whole matrix. */
export const startWindows = (base: string, row: string) => /* wgsl */ `
  let windowsEach = u.windowsDown * u.windowsAcross;
  var windowY = ${row} % windowsEach / u.windowsAcross;
  var windowX = ${row} % windowsEach % u.windowsAcross;
  var ia = ${base} + ${row} / windowsEach * u.windowImage + windowY * u.windowRow + windowX * u.windowStep;`;

/** WGSL that moves `ia` on to the next row. */
export const NEXT_WINDOW = /* wgsl */ `{
  windowX += 1u;
  let across = windowX == u.windowsAcross;
  windowX = select(windowX, 0u, across);
  windowY += u32(across);
  let down = windowY == u.windowsDown;
  windowY = select(windowY, 0u, down);
  ia += u.windowStep + select(0u, u.windowRowJump, across) + select(0u, u.windowImageJump, down);
}`;

/** WGSL of where the vec4 with number `quad` of a window lies. */
export const inWindow = (quad: string) => `(${quad} + (${quad}) / u.segment * u.segmentJump)`;
