// What the worker of the page "Faces" answers. Its networks are fetched with the first picture.
import { openDevice } from "../../../src/index.js";
import { loadNetwork } from "../networks.js";
import { Eye, type Seen } from "./seeing.js";

let eye: Promise<Eye> | undefined;
/** A picture waits for the one before. */
let last: Promise<unknown> = Promise.resolve();

async function open(): Promise<Eye> {
  const device = await openDevice("webgpu");
  const [finder, emotion] = await Promise.all([loadNetwork("finder", device), loadNetwork("emotion", device)]);
  return new Eye({ finder, emotion });
}

/** Grey bytes: luma of ITU-R BT.601. */
function greyOf(picture: ImageBitmap) {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.drawImage(picture, 0, 0);
  picture.close();
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = Uint8ClampedArray.from(
    { length: width * height },
    (_, i) => 0.299 * data[4 * i]! + 0.587 * data[4 * i + 1]! + 0.114 * data[4 * i + 2]!,
  );
  return { width, height, pixels };
}

export const service = {
  look(picture: ImageBitmap, next: boolean): Promise<Seen | undefined> {
    eye ??= open();
    const opened = eye;
    const seen = last.then(async () => (await opened).look(greyOf(picture), { next }));
    last = seen.catch(() => {});
    return seen;
  },
};
export type FacesService = typeof service;
