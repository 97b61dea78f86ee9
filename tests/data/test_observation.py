"""What student and teacher see: never a frame from after the cut, whatever the frame rate, the gap and the length."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.base.errors import DataError
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip
from vidkd.data.observation import (
    SAME_S,
    ObserveConfig,
    Request,
    UnobservableError,
    WindowConfig,
    frames_inside,
    hull,
    is_observable,
    is_shortened,
    seconds_seen,
    split_observable,
)
from vidkd.data.observation import choose_windows as choose
from vidkd.video import write_video

unhurried = settings(deadline=None, max_examples=150)  # a busy machine is no failure
EARLY = ObserveConfig(protocol="early")


def choose_windows(
    stamps: np.ndarray,
    clip: Clip,
    window: WindowConfig,
    observe: ObserveConfig,
    *,
    observed_flow: bool = False,
    with_future: bool = True,
    name: str = "",
    **asked: Any,
) -> Any:
    observed, future = choose(stamps, clip, window, observe, Request(flow=observed_flow, future=with_future, **asked), name)
    return SimpleNamespace(observed=observed, future=future, held=observed.held, held_future=future is not None and future.held)


def row(start_s: float = 0.0, end_s: float | None = None, path: str = "a.mp4") -> Clip:
    return Clip(path=path, label=0, group="g", subsets={"1": "train"}, start_s=start_s, end_s=end_s)


@st.composite
def timestamps(draw: st.DrawFn) -> np.ndarray:
    """Frames of a file at a constant rate, at one with rounded timestamps, or at a variable one."""
    count = draw(st.integers(2, 120))
    fps = draw(st.sampled_from([7.5, 10, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60]))
    kind = draw(st.sampled_from(["constant", "rounded", "variable"]))
    if kind == "constant":
        return np.arange(count) / fps
    if kind == "rounded":  # as a container with a time base of a millisecond keeps them
        return np.round(np.arange(count) / fps, 3)
    gaps_s = draw(st.lists(st.floats(0.005, 0.4), min_size=count - 1, max_size=count - 1))
    return np.cumsum([0.0, *gaps_s])


windows = st.builds(
    WindowConfig,
    frames=st.integers(1, 9),
    stride=st.integers(1, 5),
    rule=st.sampled_from(["dense", "uniform"]),
    flow_step=st.one_of(st.none(), st.integers(1, 6)),
    short_clip=st.just("hold"),
)


@unhurried
@given(st.data(), timestamps(), windows, st.floats(0, 1), st.booleans(), st.sampled_from(["whole", "rest", "same"]))
def test_early_recognition_sees_no_frame_after_the_cut(
    data: st.DataObject,
    stamps: np.ndarray,
    window: WindowConfig,
    position: float,
    flow: bool,
    teacher_sees: Literal["whole", "rest", "same"],
) -> None:
    fraction = data.draw(st.floats(0.01, 1))
    start_s = data.draw(st.floats(0, float(stamps[-1]) * 0.9))
    end_s = data.draw(st.one_of(st.none(), st.floats(start_s + 0.01, float(stamps[-1]) + 5)))
    clip, observe = row(start_s, end_s), ObserveConfig(protocol="early", teacher_sees=teacher_sees)
    try:
        seen = choose_windows(stamps, clip, window, observe, position=position, fraction=fraction, observed_flow=flow)
    except DataError as error:
        if "no frame in the" not in error.what:
            raise
        return
    of_the_clip = frames_inside(stamps, start_s, end_s)
    shown_s = np.median(np.diff(stamps[of_the_clip])) if len(of_the_clip) > 1 else 1e-6 if end_s is None else math.inf
    length_s = min(math.inf if end_s is None else end_s, stamps[of_the_clip[-1]] + max(shown_s, 1e-6)) - start_s
    for indices in (seen.observed.frames, seen.observed.targets):
        assert (stamps[indices] >= start_s - 1e-6).all()
        if fraction < 1:
            assert (stamps[indices] <= start_s + fraction * length_s - SAME_S).all()
        elif end_s is not None:
            assert (stamps[indices] <= end_s - SAME_S).all()
    assert seen.future is not None
    if teacher_sees == "rest" and fraction < 1:
        assert stamps[seen.future.frames].min() > stamps[seen.observed.targets].max()
    if teacher_sees == "same" and not flow:  # flow leaves room for the second frame of its last pair, the teacher's RGB needs none
        np.testing.assert_array_equal(seen.future.frames, seen.observed.frames)
    if teacher_sees == "same" and fraction < 1:
        assert (stamps[seen.future.targets] < start_s + fraction * length_s).all()


@unhurried
@given(st.data(), timestamps(), windows, st.floats(0, 1), st.booleans())
def test_anticipation_sees_no_frame_after_the_action_s_start_less_the_gap(
    data: st.DataObject, stamps: np.ndarray, window: WindowConfig, position: float, flow: bool
) -> None:
    gap_s = data.draw(st.one_of(st.just(0.0), st.floats(0, 3)))
    start_s = data.draw(st.floats(0, float(stamps[-1])))
    observe = ObserveConfig(protocol="anticipation", gap_s=gap_s, observe_s=data.draw(st.one_of(st.none(), st.floats(0.05, 3))))
    clip = row(start_s, start_s + 1)
    if not is_observable(clip, observe):
        assert start_s - gap_s <= SAME_S
        with pytest.raises(DataError, match="nothing can be observed"):
            choose_windows(stamps, clip, window, observe, position=position)
        return
    try:
        seen = choose_windows(stamps, clip, window, observe, position=position, observed_flow=flow, future_flow=True)
    except DataError as error:
        if "no frame in the" not in error.what:
            raise
        return
    for indices in (seen.observed.frames, seen.observed.targets):
        assert (stamps[indices] <= start_s - gap_s + SAME_S).all()
        assert (stamps[indices] < start_s).all()
        if observe.observe_s is not None:
            assert (stamps[indices] >= start_s - gap_s - observe.observe_s - 1e-5).all()
    assert seen.future is not None
    for indices in (seen.future.frames, seen.future.targets):
        assert (stamps[indices] >= start_s - 1e-6).all()
        assert (stamps[indices] < start_s + 1).all()


def test_the_frame_at_the_very_cut_is_observed_in_anticipation_and_the_next_is_not() -> None:
    stamps, one = np.arange(100) / 10, WindowConfig(frames=1, stride=1)
    observe = ObserveConfig(protocol="anticipation", gap_s=1.0, observe_s=2.0)
    frames = [choose_windows(stamps, row(5.0, 6.0), one, observe, position=p).observed.frames[0] for p in (0.0, 1.0)]
    assert frames == [20, 40]
    assert choose_windows(stamps, row(4.99, 6.0), one, observe, position=1.0).observed.frames.tolist() == [39]


def test_a_part_without_a_frame_makes_a_clip_unobservable_if_it_is_the_student_s() -> None:
    """Of a file with a pause from 0.9 to 2 s; what the teacher does not see is the row's fault."""
    stamps, one = np.concatenate([np.arange(10) / 10, 2 + np.arange(10) / 10]), WindowConfig(frames=1)
    observe = ObserveConfig(protocol="anticipation", gap_s=0.1, observe_s=0.5)
    assert is_observable(row(1.8, 2.5), observe), "as far as the row tells"
    with pytest.raises(UnobservableError, match="no frame in the observed part of a"):
        choose_windows(stamps, row(1.8, 2.5), one, observe, position=0.5, name="a")
    with pytest.raises(UnobservableError, match="no frame in the observed part"):
        choose_windows(stamps, row(1.0, 3.0), one, EARLY, position=0.5, fraction=0.1)
    with pytest.raises(UnobservableError, match="nothing can be observed"):
        choose_windows(stamps, row(0.05, 1.0), one, observe, position=0.5)
    with pytest.raises(DataError, match="no frame in the teacher's part") as caught:
        choose_windows(stamps, row(1.0, 1.5), one, observe, position=0.5)
    assert not isinstance(caught.value, UnobservableError)


