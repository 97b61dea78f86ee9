"""The schema of summary.json: what is built passes, survives a file, and every deviation is named."""

import copy
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.bench.intervals import Cell, bootstrap_ci, paired_difference
from vidkd.bench.summary import Method, Metric, Paired, build_summary, check_summary, read_summary, write_summary


def cells_of(accuracy: float, seed: int) -> list[Cell]:
    rng = np.random.default_rng(seed)
    return [
        Cell(seed=trained, fold=fold, correct=rng.random(40) < accuracy, group=np.repeat(np.arange(10), 4).astype(str))
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
    assert top1["values"] == {cell.name: cell.mean for cell in student}
    assert top1["mean"] == pytest.approx(bootstrap_ci(student).mean)
    assert top1["ci95"] == list(bootstrap_ci(student, draws=200).ci95)
    assert top1["n"] == 6
    expected = paired_difference(distilled, student, draws=200)
    assert summary["paired"] == [
        {
            "method": "kd",
            "reference": "student",
            "metric": "top1",
            "difference": expected.mean,
            "ci95": list(expected.ci95),
            "pairs": 6,
        }
    ]
    assert summary["methods"]["kd"]["metrics"]["latency_ms@b1t1"] == {"values": {"0/1": 3.5}, "mean": 3.5, "ci95": None, "n": 1}
    assert summary["methods"]["kd"]["train_seconds"] is None


def test_a_file_gives_back_what_was_written(summary: dict, tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", summary)
    assert read_summary(tmp_path / "summary.json") == summary


def put(summary: dict, keys: list, value: object) -> dict:
    changed = copy.deepcopy(summary)
    place = changed
    for key in keys[:-1]:
        place = place[key]
    if value is KeyError:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return changed


TOP1 = ["methods", "kd", "metrics", "top1"]


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (["schema_version"], 2, "schema_version"),
        (["study"], "", "study"),
        (["data"], 3, "data"),
        (["environment"], None, "environment"),
        (["metods"], {}, "unknown key 'metods', did you mean 'methods'"),
        (["paired"], KeyError, "lacks paired"),
        (["paired"], {}, "not a list"),
        (["seconds"], -1, "seconds"),
        (["methods", "kd", "parameters"], 1.5, "methods.kd.parameters"),
        (["methods", "kd", "train_seconds"], "long", "methods.kd.train_seconds"),
        (["methods", "kd", "metrics", "Top 1"], {}, "no metric name"),
        ([*TOP1, "values"], {}, "is empty"),
        ([*TOP1, "values", "first"], 0.5, "no cell name"),
        ([*TOP1, "values", "0/1"], float("nan"), "top1.values.0/1"),
        ([*TOP1, "values", "0/1"], True, "top1.values.0/1"),
        ([*TOP1, "n"], 7, "there are 6 values"),
        ([*TOP1, "mean"], 0.99, "the values have the mean"),
        ([*TOP1, "ci95"], [0.9, 0.1], "out of order"),
        ([*TOP1, "ci95"], [0.9], "neither null"),
        (["paired", 0, "reference"], "teacher", "not among the methods"),
        (["paired", 0, "metric"], "latency_ms@b1t1", "no metric of 'student'"),
        (["paired", 0, "pairs"], 0, "is 0"),
        (["paired", 0, "difference"], None, "difference"),
    ],
)
def test_every_deviation_is_named(summary: dict, tmp_path: Path, keys: list, value: object, says: str) -> None:
    changed = put(summary, keys, value)
    with pytest.raises(DataError) as caught:
        check_summary(changed, source="summary.json")
    assert says in str(caught.value)
    assert "summary.json" in str(caught.value)
    with pytest.raises(DataError):
        write_summary(tmp_path / "summary.json", changed)
    assert not (tmp_path / "summary.json").exists()


def test_a_file_that_is_not_a_summary(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", [1, 2])
    with pytest.raises(DataError, match="not a mapping"):
        read_summary(tmp_path / "summary.json")
