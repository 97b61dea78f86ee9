"""Frames of videos that are decoded once and kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from box_samples import frame_of, manifest_of

from vidkd.detection import dataset
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import BoxDataset
from vidkd.detection.transforms import BoxTransformConfig
from vidkd.video import write_video

FRAME_BYTES = 100 * 80 * 3
TRANSFORM = BoxTransformConfig(width=64, height=64)


@pytest.fixture
def videos(tmp_path: Path) -> BoxManifest:
    """Two videos of six frames of noise; all but the first frame of each are annotated."""
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, np.random.default_rng(ord(name[0])).integers(0, 255, (6, 80, 100, 3), dtype=np.uint8), fps=10)
    frames = [frame_of([[10, 10, 40, 40]], path=path, index=index) for index in (3, 1, 5, 2, 4) for path in ("a.mp4", "b.mp4")]
    return manifest_of(*frames, root=tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that are opened."""
    names: list[str] = []
    open_video = dataset.open_video

    def noted(path: Path, **more: Any) -> Any:
        names.append(path.name)
        return open_video(path, **more)

    monkeypatch.setattr(dataset, "open_video", noted)
    return names


def samples(manifest: BoxManifest, cache_bytes: int) -> list[dict[str, Any]]:
    data = BoxDataset(manifest, TRANSFORM, training=True, seed=3, cache_bytes=cache_bytes)
    return [data[(epoch, index)] for epoch in (0, 1) for index in range(len(data))]


def test_a_video_is_opened_once_and_samples_are_those_without_keeping(videos: BoxManifest, opened: list[str]) -> None:
    kept = samples(videos, 2**24)
    assert sorted(opened) == ["a.mp4", "b.mp4"]
    opened.clear()
    alone = samples(videos, 0)
    assert len(opened) > 20  # a mosaic opens four
    for one, other in zip(kept, alone, strict=True):
        assert (one["image"] == other["image"]).all()
        assert (one["boxes"] == other["boxes"]).all()


def test_a_video_too_long_to_keep_is_read_frame_by_frame(videos: BoxManifest, opened: list[str]) -> None:
    data = BoxDataset(videos, TRANSFORM, training=False, cache_bytes=4 * 5 * FRAME_BYTES - 1)
    for index in (0, 2, 4, 0):
        data[index]
    assert opened == ["a.mp4"] * 3  # each frame is kept by itself


def test_a_frame_beyond_the_end_costs_the_others_nothing(videos: BoxManifest, tmp_path: Path) -> None:
    frames = [*videos.frames, frame_of([[10, 10, 40, 40]], path="a.mp4", index=99)]
    data = BoxDataset(manifest_of(*frames, root=tmp_path), BoxTransformConfig(mosaic=0.0), training=True, cache_bytes=2**24)
    found = [data[(0, index)] for index in range(len(data))]
    assert ["bad" in sample for sample in found] == [False] * 10 + [True]
