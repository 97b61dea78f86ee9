"""Models held against the baseline on what both were judged on: the differences within draws, worked out by hand."""

import numpy as np
import pytest
from speed_results import FRAMES, detector, model, results

from vidkd.bench.speed.draws import JudgedOn
from vidkd.bench.speed.pairs import pairs_of
from vidkd.bench.speed.record import summary_of

DRAWS = np.linspace(0.2, 0.8, 41)


def test_a_detector_against_itself_differs_by_nothing() -> None:
    made = results(original=detector("original", 0.5, DRAWS), small=detector("small", 0.5, DRAWS))
    (pair,) = pairs_of(made)
    assert (pair.method, pair.against, pair.metric, pair.difference, pair.ci95) == ("small", "original", "ap50", 0.0, (0.0, 0.0))


def test_the_interval_is_that_of_differences_within_draws() -> None:
    """Of 41 even steps the percentiles 2.5 and 97.5 are the second and the last but one, however far the draws themselves spread."""
    steps = np.linspace(-0.2, 0.2, 41)
    made = results(
        original=detector("original", 0.5, DRAWS),
        small=detector("small", 0.4, DRAWS - 0.1),
        peer=detector("peer", 0.55, DRAWS + steps),
    )
    small, peer = summary_of(made)["paired"]
    assert (small["difference"], small["ci95"]) == (pytest.approx(-0.1), pytest.approx([-0.1, -0.1]))
    assert (peer["difference"], peer["ci95"]) == (pytest.approx(0.05), pytest.approx([-0.19, 0.19]))


@pytest.mark.parametrize(
    "on", [JudgedOn(samples="others", classes=FRAMES.classes), JudgedOn(samples=FRAMES.samples, classes=("person", "car"))]
)
def test_detectors_that_were_judged_on_other_frames_or_classes_are_no_pair(on: JudgedOn) -> None:
    made = results(original=detector("original", 0.5, DRAWS), small=detector("small", 0.5, DRAWS, on))
    assert pairs_of(made) == []


def test_one_group_has_a_difference_without_an_interval() -> None:
    made = results(original=detector("original", 0.5, np.zeros(0)), small=detector("small", 0.25, np.zeros(0)))
    (pair,) = pairs_of(made)
    assert (pair.difference, pair.ci95) == (-0.25, None)


def test_a_model_is_held_against_the_one_that_it_names() -> None:
    made = results(
        against={"peer": "small"},
        original=detector("original", 0.5, DRAWS),
        small=detector("small", 0.4, DRAWS - 0.1),
        peer=detector("peer", 0.3, DRAWS - 0.2),
    )
    found = {pair.method: (pair.against, pair.difference) for pair in pairs_of(made)}
    assert found == {"small": ("original", pytest.approx(-0.1)), "peer": ("small", pytest.approx(-0.1))}


def test_what_is_not_judged_has_no_pair() -> None:
    assert [pair.method for pair in pairs_of(results())] == ["small"], "random weights are not judged"
    assert pairs_of(results(original=model("original", 0.02, right=None))) == []
