// The style sheet of reports: light and dark, wide and narrow, on paper.

export const reportStyle = `
:root {
  --page: #f6f7f9; --surface: #ffffff; --ink: #1f2328; --pale: #5b646e; --line: #dfe3e8;
  --accent: #2563c9; --good: #0b7f5b; --bad: #d03a1f; --tint: #f0f4fa;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --surface: #171b21; --ink: #e4e8ed; --pale: #99a3ae; --line: #2b323a;
    --accent: #6ea8fe; --good: #4cc38a; --bad: #ff8a66; --tint: #1d2530;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 48px 24px 32px; max-width: 1120px; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 0 0 12px; font-size: 1.3rem; letter-spacing: -0.01em; }
h3 { margin: 22px 0 4px; max-width: 46em; font-size: 1rem; line-height: 1.4; }
h2 + h3 { margin-top: 0; }
p, ul { margin: 0 0 14px; max-width: 46em; }
.subtitle { margin: 8px 0 0; color: var(--pale); font-size: 1.08rem; }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin-top: 18px; font-size: 0.94rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; margin-top: 28px; }
.card, section { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; }
.card { padding: 14px 18px 13px; }
.card .label, .card .remark { color: var(--pale); font-size: 0.86rem; line-height: 1.4; }
.card .value { margin: 2px 0; font-size: 1.6rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.02em; }
.good .value, td.good { color: var(--good); }
.bad .value, td.bad { color: var(--bad); }
section { margin-top: 22px; padding: 24px 28px 26px; scroll-margin-top: 12px; }
section > :last-child { margin-bottom: 0; }
figure { margin: 0 0 20px; min-width: 0; }
figcaption { color: var(--pale); font-size: 0.9rem; line-height: 1.45; }
.chart > svg { display: block; }
.chart figcaption, .picture figcaption, .grid figcaption { margin-top: 8px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 24px 32px; margin-bottom: 20px; }
.row > * { margin-bottom: 0; }
.scroll { overflow-x: auto; }
img { display: block; image-rendering: pixelated; }
.sort { display: block; margin-bottom: 10px; color: var(--pale); font-size: 0.9rem; }
select, .zoom button { padding: 4px 8px; color: var(--ink); background: var(--tint); border: 1px solid var(--line); border-radius: 6px; font: inherit; }
.pictures [hidden] { display: none; }
.pictures table { line-height: 1.3; }
.pictures th, .pictures td { padding: 5px 6px; border: 0; }
.pictures th { color: var(--ink); text-align: center; vertical-align: bottom; }
.pictures th[scope="row"] { position: sticky; left: 0; min-width: 4rem; max-width: 9rem; padding-right: 10px; background: var(--surface); text-align: right; vertical-align: middle; }
.pictures .scroll .lines, .pictures th.short { white-space: nowrap; }
.pictures .scroll img { max-width: none; }
.pictures td { text-align: center; }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, max(var(--picture), 4.4rem)), max-content)); gap: 14px 10px; max-width: calc(var(--columns) * (max(var(--picture), 4.4rem) + 10px)); }
.cells.sorted { grid-template-columns: repeat(auto-fill, minmax(min(100%, max(var(--picture), 6.2rem)), 1fr)); max-width: none; }
.cell { text-align: center; font-size: 0.78rem; line-height: 1.3; }
.cell button { display: inline-block; max-width: 100%; padding: 1px; background: none; border: 1px solid var(--line); border-radius: 3px; cursor: zoom-in; }
.cell.good button { padding: 0; border: 2px solid var(--good); }
.cell.bad button { padding: 0; border: 2px dashed var(--bad); }
.cell button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.cell img { max-width: 100%; height: auto; }
.cell .lines { color: var(--pale); }
.cell .lines > * { display: block; }
.cell b { color: var(--ink); font-weight: 600; }
.cell .place { display: none; color: var(--pale); }
.sorted .place { display: block; }
.zoom { width: min(94vw, 54rem); padding: 20px; background: var(--surface); color: var(--ink); border: 1px solid var(--line); border-radius: 12px; }
.zoom::backdrop { background: rgb(0 0 0 / 0.6); }
.zoom[open] { display: flex; flex-wrap: wrap; gap: 20px; }
.zoom img { width: min(70vh, 100%, 28rem); height: auto; margin: 0 auto; border: 1px solid var(--line); }
.zoom > div { flex: 1 1 14rem; min-width: 0; }
.zoom h3 { margin: 0 0 6px; font-size: 1.1rem; }
.zoom dl { grid-template-columns: 1fr; }
.zoom nav { gap: 8px; }
.zoom button { cursor: pointer; }
.table { overflow-x: auto; }
.table figcaption { margin-bottom: 6px; }
table { border-collapse: collapse; font-size: 0.94rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 16px 7px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--pale); font-weight: 600; font-size: 0.86rem; vertical-align: bottom; }
th + th, td + td { padding-left: 16px; }
tbody tr:last-child td { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
.sortable button { padding: 0; color: inherit; background: none; border: 0; font: inherit; text-align: inherit; cursor: pointer; }
.sortable button:hover { color: var(--accent); }
.sortable [aria-sort="ascending"] button::after { content: " ▲"; }
.sortable [aria-sort="descending"] button::after { content: " ▼"; }
td > svg { display: inline-block; vertical-align: middle; }
.reference { color: var(--pale); background: var(--tint); }
td.good, td.bad { font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 0 32px; margin: 0 0 14px; font-size: 0.94rem; }
dl div { display: flex; justify-content: space-between; gap: 16px; padding: 5px 0; border-bottom: 1px solid var(--line); }
dt { color: var(--pale); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre {
  margin: 0 0 16px; padding: 14px 18px; overflow-x: auto; background: var(--tint); border-radius: 8px;
  font: 0.84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.note { max-width: none; padding: 10px 16px; background: var(--tint); border-left: 4px solid var(--accent); border-radius: 4px 8px 8px 4px; }
summary { cursor: pointer; color: var(--accent); margin-bottom: 10px; }
footer { margin-top: 28px; color: var(--pale); font-size: 0.88rem; }
@media (max-width: 600px) { body { padding: 28px 14px; } section { padding: 18px 16px; } h1 { font-size: 1.7rem; } }
@media print {
  :root { --page: #ffffff; }
  body { padding: 0; max-width: none; font-size: 13px; }
  nav, .sort, .zoom { display: none; }
  section { border: 0; padding: 0; }
  .row { grid-template-columns: 1fr 1fr; gap: 16px; }
  .card, figure, dl div, h2 { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  img { max-width: 100%; height: auto; }
  .scroll { overflow: visible; }
  .pictures table { width: 100%; table-layout: fixed; }
  .pictures th, .pictures td { padding: 3px; }
  .pictures th[scope="row"] { position: static; width: 5.5rem; min-width: 0; }
  .pictures .scroll .lines { white-space: normal; }
  .pictures .scroll img { max-width: 100%; }
  .table { overflow: visible; }
  .table table { font-size: 10px; }
  .table th, .table td, .table th + th, .table td + td { padding: 4px 6px 4px 0; }
  .table .number { white-space: normal; }
  .pictures tr, .cell { break-inside: avoid; }
  .cell { font-size: 8.5px; }
  * { print-color-adjust: exact; }
}
@page { margin: 15mm; }
`;
