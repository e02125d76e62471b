// What is seen in a frame: where the face is, and what it shows. The same as `kilograd camera` says of it.
import { fer2013Classes } from "../../../src/data/fer2013-format.js";
import { type Box, cropped, type GreyPicture } from "../../../src/experiments/lib/faces/crop.js";
import { FaceFinder, FaceFollower } from "../../../src/experiments/lib/faces/face-finder.js";
import { FACE_SIDE, FaceClassifier, LEAST_CONFIDENCE } from "../../../src/experiments/lib/faces/faces.js";
import type { nn } from "../../../src/index.js";

export { fer2013Classes as emotions, LEAST_CONFIDENCE };

/** A face, and what it shows. */
export interface Seen {
  readonly box: Box;
  /** The finder's probability that it is a face. */
  readonly faceConfidence: number;
  /** Of each of the emotions. */
  readonly probabilities: readonly number[];
  /** [48, 48] in [0, 1]: the face as the network sees it. */
  readonly pixels: Float32Array;
}

/** Looks at frames, one at a time. */
export class Eye {
  private readonly finder: FaceFinder;
  private readonly classifier: FaceClassifier;
  private follower: FaceFollower;

  constructor({ finder, emotion }: { readonly finder: nn.Model; readonly emotion: nn.Model }) {
    this.finder = new FaceFinder(finder);
    this.follower = new FaceFollower(this.finder);
    // The network takes bytes.
    this.classifier = new FaceClassifier(emotion, (pixels) => pixels.map((value) => 255 * value));
  }

  /** @param frame grey bytes @param next whether it follows the last one, so that a face is held still */
  async look(frame: GreyPicture, { next }: { readonly next: boolean }): Promise<Seen | undefined> {
    if (!next) this.follower = new FaceFollower(this.finder);
    const found = await this.follower.find(frame);
    if (found === undefined) return undefined;
    const pixels = cropped(frame, found.box, { width: FACE_SIDE, height: FACE_SIDE, factor: 1 / 255 });
    const { probabilities } = await this.classifier.answer(pixels);
    return { box: found.box, faceConfidence: found.score, probabilities, pixels };
  }
}
