"""A classifier along a running video says at every time what an evaluation says of a row that is observed until then."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidkd.base.errors import DataError, VideoError
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip
from vidkd.data.observation import SAME_S
from vidkd.engine.config import load_config
from vidkd.engine.evaluate import evaluate
from vidkd.inference import anticipate
from vidkd.inference.anticipate import Anticipator, Decision, Moment
from vidkd.inference.observation_window import WINDOW_S, ObservationWindow, RecentFrames, observation_window
from vidkd.inference.sources import Source, open_source
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.video import Frame, write_video

CLASSES = ("a", "b", "c")
SMALL = {
    "transform": {"short_side": 36, "crop": 32},
    "flow": {"preset": "ultrafast"},
    "window": {"frames": 4, "rule": "uniform", "short_clip": "hold"},
    "eval_clips": 2,
}


def data_config(**over: Any) -> DataConfig:
    return load_config(settings={"data": {**SMALL, **over}}).data


def network(view: Any, targets: dict[str, int] | None = None, stack: int = 1) -> VideoClassifier:
    """Random, with outputs that depend on what it sees."""
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft")), 3, view, targets, flow_stack=stack).eval()
    with torch.no_grad():
        for layer in (model.fc, *model.target_fc.values()):
            layer.weight *= 50
    return model


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    clip = np.random.default_rng(0).integers(60, 90, (1, height, width, 3)).astype(np.uint8).repeat(frames, 0)
    for t in range(frames):
        x = 2 * t % (width - 12)
        clip[t, 10:22, x : x + 12] = 230 - 2 * (t % 40)
    return clip


frame_times_s = np.cumsum([0, *np.tile([0.04, 0.04, 0.1], 30)])[:80]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 frames of 64x48 at a variable rate, lossless."""
    path = tmp_path_factory.mktemp("videos") / "v.mkv"
    write_video(path, moving(80), fps=25, times_s=frame_times_s.tolist(), lossless=True)
    return path


def moments(model: VideoClassifier, observation: Any, source: Path | Source, **over: Any) -> tuple[list[Moment], Anticipator]:
    anticipator = Anticipator(TorchClassifier(model), observation, **over)
    if isinstance(source, Source):
        return list(anticipator.along(source)), anticipator
    with open_source(str(source)) as opened:
        return list(anticipator.along(opened)), anticipator


def decisions(*arguments: Any, **over: Any) -> list[Decision]:
    return [decision for moment in moments(*arguments, **over)[0] for decision in moment.decisions]


def judged(model: VideoClassifier, path: Path, data: DataConfig, **row: Any) -> Any:
    """What an evaluation says of one row of a manifest."""
    clip = Clip(path=path.name, label=0, group="g", subsets={}, **row)
    dataset = ClipDataset(path.parent, [clip], data, views=(model.view,), training=False, fraction=1.0)
    return evaluate(model, dataset, CLASSES, device=torch.device("cpu"), batch_size=dataset.views_per_clip)[0]


