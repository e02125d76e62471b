// What several dispatches bind as one dispatch: which memory is bound once, and where in it each of them finds its own.
import type { DispatchCommand } from "../commands.js";
import { type Binding, type GpuView, overlap, positionOf } from "../program.js";
import { isOnlyIndexed, numbersOf } from "../wgsl-text.js";

type Part = Pick<DispatchCommand, "dispatch" | "program">;

/** Where a part finds what it binds: in which of the bindings, and from which element on. */
export interface Place {
  readonly index: number;
  readonly start: number;
}

export interface SharedBindings {
  readonly bindings: Binding[];
  /** Of the bindings of each part. */
  readonly places: Place[][];
}

/** Memory that is bound once. */
interface Range {
  readonly view: GpuView;
  readonly type: string;
  readonly written: boolean;
}

/**
 * The bindings of all parts together: memory that is written must be bound once, with all that overlaps it. Undefined
 * where parts see such memory as arrays of different types, or not as arrays.
 */
export function sharedBindings(parts: readonly Part[]): SharedBindings | undefined {
  let ranges: Range[] = [];
  for (const { dispatch } of parts) {
    for (const { view, type, access } of dispatch.bindings) {
      let range: Range = { view, type, written: access === "read_write" };
      // What it joins may meet others.
      for (let met = ranges.filter(meets(range)); met.length > 0; met = ranges.filter(meets(range))) {
        if (met.some((other) => other.type !== type)) return undefined;
        const all = [range, ...met];
        range = { view: union(all.map(({ view }) => view)), type, written: all.some(({ written }) => written) };
        ranges = ranges.filter((other) => !met.includes(other));
      }
      ranges.push(range);
    }
  }
  const bindings = ranges.map(
    ({ view, type, written }, index): Binding => ({
      ...{ name: `memory${index}`, view, type },
      access: written ? "read_write" : "read",
    }),
  );
  const places = parts.map(({ dispatch }) =>
    dispatch.bindings.map(({ view, type }): Place => {
      const there = ranges.findIndex((range) => range.type === type && beginsAs(range.view, view));
      const index = there >= 0 ? there : ranges.findIndex((range) => range.type === type && contains(range.view, view));
      return { index, start: (positionOf(view) - positionOf(ranges[index]!.view)) / (4 * numbersOf(type)) };
    }),
  );
  const movable = parts.every(({ program: { text }, dispatch }, k) =>
    dispatch.bindings.every(
      ({ name }, i) => places[k]![i]!.start === 0 || isOnlyIndexed(`${text.declarations ?? ""} ${text.body}`, name),
    ),
  );
  return movable ? { bindings, places } : undefined;
}

const sameMemory = (a: GpuView, b: GpuView) => a.buffer.root === b.buffer.root;
const beginsAs = (a: GpuView, b: GpuView) => sameMemory(a, b) && positionOf(a) === positionOf(b);

/** Whether two ranges are the same, or cannot be bound beside each other. */
const meets = (a: Range) => (b: Range) =>
  (a.type === b.type && beginsAs(a.view, b.view)) || ((a.written || b.written) && overlap(a.view, b.view));

const endOf = (view: GpuView) => positionOf(view) + view.byteLength;

const contains = (whole: GpuView, part: GpuView) =>
  sameMemory(whole, part) && positionOf(whole) <= positionOf(part) && endOf(part) <= endOf(whole);

/** The smallest view that holds all of some. */
function union(views: readonly GpuView[]): GpuView {
  const first = views.reduce((a, b) => (positionOf(b) < positionOf(a) ? b : a));
  return { ...first, byteLength: Math.max(...views.map(endOf)) - positionOf(first) };
}
