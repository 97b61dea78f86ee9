"""The arithmetic of speed along a stream, and what is said where nothing can be measured."""

from pathlib import Path

import pytest

from vidkd.bench.performance.along_video import slowest_of
from vidkd.bench.performance.rows import Setting, performance_page
from vidkd.bench.performance.streams import SHARES, Laps, _budget_rows, break_even, budget_rows, run, stream_cost


def test_break_even_in_closed_form() -> None:
    # never called: the oracle must cost as much as student and selector
    assert break_even(10, 1, 500, share=0) == 11
    # 20 of every 100 frames called: 10 + 1 + .2 * 20 = 15 is what .8 of the oracle's frames may cost
    assert break_even(10, 1, 20, share=0.2) == pytest.approx(15 / 0.8)
    assert break_even(10, 0, 0, share=0.5) == 20
    assert break_even(0, 0, 30, share=0.05) == pytest.approx(30 / 19)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.5, 0.9])
def test_at_break_even_both_cost_the_same_and_above_it_the_student_wins(share: float) -> None:
    parts = {"student": 12.0, "selector": 0.5, "update": 800.0}
    oracle = break_even(**parts, share=share)
    assert stream_cost(**parts, oracle=oracle, share=share) == pytest.approx(oracle)
    assert stream_cost(**parts, oracle=oracle + 1, share=share) < oracle + 1
    assert stream_cost(**parts, oracle=oracle - 1, share=share) > oracle - 1


@pytest.mark.parametrize("share", [1.0, 1.5, -0.1])
def test_no_oracle_breaks_even_where_every_frame_is_called(share: float) -> None:
    with pytest.raises(ValueError, match="share of calls"):
        break_even(1, 1, 1, share)


ROUNDS = {
    "student": [10.0, 20, 10, 10, 10],
    "selector": [1.0] * 5,
    "update": [500.0, 1000, 500, 500, 500],
    "oracle": [40.0, 80, 40, 40, 40],
}


def test_what_learning_costs_at_each_budget() -> None:
    """10 + 1 + share x 540; in the second round all but the selector takes twice as long, which leaves ratios nearly as they are."""
    rows = budget_rows("s", **ROUNDS)
    assert [row["share"] for row in rows] == [*SHARES] == [0.02, 0.05, 0.1, 0.2]
    assert [row["ms"]["value"] for row in rows] == pytest.approx([21.8, 38, 65, 119])
    assert [row["ratio"]["value"] for row in rows] == pytest.approx([2.18, 3.8, 6.5, 11.9])
    assert {(row["name"], row["n"]) for row in rows} == {("s", 5)}
    low, high = rows[1]["ms"]["ci95"]
    assert (low, high) == (38, 75), "20 + 1 + .05 x 1080 in the slow round"
    low, high = rows[1]["ratio"]["ci95"]
    assert (low, high) == (3.75, 3.8)


def test_a_budget_has_no_interval_of_few_rounds_and_parts_are_of_the_same_rounds() -> None:
    two = {name: values[:2] for name, values in ROUNDS.items()}
    (row,) = budget_rows("s", **two, shares=[0.05])
    assert row["ms"] == {"value": (38 + 75) / 2, "ci95": None}
    assert row["ratio"]["ci95"] is None
    with pytest.raises(ValueError, match="shorter"):
        budget_rows("s", **{**two, "oracle": [1.0]})


def test_the_page_shows_what_learning_costs() -> None:
    found = {"student": ROUNDS["student"], "selector of it": ROUNDS["selector"], "update, learning": ROUNDS["update"]}
    rows = _budget_rows("tiny", found | {"YOLOX-nano": ROUNDS["oracle"], "YOLOv8n": [80.0] * 5})
    part = {"title": "Speed", "text": "t", "settings": {}, "values": [], "ratios": [], "notes": []}
    results = {"environment": {}, "command": "c", "videos": "v", "seconds": 1.0}
    page = performance_page({**results, "parts": {"stream_speed": {**part, "budgets": rows}}})
    assert "| learning along the stream | frames asked | a frame | 95 % | / student alone | 95 % | n |" in page
    assert "| tiny, learning from YOLOX-nano | 5 % | 38 ms | 38 to 75 | 3.8 | 3.75 to 3.8 | 5 |" in page
    assert "| tiny, learning from YOLOv8n | 20 % | 127 ms |" in page
    assert "along the stream" not in performance_page({**results, "parts": {"stream_speed": part}})


def test_each_round_is_held_against_its_own_slowest_stage() -> None:
    assert slowest_of([100, 50, 90], [200, 60, 40], [150, 55, 45]) == [100, 50, 40]


def test_laps_share_the_seconds_of_each_call_and_leave_out_the_warm_up() -> None:
    laps = Laps()
    for number in range(3):
        laps.add({"student": 0.2 + number, "update": 1.0}, {"student": 20, "update": 1, "selector": 20})
    assert laps.last("student", 2) == pytest.approx([60, 110])
    assert laps.last("update", 2) == [1000, 1000]
    assert laps.last("selector", 1) == [0]


def test_without_the_models_the_part_is_left_out_and_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    setting = Setting(sets=[], scratch=tmp_path, rounds=1, workers=1, threads=1, quick=True)
    monkeypatch.delenv("VIDKD_DATA", raising=False)
    part = run(setting)
    assert (part.values, part.ratios) == ([], ())
    assert part.notes == ["Left out: VIDKD_DATA names no folder with the models and the video."]
    monkeypatch.setenv("VIDKD_DATA", str(tmp_path))
    assert "lacks pets09/vtest.avi" in run(setting).notes[0]
    results = {"environment": {}, "command": "c", "videos": "v", "seconds": 1.0, "parts": {"stream_speed": vars(part)}}
    assert part.notes[0] in performance_page(results)
