"""A running video into which no window fits, or where decisions are rare: whoever watches is told, is heard, and all threads end soon."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from vidkd.base.errors import DataError
from vidkd.data.config import DataConfig
from vidkd.engine.config import load_config
from vidkd.inference import anticipate
from vidkd.inference.anticipate import Anticipator, Moment
from vidkd.inference.observation_window import WINDOW_S, ObservationWindow, observation_window
from vidkd.inference.sources import Source
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import ModelConfig, VideoClassifier
from vidkd.video import Frame

LONG_WINDOW = {"frames": 16, "stride": 4}  # 61 frames, 65 with the pairs that a classifier of whole clips leaves room for


def observation(**over: Any) -> ObservationWindow:
    data: DataConfig = load_config(
        settings={"data": {"transform": {"short_side": 20, "crop": 16}, "window": LONG_WINDOW, "eval_clips": 1, **over}}
    ).data
    return observation_window(data, "rgb")


def anticipator(seen: ObservationWindow, **over: Any) -> Anticipator:
    torch.manual_seed(0)
    return Anticipator(TorchClassifier(VideoClassifier(ModelConfig(), 3, "rgb")), seen, **over)


class Camera:
    """Frames at given times, without end; `made` counts them."""

    def __init__(self, time_s: Callable[[int], float], pause_s: float = 0.0) -> None:
        self.made, self._time_s, self._pause_s = 0, time_s, pause_s

    def frames(self) -> Iterator[Frame]:
        while True:
            time.sleep(self._pause_s)
            image = np.full((20, 24, 3), self.made % 200, np.uint8)
            yield Frame(index=self.made, time_s=self._time_s(self.made), image=image)
            self.made += 1

    def source(self, *, live: bool = True, fps: float = 25.0) -> Source:
        return Source(name="camera 0", live=live, fps=fps, frames=self.frames())


def even(fps: float) -> Callable[[int], float]:
    return lambda index: index / fps


def dark_then_light(index: int) -> float:
    """Ten seconds at 5 and 10 frames a second by turns, then 50."""
    return index // 2 * 0.3 + index % 2 * 0.1 if index < 66 else 10 + (index - 66) / 50


EARLY = {"observe": {"protocol": "early"}}


@pytest.mark.parametrize(("live", "fps"), [(True, 25.0), (False, 25.0), (True, 29.0)])
def test_where_no_window_will_ever_fit_it_ends_when_the_first_whole_part_has_been_shown(live: bool, fps: float) -> None:
    """Although the source never ends; of what comes after two seconds, only what lies ready was read."""
    before, camera = set(threading.enumerate()), Camera(even(fps))
    running = anticipator(observation(**EARLY), batch=4)
    with pytest.raises(DataError, match="no window fits into camera 0: nothing is said of it") as caught:
        list(running.along(camera.source(live=live, fps=fps)))
    shown = int(WINDOW_S * fps) + 1
    longer_s = {25.0: "2.5", 29.0: "2.2"}[fps]  # 61 frames wherever it begins, rounded up to tenths
    assert caught.value.lines == {
        "shown": f"{shown} frames, up to 2.00 s",
        "seen": f"{shown} frames at most, in 2 s",
        "needed": "61 (window.frames=16, window.stride=4)",
        "fix": f"a source of more frames a second, or --window-s {longer_s}, or a network trained with window.short_clip=hold",
    }
    assert camera.made <= shown + anticipate.FRAMES_AHEAD + 3
    assert set(threading.enumerate()) <= before


def ended_within(limit_s: float, moments: Any) -> None:
    """Close the generator, which joins the threads."""
    start = time.monotonic()
    moments.close()
    assert time.monotonic() - start < limit_s


HELD = {"observe": {"protocol": "anticipation"}, "window": {"frames": 4, "stride": 1, "short_clip": "hold"}}


@pytest.mark.parametrize("case", ["no window fits", "rare decisions", "nothing comes"])
def test_there_is_a_moment_to_stop_however_little_there_is_to_say(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty moments come while the source runs or is silent; closing after some ends both threads although the source does not end."""
    monkeypatch.setattr(anticipate, "QUIET_S", 0.05)
    before, heard = set(threading.enumerate()), threading.Event()

    def silent() -> Iterator[Frame]:
        heard.wait()
        yield from ()

    camera = Camera(dark_then_light if case == "no window fits" else even(25), pause_s=0.01)
    source = camera.source() if case != "nothing comes" else Source(name="0", live=True, fps=25, frames=silent())
    step_s = 0.5 if case == "no window fits" else 1e6
    running = anticipator(observation(**(EARLY if case == "no window fits" else HELD)), step_s=step_s)
    moments = running.along(source)
    empty: list[Moment] = []
    start = time.monotonic()
    for moment in moments:
        assert moment.frame is None
        empty += [moment] if not moment.decisions else []
        if len(empty) == 4:
            break
    assert time.monotonic() - start >= 4 * 0.05
    heard.set()  # a source that is silent is waited for
    ended_within(5.0, moments)
    assert set(threading.enumerate()) <= before
    if case == "rare decisions":
        assert running.tally.windows == 1, "that of the first frame"
