"""Frames drawn from videos and from annotated footage."""

from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.footage import frames_of_manifest, frames_of_videos
from vidkd.video import open_video, write_video

GREYS = np.arange(0, 240, 12, dtype=np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    write_video(path, np.broadcast_to(GREYS[:, None, None, None], (20, 32, 48, 3)).copy(), fps=25)
    return path


def test_frames_lie_at_even_distances(video: Path) -> None:
    found = frames_of_videos([video, video], 10)
    assert [frame.shape for frame in found] == [(32, 48, 3)] * 10
    with open_video(video) as reader:
        wanted = reader.frames_at_indices([2, 6, 10, 14, 18])
    np.testing.assert_array_equal(np.stack(found[:5]), wanted)
    assert len(frames_of_videos([video], 99)) == 20, "no more than there are"
    with pytest.raises(DataError, match="no footage"):
        frames_of_videos([], 3)


def test_annotated_frames_are_drawn_by_the_seed(video: Path) -> None:
    frames = tuple(
        LabelledFrame(path=video.name, width=48, height=32, boxes=[], labels=[], ignore=[], group="v", frame_index=index)  # type: ignore[arg-type]
        for index in range(20)
    )
    truth = BoxManifest(name="grey", root=video.parent, classes=("a",), frames=frames)
    found = [frames_of_manifest(truth, 5, seed) for seed in (0, 0, 1)]
    shades = [sorted(round(float(frame.mean()) / 12) for frame in each) for each in found]
    assert shades[0] == shades[1] != shades[2]
    assert len(set(shades[0])) == 5
    assert len(frames_of_manifest(truth, 99)) == 20
    with pytest.raises(DataError, match="no frame to draw"):
        frames_of_manifest(BoxManifest(name="none", root=video.parent, classes=("a",), frames=()), 3)