def test_a_part_shorter_than_the_window_is_an_error_or_held_and_said() -> None:
    stamps = np.arange(40) / 10
    window = WindowConfig(frames=8, rule="uniform")
    with pytest.raises(DataError, match="the observed part of a is shorter than the window") as caught:
        choose_windows(stamps, row(), window, EARLY, position=0.5, fraction=0.1, name="a")
    assert caught.value.lines["frames"] == "4"
    assert caught.value.lines["needed"].startswith("8 ")
    held = choose_windows(stamps, row(), dataclasses.replace(window, short_clip="hold"), EARLY, position=0.5, fraction=0.1)
    assert held.held
    assert held.observed.frames.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not choose_windows(stamps, row(), window, EARLY, position=0.5, fraction=0.2).held


@pytest.mark.parametrize("flow", [False, True])
def test_without_a_gap_the_action_s_first_frame_is_the_teacher_s_alone(flow: bool) -> None:
    stamps, observe = np.arange(50) / 10, ObserveConfig(protocol="anticipation", gap_s=0.0, observe_s=1.0)
    window = WindowConfig(frames=4, stride=2, short_clip="hold")
    seen = choose_windows(stamps, row(2.0, 3.0), window, observe, position=1.0, observed_flow=flow, future_flow=True)
    assert max(seen.observed.frames.max(), seen.observed.targets.max()) == 19
    assert seen.future is not None
    assert seen.future.frames.min() == 21
    first = choose_windows(stamps, row(2.0, 3.0), window, observe, position=0.0).future
    assert first is not None
    assert first.frames.min() == 20
    assert not is_observable(row(0.0, 1.0), observe)


