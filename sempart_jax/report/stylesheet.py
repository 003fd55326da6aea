"""Looks of the report's page: light and dark, from a phone's width up, and on paper."""

STYLESHEET = """
:root {
  color-scheme: light dark;
  --ground: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #d9dee4; --panel: #f5f7f9;
  --ours: #eaf3fb; --link: #0b5cad;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --ink: #e4e8ec; --soft: #9aa5b1; --line: #333a42; --panel: #1c2127;
    --ours: #1a2c3d; --link: #7db8f0;
  }
  .charts img { filter: invert(.9) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: clamp(1.5rem, 1.1rem + 2vw, 2.2rem); line-height: 1.2; margin: 0 0 1rem; }
h2 {
  font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .8rem; padding-top: .8rem;
  border-top: 2px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
h4 { font-size: .95rem; margin: 0 0 .4rem; }
small, .notes, figcaption, footer { color: var(--soft); }
a { color: var(--link); }
nav ul { padding-left: 1.2rem; margin: .5rem 0; }
dl.facts {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.2rem;
  margin: 0; padding: .9rem 1.1rem; background: var(--panel); border-radius: .5rem;
}
dt { color: var(--soft); }
dd { margin: 0; }
.scroll { overflow-x: auto; }
table {
  border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal;
}
th, td { padding: .32rem .8rem; border-bottom: 1px solid var(--line); text-align: left; }
th { border-bottom: 2px solid var(--line); white-space: nowrap; font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.ours { background: var(--ours); }
tr.ours td { font-weight: 600; }
.mark { position: absolute; }
.notes { font-size: .85rem; padding-left: 1.2rem; margin: .6rem 0 0; max-width: 60rem; }
.charts {
  display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
}
.charts figure { margin: 0; max-width: 30rem; }
.charts img { display: block; width: 100%; height: auto; }
.charts figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .3rem; color: var(--ink); }
summary { cursor: pointer; font-weight: 600; margin: 1.6rem 0 .8rem; }
.strip { margin: 0 0 1.1rem; }
.strip small { font-weight: 400; margin-left: .4rem; }
.pictures {
  display: grid; gap: .5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(30%, 9.5rem), 1fr));
}
.pictures figure { margin: 0; }
.pictures img {
  display: block; width: 100%; height: auto; border: 1px solid var(--line); background: #000;
}
.pictures figcaption { font-size: .78rem; line-height: 1.3; margin-top: .25rem; }
.pictures b { color: var(--ink); font-variant-numeric: tabular-nums; white-space: nowrap; }
footer {
  margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .85rem;
}
@media (max-width: 34rem) {
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .scores, .scores tbody { display: block; }
  .scores thead {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  }
  .scores tr {
    display: flex; flex-wrap: wrap; column-gap: .4em; padding: .5rem;
    border-bottom: 1px solid var(--line);
  }
  .scores tr::before { content: ""; order: 1; flex-basis: 100%; }
  .scores td { padding: 0; border: 0; }
  .scores td:has(+ td:not(.number))::after { content: " ·"; color: var(--soft); }
  .scores td.number { order: 2; flex: 0 0 calc(25% - .4em); text-align: left; }
  .scores td.number::before {
    content: attr(data-head); display: block; color: var(--soft);
    font-size: .75rem; font-weight: 400;
  }
}
@media print {
  :root { color-scheme: light; }
  body { max-width: none; font-size: 10pt; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  tr.ours { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3, h4, summary { break-after: avoid; }
  tr, .strip, .charts figure { break-inside: avoid; }
}
"""
