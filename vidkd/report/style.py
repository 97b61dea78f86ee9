"""The page's style sheet: system fonts, two colour schemes that the drawings follow through --ink, --muted and --rule."""

PAGE_CSS = """\
:root {
  color-scheme: light dark;
  --paper: #f7f7f5; --card: #ffffff; --ink: #1d2126; --muted: #5f6873;
  --rule: #e2e4e7; --code: #f2f3f2; --shade: rgb(0 0 0 / 0.22); --right: #2c7a54; --wrong: #b3452f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131619; --card: #1a1e22; --ink: #e3e6e9; --muted: #98a2ad;
    --rule: #2d3339; --code: #15181b; --shade: rgb(0 0 0 / 0.6); --right: #6fbf95; --wrong: #e08a74;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0;
  background: var(--paper);
  color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 78rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; font-weight: 620; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 {
  margin: 3rem 0 1rem;
  font-size: 0.8rem;
  font-weight: 600;
  letter-spacing: 0.09em;
  text-transform: uppercase;
  color: var(--muted);
}
h3 { margin: 0 0 0.75rem; font-size: 1rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }
p { margin: 0; }
.subtitle { margin-top: 0.5rem; max-width: 46rem; color: var(--muted); overflow-wrap: anywhere; }
.text { margin: 0.9rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.caption { margin-top: 0.75rem; max-width: 46rem; font-size: 0.85rem; color: var(--muted); overflow-wrap: anywhere; }
.facts {
  display: flex;
  flex-wrap: wrap;
  gap: 1rem 2.25rem;
  margin: 1.75rem 0 0;
  padding-top: 1.25rem;
  border-top: 1px solid var(--rule);
}
.facts div { min-width: 0; }
dt { font-size: 0.78rem; color: var(--muted); }
dd { margin: 0; font-weight: 560; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.block {
  margin: 0 0 1.25rem;
  padding: 1.25rem 1.4rem;
  min-width: 0;
  background: var(--card);
  border: 1px solid var(--rule);
  border-radius: 8px;
}
.scroll {
  overflow-x: auto;
  /* a shadow at an edge behind which there is more; the covers move with the content, the shadows stay */
  background:
    linear-gradient(var(--card) 45%, transparent) top / 100% 2rem,
    linear-gradient(transparent, var(--card) 55%) bottom / 100% 2rem,
    linear-gradient(90deg, var(--card) 45%, transparent) left / 2rem 100%,
    linear-gradient(90deg, transparent, var(--card) 55%) right / 2rem 100%,
    linear-gradient(var(--shade), transparent) top / 100% 0.7rem,
    linear-gradient(transparent, var(--shade)) bottom / 100% 0.7rem,
    linear-gradient(90deg, var(--shade), transparent) left / 0.7rem 100%,
    linear-gradient(90deg, transparent, var(--shade)) right / 0.7rem 100%;
  background-repeat: no-repeat;
  background-attachment: local, local, local, local, scroll, scroll, scroll, scroll;
}
.tall { max-height: 34rem; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td {
  padding: 0.45rem 1.3rem 0.45rem 0;
  text-align: left;
  vertical-align: baseline;
  border-bottom: 1px solid var(--rule);
  white-space: nowrap;
}
th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: 0.8rem; font-weight: 500; color: var(--muted); }
tbody tr:last-child > * { border-bottom: 0; }
.sorts button { padding: 0; border: 0; background: none; font: inherit; color: inherit; cursor: pointer; }
.sorts button:disabled { cursor: auto; }
.sorts th[aria-sort] { color: var(--ink); }
.sorts th[aria-sort="ascending"] button::after { content: " \\2191"; }
.sorts th[aria-sort="descending"] button::after { content: " \\2193"; }
td:first-child:not(.number) { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.number { text-align: right; }
.interval { margin-left: 0.3rem; font-size: 0.82rem; color: var(--muted); }
.figures {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1.25rem;
  align-items: start;
}
.figures .block { margin: 0; }
.wide { grid-column: 1 / -1; }
.alone { grid-column: 1 / -1; }
svg { display: block; width: 100%; max-width: 30rem; height: auto; margin: 0 auto; }
.wide svg { max-width: none; min-width: 34rem; }
svg text { font-family: inherit !important; }
.strip { width: auto; }
.strip th, .strip td { padding: 0.15rem 0.9rem 0.15rem 0; border: 0; vertical-align: middle; }
.strip th { position: sticky; left: 0; background: var(--card); font-size: 0.82rem; font-weight: 400; color: var(--muted); }
.strip img { display: block; border-radius: 3px; }
.picture { display: block; max-width: 100%; height: auto; border-radius: 3px; }
h3.right::before, h3.wrong::before { display: inline-block; width: 1.2em; font-weight: 700; }
h3.right::before { content: "\\2713"; color: var(--right); }
h3.wrong::before { content: "\\2717"; color: var(--wrong); }
details { margin-top: 1rem; }
summary { cursor: pointer; font-weight: 600; }
pre {
  margin: 0.5rem 0 1rem;
  padding: 0.9rem 1.1rem;
  overflow-x: auto;
  background: var(--code);
  border: 1px solid var(--rule);
  border-radius: 8px;
  font-size: 0.82rem;
  line-height: 1.5;
}
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.plain th { font-weight: 400; color: var(--muted); }
@media (min-width: 57rem) {
  .alone { display: grid; grid-template-columns: minmax(0, 34rem) minmax(0, 1fr); column-gap: 2.5rem; align-items: center; }
  .alone figcaption { grid-column: 1 / -1; }
  .alone svg { max-width: none; }
  .alone .caption { margin: 0; }
}
@media (max-width: 40rem) {
  main { padding: 1.75rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.25rem; }
  .block { padding: 1rem; }
}
"""