def test_what_cannot_be_observed_is_known_from_the_manifest() -> None:
    observe = ObserveConfig(protocol="anticipation", gap_s=1.0, observe_s=2.0)
    at_zero, in_gap, short, full = row(0.0, 1.0), row(0.9, 2.0), row(2.5, 3.0), row(3.0, 4.0)
    assert split_observable([at_zero, in_gap, short, full], observe) == ([short, full], [at_zero, in_gap])
    assert [is_shortened(clip, observe) for clip in (short, full)] == [True, False]
    assert split_observable([at_zero], EARLY) == ([at_zero], [])
    observed, action = seconds_seen(short, observe, end_s=9.0)
    assert (observed.start_s, observed.end_s, action.start_s, action.end_s) == (0.0, 1.5, 2.5, 3.0)
    assert hull(full, observe).start_s == 0.0
    assert hull(full, dataclasses.replace(observe, observe_s=0.5)).start_s == 1.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fractions": (0.0, 0.5)}, "data.observe.fractions must rise"),
        ({"fractions": (0.5, 1.2)}, "data.observe.fractions must rise"),
        ({"fractions": ()}, "data.observe.fractions must rise"),
        ({"fractions": (0.5, 0.2)}, "must rise"),
        ({"gap_s": -0.5}, "gap_s must be 0 or more seconds, not -0.5"),
        ({"observe_s": 0.0}, "observe_s must be above 0"),
        ({"teacher_frames": 0}, "teacher_frames must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ObserveConfig(**wrong)


# --- end to end: nothing of the future reaches the student's view ---

FRAMES, FPS = 40, 10


def poisoned(path: Path, first: int, seed: int) -> Path:
    """A lossless file, every frame a key frame, whose frames from `first` on are noise."""
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 40, 3), np.uint8)
    frames[first:] = np.random.default_rng(seed).integers(0, 256, frames[first:].shape, np.uint8)
    write_video(path, iter(frames), fps=FPS, lossless=True)
    return path


def sample(root: Path, clip: Clip, observe: ObserveConfig, view: str, cache: Path | None, **more: Any) -> dict[str, Any]:
    data = DataConfig(
        **{
            "window": WindowConfig(frames=4, rule="uniform", flow_step=2, short_clip="hold"),
            "observe": observe,
            "decode_short_side": None,
            "eval_clips": 1,
            **more,
        }
    )
    if cache is not None:
        data = dataclasses.replace(data, cache=dataclasses.replace(data.cache, enabled=True, folder=str(cache)))
    dataset = ClipDataset(root, [clip], data, views=[view, "future_flow"], training=True, fraction=None)
    return dataset[(0, 0)]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("view", ["rgb", "flow"])
@pytest.mark.parametrize(
    ("clip", "observe", "first"),
    [
        (row(), ObserveConfig(protocol="early", fractions=(0.3,)), 12),
        (row(), ObserveConfig(protocol="early", fractions=(0.05,)), 2),
        (row(2.5, 3.5), ObserveConfig(protocol="anticipation", gap_s=0.5, observe_s=1.0), 21),
    ],
)
def test_the_student_s_view_does_not_depend_on_the_future(
    clip: Clip, observe: ObserveConfig, first: int, view: str, cached: bool, tmp_path: Path
) -> None:
    seen = []
    for seed in (1, 2):
        poisoned(tmp_path / str(seed) / "a.mkv", first, seed)
        here = dataclasses.replace(clip, path="a.mkv")
        seen.append(sample(tmp_path / str(seed), here, observe, view, tmp_path / "cache" if cached else None))
    assert (seen[0][view] == seen[1][view]).all()
    assert not (seen[0]["future_flow"] == seen[1]["future_flow"]).all()
    assert seen[0]["held"] == (observe.fractions == (0.05,))
    # and one frame earlier it does
    poisoned(tmp_path / "3" / "a.mkv", first - 1, 3)
    dense = WindowConfig(frames=1, stride=1, flow_step=1)
    last = {}
    for seed in (1, 3):
        here = dataclasses.replace(clip, path="a.mkv")
        looks = [
            ClipDataset(tmp_path / str(seed), [here], DataConfig(window=dense, observe=observe, decode_short_side=None, eval_clips=200),
                        views=[view], training=False, fraction=observe.fractions[0] if observe.protocol == "early" else None)[(0, 199)]
        ]  # fmt: skip
        last[seed] = looks[0][view]
    assert not (last[1] == last[3]).all()


@pytest.mark.parametrize("cached", [False, True])
def test_a_sample_tells_that_its_teacher_s_frames_repeat(cached: bool, tmp_path: Path) -> None:
    """Its part is 0.3 s of 10 frames a second, of which 4 are asked for."""
    poisoned(tmp_path / "a.mkv", FRAMES, 0)
    observe = ObserveConfig(protocol="anticipation", gap_s=0.5, observe_s=1.5)
    found = sample(tmp_path, row(2.5, 2.8, "a.mkv"), observe, "rgb", tmp_path / "cache" if cached else None)
    assert (found["held"], found["held_future"]) == (False, True)
