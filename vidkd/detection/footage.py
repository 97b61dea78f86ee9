"""Frames drawn from videos or from annotated footage, for whoever needs pictures as they come and no boxes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import frames_by_path, read_frame
from vidkd.video import open_video

Pictures = list[NDArray[np.uint8]]
"""RGB uint8 (H, W, 3) each, of any sizes."""


def frames_of_videos(paths: Sequence[Path | str], count: int) -> Pictures:
    """About `count` frames, as many of each video, at even distances. Raises VideoError for one that cannot be read, DataError for none."""
    if not paths or count < 1:
        raise DataError("no footage to take frames from")
    each, found = max(1, count // len(paths)), []
    for path in paths:
        with open_video(path) as video:
            frames = len(video.timestamps_s)
            taken = min(each, frames)
            indices = [int((place + 0.5) * frames / taken) for place in range(taken)]
            found += list(np.asarray(video.frames_at_indices(indices), np.uint8))
    return found


def frames_of_manifest(truth: BoxManifest, count: int, seed: int = 0) -> Pictures:
    """Up to `count` annotated frames, drawn by `seed`. Raises DataError for a manifest without any, and as `read_frame` does."""
    if not truth.frames:
        raise DataError(f"data set '{truth.name}' has no frame to draw")
    rng = np.random.default_rng(seed)
    chosen = {int(number) for number in rng.permutation(len(truth.frames))[:count]}
    wanted = {id(truth.frames[number]) for number in chosen}
    return [read_frame(truth, frame) for frames in frames_by_path(truth).values() for frame in frames if id(frame) in wanted]


def drawn_footage(videos: Sequence[Path | str], train: Callable[[], BoxManifest], count: int, seed: int = 0) -> tuple[Pictures, str]:
    """About `count` frames of these videos, or else of the training frames that `train` gives; and in words what they are."""
    if videos:
        frames = frames_of_videos(videos, count)
        return frames, f"{len(frames)} frames of {len(videos)} videos"
    frames = frames_of_manifest(train(), count, seed)
    return frames, f"{len(frames)} training frames"
