"""Windows: which frames a sample sees, by decoded timestamps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.base.errors import DataError
from vidkd.data.observation import WindowConfig, choose_window, frames_inside

unhurried = settings(deadline=None, max_examples=60)  # a busy machine is no failure
positions = st.floats(0, 1)


def configs(rule: str) -> st.SearchStrategy[WindowConfig]:
    return st.builds(
        WindowConfig,
        frames=st.integers(1, 9),
        stride=st.integers(1, 6),
        rule=st.just(rule),
        flow_step=st.one_of(st.none(), st.integers(1, 7)),
        short_clip=st.sampled_from(["error", "hold"]),
    )


def times(draw: st.DrawFn, count: int) -> np.ndarray:
    """Timestamps of `count` frames, from 0, with gaps of any kind."""
    gaps_s = draw(st.lists(st.floats(0.001, 0.5), min_size=count - 1, max_size=count - 1))
    return np.cumsum([0.0, *gaps_s])


@st.composite
def fitting(draw: st.DrawFn, rule: str) -> tuple[np.ndarray, WindowConfig]:
    """A file that a window fits into, just so or with room."""
    config = draw(configs(rule))
    return times(draw, config.span + draw(st.integers(0, 20))), config


@st.composite
def intervals(draw: st.DrawFn, rule: str) -> tuple[np.ndarray, WindowConfig, float, float]:
    """A file and an interval of it, from one frame long to more than the window needs; shorter ones only where frames may be held."""
    config = draw(configs(rule))
    length = draw(st.integers(1 if config.short_clip == "hold" else config.span, config.span + 20))
    before, after = draw(st.integers(0, 10)), draw(st.integers(1, 10))
    stamps = times(draw, before + length + after)
    return stamps, config, float(stamps[before]), float(stamps[before + length])


@unhurried
@given(st.one_of(intervals("dense"), intervals("uniform")), positions)
def test_a_window_lies_inside_the_interval_and_its_flow_too(drawn: tuple[np.ndarray, WindowConfig, float, float], position: float) -> None:
    stamps, config, start_s, end_s = drawn
    window = choose_window(stamps, config, position=position, start_s=start_s, end_s=end_s)
    assert window.frames.shape == window.targets.shape == (config.frames,)
    for indices in (window.frames, window.targets):
        assert (stamps[indices] >= start_s).all()
        assert (stamps[indices] < end_s).all()
        assert (np.diff(indices) >= 0).all()
    assert (window.targets >= window.frames).all()
    if len(frames_inside(stamps, start_s, end_s)) >= config.span:
        assert (np.diff(window.frames) > 0).all()
        assert (window.targets - window.frames == config.pair_step).all()


@unhurried
@given(fitting("dense"), positions)
def test_dense_frames_are_a_stride_apart_and_extremes_touch_both_ends(drawn: tuple[np.ndarray, WindowConfig], position: float) -> None:
    stamps, config = drawn
    window = choose_window(stamps, config, position=position)
    assert (np.diff(window.frames) == config.stride).all()
    assert choose_window(stamps, config, position=0.0).frames[0] == 0
    assert choose_window(stamps, config, position=1.0).targets[-1] == len(stamps) - 1


@unhurried
@given(fitting("uniform"), positions)
def test_uniform_takes_one_frame_from_each_part(drawn: tuple[np.ndarray, WindowConfig], position: float) -> None:
    stamps, config = drawn
    usable = len(stamps) - config.pair_step
    borders = np.arange(config.frames + 1) * usable / config.frames
    window = choose_window(stamps, config, position=position)
    assert (window.frames >= np.floor(borders[:-1])).all()
    assert (window.frames < borders[1:]).all()
    assert (choose_window(stamps, config, position=0.0).frames == np.floor(borders[:-1])).all()


def test_values_of_a_dense_window() -> None:
    window = choose_window(np.arange(100) / 25, WindowConfig(frames=3, stride=4), position=0.5)
    assert window.frames.tolist() == [44, 48, 52]  # 100 frames less a span of 13: offsets 0 to 87, the middle rounds to 44
    assert window.targets.tolist() == [48, 52, 56]
    assert window.needed.tolist() == [44, 48, 52, 56]


def test_an_interval_counts_by_timestamp_not_by_rate() -> None:
    stamps = np.array([0.0, 0.04, 0.5, 0.54, 0.58, 2.0, 2.04])  # variable: at 25 a second [0.5, 2) would be frames 12 to 50
    assert frames_inside(stamps, 0.5, 2.0).tolist() == [2, 3, 4]
    window = choose_window(stamps, WindowConfig(frames=2, stride=1), position=0.0, start_s=0.5, end_s=2.0)
    assert (window.frames.tolist(), window.targets.tolist()) == ([2, 3], [3, 4])


def test_an_interval_is_half_open_in_spite_of_floating_point() -> None:
    stamps = np.arange(6) * 0.04
    assert frames_inside(stamps, 0.12, 0.2).tolist() == [3, 4]  # 3 * 0.04 > 0.12
    assert frames_inside(stamps, 0.12, None).tolist() == [3, 4, 5]


def test_a_short_clip_is_an_error_that_says_how_much_is_there() -> None:
    with pytest.raises(DataError, match=r"a\.mp4 is shorter") as caught:
        choose_window(np.arange(12) / 25, WindowConfig(frames=3, stride=4), position=0.0, name="a.mp4")
    assert caught.value.lines["frames"] == "12"
    assert caught.value.lines["needed"].startswith("13 ")


def test_a_short_clip_may_hold_its_last_frame() -> None:
    config = WindowConfig(frames=4, stride=4, short_clip="hold")
    window = choose_window(np.arange(6) / 25, config, position=0.9)
    assert window.frames.tolist() == [0, 4, 5, 5]
    assert window.targets.tolist() == [4, 5, 5, 5]
    uniform = choose_window(np.arange(2) / 25, WindowConfig(frames=4, rule="uniform", short_clip="hold"), position=0.0)
    assert (uniform.frames.tolist(), uniform.targets.tolist()) == ([0, 0, 0, 0], [1, 1, 1, 1])
