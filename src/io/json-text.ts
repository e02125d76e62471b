// JSON out alone, without the schemas of json.ts: layers keep their configurations to what JSON has.
import { UsageError } from "../tensor/errors.js";
import { describe } from "../tensor/options.js";

/** JSON.stringify whose faults are errors of the library. @throws UsageError, whose message begins with `owner` */
export function jsonText(
  owner: string,
  value: unknown,
  replacer?: (key: string, part: unknown) => unknown,
  indent?: number,
): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value, replacer, indent);
  } catch (cause) {
    // Cycles, bigints, nesting beyond the stack, texts beyond what a string holds, and whatever a toJSON() threw.
    throw new UsageError(`${owner}: cannot be written as JSON: ${(cause as Error).message}`, { cause });
  }
  if (json === undefined) throw new UsageError(`${owner}: needs a value that JSON has, got ${describe(value)}`);
  return json;
}
