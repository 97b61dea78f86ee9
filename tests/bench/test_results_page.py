"""docs/results.md is what the committed cells say: generated, and every mean in its tables worked out again."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from study_samples import make_study, write_cells

from vidkd.base.errors import ConfigError
from vidkd.base.files import read_json, write_json
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.clip_study import read_clip_study
from vidkd.bench.reading import check_summaries
from vidkd.bench.results_page import markdown_table, results_page
from vidkd.bench.single_runs_page import single_runs_page
from vidkd.bench.store import Store
from vidkd.bench.store import write_cells as write_table
from vidkd.bench.streams.page import streams_page
from vidkd.bench.study import CellKey, Places, read_cells
from vidkd.bench.summary import write_summary

REPOSITORY = Path(__file__).parents[2]
ROUNDING = 0.0501
Cells = dict[tuple[Any, str], dict[str, Any]]


def cells_in(folder: Path) -> dict[str, Cells]:
    """Rows and sizes of the test cells by method, then by seed and fold."""
    found: dict[str, Cells] = {}
    for cell in Store(folder / "cells.parquet", Path("nowhere")).cells("test").values():
        found.setdefault(cell["method"], {})[cell["seed"], cell["place"]] = {**cell["predictions"], **_sizes(cell)}
    return found


def _sizes(cell: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in cell["metrics"].items() if name in ("macs", "bytes")}


def top1(rows: dict[str, Any]) -> float:
    right = [predicted == label for predicted, label in zip(rows["predicted"], rows["label"], strict=True) if label >= 0]
    return sum(right) / len(right)


def shares_of(rows: dict[str, Any]) -> dict[float, float]:
    """Accuracy at every observed share, in percent of the clip."""
    names = sorted((float(name.removeprefix("predicted@obs")), name) for name in rows if name.startswith("predicted@obs"))
    return {share: top1({"label": rows["label"], "predicted": rows[name]}) for share, name in names}


def mean_top1(rows: dict[str, Any]) -> float:
    """Over all observed shares, where there are any."""
    return float(np.mean(list(shares_of(rows).values()))) if shares_of(rows) else top1(rows)


def area_under(rows: dict[str, Any]) -> float:
    shares = shares_of(rows)
    return float(np.trapezoid(list(shares.values()), list(shares)) / (max(shares) - min(shares)))


def at_share(heading: str) -> Callable[[dict[str, Any]], float]:
    """The accuracy that stands under a heading: `mean`, `20 %` or `20-50 %`."""
    if heading == "mean":
        return mean_top1
    low, *high = map(float, heading.removesuffix(" %").split("-"))
    return lambda rows: float(np.mean([value for share, value in shares_of(rows).items() if low <= share <= (high or [low])[0]]))


def check_shares(head: list[str], row: list[str], by_label: dict[str, Cells], reference: str, claimed: list[str]) -> int:
    """A row of accuracies at observed shares, or of differences there."""
    name = row[0].removesuffix(" *")
    condition = f" @ {name.partition(' @ ')[2]}" if " @ " in name else ""
    cells, minus = by_label[name], by_label[reference + condition] if head[1] == "mean" else None
    if head[0] == "against":
        (claim,) = [found for found in claimed if found.partition(" @ ")[2] == name.partition(" @ ")[2]]
        cells, minus = by_label[claim], by_label[name]
    filled = [(heading, text.split(" ")[0]) for heading, text in zip(head[1:], row[1:], strict=True) if text]
    for heading, text in filled:
        assert float(text) == pytest.approx(percent(at_share(heading), cells, minus), abs=ROUNDING)
    return len(filled)


def percent(score: Callable[[dict[str, Any]], float], cells: Cells, minus: Cells | None = None) -> float:
    """Mean over cells, or of the difference over the cells that both have, in percent."""
    if minus is None:
        return 100 * float(np.mean([score(rows) for rows in cells.values()]))
    return 100 * float(np.mean([score(cells[key]) - score(minus[key]) for key in cells.keys() & minus.keys()]))


def _without_rule(block: str) -> list[str]:
    head, _, *body = block.splitlines()
    return [head, *body]


def tables_of(section: str) -> list[list[list[str]]]:
    """The Markdown tables of a section, as rows of cells, the heading first and the rule left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split(" | ")] for line in _without_rule(block)] for block in blocks]


