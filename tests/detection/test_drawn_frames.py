"""Frames drawn from videos and from annotated footage."""

from pathlib import Path

import numpy as np
import pytest

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.frames import drawn_footage, frames_of_manifest, frames_of_videos
from vidkd.video import write_video

GREYS = np.arange(0, 240, 12, dtype=np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "v.mp4"
    write_video(path, np.broadcast_to(GREYS[:, None, None, None], (20, 32, 48, 3)).copy(), fps=25)
    return path


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 12) for frame in frames]


def test_frames_are_drawn_by_the_seed_one_of_each_stretch(video: Path) -> None:
    found = frames_of_videos([video, video], 10)
    assert [frame.shape for frame in found] == [(32, 48, 3)] * 10
    drawn = [numbers(frames_of_videos([video, video], 10, seed)) for seed in range(12)]
    assert [number // 4 for each in drawn for number in each] == [*range(5), *range(5)] * 12
    assert drawn[0] == numbers(found), "the seed is 0 unless another is given"
    assert len(set(map(tuple, drawn))) > 10, "seeds draw differently"
    assert {number for each in drawn for number in each} == set(range(20)), "every frame may be drawn"
    assert numbers(drawn_footage([video, video], lambda: pytest.fail("videos are given"), 10, 3)[0]) == drawn[3]
    assert numbers(frames_of_videos([video], 99, 7)) == list(range(20)), "no more than there are"
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
