// What a run of "emotion" answers: how good it is by class and beside people, how fast, and how the file is used.
import { listed, milliseconds, percent, points } from "../text.js";
import type { Question } from "./questions.js";

export function emotionQuestions({
  classes,
  accuracy,
  standardError,
  human,
  faceMs,
  facesPerSecond,
  modelFile,
  finder,
}: {
  /** Share of an emotion's faces that are recognised; NaN where there are none. */
  readonly classes: readonly { readonly name: string; readonly count: number; readonly recall: number }[];
  readonly accuracy: number;
  readonly standardError: number;
  /** Published, of people on the whole data set. */
  readonly human: number;
  readonly faceMs: number;
  readonly facesPerSecond: number;
  readonly modelFile: string;
  readonly finder: { readonly milliseconds: number; readonly found: number } | undefined;
}): Question[] {
  return [
    { question: "How good is it for each emotion?", answer: classesText(classes), shown: "By emotion" },
    {
      question: "How does that compare with people?",
      answer: peopleText(accuracy, standardError, human),
      shown: "Compared",
    },
    {
      question: "How fast is it on a live source?",
      answer: speedText(faceMs, facesPerSecond, finder),
      shown: "Speed and model",
    },
    {
      question: "How is the saved file used from Python?",
      answer: `keras.models.load_model("${modelFile}", compile=False).predict(pixels), with pixels [N, 48, 48, 1] from 0 to 255 as a camera gives them: the model prepares them itself. camera.py beside it does so for a camera, a video or pictures, in twenty lines.`,
      shown: "Speed and model",
    },
  ];
}

function classesText(classes: readonly { name: string; count: number; recall: number }[]): string {
  const present = classes.filter(({ count }) => count > 0).toSorted((a, b) => b.recall - a.recall);
  const chance = 1 / classes.length;
  const poor = present.filter(({ recall }) => recall < chance);
  return `${listed(present.map(({ name, recall }) => `${name} ${percent(recall, 0)}`))} of their faces are recognised. ${
    poor.length === 0 ? "All are above chance" : `${listed(poor.map(({ name }) => name))} below chance`
  }, ${percent(chance, 0)}.`;
}

function peopleText(accuracy: number, standardError: number, human: number): string {
  const difference = accuracy - human;
  const judged =
    Math.abs(difference) <= 2 * standardError
      ? "no more than chance in drawing the faces would make"
      : difference > 0
        ? "it is better than people are said to be"
        : "it is worse than people";
  return `People recognise about ${percent(human, 0)} of all of FER2013 as it is labelled. Here it is ${percent(accuracy, 1)} (standard error ${(100 * standardError).toFixed(1)} points), ${points(difference, 1)}: ${judged}.`;
}

/** Frames a second that look continuous. */
const FLUENT = 10;

function speedText(
  faceMs: number,
  facesPerSecond: number,
  finder: { readonly milliseconds: number; readonly found: number } | undefined,
): string {
  const whole = faceMs + (finder?.milliseconds ?? 0);
  const rate = 1000 / whole;
  return `A face takes ${milliseconds(faceMs)} in the median, ${facesPerSecond.toFixed(0)} a second.${
    finder === undefined
      ? " There is no face finder in this run; without one the middle of the frame is taken."
      : ` Finding it takes ${milliseconds(finder.milliseconds)} more (${percent(finder.found, 0)} are found), together ${rate.toFixed(0)} frames a second: ${rate >= FLUENT ? "continuous to the eye" : "not continuous to the eye"}.`
  }`;
}
