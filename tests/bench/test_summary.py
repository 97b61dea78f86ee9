"""The schema of summary.json: what is built passes, survives a file, and what deviates is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.bench.intervals import Cell, bootstrap_ci, name_of, paired_difference
from vidkd.bench.summary import Method, Metric, Paired, build_summary, read_summary, write_summary


def cells_of(accuracy: float, seed: int) -> list[Cell]:
    rng = np.random.default_rng(seed)
    return [
        Cell(seed=trained, place=fold, correct=rng.random(40) < accuracy, group=np.repeat(np.arange(10), 4).astype(str))
        for trained in range(3)
        for fold in "12"
    ]


@pytest.fixture
def summary() -> dict:
    student, distilled = cells_of(0.5, 0), cells_of(0.7, 1)
    return build_summary(
        "attention_ucf",
        {"name": "ucf101"},
        {"torch": "2.13", "device": "cpu"},
        {
            "student": Method(metrics={"top1": Metric.of_cells(student, draws=200)}, train_seconds=10.5, parameters=1000),
            "kd": Method(metrics={"top1": Metric.of_cells(distilled, draws=200), "latency_ms@b1t1": Metric(values={"0/1": 3.5})}),
        },
        [Paired.of_cells("kd", distilled, "student", student, metric="top1", draws=200)],
        123.0,
    )


def test_the_numbers_are_those_of_the_cells(summary: dict) -> None:
    student, distilled = cells_of(0.5, 0), cells_of(0.7, 1)
    top1 = summary["methods"]["student"]["metrics"]["top1"]
    assert top1["values"] == {name_of(cell): cell.value for cell in student}
    assert top1["mean"] == pytest.approx(bootstrap_ci(student).mean)
    assert top1["ci95"] == bootstrap_ci(student, draws=200).ci95
    assert top1["n"] == 6
    expected = paired_difference(distilled, student, draws=200)
    assert summary["paired"] == [
        {
            "method": "kd",
            "reference": "student",
            "metric": "top1",
            "difference": expected.mean,
            "ci95": expected.ci95,
            "pairs": 6,
        }
    ]
    assert summary["methods"]["kd"]["metrics"]["latency_ms@b1t1"] == {"values": {"0/1": 3.5}, "mean": 3.5, "ci95": None, "n": 1}
    assert summary["methods"]["kd"]["train_seconds"] is None


def test_a_file_gives_back_what_was_written(summary: dict, tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == json.loads(json.dumps(summary))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"schema_version": 2}, "has schema 2"),
        ({"metods": {}}, "unknown field `metods`"),
        ({"methods": {"kd": {"metrics": {"top1": {"values": {"0/1": True}}}}}}, r"Expected `float`, got `bool`.*values"),
        ({"paired": [{"method": "kd"}]}, "missing required field `reference`"),
    ],
)
def test_another_schema_is_refused_with_its_key(summary: dict, tmp_path: Path, changed: dict, says: str) -> None:
    write_json(tmp_path / "summary.json", {**summary, **changed})
    with pytest.raises(DataError, match=says):
        read_summary(tmp_path / "summary.json")
