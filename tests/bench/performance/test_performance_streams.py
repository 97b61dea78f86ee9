"""The arithmetic of speed along a stream, and what is said where nothing can be measured."""

from pathlib import Path

import pytest

from vidkd.bench.performance.rows import Part, Setting
from vidkd.bench.performance.streams import ALONE, _lap, add_costs, break_even, run, stream_cost


def test_break_even_in_closed_form() -> None:
    # never called: the oracle must cost as much as student and selector
    assert break_even(10, 1, 500, share=0) == 11
    # 20 of every 100 frames called: 10 + 1 + .2 * 20 = 15 is what .8 of the oracle's frames may cost
    assert break_even(10, 1, 20, share=0.2) == pytest.approx(15 / 0.8)
    assert break_even(0, 0, 30, share=0.05) == pytest.approx(30 / 19)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_at_break_even_both_cost_the_same_and_above_it_the_student_wins(share: float) -> None:
    parts = {"student": 12.0, "selector": 0.5, "update": 800.0}
    oracle = break_even(**parts, share=share)
    assert stream_cost(**parts, oracle=oracle, share=share) == pytest.approx(oracle)
    assert stream_cost(**parts, oracle=oracle + 1, share=share) < oracle + 1


def test_what_learning_costs_at_each_budget() -> None:
    """10 + 1 + share x 540; in the second round all but the selector takes twice as long, which leaves ratios nearly as they are."""
    student, update, oracle = [10.0, 20, 10], [500.0, 1000, 500], [40.0, 80, 40]
    part, selector = Part(title="", text="", settings={}), [1.0] * 3
    taught = {"student": student, "selector": selector, "update": update}
    measured = {ALONE: student, "YOLOX-nano": oracle, "YOLOv8n": oracle}
    add_costs(part, "tiny", {"student": student, "selector": selector}, taught, measured)
    rows = {row["name"]: row for row in (*part.values, *part.ratios)}
    costs = [rows[f"learning from YOLOv8n at {share} % calls, tiny".replace(" %", "%")] for share in (2, 5, 10, 20)]
    assert [row["median"] for row in costs] == pytest.approx([21.8, 38, 65, 119])
    assert (costs[1]["min"], costs[1]["max"]) == (38, 75), "20 + 1 + .05 x 1080 in the slow round"
    ratio = rows["learning from YOLOX-nano at 5% calls / student alone, tiny"]
    assert (ratio["median"], ratio["min"], ratio["max"]) == (3.8, 3.75, 3.8)
    assert rows["break-even oracle, tiny"]["median"] == pytest.approx(36 / 0.95, rel=1e-3)
    assert rows["break-even oracle, learning asynchronously, tiny"]["median"] == pytest.approx(11 / 0.95, rel=1e-3)
    assert rows["selector / student, tiny"]["met"] is False


def test_laps_share_the_seconds_of_each_round() -> None:
    laps: dict[str, list[float]] = {"student": [], "selector": [], "update": []}
    assert _lap(laps, {"student": 0.2, "update": 1.0}, frames=20, calls=2) == pytest.approx(60)
    assert laps == {"student": [pytest.approx(10)], "selector": [0.0], "update": [500.0]}


def test_without_the_models_the_part_is_left_out_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = Setting(scratch=tmp_path, rounds=1, workers=1, threads=1, quick=True)
    monkeypatch.delenv("VIDKD_DATA", raising=False)
    assert run(setting).notes == ["Left out: VIDKD_DATA names no folder with the models and the video."]
    monkeypatch.setenv("VIDKD_DATA", str(tmp_path))
    part = run(setting)
    assert (part.values, part.ratios) == ([], [])
    assert "lacks pets09/vtest.avi" in part.notes[0]
