"""What is kept of accuracy beside a summary: found by its name, known by its content, enough to compare two runs in pairs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from speed_results import accuracy, detector, model, results

from vidkd.base.errors import DataError
from vidkd.base.files import write_json
from vidkd.bench.intervals import Cell, paired_difference
from vidkd.bench.speed.kept import identity_of, measurements_beside, moved_between, read_measurements, short_accuracy, short_moved
from vidkd.bench.speed.record import measurements_of, summary_of


def test_they_lie_beside_their_summary(tmp_path: Path) -> None:
    assert measurements_beside("runs/x/summary.json") == Path("runs/x/measurements.json")
    assert measurements_beside(tmp_path / "repeat.json") == tmp_path / "repeat_measurements.json"


def test_they_are_those_of_their_summary_alone(tmp_path: Path) -> None:
    made = results()
    summary, measured = summary_of(made), measurements_of(made)
    path = tmp_path / "summary.json"
    assert read_measurements(path, summary) is None, "none lie there"
    write_json(tmp_path / "measurements.json", measured)
    assert read_measurements(path, summary) == json.loads(json.dumps(measured))
    older = {**summary, "data": {name: told for name, told in summary["data"].items() if name != "measurements"}}
    assert read_measurements(path, older) is None, "a run from before they were kept"
    other = measurements_of(results(small=model("small", 0.005, right=27)))
    assert identity_of(other) != identity_of(measured)
    write_json(tmp_path / "measurements.json", other)
    with pytest.raises(DataError, match="the measurements of another run"):
        read_measurements(path, summary)
    write_json(tmp_path / "measurements.json", [])
    with pytest.raises(DataError, match="not the measurements of a benchmark"):
        read_measurements(path, summary)


def test_names_of_clips_are_kept_once() -> None:
    measured = measurements_of(results())
    assert list(measured["samples"]) == ["hash of the clips"]
    assert measured["samples"]["hash of the clips"]["clip"][:2] == ["c0", "c1"]
    small = measured["models"]["small"]["accuracy"]
    assert (small["samples"], sum(small["correct"]), len(small["draws"]["class_mean"])) == ("hash of the clips", 28, 41)
    assert measured["models"]["peer"]["accuracy"] is None


def test_a_difference_is_that_of_the_pairs() -> None:
    """Of top-1 over clips, as within one benchmark; of the rest over draws, here all moved alike."""
    runs = [json.loads(json.dumps(measurements_of(results(small=model("small", 0.005, right=right))))) for right in (28, 20)]
    cells = [accuracy(right).cell for right in (20, 28)]
    wanted = paired_difference([cells[0]], [cells[1]], over=("groups",))  # type: ignore[list-item]
    top1, class_mean = (moved_between(*runs, "small", name) for name in ("top1", "class_mean"))
    assert top1 is not None
    assert class_mean is not None
    assert top1.ci95 == wanted.ci95
    assert class_mean.ci95 == pytest.approx((-0.2, -0.2))
    assert moved_between(*runs, "peer", "top1") is None, "not judged"
    assert moved_between(None, runs[1], "small", "top1") is None
    assert moved_between(*runs, "gone", "top1") is None


def test_detectors_keep_their_draws() -> None:
    draws = np.linspace(0.3, 0.5, 41)
    runs = [measurements_of(results(small=detector("small", value, draws + value))) for value in (0.4, 0.3)]
    moved = moved_between(*runs, "small", "ap50")
    assert moved is not None
    assert moved.ci95 == pytest.approx((-0.1, -0.1))
    one_group = measurements_of(results(small=detector("small", 0.4, np.zeros(0))))
    moved = moved_between(one_group, one_group, "small", "ap50")
    assert moved is not None
    assert moved.ci95 is None


def test_summaries_alone_tell_the_same_difference_of_the_main_metric() -> None:
    made = [results(small=model("small", 0.005, right=right)) for right in (28, 21)]
    one, other = (json.loads(json.dumps(summary_of(each)["data"])) for each in made)
    assert one["models"]["small"]["accuracy"]["right"] == [4] * 7 + [0] * 3
    assert other["models"]["small"]["accuracy"]["right"] == [4] * 5 + [1] + [0] * 4
    assert one["models"]["small"]["accuracy"]["clips"] == [4] * 10
    wanted = moved_between(*map(measurements_of, made), "small", "top1")
    found = short_moved(one, other, "small", "top1")
    assert wanted is not None
    assert found is not None
    assert found.ci95 == pytest.approx(wanted.ci95)
    assert short_moved(one, other, "small", "class_mean") is None, "the main metric alone"
    assert short_moved(one, other, "peer", "top1") is None, "not judged"
    older = {"models": {"small": {}}}
    assert short_moved(older, other, "small", "top1") is None
    other["models"]["small"]["accuracy"]["samples"] = "other clips"
    with pytest.raises(DataError, match="'small' was judged on other clips"):
        short_moved(one, other, "small", "top1")


def test_groups_of_unlike_size_and_shares_of_a_clip() -> None:
    """The order of groups is that of their names, wherever their clips stand."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([f"g{number}" for number in range(12)], range(1, 13)))
    one, other = (np.round(rng.integers(0, 4, len(group)) / 3, 6) for _ in range(2))
    judged = [
        dataclasses.replace(accuracy(1), cell=Cell(seed=0, fold="1", correct=right, group=group, clip=np.arange(len(group))))
        for right in (one, other)
    ]
    data = [{"models": {"a": {"accuracy": json.loads(json.dumps(short_accuracy(each)))}}} for each in judged]
    found = short_moved(*data, "a", "top1")
    assert found is not None
    wanted = paired_difference([judged[1].cell], [judged[0].cell], over=("groups",)).ci95  # type: ignore[list-item]
    assert found.ci95 == pytest.approx(wanted, abs=1e-5)


def test_summaries_of_detectors_hold_two_hundred_draws_and_stay_small() -> None:
    draws = np.random.default_rng(0).random(2000) / 10
    made = [results(**{f"d{number}": detector(f"d{number}", 0.4, draws + shift) for number in range(11)}) for shift in (0.4, 0.3)]
    one, other = (summary_of(each)["data"] for each in made)
    found = short_moved(one, other, "d3", "ap50")
    assert found is not None
    assert found.ci95 == pytest.approx((-0.1, -0.1), abs=1e-4)
    kept = [entry["accuracy"] for entry in one["models"].values()]
    assert len(kept[-1]["draws"]) == 200
    assert len(json.dumps(kept)) < 30_000
