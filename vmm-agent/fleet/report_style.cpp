// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/fleet/report_parts.h"

namespace vpatch::fleet {

std::string_view report_style() {
  return R"css(
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f6f8fa; --text: #1f2328; --faint: #57606a; --line: #d0d7de;
  --patched: #1a7f37; --reverted: #6e40c9; --failed: #c9252d; --doubtful: #8a5a00;
  --at_work: #0861c8; --watching: #4f93d8; --waiting: #afb8c1; --left_out: #d8dee4; --mark: #ffffff; --mark_faint: #57606a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --panel: #161b22; --text: #e6edf3; --faint: #9aa5b1; --line: #30363d;
    --patched: #3fb950; --reverted: #b48cff; --failed: #ff7b72; --doubtful: #d9a12b;
    --at_work: #58a6ff; --watching: #2f6fb5; --waiting: #57606a; --left_out: #2a3038; --mark: #0d1117; --mark_faint: #9aa5b1;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1, h2, h3, h4, h5 { line-height: 1.25; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1rem 0 .25rem; }
h5 { font-size: .875rem; margin: .75rem 0 .25rem; color: var(--faint); }
p { margin: .35rem 0; overflow-wrap: anywhere; }
.outcome { font-size: 1.15rem; padding: .75rem 1rem; background: var(--panel); border-left: .35rem solid var(--faint); }
.outcome.s-good { border-color: var(--patched); }
.outcome.s-bad { border-color: var(--failed); }
.outcome.s-open { border-color: var(--at_work); }
.note, .hint, figcaption { color: var(--faint); font-size: .9rem; }
.hint::before { content: "What to do: "; font-weight: 600; }
code, pre { font: .8125rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: .25rem 0 .5rem; padding: .6rem .75rem; background: var(--page); border: 1px solid var(--line);
  border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
ul { margin: .25rem 0; padding-left: 1.25rem; }
li { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1.25rem; margin: .5rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: 1rem 0 0; }
a { color: var(--at_work); }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { font-weight: 600; }
thead th { color: var(--faint); font-weight: 500; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.bar { vertical-align: middle; }
.bars, .states { table-layout: fixed; }
.bars th:first-child, .states th:first-child { width: 15.5rem; }
.bars th.n, .states th.n { width: 5.5rem; }
.bars th:nth-child(3) { width: 40%; }
svg { display: block; width: 100%; overflow: visible; }
svg.defs { position: absolute; width: 0; height: 0; }
svg text { font-size: 12px; fill: var(--faint); font-family: inherit; }
.state { font-weight: 600; white-space: nowrap; font-size: .875rem; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; font-size: .875rem; }
.legend svg { display: inline-block; width: 1.6rem; height: 16px; vertical-align: -.2rem; margin-right: .35rem; }
.g-patched { fill: var(--patched); stroke: var(--patched); color: var(--patched); }
.g-reverted { fill: var(--reverted); stroke: var(--reverted); color: var(--reverted); }
.g-failed { fill: var(--failed); stroke: var(--failed); color: var(--failed); }
.g-doubtful { fill: var(--doubtful); stroke: var(--doubtful); color: var(--doubtful); }
.g-at_work { fill: var(--at_work); stroke: var(--at_work); color: var(--at_work); }
.g-watching { fill: var(--watching); stroke: var(--watching); color: var(--at_work); }
.g-waiting { fill: var(--waiting); stroke: var(--waiting); color: var(--faint); }
.g-left_out { fill: var(--left_out); stroke: var(--left_out); color: var(--faint); }
rect { stroke-width: 0; }
.p { stroke: var(--mark); stroke-width: 1.5; fill: none; }
.q { stroke: var(--mark_faint); stroke-width: 1; fill: none; }
.p-reverted { fill: url(#p-reverted); }
.p-failed { fill: url(#p-failed); }
.p-doubtful { fill: url(#p-doubtful); }
.p-left_out { fill: url(#p-left_out); opacity: .55; }
.column { fill: var(--at_work); stroke: var(--page); stroke-width: 1; }
.band { stroke-width: 0; }
.scroll { overflow-x: auto; }
.wide { min-width: 66rem; }
.wide td.k { white-space: nowrap; }
.wide td:nth-child(4) { min-width: 13rem; }
.wide td:nth-child(5) { min-width: 9rem; }
.grid { stroke: var(--line); stroke-width: 1; }
.event { stroke: var(--line); stroke-width: 1; }
.median { stroke: var(--text); stroke-width: 1.5; }
.late { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 4 3; }
.rows { table-layout: fixed; }
.rows th, .rows td { padding-top: .1rem; padding-bottom: .1rem; border: 0; vertical-align: middle; }
.rows th { font-weight: 400; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.rows th.name { width: 11rem; }
.rows th.axis { overflow: visible; }
.rows .end { width: 8rem; padding: .1rem 0 .1rem 1rem; }
.rows tbody th.wave { font-weight: 600; padding-top: .8rem; }
.rows td.rest { color: var(--faint); }
.failure { background: var(--panel); border-left: .25rem solid var(--failed); padding: .75rem 1rem; margin: 0 0 1rem; }
.failure h3 { margin-top: 0; }
.why { font-weight: 600; }
figure { margin: .5rem 0 1.5rem; }
details > summary { cursor: pointer; color: var(--at_work); }
@media (max-width: 40rem) {
  main { padding: 1rem .9rem 3rem; }
  h1 { font-size: 1.4rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
  .rows, .rows thead, .rows tbody, .rows caption { display: block; }
  .rows tr { display: grid; grid-template-columns: minmax(0, 1fr) max-content; padding: .15rem 0; }
  .rows th, .rows td { padding: 0 !important; }
  .rows svg { margin: .1rem 0; }
  .rows td:nth-child(2), .rows th.axis { grid-column: 1 / -1; grid-row: 2; }
  .rows thead .name, .rows thead .end { display: none; }
  .rows .end { width: auto; }
  .rows td.rest, .rows th.wave { grid-column: 1 / -1; }
  .flow thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .flow tr { display: flex; flex-wrap: wrap; gap: .1rem .75rem; padding: .45rem 0; border-bottom: 1px solid var(--line); }
  .flow th, .flow td { display: block; border: 0; padding: 0; min-width: 0; width: auto; white-space: normal; }
  .flow td.n::before { content: attr(data-label) " "; color: var(--faint); }
  .flow td:empty { display: none; }
  .flow td.whole { flex: 1 1 100%; }
  .wide { min-width: 0; }
  .stack thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .stack tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .stack th, .stack td { display: flex; gap: .75rem; border: 0; padding: .05rem 0; text-align: left; width: auto; white-space: normal; }
  .stack td::before { content: attr(data-label); color: var(--faint); flex: 0 0 6.5rem; }
  .stack td:empty { display: none; }
  .states th:first-child { width: 7rem; }
  .bars td.n { display: none; }
  .stack td.bar { display: block; padding: .3rem 0; }
  .stack td.bar::before { content: none; }
}
@media print {
  :root { --page: #ffffff; --panel: #ffffff; --text: #000000; --faint: #444444; --line: #bbbbbb;
    --patched: #1a7f37; --reverted: #6e40c9; --failed: #c9252d; --doubtful: #8a5a00;
    --at_work: #0861c8; --watching: #4f93d8; --waiting: #afb8c1; --left_out: #d8dee4; --mark: #ffffff; --mark_faint: #57606a; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11pt; }
  nav { display: none; }
  main { max-width: none; padding: 0; }
  h2, h3, h4, h5 { break-after: avoid; }
  tr, figure, li { break-inside: avoid; }
}
)css";
}

}  // namespace vpatch::fleet