def check_means(page: str, studies: Path, results: Path) -> int:
    """Work every mean and difference on the page out again from the files of the cells; returns how many."""
    checked = 0
    for path in sorted(studies.glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        folder = results / content["study"]
        section = page.partition(f"\n## {content.get('title') or content['study']}\n")[2].partition("\n## ")[0]
        if not (folder / "cells.parquet").exists():
            assert not section
            continue
        cells_of, by_label = cells_in(folder), dict[str, Cells]()
        for name, method in content["methods"].items():
            method = method or {}
            label = method.get("label") or method.get("shown_as") or name
            by_label[label + (f" @ {method['condition']}" if "condition" in method else "")] = cells_of.get(name, {})
        shown = {method.get("shown_as", name): method.get("label", name) for name, method in content["methods"].items() if method}
        reference = shown.get(content.get("reference", "rgb"), "rgb")
        tables = tables_of(section)
        claimed = [row[0].removesuffix(" *") for row in tables[0][1:] if row[0].endswith(" *")]
        for label, mean, _, difference, _, *more, count, _ in tables[0][1:]:
            extra = {head: text for head, text in zip(tables[0][0][5:-2], more, strict=True) if text}
            cells = by_label[label.removesuffix(" *")]
            assert (len(cells), float(mean)) == (int(count), pytest.approx(percent(mean_top1, cells), abs=ROUNDING))
            condition = label.removesuffix(" *").partition(" @ ")[2]
            if difference:
                other = by_label[reference + (f" @ {condition}" if condition else "")]
                assert float(difference) == pytest.approx(percent(mean_top1, cells, other), abs=ROUNDING)
            if "area" in extra:
                assert float(extra["area"]) == pytest.approx(percent(area_under, cells), abs=ROUNDING)
            if "bytes" in extra:
                assert float(extra["bytes"].replace(",", "")) == pytest.approx(np.mean([rows["bytes"] for rows in cells.values()]), abs=0.5)
                assert float(extra["MACs"].removesuffix(" M")) == pytest.approx(
                    np.mean([rows["macs"] for rows in cells.values()]) / 1e6, abs=0.05
                )
            checked += 1 + bool(difference) + len(extra)
        for head, *rows in tables[1:]:
            for label, mean, *rest in rows:
                if head[-1].endswith(" %") and head[-1] != "95 %":
                    checked += check_shares(head, [label, mean, *rest], by_label, reference, claimed)
                elif len(rest) == 1:
                    (claim,) = [name for name in claimed if name.partition(" @ ")[2] == label.partition(" @ ")[2]]
                    assert float(mean) == pytest.approx(percent(mean_top1, by_label[claim], by_label[label]), abs=ROUNDING)
                    checked += 1
                else:
                    for text, measure in ((mean, "pointing"), (rest[1], "mass"), (rest[3], "chance")):
                        expected = percent(lambda rows, measure=measure: float(np.mean(rows[measure])), by_label[label])
                        assert float(text) == pytest.approx(expected, abs=ROUNDING)
                        checked += 1
    return checked


TRIALS = {
    "flow": {"label": "flow teacher", "settings": {"view": "flow", "model.attention.pooling": "soft"}},
    "rgb": {"label": "plain RGB", "trials": [{"optim.lr": 0.2}]},
    "attention": {
        "label": "distilled | one map",
        "claim": True,
        "teacher": "flow",
        "settings": {"task": "attention_distillation", "model.attention.pooling": "soft"},
        "trials": [{"method.weight": 2}],
    },
}
CLAIMS = {"a": "attention", "b": "attention"}
CHOICE = {name: dict.fromkeys("ab", TRIALS[name]["trials"][0]) for name in ("rgb", "attention")}


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Study, Places]:
    """A tuned study with all its cells; two methods have attention maps."""
    study = make_study(tmp_path / "studies", title="A small one", text="What it asks.\n", methods=TRIALS)
    places = Places(results=tmp_path / "results" / "small", runs=tmp_path / "runs", committed=tmp_path / "results")
    methods = {
        name: {
            "folds": {fold: {"trial": 0, "settings": settings, "mean": 0.5, "nll": 0.5} for fold, settings in folds.items()},
            "trials": [{"settings": settings} for settings in TRIALS[name]["trials"]],
        }
        for name, folds in CHOICE.items()
    }
    write_json(
        places.results / "chosen.json",
        {"claims": CLAIMS, "methods": methods, "tuning": {"seeds": [100], "folds": {"a": ["a"], "b": ["b"]}}},
    )
    write_cells(study, places, {"flow": 0.9, "rgb": 0.4, "attention": 0.7}, chosen=CHOICE, pointing=("flow", "attention"))
    (tmp_path / "studies" / "base.yaml").rename(tmp_path / "base.yaml")
    study.path.write_text(study.path.read_text().replace("base: base.yaml", "base: ../base.yaml"))
    study = read_clip_study(study.path)
    write_summary(places.results / "summary.json", study.summarise(read_cells(study, places), CLAIMS))
    return study, places


