"""A study judged at several observed shares: its numbers, its tables and its page."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_samples import CLIPS, cells_of, make_study, summarise

from vidkd.base.errors import ConfigError
from vidkd.bench.clip_spec import check_settings
from vidkd.bench.clip_study import ClipStudy as Study
from vidkd.bench.clip_summary import as_cell
from vidkd.bench.intervals import paired_difference
from vidkd.report.study import condition_figures, study_tables

PERCENTS = (10, 20, 30, 50, 100)
SHOWN = [0.2, 0.3, 0.5]
METHODS = {
    "whole": {"label": "teacher, whole clip"},
    "rgb": {"label": "no distillation"},
    "position": {"teacher": "whole"},
    "attentive": {"label": "attentive, both", "teacher": "whole"},
}
Found = dict[str, list[dict[str, Any]]]


def observe(cell: dict[str, Any], rise: float) -> dict[str, Any]:
    """The cell judged at every share; the more is seen the more clips are right."""
    rng = np.random.default_rng([cell["seed"], *str(cell["method"] + cell["place"]).encode()])
    rows, hard = cell["predictions"], rng.random(CLIPS)
    labels = np.array(rows["label"])
    for percent in PERCENTS:
        right = hard < rise * (0.3 + 0.7 * percent / 100)
        rows[f"predicted@obs{percent}"] = np.where(right, labels, (labels + 1) % 3).tolist()
        cell["metrics"][f"top1@obs{percent}"] = round(float(right.mean()), 6)
    rows["predicted"] = rows["predicted@obs100"]
    cell["metrics"] |= {"top1": 0.0, "top1_area": 0.0}  # worked out from the clips
    return cell


def study_of(folder: Path, **over: Any) -> tuple[Study, Found]:
    study = make_study(folder, methods=METHODS, fractions_shown=SHOWN, **over)
    found = {name: cells_of(study, name, 0.9) for name in METHODS}
    for name, rise in {"rgb": 0.5, "position": 0.7, "attentive": 0.95}.items():
        found[name] = [observe(cell, rise) for cell in found[name]]
    return study, found


def accuracy(cell: dict[str, Any], percent: int) -> float:
    rows = cell["predictions"]
    return float(np.mean(np.equal(rows[f"predicted@obs{percent}"], rows["label"])))


def test_means_at_each_share_over_a_range_and_over_all(tmp_path: Path) -> None:
    study, found = study_of(tmp_path)
    summary = summarise(study, found, "attentive")
    metrics = summary["methods"]["attentive"]["metrics"]
    curve = {percent: np.mean([accuracy(cell, percent) for cell in found["attentive"]]) for percent in PERCENTS}
    for percent, mean in curve.items():
        assert metrics[f"top1@obs{percent}"]["mean"] == pytest.approx(mean)
    assert metrics["top1"]["mean"] == pytest.approx(np.mean(list(curve.values())))
    assert metrics["top1@obs20-50"]["mean"] == pytest.approx(np.mean([curve[percent] for percent in (20, 30, 50)]))
    areas = [(curve[low] + curve[high]) / 2 * (high - low) for low, high in itertools.pairwise(PERCENTS)]
    assert metrics["top1_area"]["mean"] == pytest.approx(sum(areas) / 90)
    assert metrics["top1_area"]["ci95"][0] < metrics["top1_area"]["mean"] < metrics["top1_area"]["ci95"][1]
    assert not any("@" in metric for metric in summary["methods"]["whole"]["metrics"])


def test_pairs_at_the_shares_that_the_study_names(tmp_path: Path) -> None:
    study, found = study_of(tmp_path)
    summary = summarise(study, found, "attentive")
    pairs = {(pair["method"], pair["reference"], pair["metric"]): pair for pair in summary["paired"]}
    shares = {"top1@obs20-50", "top1@obs20", "top1@obs30", "top1@obs50"}
    assert {metric for method, against, metric in pairs if (method, against) == ("attentive", "rgb")} == {"top1", *shares}
    assert {metric for method, _, metric in pairs if method == "whole"} == {"top1"}
    expected = paired_difference(*([as_cell(cell, "top1@obs20-50") for cell in found[name]] for name in ("attentive", "rgb")))
    pair = pairs["attentive", "rgb", "top1@obs20-50"]
    assert (pair["difference"], pair["ci95"]) == (pytest.approx(expected.mean), expected.ci95)
    cells = zip(found["attentive"], found["rgb"], strict=True)
    by_hand = [accuracy(here, percent) - accuracy(there, percent) for here, there in cells for percent in (20, 30, 50)]
    assert pair["difference"] == pytest.approx(np.mean(by_hand))


def test_tables_have_a_row_a_method(tmp_path: Path) -> None:
    study, found = study_of(tmp_path)
    summary = summarise(study, found, "attentive")
    first, each, differences, claim = study_tables(summary)
    names = ["teacher, whole clip", "no distillation", "position", "attentive, both"]
    assert first.columns == ("method", "top1 (%)", "nll", "top1_area (%)", "cells", "parameters", "training")
    assert [(row[0], row[3] is None) for row in first.rows] == [(name, name == names[0]) for name in names], "a whole clip has no curve"
    assert each.columns == ("method", "10", "20", "30", "50", "100", "20-50")
    assert [row[0] for row in each.rows] == names[1:]
    mean = summary["methods"]["rgb"]["metrics"]["top1@obs20-50"]
    assert (each.rows[0][-1].value, each.rows[0][-1].ci95) == (mean["mean"], mean["ci95"])
    assert (differences.title, claim.title) == ("Minus no distillation", "Attentive, both, minus")
    assert [row[0] for row in claim.rows] == [names[0], names[2]]
    assert differences.columns == ("method", "top1", "top1, 20-50 %", "top1, 20 %", "top1, 30 %", "top1, 50 %")
    assert [row[0] for row in differences.rows] == [names[0], *names[2:]]


def test_conditions_have_rows_and_curves_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {f"{name}{share}": {"shown_as": name, "condition": f"labels{share}"} for name in ("rgb", "kd") for share in (10, 50)}
    study = make_study(tmp_path, methods=methods, fractions_shown=SHOWN)
    found = {name: [observe(cell, 0.6) for cell in cells_of(study, name, 0.9)] for name in methods}
    summary = summarise(study, found, "kd10")
    assert "top1@obs20-50.labels10" in summary["methods"]["kd"]["metrics"]
    by_title = {table.title: table for table in study_tables(summary)}
    assert [row[0] for row in by_title["top1 by labelled clips used (%)"].rows] == ["rgb", "kd"]
    labels = [f"{name} @ labels{share}" for name in ("rgb", "kd") for share in (10, 50)]
    assert [row[0] for row in by_title["top1 by share of the clip observed (%)"].rows] == labels
    assert [row[0] for row in by_title["Minus rgb"].rows] == ["kd", *labels[2:]]
    drawn: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("vidkd.report.study.accuracy_by_condition", lambda series, **named: drawn.append((named["title"], list(series))))
    condition_figures(summary, ("obs",))
    title = "top1 by share of the clip observed (%)"
    assert drawn == [(f"{title}, labels10", ["rgb", "kd"]), (f"{title}, labels50", ["rgb", "kd"])]


def test_fractions_shown_must_be_those_that_were_judged(tmp_path: Path) -> None:
    early = {"settings": {"data.observe.protocol": "early", "data.observe.fractions": [0.2, 0.3, 0.4, 0.5]}}
    unasked = make_study(tmp_path / "c", methods={"rgb": early}, fractions_shown=[0.2, 0.3, 0.5])
    with pytest.raises(ConfigError, match=r"judged at +: 0.2, 0.3, 0.4, 0.5"):
        check_settings(unasked)
    for wrong in ([0.5, 0.2], [0.0, 0.5], [0.2, 0.2], [0.5, 1.5]):
        with pytest.raises(ConfigError, match="fractions_shown must rise"):
            make_study(tmp_path / "b", fractions_shown=wrong)
