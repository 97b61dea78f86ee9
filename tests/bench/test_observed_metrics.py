"""Names of metrics at observed shares, and what a clip contributes to each."""

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.bench.observed import clip_scores, is_accuracy, mean_name, parsed, percents_of, under
from vidkd.engine.evaluate import area


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
