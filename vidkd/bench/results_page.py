"""docs/results.md, generated whole from the committed cells of the studies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.bench.clip_study import ClipStudy
from vidkd.bench.observed import ACCURACY, condition_of
from vidkd.bench.reading import committed_studies
from vidkd.bench.study import Places
from vidkd.bench.summary import read_summary
from vidkd.bench.tables import difference_rows, interval, observed_rows, remarks_of, rows_of

HEAD = """# Results

Generated from the cells in `results/` by `vidkd study --pages`; a test recomputes it. Top-1 in percent, mean over cells (seeds x folds).
Intervals are 95 % by a two-level bootstrap over seeds and over test groups; differences are paired on the same cell and the same clip.
Where a study tuned its methods, each had the same number of trials, judged on groups held out of the training part (`chosen.json`).
Settings are chosen for each fold by itself, on groups that this fold never tests. \\* marks the variant that is called the claim, which was
decided before any test cell was trained, for each fold on its own validation groups.
"""


def results_page(studies: Path, results: Path) -> str:
    """The page for all studies of classifiers of a folder that have finished cells. Raises ConfigError if none has."""
    sections = []
    for study, places in committed_studies(studies, results):
        if isinstance(study, ClipStudy):
            sections.append(study_section(study, places))
    if not sections:
        raise ConfigError(f"no study of {studies} has finished cells in {results}", hint=f"vidkd study {studies}/NAME.yaml")
    return HEAD + "".join(sections)


def study_section(study: ClipStudy, places: Places) -> str:
    """Heading, command, table and comparisons of one study, from its summary."""
    summary, cells = read_summary(places.results / "summary.json"), places.store(study.name).names("test")
    tested = study.spec.tested
    wanted_cells = [str(key) for wave in study.test_waves() for key in wave]
    wanted, done = len(wanted_cells), sum(name in cells for name in wanted_cells)
    seeds, folds = _listed(study.spec.seeds), _listed(study.spec.folds)
    lines = [
        f"\n## {study.spec.title or study.spec.study}\n",
        *([study.spec.text.strip() + "\n"] if study.spec.text else []),
        f"`vidkd study configs/studies/{study.path.name} --data.root DIR`; seeds {seeds}; splits {folds}; "
        f"judged on `{summary['data']['subset']}`; {summary['seconds'] / 3600:.1f} h of training on {summary['environment']['processor']}, "
        f"torch {summary['environment']['torch']}.\n",
        *([f"{len(tested)} of {len(study.spec.methods)} methods, after trials of all.\n"] if study.spec.shortlist else []),
        *([f"**Unfinished: {done} of {wanted} cells.**\n"] if done < wanted else []),
        markdown_table(rows_of(summary)),
        *_observed_lines(summary),
        *_claim_lines(summary),
        *_pointing_lines(summary),
        *_remark_lines(summary),
    ]
    return "\n".join(lines)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the heading first, as a Markdown table."""
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _observed_lines(summary: Mapping[str, Any]) -> list[str]:
    """Top-1 at each observed share, and each method against the reference there."""
    rows, reference = observed_rows(summary), summary["data"]["reference"]
    if not rows:
        return []
    lines = [
        "Each model was judged at several observed shares of each clip; above, top-1 is the mean over them, and the area that under its "
        "curve. Top-1 at each share:\n",
        markdown_table(rows),
    ]
    if differences := difference_rows(summary, against=reference):
        label = summary["data"]["labels"].get(reference, reference)
        lines += [f"Each minus {label}, in the mean over all shares and at those that the study names:\n", markdown_table(differences)]
    return lines


def _claim_lines(summary: Mapping[str, Any]) -> list[str]:
    """The claim's method against each of the others."""
    claim, labels = summary["data"]["claim"], summary["data"]["labels"]
    pairs = [pair for pair in summary["paired"] if pair["method"] == claim and pair["metric"].partition("@")[0] == ACCURACY]
    if not pairs:
        return []
    rows = difference_rows(summary, method=claim) or [("against", "difference", "95 %"), *(_claim_row(pair, labels) for pair in pairs)]
    return [f"{labels.get(claim, claim)} (\\*) minus each of the others:\n", markdown_table(rows)]


def _claim_row(pair: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    against = _conditioned(labels.get(pair["against"], pair["against"]), condition_of(pair["metric"]))
    return against, f"{100 * pair['difference']:+.1f}", interval(pair["ci95"], signed=True)


def _pointing_lines(summary: Mapping[str, Any]) -> list[str]:
    """Where the attention lies, for the methods that have a map."""
    labels = summary["data"]["labels"]
    rows: list[tuple[str, ...]] = [("attention map of", "pointing accuracy", "95 %", "attention inside", "95 %", "area of the box")]
    for name, method in summary["methods"].items():
        for metric in method["metrics"]:
            base, _, condition = metric.partition("@")
            if base == "pointing":
                rows.append((_conditioned(labels.get(name, name), condition), *_inside(method["metrics"], condition)))
    if len(rows) == 1:
        return []
    return [
        "Does the map lie on the actor? (Percent; even attention would have as much inside as the box has of the area.)\n",
        markdown_table(rows),
    ]


def _remark_lines(summary: Mapping[str, Any]) -> list[str]:
    """Clips of which nothing or less was observed, once for the study."""
    remarks = remarks_of(summary)
    return ["Of the judged clips:\n", "".join(f"- {line}\n" for line in remarks)] if remarks else []


def _conditioned(text: str, condition: str, mark: str = " @ ") -> str:
    return f"{text}{mark}{condition}" if condition else text


def _inside(metrics: Mapping[str, Any], condition: str) -> list[str]:
    """Pointing and mass with their intervals, and chance, in percent."""
    pointing, mass, chance = (metrics[_conditioned(name, condition, "@")] for name in ("pointing", "mass", "chance"))
    with_intervals = [text for found in (pointing, mass) for text in (f"{100 * found['mean']:.1f}", interval(found["ci95"]))]
    return [*with_intervals, f"{100 * chance['mean']:.1f}"]
