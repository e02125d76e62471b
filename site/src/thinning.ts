// Curves that grow for hours: what is kept of their points, so that a day's training is drawn as quickly as a minute's.

/** Points of a line that are kept; a drawing is hardly wider in pixels. */
export const MOST_POINTS = 600;

/** Where there are more than {@link MOST_POINTS}, every second one goes. The first and the last stay. */
export function thinned<T>(points: T[]): T[] {
  const last = points.length - 1;
  return points.length > MOST_POINTS ? points.filter((_, i) => i % 2 === 0 || i === last) : points;
}
