"""The schema of summary.json: what is built passes, survives a file, and what deviates is named; names of metrics with their conditions."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.bench.clip_summary import clip_scores, is_accuracy, percents_of
from vidkd.bench.intervals import Cell, bootstrap_ci, name_of, paired_difference
from vidkd.bench.summary import Method, Metric, Paired, build_summary, mean_name, parsed, read_summary, under, write_summary
from vidkd.engine.metrics import area


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


@pytest.mark.parametrize(
    ("name", "parts", "numbers"),
    [
        ("top1@obs12.5", ("top1", "obs", 12.5, 12.5, ""), "12.5"),
        ("top1@obs20-50", ("top1", "obs", 20, 50, ""), "20-50"),
        ("top1@obs12.5-50.labels25", ("top1", "obs", 12.5, 50, "labels25"), "12.5-50"),
        ("f1_late@calls5", ("f1_late", "calls", 5, 5, ""), "5"),
        ("top1_area", ("top1_area", "", 0, 0, ""), "0"),
        ("latency_ms@b1t1", ("latency_ms", "", 0, 0, "b1t1"), "0"),
        ("top1@obs", ("top1", "", 0, 0, "obs"), "0"),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[object, ...], numbers: str) -> None:
    assert parsed(name) == parts
    assert parsed(name).numbers == numbers


def test_conditions_come_behind() -> None:
    assert [under("top1@obs20", "labels25"), under("top1", "labels25"), under("top1", None)] == [
        "top1@obs20.labels25",
        "top1@labels25",
        "top1",
    ]
    assert [is_accuracy(name) for name in ("top1", "top1_area", "top1@obs20", "top5", "mass")] == [True, True, True, False, False]


def test_the_mean_over_fractions_is_named_by_its_ends() -> None:
    assert mean_name([0.2, 0.3, 0.4, 0.5]) == "top1@obs20-50"
    assert mean_name([0.07, 0.125]) == "top1@obs7-12.5"
    assert mean_name([0.2]) == "top1@obs20"


ROWS = {
    "label": [0, 1, 2, 0],
    "predicted": [0, 1, 2, 1],
    "predicted@obs100": [0, 1, 2, 1],
    "predicted@obs10": [0, 0, 0, 1],
    "predicted@obs50": [0, 1, 0, 1],
    "predicted@obs20": [0, 0, 0, 0],
}


def test_what_a_clip_contributes() -> None:
    assert percents_of(ROWS) == [10, 20, 50, 100]
    np.testing.assert_array_equal(clip_scores(ROWS, "top1@obs50"), [1, 1, 0, 0])
    np.testing.assert_allclose(clip_scores(ROWS, "top1"), [1, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(clip_scores(ROWS, "top1@obs20-50"), [1, 0.5, 0, 0.5])
    np.testing.assert_allclose(clip_scores(ROWS, "top1@obs10-50"), [1, 1 / 3, 0, 1 / 3])
    np.testing.assert_array_equal(clip_scores({"label": [0, -1], "predicted": [0, 1]}, "top1"), [1, 0])


def test_the_area_of_the_clips_is_the_area_under_the_mean_curve() -> None:
    shares = [0.1, 0.2, 0.5, 1.0]
    curve = [float(clip_scores(ROWS, f"top1@obs{100 * share:g}").mean()) for share in shares]
    assert clip_scores(ROWS, "top1_area").mean() == pytest.approx(area(shares, curve))
    one = {"label": [0, 1], "predicted@obs20": [0, 0]}
    np.testing.assert_array_equal(clip_scores(one, "top1_area"), [1, 0])


@pytest.mark.parametrize("metric", ["top1@obs30", "top1@obs20-60", "top1@obs5-50"])
def test_a_share_that_was_not_judged(metric: str) -> None:
    with pytest.raises(DataError, match=r"10 %, 20 %, 50 %, 100 %"):
        clip_scores(ROWS, metric)
    with pytest.raises(DataError, match="whole clips"):
        clip_scores({"label": [0], "predicted": [0]}, metric)