def test_the_page_of_a_study(finished: tuple[Study, Places], tmp_path: Path) -> None:
    page = results_page(tmp_path / "studies", tmp_path / "results")
    head, _, section = page.partition("\n## A small one\n")
    assert head.startswith("# Results\n")
    assert "chosen for each fold by itself, on groups that this fold never tests" in head
    assert "decided before any test cell was trained, for each fold on its own validation groups" in head
    assert not re.search(r"^\* ", head, re.MULTILINE), "a star at the beginning of a line would be a list"
    assert section.startswith(
        "\nWhat it asks.\n\n`vidkd study configs/studies/small.yaml --data.root DIR`; seeds 0, 1; splits a, b; judged on `test`;"
    )
    assert "Unfinished" not in page
    assert "0.0 h of training on a processor, torch 2.0." in section
    rows = re.findall(r"^\| (.*?) \| [\d.+-]+ \|", section, re.MULTILINE)
    assert rows == [
        "flow teacher",
        "plain RGB",
        r"distilled \| one map *",
        "plain RGB",
        "flow teacher",
        "flow teacher",
        r"distilled \| one map",
    ]
    assert "distilled | one map (\\*) minus each of the others:\n" in section


def test_the_means_of_the_page_are_those_of_the_cells(finished: tuple[Study, Places], tmp_path: Path) -> None:
    study, places = finished
    study.path.write_text(study.path.read_text().replace("distilled | one map", "distilled"))
    keep(read_clip_study(study.path), places, **read_cells(study, places))
    page = results_page(tmp_path / "studies", tmp_path / "results")
    assert check_means(page, tmp_path / "studies", tmp_path / "results") == 3 + 2 + 2 + 2 * 3
    forged = re.sub(r"(\| plain RGB \| )(\d)", lambda match: f"{match[1]}1{match[2]}", page, count=1)
    with pytest.raises(AssertionError):
        check_means(forged, tmp_path / "studies", tmp_path / "results")


def keep(study: Study, places: Places, **cells: dict[str, Any]) -> None:
    """Leave these cells, and the summary of them."""
    write_table(places.results / "cells.parquet", list(cells.values()))
    write_summary(places.results / "summary.json", study.summarise(cells, CLAIMS))


