"""The moment of decision: which seconds were observed, which the teacher saw, and how that is drawn and said."""

import numpy as np
import pytest

from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig
from vidkd.report.moments import DECISION, ELSE, FUTURE, LANE_GAP_PX, LANE_PX, OBSERVED, Moment, moment_of, time_line

TIMES_S = np.arange(100) / 25  # four seconds


def clip(start_s: float = 0.0, end_s: float | None = None) -> Clip:
    return Clip(path="a.mp4", label=0, group="g", subsets={}, start_s=start_s, end_s=end_s)


def test_early_recognition_ends_where_the_share_does() -> None:
    moment = moment_of(clip(), ObserveConfig(protocol="early"), TIMES_S, fraction=0.2)
    assert (moment.observed_s, moment.future_s) == (pytest.approx((0, 0.8)), pytest.approx((0, 4)))
    assert moment.words() == "decides at 0.80 s (20 % observed), the clip ends at 4.00 s"
    rest = moment_of(clip(1.0, 3.0), ObserveConfig(protocol="early", teacher_sees="rest"), TIMES_S, fraction=0.5)
    assert (rest.observed_s, rest.future_s) == (pytest.approx((1, 2)), pytest.approx((2, 3)))
    same = moment_of(clip(), ObserveConfig(protocol="early", teacher_sees="same"), TIMES_S, fraction=0.2)
    assert (same, same.words()) == (moment, moment.words()), "nothing of the teacher's lies elsewhere"
    assert moment_of(clip(1.0, 3.0), ObserveConfig(protocol="early"), TIMES_S, fraction=1.0).decision_s == pytest.approx(3)


def test_anticipation_ends_a_gap_before_the_action() -> None:
    moment = moment_of(clip(1.8, 3.0), ObserveConfig(protocol="anticipation", gap_s=1.0, observe_s=2.0), TIMES_S)
    assert (moment.observed_s, moment.future_s) == (pytest.approx((0, 0.8)), (1.8, 3.0))
    assert moment.words() == "decides at 0.80 s, the action starts at 1.80 s"
    assert moment_of(clip(1.8), ObserveConfig(protocol="anticipation"), TIMES_S).future_s == pytest.approx((1.8, 4.0)), "to the file's end"


def test_the_time_line_has_both_parts_and_the_moment() -> None:
    line = time_line(Moment(observed_s=(1.0, 3.0), future_s=(5.0, 9.0)), 80)  # ten columns a second, from 1 s on
    assert line.shape == (2 * LANE_PX + 3 * LANE_GAP_PX, 80, 4)
    seen, comes = line[LANE_GAP_PX], line[2 * LANE_GAP_PX + LANE_PX]
    assert [tuple(seen[column]) for column in (0, 19, 30, 79)] == [OBSERVED, OBSERVED, ELSE, ELSE]
    assert [tuple(comes[column]) for column in (0, 39, 40, 79)] == [ELSE, ELSE, FUTURE, FUTURE]
    assert (line[:, 20:23] == DECISION).all()
    assert tuple(line[0, 0]) == (0, 0, 0, 0)
