"""Training on stored flow is training on the same flow."""

from pathlib import Path
from typing import Any

import pytest
import torch
from flow_samples import extract, window
from moving_textures import clip

from vidkd.base.errors import DataError
from vidkd.data.config import CacheConfig, DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.flow import FlowConfig
from vidkd.data.flow_extract import ExtractConfig
from vidkd.data.footage import footage_of
from vidkd.data.transforms import TransformConfig
from vidkd.data.windows import WindowConfig
from vidkd.video import open_video


def dataset(root: Path, source: FlowConfig, cache: Path | None = None, **more: Any) -> ClipDataset:
    config = DataConfig(
        window=WindowConfig(**{"frames": 3, "stride": 2, **more}),
        transform=TransformConfig(short_side=24, crop=20),
        decode_short_side=32,
        flow=source,
        cache=CacheConfig(enabled=cache is not None, folder=str(cache)),
    )
    clips = [clip("in/right.mp4"), clip("left.mp4", 1), clip("left.mp4", 1, start_s=0.12, end_s=0.5)]
    return ClipDataset(root, clips, config, views=("rgb", "flow"), training=True)


@pytest.mark.parametrize("short_clip", ["error", "hold"])
@pytest.mark.parametrize("cached", [False, True])
def test_the_same_samples_on_the_fly_and_stored(
    panning_root: Path, stored_flow: Path, tmp_path: Path, cached: bool, short_clip: str
) -> None:
    direct = dataset(panning_root, FlowConfig(), short_clip=short_clip)
    from_store = dataset(
        panning_root, FlowConfig(source="stored", folder=str(stored_flow)), tmp_path if cached else None, short_clip=short_clip
    )
    for item in [(epoch, index) for epoch in range(3) for index in range(3)]:
        one, other = direct[item], from_store[item]
        assert torch.equal(one["rgb"], other["rgb"])
        # vectors were stored at 32 pixels and are seen at 24 x (20 / crop): the error shrinks or grows with them, half precision adds to it
        bound = 64.0 / 4094 * 24 / 32 * 20 / 18 + 2**-9
        assert float((one["flow"].float() - other["flow"].float()).abs().max()) <= bound
        assert float(one["flow"].float().abs().max()) > 0.5


def test_a_held_window_never_sees_flow_from_beyond_the_interval(panning_root: Path, stored_flow: Path, tmp_path: Path) -> None:
    """The clip [0.12, 0.5) has 10 frames; a window of 13 is held, and its last pairs would point past the interval."""
    for cache in (None, tmp_path):
        sample = dataset(
            panning_root, FlowConfig(source="stored", folder=str(stored_flow)), cache, frames=11, stride=1, flow_step=2, short_clip="hold"
        )[0, 2]
        assert "beyond the clip's end" in sample["bad"]


def test_stored_flow_without_a_data_set_is_an_error(panning_root: Path, stored_flow: Path) -> None:
    data = dataset(panning_root, FlowConfig(source="stored", folder=str(stored_flow)))
    with open_video(panning_root / "left.mp4") as video, pytest.raises(DataError, match="clips of a data set only"):
        footage_of(video, window(0, 2, 4), data.footage, want_flow=True)


@pytest.mark.data
@pytest.mark.parametrize("pattern", ["ucf101_originals/**/*.avi", "clips/*cartwheel*.avi", "clips/*.mkv"])
def test_real_files_too_have_the_same_flow_stored_and_on_the_fly(real_data: Path, tmp_path: Path, pattern: str) -> None:
    """DivX with B-frames, broken metadata, Matroska: reading in order (extraction) and by index (training) must mean the same frames."""
    file = sorted(real_data.glob(pattern))[0]
    extract(file.parent, tmp_path, ExtractConfig(method="dis", flow_step=4, short_side=64, preset="ultrafast"), file.name)
    samples = []
    for source in (FlowConfig(preset="ultrafast"), FlowConfig(source="stored", folder=str(tmp_path))):
        config = DataConfig(
            window=WindowConfig(frames=4, stride=4), transform=TransformConfig(short_side=64, crop=64), decode_short_side=64, flow=source
        )
        data = ClipDataset(file.parent, [clip(file.name)], config, views=("rgb", "flow"), training=False)
        samples.append([data[0, number] for number in range(3)])
    for one, other in zip(*samples, strict=True):
        assert torch.equal(one["rgb"], other["rgb"])
        inside = one["flow"].float().abs() < 60
        assert float((one["flow"].float() - other["flow"].float()).abs()[inside].max()) <= 64.0 / 4094 + 2**-6
