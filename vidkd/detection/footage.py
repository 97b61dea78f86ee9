"""Frames drawn from videos or from annotated footage, for whoever needs pictures as they come and no boxes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.dataset import frames_by_path, read_frame
from vidkd.video import open_video
from vidkd.video.content import copies_among

Pictures = list[NDArray[np.uint8]]
"""RGB uint8 (H, W, 3) each, of any sizes."""


def frames_of_videos(paths: Sequence[Path | str], count: int, seed: int = 0) -> Pictures:
    """About `count` frames, as many of each video: one of each of as many stretches of even length, drawn by `seed`.

    paths: video files, or folders of images. Raises VideoError for one that cannot be read, DataError for none.
    """
    if not paths or count < 1:
        raise DataError("no footage to take frames from")
    rng, each, found = np.random.default_rng(seed), max(1, count // len(paths)), []
    for path in paths:
        with open_video(path) as video:
            frames = len(video.timestamps_s)
            edges = np.linspace(0, frames, min(each, frames) + 1).astype(int)
            indices = rng.integers(edges[:-1], edges[1:]).tolist()
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


def judged_footage(videos: Sequence[Path | str], known: BoxManifest, judged: BoxManifest) -> list[str]:
    """Those of the videos (files, or folders of images) that hold frames which are judged, or frames of a group which is; copies too.

    known: all frames of the data set; the group of footage that is not in it cannot be known.
    """
    places = {(judged.root / frame.path).resolve() for frame in judged.frames}
    groups = {frame.group for frame in judged.frames}
    places |= {(known.root / frame.path).resolve() for frame in known.frames if frame.group in groups}
    places |= {place.parent for place in places}  # of folders of images, whose frames may be single images
    return copies_among({str(video): Path(video).resolve() for video in videos}, places)


def drawn_footage(videos: Sequence[Path | str], train: Callable[[], BoxManifest], count: int, seed: int = 0) -> tuple[Pictures, str]:
    """About `count` frames of these videos, or else of the training frames that `train` gives, drawn by `seed`; and what they are."""
    if videos:
        frames = frames_of_videos(videos, count, seed)
        return frames, f"{len(frames)} frames of {len(videos)} videos"
    frames = frames_of_manifest(train(), count, seed)
    return frames, f"{len(frames)} training frames"
