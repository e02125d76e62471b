// The live page: served on this machine only, growing, and at the end the report.
import { request } from "node:http";
import { afterEach, expect, test } from "vitest";
import { LiveServer, LiveState } from "../../src/experiments/lib/frame/live.js";
import { UsageError } from "../../src/tensor/errors.js";
import { textsOf } from "../io/markup.js";

let server: LiveServer | undefined;
afterEach(() => server?.close());

/** Status and text of a request with a Host of one's own. */
function get(port: number, path: string, { host = `localhost:${port}`, method = "GET" } = {}) {
  return new Promise<{ status: number; text: string; type: string | undefined }>((resolve, reject) => {
    request({ host: "127.0.0.1", port, path, method, headers: { host } }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (more: string) => {
        text += more;
      });
      response.on("end", () => resolve({ status: response.statusCode!, text, type: response.headers["content-type"] }));
    })
      .on("error", reject)
      .end();
  });
}

test("parts, curves and messages so far, which grow", async () => {
  server = await LiveServer.start("kilograd train");
  const { port, state } = server;
  const empty = await get(port, "/");
  expect([empty.status, empty.type]).toEqual([200, "text/html; charset=utf-8"]);
  expect(empty.text).toContain("<h1>kilograd train</h1>");
  expect(empty.text).not.toContain("<section");
  state.progress("classifier", 0.25, "loss 0.5 <b>");
  for (const [step, loss] of [2, 1, 0.5].entries()) state.point("Loss of small-cnn", "training", step + 1, loss);
  state.said("six images & more\n");
  const { text } = await get(port, "/");
  expect(textsOf(text, "td")).toEqual(["classifier", "25 %", "–", "loss 0.5 &lt;b&gt;"]);
  expect(text).toContain('aria-label="Loss of small-cnn"');
  expect(text).toContain("six images &amp; more");
  state.finished("classifier", 61);
  expect(textsOf((await get(port, "/")).text, "td")).toEqual([
    "classifier",
    "finished",
    "1 min 01 s",
    "loss 0.5 &lt;b&gt;",
  ]);
});

test("loads itself again where something changed, with a policy that admits just that", async () => {
  server = await LiveServer.start("t");
  const { text } = await get(server.port, "/");
  expect(text).toContain(`data-reload="/events"`);
  expect(text).toMatch(/content="default-src 'none'; [^"]*script-src [^"]*; connect-src &#39;self&#39;"/);
  const response = await fetch(`${server.address}events`);
  expect(response.headers.get("content-type")).toBe("text/event-stream");
  const reader = response.body!.getReader();
  const next = async () => new TextDecoder().decode((await reader.read()).value);
  expect(await next()).toContain("retry");
  server.state.said("news");
  expect(await next()).toBe("data: changed\n\n");
  await reader.cancel();
});

test("at the end those who look on get the report, and the server is gone", async () => {
  server = await LiveServer.start("t");
  const { address } = server;
  const response = await fetch(`${address}events`);
  const reader = response.body!.getReader();
  await reader.read();
  const finished = server.finish("<!doctype html><p>the report</p>");
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: ended\n\n");
  expect(await (await fetch(address)).text()).toBe("<!doctype html><p>the report</p>");
  await finished;
  await expect(fetch(address)).rejects.toThrow();
});

test("nobody waits where nobody looks on", async () => {
  server = await LiveServer.start("t");
  const { address } = server;
  await server.finish("report");
  await expect(fetch(address)).rejects.toThrow();
});

test.each([
  ["another name for this machine, as of a page elsewhere", { host: "evil.example" }, "/", 403],
  ["another port in Host", { host: "localhost:1" }, "/", 403],
  ["another method", { method: "POST" }, "/", 405],
  ["another path", {}, "/etc/passwd", 404],
])("refuses %s", async (_, how, path, status) => {
  server = await LiveServer.start("t");
  expect((await get(server.port, path, how)).status).toBe(status);
});

test("a port that is taken is an error that says so", async () => {
  server = await LiveServer.start("t");
  await expect(LiveServer.start("u", server.port)).rejects.toThrow(UsageError);
  await expect(LiveServer.start("u", server.port)).rejects.toThrow(
    /needs a port that is free, given \d+: something else/,
  );
});

test("long curves keep their shape, their end and their bounds", () => {
  const state = new LiveState("t");
  for (let step = 1; step <= 10_000; step++) state.point("Loss", "training", step, 1 / step);
  const html = state.html("/events");
  expect(html).toContain("Last: training 1.0e-4.");
  expect(html.length).toBeLessThan(100_000);
});