@pytest.mark.parametrize(("view", "stack"), [("rgb", 1), ("flow", 1), ("flow", 5)])
@pytest.mark.parametrize("window", [SMALL["window"], {"frames": 4, "stride": 3}], ids=["uniform", "dense"])
def test_it_says_what_an_evaluation_says_bit_for_bit(video: Path, view: Any, stack: int, window: dict[str, Any]) -> None:
    """One time a batch, as the evaluation's batches are; each row's action starts `gap_s` after the time."""
    observe = {"protocol": "anticipation", "gap_s": 0.25, "observe_s": 1.0}
    data = data_config(window=window, eval_crops=2, observe=observe, flow={"preset": "ultrafast", "stack": stack})
    model = network(view, {"verb": 2}, stack)
    found = decisions(model, observation_window(data, view), video, step_s=0.5, batch=1)
    needed = {"rgb": 10, "flow": 13}[view] if "stride" in window else 1
    needed = max(needed, stack * data.window.pair_step + 1 if stack > 1 else 1)
    times = [k / 2 for k in range(10) if k / 2 <= frame_times_s[-1] and (frame_times_s <= k / 2).sum() >= needed]
    assert [decision.time_s for decision in found] == times
    assert len({decision.probabilities.argmax() for decision in found}) > 1 or len({decision.probabilities.max() for decision in found}) > 3
    for decision in found:
        if (frame_times_s >= decision.about_s).sum() < 10:
            continue  # too little is left of the file for an action: its row could not be evaluated
        expected = judged(model, video, data, start_s=decision.about_s)
        np.testing.assert_array_equal(decision.probabilities, expected.probabilities[0])
        np.testing.assert_array_equal(decision.targets["verb"], expected.targets["verb"][0])
        assert decision.held == bool(expected.held)
        inside = np.flatnonzero((frame_times_s >= decision.time_s - 1.0 - 1e-6) & (frame_times_s <= decision.time_s + 1e-6))
        assert inside[0] <= decision.first <= decision.last <= inside[-1]


def test_early_recognition_sees_a_window_as_a_clip_seen_whole(video: Path) -> None:
    data = data_config(observe={"protocol": "early"})
    model = network("rgb")
    found = decisions(model, observation_window(data, "rgb", window_s=1.5), video, step_s=0.5, batch=1)
    assert {decision.gap_s for decision in found} == {0.0}
    for decision in found[1:]:
        row = {"start_s": max(0.0, decision.time_s - 1.5), "end_s": decision.time_s + 2 * SAME_S}
        np.testing.assert_array_equal(decision.probabilities, judged(model, video, data, **row).probabilities[0])


def endless(count: int, fps: float = 25.0, shape: tuple[int, int] = (20, 24)) -> Iterator[Frame]:
    image = np.zeros((*shape, 3), np.uint8)
    for index in range(count):
        yield Frame(index=index, time_s=index / fps, image=image + np.uint8(index % 200))


@pytest.mark.parametrize("step_s", [0.5, 7.0])
def test_the_ring_holds_what_a_window_reaches_however_long_the_video(step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four thousand frames; a window of one second and the frames of one step at most, less where steps are longer than windows."""
    data = data_config(observe={"protocol": "anticipation", "gap_s": 0.5, "observe_s": 1.0}, transform={"short_side": 20, "crop": 16})
    held: list[int] = []
    push = RecentFrames.push

    def watched(ring: RecentFrames, frame: Frame) -> None:
        push(ring, frame)
        held.append(len(ring))

    monkeypatch.setattr(RecentFrames, "push", watched)
    source = Source(name="long", live=False, fps=25, frames=endless(4000))
    found, anticipator = moments(network("rgb"), observation_window(data, "rgb"), source, step_s=step_s, batch=4)
    times = sum(len(moment.decisions) for moment in found)
    assert times == anticipator.tally.windows == int(159.96 / step_s) + 1
    assert anticipator.tally.frames == 4000
    assert max(held) == anticipator.tally.most_frames <= 25 + 2


def test_damage_in_the_middle_ends_it_after_all_that_came_before() -> None:
    def broken() -> Iterator[Frame]:
        yield from endless(60)
        raise VideoError("cannot decode video: x", after_frames=60)

    data = data_config(observe={"protocol": "anticipation", "gap_s": 0.5, "observe_s": 1.0}, transform={"short_side": 20, "crop": 16})
    source = Source(name="x", live=False, fps=25, frames=broken())
    found, anticipator = moments(network("rgb"), observation_window(data, "rgb"), source, step_s=0.5, batch=64)
    assert [decision.time_s for moment in found for decision in moment.decisions] == [0, 0.5, 1.0, 1.5, 2.0]
    assert anticipator.tally.trouble is not None
    assert "cannot decode" in str(anticipator.tally.trouble)
    assert anticipator.tally.frames == 60


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
