// What a task in a worker is refused with when its deadline is over, in Node and in a page.
import { DataError } from "../tensor/errors.js";

export const noAnswer = (owner: string, seconds: number): DataError =>
  new DataError(`${owner}: no answer within ${seconds} s; it is damaged in a way that its library never ends`);