def test_what_was_not_observed_is_said_once(finished: tuple[Study, Places], tmp_path: Path) -> None:
    before = results_page(tmp_path / "studies", tmp_path / "results")
    judged = {"clips": 12, "unobservable": 2, "shortened": 0, "held": 0}
    keep(*finished, **{name: {**cell, "judged": judged} for name, cell in read_cells(*finished).items()})
    page = results_page(tmp_path / "studies", tmp_path / "results")
    assert page == before + "\nOf the judged clips:\n\n- 4 clips are not judged: nothing of them can be observed\n"


def test_cells_that_are_missing_are_counted(finished: tuple[Study, Places], tmp_path: Path) -> None:
    keep(*finished, **{name: cell for name, cell in read_cells(*finished).items() if name != "rgb-s0-a"})
    assert "**Unfinished: 11 of 12 cells.**" in results_page(tmp_path / "studies", tmp_path / "results")


def test_a_shortlist_is_all_that_is_waited_for(finished: tuple[Study, Places], tmp_path: Path) -> None:
    study, places = finished
    study.path.write_text(study.path.read_text().replace("reference: rgb", "reference: flow\nshortlist: [attention]"))
    study = read_clip_study(study.path)
    cells = {name: cell for name, cell in read_cells(study, places).items() if cell["method"] != "rgb"}
    assert study.test_waves() == [[CellKey(name, -1, seed, fold) for seed in (0, 1) for fold in "ab"] for name in ("flow", "attention")]
    keep(study, places, **cells)
    page = results_page(tmp_path / "studies", tmp_path / "results")
    assert "\n2 of 3 methods, after trials of all.\n" in page
    assert "Unfinished" not in page
    keep(study, places, **{name: cell for name, cell in cells.items() if name != "flow-s0-a"})
    assert "**Unfinished: 7 of 8 cells.**" in results_page(tmp_path / "studies", tmp_path / "results")


def test_a_study_under_way_waits_for_its_summary(finished: tuple[Study, Places], tmp_path: Path) -> None:
    """The page of the other studies can be written all the same."""
    before = results_page(tmp_path / "studies", tmp_path / "results")
    other = finished[0].path.read_text().replace("study: small", "study: another").replace("A small one", "Another")
    (tmp_path / "studies" / "another.yaml").write_text(other)
    assert results_page(tmp_path / "studies", tmp_path / "results") == before


def test_no_summary_at_all(finished: tuple[Study, Places], tmp_path: Path) -> None:
    shutil.rmtree(finished[1].results)
    with pytest.raises(ConfigError, match="has finished cells"):
        results_page(tmp_path / "studies", tmp_path / "results")


def test_a_summary_that_its_cells_do_not_give_is_found(finished: tuple[Study, Places], tmp_path: Path) -> None:
    assert dict(check_summaries(tmp_path / "studies", tmp_path / "results")) == {"small": []}
    path = finished[1].results / "summary.json"
    summary = read_json(path)
    summary["methods"]["rgb"]["metrics"]["top1"]["ci95"][0] -= 0.01
    write_json(path, summary)
    ((name, differing),) = check_summaries(tmp_path / "studies", tmp_path / "results")
    assert name == "small"
    assert [line.partition(":")[0] for line in differing] == ["methods.rgb.metrics.top1.ci95[0]"]


def test_a_markdown_table() -> None:
    assert markdown_table([("a", "b"), ("x|y", "1")]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"


def test_the_page_is_current() -> None:
    """It is what the committed summaries say, and its means are those of the cells."""
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    studies, results = REPOSITORY / "configs" / "studies", REPOSITORY / "results"
    assert page == results_page(studies, results) + streams_page(studies, results) + single_runs_page(results), "fix: vidkd study --pages"
    assert check_means(page, studies, results) > 0


@pytest.mark.slow
def test_committed_summaries_are_those_of_their_cells() -> None:
    for name, differing in check_summaries(REPOSITORY / "configs" / "studies", REPOSITORY / "results"):
        assert differing == [], name
