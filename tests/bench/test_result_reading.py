"""Committed summaries against their cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_samples import make_study, write_cells

from vidkd.base.files import read_json, write_json
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.clip_study import read_clip_study
from vidkd.bench.reading import check_summaries
from vidkd.bench.store import Store
from vidkd.bench.study import Places
from vidkd.bench.summary import write_summary

REPOSITORY = Path(__file__).parents[2]
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
    chosen = {"claims": CLAIMS, "methods": methods, "tuning": {"seeds": [100], "folds": {"a": ["a"], "b": ["b"]}}}
    write_cells(study, places, {"flow": 0.9, "rgb": 0.4, "attention": 0.7}, chosen=CHOICE, pointing=("flow", "attention"))
    (tmp_path / "studies" / "base.yaml").rename(tmp_path / "base.yaml")
    study.path.write_text(study.path.read_text().replace("base: base.yaml", "base: ../base.yaml"))
    study = read_clip_study(study.path)
    write_summary(places.results / "summary.json", {**study.summarise(places.store(study.name).cells("test"), CLAIMS), "chosen": chosen})
    return study, places


def test_a_summary_that_its_cells_do_not_give_is_found(finished: tuple[Study, Places], tmp_path: Path) -> None:
    assert dict(check_summaries(tmp_path / "studies", tmp_path / "results")) == {"small": []}
    path = finished[1].results / "summary.json"
    summary = read_json(path)
    summary["methods"]["rgb"]["metrics"]["top1"]["ci95"][0] -= 0.01
    write_json(path, summary)
    ((name, differing),) = check_summaries(tmp_path / "studies", tmp_path / "results")
    assert name == "small"
    assert [line.partition(":")[0] for line in differing] == ["methods.rgb.metrics.top1.ci95.0"]


@pytest.mark.parametrize("study", ["ucf101_4", "weizmann", "motion_shapes"])
def test_means_of_committed_summaries_from_the_predictions(study: str) -> None:
    """Worked out here from the rows of the cells alone."""
    summary = read_json(REPOSITORY / "results" / study / "summary.json")
    cells = cells_in(REPOSITORY / "results" / study)
    for name, method in summary["methods"].items():
        assert method["metrics"]["top1"]["mean"] == pytest.approx(np.mean([top1(rows) for rows in cells[name].values()]), abs=1e-9)


@pytest.mark.slow
def test_committed_summaries_are_those_of_their_cells() -> None:
    for name, differing in check_summaries(REPOSITORY / "configs" / "studies", REPOSITORY / "results"):
        assert differing == [], name
