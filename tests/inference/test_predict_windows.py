"""A classifier along a video: which windows it sees, and that each is judged as if it were alone."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip
from vidkd.data.observation import Window, WindowConfig
from vidkd.engine.config import load_config
from vidkd.inference.predict import predict_video, sliding_windows
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models import AttentionConfig, ModelConfig, VideoClassifier
from vidkd.video import open_video, write_video

WINDOW = WindowConfig(frames=4, stride=2)
SPAN = 9


def windows(times: Any, step_s: float | None = None, window: WindowConfig = WINDOW) -> list[Window]:
    return list(sliding_windows(np.asarray(times, float), DataConfig(window=window), step_s=step_s, name="a video"))


def starts(times: Any, step_s: float | None = None) -> list[int]:
    return [int(window.frames[0]) for window in windows(times, step_s)]


@given(
    count=st.integers(1, 80),
    frames=st.integers(1, 6),
    stride=st.integers(1, 4),
    step_s=st.one_of(st.none(), st.floats(0.01, 0.3)),
)
@settings(max_examples=60, deadline=None)
def test_the_windows_reach_from_the_first_frame_to_the_last(count: int, frames: int, stride: int, step_s: float | None) -> None:
    config = WindowConfig(frames=frames, stride=stride)
    found = windows(np.arange(count) / 25, step_s, config)
    assert found[0].frames[0] == 0
    assert found[-1].targets[-1] == count - 1
    first = [int(window.frames[0]) for window in found]
    assert first == sorted(set(first)), "each begins later than the one before"
    for window in found:
        assert window.frames.tolist() == [min(window.frames[0] + stride * t, count - 1) for t in range(frames)]
        assert window.targets.tolist() == [min(frame + stride, count - 1) for frame in window.frames]


def test_a_variable_frame_rate() -> None:
    """40 frames at 25 a second, then 20 at 10 a second: window k begins with the first frame at or after k seconds times the step."""
    times = np.concatenate([np.arange(40) / 25, 1.6 + np.arange(20) / 10])
    step_s = 0.3
    found = starts(times, step_s)
    last = len(times) - SPAN
    expected = [next(n for n, time in enumerate(times) if time >= k * step_s - 1e-6) for k in range(10)]
    assert found == sorted({*[start for start in expected if start < last], last})
    for start, following in itertools.pairwise(found[:-1]):
        assert step_s - 0.1 < times[following] - times[start] < step_s + 0.1


def test_a_short_video_holds_its_last_frame() -> None:
    (window,) = windows(np.arange(3) / 25)
    assert window.frames.tolist() == [0, 2, 2, 2]
    assert window.targets.tolist() == [2, 2, 2, 2]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """30 frames of a moving square, 64x48, of a variable frame rate."""
    frames = np.random.default_rng(0).integers(60, 90, (1, 48, 64, 3)).astype(np.uint8).repeat(30, 0)
    for t in range(30):
        frames[t, 10:22, t : t + 12] = 230
    write_video(tmp_path / "v.mp4", frames, fps=25, times_s=np.cumsum([0, *np.tile([0.04, 0.1], 15)])[:30].tolist())
    return tmp_path / "v.mp4"


@pytest.mark.parametrize("view", ["rgb", "flow"])
def test_each_window_is_judged_as_if_it_were_alone(video: Path, view: Any) -> None:
    """The probabilities are those of a data set's sample of the same frames."""
    run = load_config(settings={"data": {"window": {"frames": 4, "stride": 2}, "transform": {"short_side": 36, "crop": 32}}})
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft")), 3, view).eval()
    with torch.no_grad():
        model.fc.weight *= 50
    found = list(predict_video(video, TorchClassifier(model), run.data, step_s=0.5))
    with open_video(video) as reader:
        times = reader.timestamps_s
    assert len(found) > 3
    assert len({round(window.probabilities.max(), 4) for window in found}) > 1, "the windows differ"
    for window in found:
        start, end = int(window.frames[0]), int(window.frames[0]) + SPAN
        end_s = float(times[end]) if end < len(times) else None
        clip = Clip(path=video.name, label=0, group="a", subsets={}, start_s=float(times[start]), end_s=end_s)
        sample = ClipDataset(video.parent, [clip], run.data, views=(view,), training=False)[(0, 1)]
        with torch.inference_mode():
            output = model(sample[view][None])
        np.testing.assert_allclose(window.probabilities, output.logits[0].double().softmax(0), atol=1e-6)
        assert window.attention is not None
        np.testing.assert_allclose(window.attention, output.attention["motion"][0].double().exp(), atol=1e-6)
        assert (window.start_s, window.end_s) == (times[window.frames[0]], times[window.frames[-1]])
        assert window.size == (36, 48)
        assert (window.geometry.top, window.geometry.left, window.geometry.side, window.geometry.size) == (0, 6, 36, 32)


@pytest.mark.parametrize("softmax", ["spatial", "spatiotemporal"])
def test_probabilities_and_a_map_whose_frames_sum_to_one(softmax: Any) -> None:
    torch.manual_seed(0)
    model = VideoClassifier(ModelConfig(attention=AttentionConfig(pooling="soft", softmax=softmax)), 3, "rgb").eval()
    view = torch.randint(0, 256, (3, 4, 32, 32), dtype=torch.uint8)
    found = TorchClassifier(model)(view[None].numpy())
    with torch.inference_mode():
        output = model(view[None])
    np.testing.assert_allclose(found.probabilities[0], output.logits[0].double().softmax(0), rtol=1e-12)
    assert found.attention is not None
    maps = output.attention["motion"][0].double().exp().numpy()
    np.testing.assert_allclose(found.attention[0].sum((1, 2)), 1)
    np.testing.assert_allclose(found.attention[0, 1] / found.attention[0, 1].max(), maps[1] / maps[1].max())
