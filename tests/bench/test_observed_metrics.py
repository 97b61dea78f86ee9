"""Names of metrics at observed shares, and what a clip contributes to each."""

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.bench.observed import clip_scores, condition_of, is_accuracy, mean_name, observed_metric, percents_of, under
from vidkd.bench.summary import Method, Metric, build_summary
from vidkd.engine.evaluate import area


@pytest.mark.parametrize(
    ("name", "parts", "percent"),
    [
        ("top1@obs20", ("top1", 20.0, 20.0, ""), "20 %"),
        ("top1@obs12.5", ("top1", 12.5, 12.5, ""), "12.5 %"),
        ("top1@obs20-50", ("top1", 20.0, 50.0, ""), "20-50 %"),
        ("top1@obs20.labels25", ("top1", 20.0, 20.0, "labels25"), "20 %"),
        ("top1@obs12.5-50.labels25", ("top1", 12.5, 50.0, "labels25"), "12.5-50 %"),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[object, ...], percent: str) -> None:
    found = observed_metric(name)
    assert found == parts
    assert found is not None
    assert found.percent == percent
    summary = build_summary("s", "d", {}, {"m": Method(metrics={name: Metric(values={"0/1": 0.5})})}, [], 1.0)
    assert name in summary["methods"]["m"]["metrics"], "the schema allows it"


@pytest.mark.parametrize("name", ["top1", "top1@labels25", "top1_area", "latency_ms@b1t1", "top1@obs"])
def test_other_names_have_no_observed_share(name: str) -> None:
    assert observed_metric(name) is None


def test_conditions_come_and_go() -> None:
    for metric in ("top1", "top1@obs20", "top1@obs20-50"):
        assert condition_of(under(metric, "labels25")) == "labels25"
        assert (under(metric, None), condition_of(metric)) == (metric, "")
    assert under("top1@obs20", "labels25") == "top1@obs20.labels25"
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
