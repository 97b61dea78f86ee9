"""Strips: colours of flow, place of attention, and pictures that decode to what went in."""

import base64

import cv2
import numpy as np
import pytest
from report_samples import make_observed_strip

from vidkd.data.manifest import Clip
from vidkd.data.observation import ObserveConfig
from vidkd.report.annotate import heat
from vidkd.report.strips import (
    DECISION,
    ELSE,
    FUTURE,
    LANE_GAP_PX,
    LANE_PX,
    OBSERVED,
    Moment,
    Part,
    clip_strip,
    flow_pictures,
    moment_of,
    observed_strip,
    png_data_uri,
    side_by_side,
    time_line,
)


def decode(uri: str) -> np.ndarray:
    kind, content = uri.split(",")
    assert kind == "data:image/png;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("channels", [3, 4])
def test_png_gives_back_the_picture(channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 11, channels), dtype=np.uint8)
    order = cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB
    assert np.array_equal(cv2.cvtColor(decode(png_data_uri(picture)), order), picture)


@pytest.mark.parametrize(
    ("motion", "colour"),
    [
        ((4, 0), (255, 0, 0)),
        ((-4, 0), (0, 255, 255)),
        ((0, 4), (128, 255, 0)),
        ((0, -4), (128, 0, 255)),
        ((0, 0), (0, 0, 0)),
        ((2, 0), (128, 0, 0)),
    ],
)
def test_flow_colours(motion: tuple[float, float], colour: tuple[int, int, int]) -> None:
    flow = np.broadcast_to(np.array(motion, np.float32), (3, 5, 2))
    fastest = np.full((3, 5, 2), (4, 0), np.float32)  # full colour is that of the clip's fastest
    pictures = flow_pictures(np.stack([flow, fastest, fastest]))
    assert pictures.shape == (3, 3, 5, 3)
    assert np.abs(pictures[0, 0, 0].astype(int) - colour).max() <= 1


def test_a_still_clip_stays_dark_and_half_precision_is_read() -> None:
    noise = np.full((2, 4, 4, 2), 0.05, np.float16)
    assert flow_pictures(noise).max() < 26


def test_maps_of_one_clip_share_their_scale() -> None:
    frame, maps = np.zeros((16, 16, 3), np.uint8), np.zeros((4, 4))
    maps[1, 2] = 0.5
    assert heat(frame, maps, most=2.0).mean() < heat(frame, maps).mean()


def test_side_by_side_has_see_through_gaps() -> None:
    row = side_by_side([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)])
    assert row.shape == (4, 24, 4)
    assert [tuple(row[0, column]) for column in (0, 6, 9, 18)] == [(10, 10, 10, 255), (0, 0, 0, 0), (20, 20, 20, 255), (30, 30, 30, 255)]


def test_a_strip_has_its_rows_in_line() -> None:
    rng = np.random.default_rng(0)
    maps = {"teacher": (rng.random((4, 3, 4)), 0.0), "student": (rng.random((8, 3, 4)), 0.5)}
    part = Part(rgb=rng.integers(0, 256, (16, 24, 32, 3), dtype=np.uint8), flow=np.zeros((16, 24, 32, 2), np.float32), attention=maps)
    strip = clip_strip(part, label="left", predicted="right", name="a.mp4")
    assert [label for label, _ in strip.rows] == ["frames", "flow", "teacher", "student"]
    assert {decode(image).shape for _, image in strip.rows} == {(80, 8 * 107 + 7 * 3, 4)}
    assert (strip.title, strip.caption, strip.right) == ("true left \u2192 predicted right", "a.mp4", False)


def test_a_short_clip_shows_every_frame_once() -> None:
    rgb = np.stack([np.full((80, 8, 3), 40 * time, np.uint8) for time in range(5)])
    strip = clip_strip(Part(rgb=rgb), name="short.mp4")
    picture = decode(strip.rows[0][1])
    assert [picture[0, column, 0] for column in range(0, 55, 11)] == [0, 40, 80, 120, 160]
    assert (strip.title, strip.right) == ("short.mp4", None)


def test_each_frame_gets_the_map_of_its_own_time() -> None:
    maps = np.zeros((2, 2, 2))
    maps[1, 0] = 0.5
    part = Part(rgb=np.zeros((8, 80, 8, 3), np.uint8), attention={"teacher": (maps, 0.0)})
    picture = decode(clip_strip(part).rows[1][1])
    lit = [int(picture[4, column, :3].max()) > 20 for column in range(0, 88, 11)]
    assert lit == [False] * 4 + [True] * 4


def test_a_strip_of_what_was_observed_and_what_came() -> None:
    strip = make_observed_strip()
    assert [label for label, _ in strip.rows] == ["observed", "student", "time", "teacher sees", "its flow", "teacher"]
    width = 8 * 80 + 7 * 3
    assert {decode(image).shape[:2] for label, image in strip.rows if label != "time"} == {(80, width)}
    assert decode(dict(strip.rows)["time"]).shape[1] == width
    assert strip.caption == "clip_7: decides at 0.80 s, the action starts at 1.80 s"
    assert (strip.title, strip.right) == ("true left \u2192 predicted right", False)
    part = Part(rgb=np.zeros((3, 8, 8, 3), np.uint8))
    untaught = observed_strip(part, part, Moment(observed_s=(0, 1), future_s=(2, 3)), taught=False)
    assert [label for label, _ in untaught.rows] == ["observed", "time", "what came"]
    assert untaught.title == "decides at 1.00 s, the action starts at 2.00 s"


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
