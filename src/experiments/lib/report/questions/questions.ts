// The end of an experiment's report: questions, answered from the run's own figures, and the lines of library code that
// do the same. The answers are pure functions of figures, in the files beside this one.
import type { Report } from "../../../../io/report.js";
import { percent } from "../text.js";

/** A question with what this run's figures say to it. */
export interface Question {
  readonly question: string;
  readonly answer: string;
  /** Title of the report's section that shows it. */
  readonly shown: string;
}

/** Appends "Questions" and "Do it yourself". @param recipe from recipes.ts */
export function addQuestions(report: Report, questions: readonly Question[], recipe: string): void {
  report.section("Questions", (section) => {
    for (const { question, answer, shown } of questions) {
      section.heading(question).text(`${answer} Shown in “${shown}”.`);
    }
  });
  report.section("Do it yourself", (section) => {
    section.text(
      'The same with the library, in few lines and small enough for half a minute. They run as they are; here on digits that the library draws itself, with data.loadDataset("mnist") of kilograd/node on real ones.',
    );
    section.code(recipe);
  });
}

/** "0.12 points more", "0.30 points less", "as much" where it rounds to nothing. */
export function moreOrLess(difference: number, { more = "more", less = "less" } = {}): string {
  const size = percent(Math.abs(difference)).replace(" %", " points");
  return size === "0.00 points" ? "as much" : `${size} ${difference > 0 ? more : less}`;
}

/** "a 7", "an 8". */
export const digitText = (digit: number) => `${digit === 8 ? "an" : "a"} ${digit}`;
