// Figures as people read them, for the terminal and for reports.

/** 0.98765 as "98.77 %". Never rounds to 100 % what is less. */
export function percent(share: number, digits = 2): string {
  const text = (100 * share).toFixed(digits);
  const clipped = share < 1 && Number(text) === 100 ? (100 - 10 ** -digits).toFixed(digits) : text;
  return `${clipped} %`;
}

/** The difference of two shares in percentage points with its sign: "+0.12 points". */
export function points(difference: number, digits = 2): string {
  return `${difference < 0 ? "−" : "+"}${Math.abs(100 * difference).toFixed(digits)} points`;
}

/** "12.3 ms", "0.45 ms", "2.1 s". */
export function milliseconds(ms: number): string {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toPrecision(ms >= 100 ? 3 : 2)} ms`;
}

/** "42 s", "3 min 05 s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** "345 MiB". */
export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

/** "1 image", "1,200 images". */
export function counted(count: number, singular: string, plural = `${singular}s`): string {
  return `${count.toLocaleString("en-US")} ${count === 1 ? singular : plural}`;
}

/** "a", "a and b", "a, b and c". */
export function listed(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** A loss with as many decimals as tell something: "0.0352", "3.1e-5". */
export function lossText(loss: number): string {
  return loss !== 0 && Math.abs(loss) < 1e-3 ? loss.toExponential(1) : loss.toFixed(4);
}

/** A number of any size with two digits: "1.2", "0.034", "1.2e-7", "3.4e15". */
export function twoDigits(value: number): string {
  const size = Math.abs(value);
  if (value === 0 || !Number.isFinite(value)) return String(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(2)));
  return value.toExponential(1).replace("e+", "e");
}

/** Values by option. */
export type CommandOptions = Readonly<Record<string, string | number | boolean | undefined | readonly string[]>>;

/**
 * A `kilograd` command as a shell takes it. Options that are undefined or false are left out, those that are true have
 * no value, lists repeat the option.
 * @example commandText(["run", "digits"], { seed: 1, set: ["models=[\"mlp-64\"]"] })
 */
export function commandText(words: readonly string[], options: CommandOptions): string {
  const parts = Object.entries(options).flatMap(([name, value]) => {
    if (value === undefined || value === false) return [];
    if (value === true) return [`--${name}`];
    return [value].flat().flatMap((each) => [`--${name}`, quoted(String(each))]);
  });
  return ["kilograd", ...words.map(quoted), ...parts].join(" ");
}

const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
