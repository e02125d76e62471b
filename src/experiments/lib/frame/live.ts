// `--live`: a page that grows while a run goes on, served to browsers of this machine only. It shows the parts with
// their progress, the curves so far, and what was said; at the end it becomes the report.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { lineChart } from "../../../io/charts.js";
import { Report, type TableCell } from "../../../io/report.js";
import { UsageError } from "../../../tensor/errors.js";
import { duration, lossText, percent } from "../report/text.js";

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

/** Milliseconds between two reloads. */
const RELOAD_EVERY_MS = 2000;
/** Milliseconds that browsers have to fetch the report at the end. */
const FETCH_MS = 3000;

/** A server of one page on this machine. */
export class LiveServer {
  readonly state: LiveState;
  private readonly server: Server;
  /** Connections that are told of changes. */
  private readonly listeners = new Set<ServerResponse>();
  private timer: NodeJS.Timeout | undefined;
  private report: string | undefined;
  private fetched: (() => void) | undefined;

  private constructor(title: string) {
    this.state = new LiveState(title, () => this.changed());
    this.server = createServer((request, response) => this.answer(request, response));
  }

  /** Starts serving at a port of this machine, any free one by default. @throws UsageError where it cannot be had */
  static async start(title: string, port = 0): Promise<LiveServer> {
    const live = new LiveServer(title);
    await new Promise<void>((resolve, reject) => {
      live.server.once("error", (error: NodeJS.ErrnoException) => {
        const reason = error.code === "EADDRINUSE" ? "something else listens there" : error.message;
        reject(
          new UsageError(`live: needs a port that is free, given ${port}: ${reason}; leave it out for any free one`),
        );
      });
      live.server.listen({ host: "127.0.0.1", port }, resolve);
    });
    live.server.unref(); // The run decides when the process ends.
    return live;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get address(): string {
    return `http://localhost:${this.port}/`;
  }

  /** Shows the finished report to who looks on, then ends. */
  async finish(report: string): Promise<void> {
    this.report = report;
    if (this.listeners.size > 0) {
      let patience: NodeJS.Timeout | undefined;
      const seen = new Promise<void>((resolve) => {
        this.fetched = resolve;
        patience = setTimeout(resolve, FETCH_MS);
      });
      this.tell("ended");
      await seen;
      clearTimeout(patience);
    }
    await this.close();
  }

  /** Ends at once; open pages say so. */
  async close(): Promise<void> {
    clearTimeout(this.timer);
    for (const listener of this.listeners) listener.end();
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    const patience = setTimeout(() => this.server.closeAllConnections(), 200);
    await closed;
    clearTimeout(patience);
  }

  private changed(): void {
    if (this.listeners.size === 0 || this.timer !== undefined) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.tell("changed");
    }, RELOAD_EVERY_MS).unref();
  }

  private tell(what: "changed" | "ended"): void {
    for (const listener of this.listeners) listener.write(`data: ${what}\n\n`);
  }

  /** Status and reason of what is not answered. */
  private refusal({ headers, method, url }: IncomingMessage): readonly [number, string] | undefined {
    // A foreign page may have its name lead here; what a browser then sends as Host is that name.
    const hosts = ["localhost", "127.0.0.1"].map((name) => `${name}:${this.port}`);
    if (!hosts.includes(headers.host ?? "")) return [403, "This page is for browsers of this machine."];
    if (method !== "GET") return [405, "Only GET is answered."];
    if (url !== "/" && url !== "/events") return [404, "There is one page, at /."];
    return undefined;
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const refusal = this.refusal(request);
    if (refusal !== undefined) {
      const [status, reason] = refusal;
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${reason}\n`);
      return;
    }
    const common = {
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": "same-origin",
      "x-frame-options": "DENY",
    };
    if (request.url === "/events") {
      response.writeHead(200, { ...common, "content-type": "text/event-stream" });
      response.write("retry: 2000\n\n");
      this.listeners.add(response);
      response.on("close", () => this.listeners.delete(response));
      return;
    }
    const page = this.report ?? this.state.html("/events");
    response.writeHead(200, { ...common, "content-type": "text/html; charset=utf-8" });
    response.end(page, this.report === undefined ? undefined : this.fetched);
  }
}
