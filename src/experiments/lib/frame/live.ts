// `--live`: a page that grows while a run goes on, served to browsers of this machine only. It shows the parts with
// their progress, the curves so far, and what was said; at the end it becomes the report.
import { lineChart } from "../../../io/charts.js";
import { Report, type TableCell } from "../../../io/report.js";
import { duration, lossText, percent } from "../report/text.js";
import { EVENTS, LocalServer, type Served } from "./local-server.js";

/** Points kept of a curve; beyond, every other one is dropped. */
const MOST_POINTS = 2000;
/** Points drawn of a curve. */
const DRAWN_POINTS = 300;
/** Messages shown, the last ones. */
const MOST_MESSAGES = 30;

interface Part {
  share: number;
  text: string;
  seconds: number | undefined;
}

interface Curve {
  readonly x: number[];
  readonly y: number[];
}

/** What a run has come to so far. Changing it costs next to nothing; it is drawn when a browser asks. */
export class LiveState {
  private readonly parts = new Map<string, Part>();
  private readonly charts = new Map<string, Map<string, Curve>>();
  private readonly messages: string[] = [];
  private readonly begun = performance.now();
  /** What is shown instead of parts and curves. @param events what the page loads itself anew by */
  page: ((events: string) => string | undefined) | undefined;

  constructor(
    private readonly title: string,
    private readonly changed: () => void = () => {},
  ) {}

  /** A part of the run is on its way: 0 to 1, with words. */
  progress(name: string, share: number, text = ""): void {
    this.parts.set(name, { share, text, seconds: undefined });
    this.changed();
  }

  /** A part is finished. */
  finished(name: string, seconds: number): void {
    const { text = "" } = this.parts.get(name) ?? {};
    this.parts.set(name, { share: 1, text, seconds });
    this.changed();
  }

  /** Adds a point to a curve of a chart over steps. Values that are not finite leave gaps. */
  point(chart: string, series: string, step: number, value: number): void {
    let curves = this.charts.get(chart);
    if (curves === undefined) this.charts.set(chart, (curves = new Map()));
    let curve = curves.get(series);
    if (curve === undefined) curves.set(series, (curve = { x: [], y: [] }));
    curve.x.push(step);
    curve.y.push(value);
    if (curve.x.length > MOST_POINTS) {
      for (const values of [curve.x, curve.y]) {
        const kept = values.filter((_, i) => i % 2 === 0);
        values.splice(0, values.length, ...kept);
      }
    }
    this.changed();
  }

  /** What the user was told. */
  said(message: string): void {
    this.messages.push(message.trim());
    if (this.messages.length > MOST_MESSAGES) this.messages.shift();
    this.changed();
  }

  /** The page so far, which loads itself again when `events` says so. */
  html(events: string): string {
    const own = this.page?.(events);
    if (own !== undefined) return own;
    const report = new Report({
      title: this.title,
      subtitle: `On its way for ${duration((performance.now() - this.begun) / 1000)}. This page grows by itself.`,
      reloadOn: events,
    });
    if (this.parts.size > 0) {
      report.section("Parts", (section) =>
        section.table({
          columns: ["part", "done", "time", "figures"],
          rows: [...this.parts].map(([name, { share, text, seconds }]): TableCell[] => [
            name,
            seconds === undefined
              ? { text: percent(share, 0), numeric: true }
              : { text: "finished", numeric: true, tone: "good" },
            seconds === undefined ? null : { text: duration(seconds), numeric: true },
            text,
          ]),
        }),
      );
    }
    if (this.charts.size > 0) {
      report.section("Curves so far", (section) =>
        section.row((row) => {
          for (const [title, curves] of this.charts) {
            const series = [...curves].map(([name, curve]) => ({ name, ...thinned(curve) }));
            const positive = series.every(({ y }) => y.every((value) => !(value <= 0)));
            const last = series.map(({ name, y }) => `${name} ${lossText(y.at(-1)!)}`).join(", ");
            row.chart(
              lineChart({ title, series, x: { label: "step" }, y: { scale: positive ? "log" : "linear" } }),
              `Last: ${last}.`,
            );
          }
        }),
      );
    }
    if (this.messages.length > 0) {
      report.section("Messages", (section) => section.code(this.messages.join("\n")));
    }
    return report.html();
  }
}

/** At most so many points, the last one among them. */
function thinned({ x, y }: Curve): Curve {
  const every = Math.ceil(x.length / DRAWN_POINTS);
  const kept = (values: readonly number[]) => values.filter((_, i) => (values.length - 1 - i) % every === 0);
  return { x: kept(x), y: kept(y) };
}

/** Milliseconds between two showings. */
const SHOW_EVERY_MS = 2000;
/** What drawing may take of the run's time: a page that takes long is shown less often, but at least every 15 s. */
const DRAWING_SHARE = 0.1;
const MOST_MS = 15_000;
/** Milliseconds that browsers have to fetch the report at the end. */
const FETCH_MS = 3000;

/** A server of one page on this machine. */
export class LiveServer {
  readonly state: LiveState;
  private timer: NodeJS.Timeout | undefined;
  private report: string | undefined;
  /** What the page took to draw the last time. */
  private drawingMs = 0;
  private fetched: (() => void) | undefined;
  private server!: LocalServer;

  private constructor(title: string) {
    this.state = new LiveState(title, () => this.changed());
  }

  /** Starts serving at a port of this machine, any free one by default. @throws UsageError where it cannot be had */
  static async start(title: string, port = 0): Promise<LiveServer> {
    const live = new LiveServer(title);
    live.server = await LocalServer.start((path) => live.at(path), port, "live");
    return live;
  }

  get port(): number {
    return this.server.port;
  }

  get address(): string {
    return this.server.address;
  }

  /** Shows the finished report to who looks on, then ends. */
  async finish(report: string): Promise<void> {
    this.report = report;
    if (this.server.hasListeners) {
      let patience: NodeJS.Timeout | undefined;
      const seen = new Promise<void>((resolve) => {
        this.fetched = resolve;
        patience = setTimeout(resolve, FETCH_MS);
      });
      this.server.tell("ended");
      await seen;
      clearTimeout(patience);
    }
    await this.close();
  }

  /** Ends at once; open pages say so. */
  async close(): Promise<void> {
    clearTimeout(this.timer);
    await this.server.close();
  }

  private changed(): void {
    if (!this.server.hasListeners || this.timer !== undefined) return;
    this.timer = setTimeout(
      () => {
        this.timer = undefined;
        this.server.tell("changed");
      },
      Math.min(MOST_MS, Math.max(SHOW_EVERY_MS, this.drawingMs / DRAWING_SHARE)),
    ).unref();
  }

  private drawn(): string {
    const begun = performance.now();
    const page = this.state.html(EVENTS);
    this.drawingMs = performance.now() - begun;
    return page;
  }

  private at(path: string): Served | undefined {
    if (path !== "/") return undefined;
    const sent = this.report === undefined ? undefined : this.fetched;
    return {
      type: "text/html; charset=utf-8",
      body: this.report ?? this.drawn(),
      ...(sent && { sent }),
    };
  }
}
