// The report page: complete, self-contained, escaped.
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { lineChart } from "../../src/io/charts.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { Report, type Section } from "../../src/io/report.js";
import { reportScript } from "../../src/io/report-script.js";
import { UsageError } from "../../src/tensor/errors.js";
import { nestingFaults, textsOf } from "./markup.js";

const evil = `<script>alert("1")</script> & 'more'`;
const escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;more&#39;";
const png = encodeGrayPng([0, 1], { width: 2, height: 1 });

const page = (build: (section: Section) => void) => new Report({ title: "t" }).section("s", build).html();
/** The text of the page's one section. */
const inside = (build: (section: Section) => void) => /<h2>s<\/h2>\n(.*)<\/section>/s.exec(page(build))![1]!;

describe("a report with everything in it", () => {
  const text = new Report({ title: evil, subtitle: evil, footer: evil })
    .figures([
      { label: evil, value: evil, note: evil, tone: "good" },
      { label: "steps", value: 12345 },
    ])
    .section(evil, (section) => {
      section.heading(evil).text(evil).note(evil).list([evil]).code(evil);
      section.table({ caption: evil, columns: [evil, { label: evil }], rows: [[evil, { text: evil, tone: "bad" }]] });
      section.chart(lineChart({ title: evil, series: [{ name: evil, y: [1, 2] }] }), evil);
      section.picture(png, { alt: evil, caption: evil });
      section.grid([[{ pixels: [0], width: 1, height: 1, caption: [evil], figures: { [evil]: evil } }]], {
        ...{ alt: evil, caption: evil, rowLabels: [evil], columnLabels: [evil] },
      });
      section.properties({ [evil]: evil });
      section.row((row) => row.text(evil));
      section.details(evil, (inner) => inner.text(evil));
    })
    .section("Second", (section) => section.text("end"))
    .html();

  test("escapes all texts", () => {
    expect(text.replace(`<script>${reportScript}</script>`, "")).not.toMatch(/<script|alert\("/);
    expect(text.split(escaped).length - 1).toBe(45);
  });

  test("is well-formed and asks for nothing from outside", () => {
    expect(text.startsWith("<!doctype html>\n")).toBe(true);
    expect(nestingFaults(text.replace(reportScript, ""))).toEqual([]);
    const digest = createHash("sha256").update(reportScript).digest("base64");
    expect(text).toContain(
      `content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src &#39;sha256-${digest}&#39;"`,
    );
    expect(reportScript).not.toMatch(/<\/script|fetch\(|XMLHttp|import\b/);
    expect(text.replaceAll(/xmlns(:\w+)?="[^"]*"/g, "")).not.toMatch(/https?:|@import|url\((?!#)|<link/);
    expect(text).not.toMatch(/undefined<|\[object/);
  });

  test("links to its sections", () => {
    const targets = [...text.matchAll(/href="#([^"]*)"/g)].map(([, id]) => id!);
    expect(targets).toEqual(["section-1", "section-2"]);
    for (const id of targets) expect(text).toContain(`<section id="${id}">`);
  });

  test("shows key figures as cards", () => {
    expect(text).toContain('<div class="value">12,345</div>');
    expect(text).toContain('<div class="card good">');
  });
});

describe("parts", () => {
  test("numbers in tables are short and right-aligned, references set apart", () => {
    const table = inside((section) =>
      section.table({
        columns: ["set", "loss", { label: "accuracy" }, { label: "published", reference: true }],
        rows: [
          ["train", 0.0251421, { text: "99.2 %", numeric: true }, null],
          ["test", 12345678, { text: "98.9 %", numeric: true, tone: "good" }, 1e-7],
          ["real", 12345.678, null, Number.NaN],
        ],
      }),
    );
    expect(textsOf(table, "td")).toEqual([
      "train",
      "0.02514",
      "99.2 %",
      "–",
      "test",
      "12,345,678",
      "98.9 %",
      "1.00e-7",
      "real",
      "12,346",
      "–",
      "NaN",
    ]);
    const heads = [...table.matchAll(/<th( class="[^"]*")?>/g)].map(([, names]) => names);
    expect(heads).toEqual([undefined, ' class="number"', ' class="number"', ' class="number reference"']);
    expect(table).toContain('<td class="number good">98.9 %</td>');
  });

  test("pictures carry their bytes, their size and their description", () => {
    const picture = inside((section) => section.picture(png, { alt: "two pixels", caption: "below", zoom: 4 }));
    const [, base64] = /src="data:image\/png;base64,([^"]*)"/.exec(picture)!;
    expect(Buffer.from(base64!, "base64").equals(png)).toBe(true);
    expect(picture).toContain('alt="two pixels" width="8" height="4"');
    expect(textsOf(picture, "figcaption")).toEqual(["below"]);
  });

  test("properties are flattened, absent ones left out", () => {
    const list = inside((section) =>
      section.properties({
        seed: 1234,
        optimizer: { name: "adam", lr: 1e-3 },
        shape: [28, 28],
        out: undefined,
        resume: null,
      }),
    );
    expect(textsOf(list, "dt")).toEqual(["seed", "optimizer.name", "optimizer.lr", "shape", "resume"]);
    expect(textsOf(list, "dd")).toEqual(["1234", "adam", "0.001", "28, 28", "null"]);
  });

  test.each([
    [(s: Section) => s.table({ columns: ["a", "b"], rows: [["1"]] }), /row 0 must have 2 cells, given 1/],
    [(s: Section) => s.chart("<p>no chart</p>"), /must be SVG text/],
    [(s: Section) => s.chart("<svg><script></script></svg>"), /without scripts/],
    [(s: Section) => s.picture(new Uint8Array(100), { alt: "x" }), /"x" must be PNG, given 100 bytes/],
  ])("refuses what does not belong %#", (build, message) => {
    expect(() => page(build)).toThrow(UsageError);
    expect(() => page(build)).toThrow(message);
  });
});
