"""The rivals decode the very frames that vidkd's training samples hold."""

from pathlib import Path

import numpy as np
import pytest

from vidkd.base.random_streams import random_stream
from vidkd.bench.performance.loader import BareDecord, SameWindows, available, decord_frames
from vidkd.bench.performance.videos import SEED, TRAINING_DATA, clip_set, moving_textures, training_set
from vidkd.data.transforms import crop_frames, random_geometry, resize_frames, working_size
from vidkd.video import write_video


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(3):
        write_video(folder / f"{number}.mp4", moving_textures(96, 80, 20 if number == 2 else 60, seed=number), fps=25)
    return sorted(folder.iterdir())


def test_windows_are_those_of_the_training_set(paths: list[Path]) -> None:
    clips = clip_set("small", paths[0].parent, paths)
    assert len(clips.clips) == 2  # the third is shorter than a window
    dataset, windows = training_set(clips), SameWindows(clips)
    for item in ((0, 0), (0, 1), (3, 1)):
        frames = decord_frames(str(paths[item[1]]), windows.indices(item))
        height, width = working_size(frames.shape[1], frames.shape[2], TRAINING_DATA.transform)
        rng = random_stream(SEED, "sample", *item)
        rng.random()  # the position of the window
        geometry = random_geometry(height, width, TRAINING_DATA.transform, rng, may_flip=True)
        expected = crop_frames(resize_frames(frames, height, width), geometry)
        np.testing.assert_array_equal(dataset[item]["rgb"].numpy(), expected.transpose(3, 0, 1, 2))


def test_rivals_give_as_many_frames_of_the_same_size(paths: list[Path]) -> None:
    clips = clip_set("small", paths[0].parent, paths)
    frames, size = TRAINING_DATA.window.frames, TRAINING_DATA.transform.crop
    assert BareDecord(clips)[(0, 1)] == {"frames": frames}
    found, skipped = available(clips)
    assert len(found) + len(skipped) == 3
    for rival in found.values():
        assert rival[(0, 1)]["rgb"].shape == (frames, 3, size, size)
