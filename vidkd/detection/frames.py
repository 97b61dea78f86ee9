"""Which annotated frames a run trains on and is judged on, and frames drawn from footage."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError, DataError
from vidkd.data.groups import hold_out_groups
from vidkd.data.layouts.common import shortened
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.config import BoxDataConfig
from vidkd.detection.dataset import read_frame
from vidkd.detection.layouts import BOX_LAYOUTS, read_boxes
from vidkd.video import open_video
from vidkd.video.files import copies_among

NO_DATA = {"no_data?": "vidkd make_data --variant street --out DIR, and data.layout: motion_shapes"}


@dataclass(frozen=True)
class RunFrames:
    """A data set and its frames for training and validation; val has no frame where the data set and the settings hold none out."""

    manifest: BoxManifest
    train: BoxManifest
    val: BoxManifest

    def subset(self, name: str) -> BoxManifest:
        """`train` and `val` as the run has them, `test` whole. Raises DataError if it holds no frame."""
        chosen = {"train": self.train, "val": self.val}.get(name)
        if chosen is None:
            return self.manifest.select(name)
        if not chosen.frames:
            hint = "data.validation_fraction > 0 makes a `val` subset" if name == "val" else "another --subset"
            raise DataError(f"data set '{self.manifest.name}' has no frame in subset '{name}'", hint=hint)
        return chosen

    def subset_for_others(self, name: str) -> BoxManifest:
        """`subset` for a detector that no run trained on this set: one that names no subsets is all `test` to it."""
        return self.manifest if name == "test" and not any(frame.subset for frame in self.manifest.frames) else self.subset(name)

    @property
    def identity(self) -> str:
        """A hash of the annotations of the run, wherever the files are, so that a run never resumes with others."""
        return frames_identity(self.manifest.classes, self.train, self.val)


def frames_identity(classes: tuple[str, ...], *parts: BoxManifest) -> str:
    """A hash of classes and of the annotations of each part, wherever the files are."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for part in parts:
        for frame in part.frames:
            digest.update(repr((frame.key, frame.group)).encode())
            digest.update(frame.boxes.tobytes() + frame.labels.tobytes() + frame.ignore.tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def read_frames(config: BoxDataConfig) -> RunFrames:
    """Read the data set and select the frames. A data set without subsets is one of training frames.

    Raises ConfigError where none is named, DataError for one that is not there or of which no video can be held out.
    """
    check_set_of_frames(config)
    root = Path(config.root)
    manifest = read_boxes(config.layout, root, annotations=[root / name for name in config.annotations], classes=config.classes)
    named = any(frame.subset for frame in manifest.frames)
    chosen = [frame for frame in manifest.thinned(config.every).frames if _matches(frame.path, config.paths)]
    train = [frame for frame in chosen if frame.subset == "train" or not named]
    val = [frame for frame in chosen if frame.subset == "val" and frame.complete]
    if config.validation_fraction:
        labels = [sorted(set(frame.labels[~frame.ignore].tolist())) or [None] for frame in train]
        clips = [
            Clip(path=frame.path, label=label, group=frame.group, subsets={})
            for frame, each in zip(train, labels, strict=True)
            for label in each
        ]
        held = {clip.group for clip in hold_out_groups(clips, config.validation_fraction, config.split_seed)[1]}
        val += [frame for frame in train if frame.group in held and frame.complete]
        if not val:
            raise DataError(
                f"data set '{manifest.name}': no video can be held out for validation",
                videos=shortened(sorted({frame.group for frame in train})),
                hint="every class needs two videos (folders, or names such as street_0001.jpg), or a val subset in the data set",
            )
        train = [frame for frame in train if frame.group not in held]
    if config.incomplete == "leave_out":
        train = [frame for frame in train if frame.complete]
    return RunFrames(manifest, *(dataclasses.replace(manifest, frames=tuple(part)) for part in (train, val)))


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(path, pattern) for pattern in patterns)


def check_set_of_frames(config: BoxDataConfig) -> None:
    """Raise ConfigError where no data set is named, DataError where its folder is not there."""
    for key, value in (("data.root", config.root), ("data.layout", config.layout)):
        if not value:
            raise ConfigError(f"{key} is not set", hint="--data.root DIR --data.layout NAME", known=", ".join(BOX_LAYOUTS))
    if not Path(config.root).is_dir():
        raise DataError(f"data set not found: {config.root}", looked_for="data.root", **NO_DATA)


def check_training(frames: RunFrames, config: BoxDataConfig) -> None:
    """Raise DataError unless there are training frames, every class has a box in them to learn from, and the `val` frames any to find."""
    name, classes = frames.manifest.name, frames.manifest.classes
    if not frames.train.frames:
        raise DataError(
            f"data set '{name}' has no frame to train on",
            patterns=", ".join(config.paths) or "none",
            hint="other data.paths, data.incomplete or data.every",
        )
    learnt = {label for frame in frames.train.frames for label in frame.labels[~frame.ignore].tolist()}
    without = [name for label, name in enumerate(classes) if label not in learnt]
    if without:
        raise DataError(
            f"{len(without)} of {len(classes)} classes of '{name}' have no box to train on",
            classes=shortened(without),
            hint="name those to learn in data.classes",
        )
    if frames.val.frames and all(frame.ignore.all() for frame in frames.val.frames):
        raise DataError(f"the `val` frames of '{name}' have no box to find", hint="another data.validation_fraction")


Pictures = list[NDArray[np.uint8]]
"""RGB uint8 (H, W, 3) each, of any sizes."""


def frames_of_videos(paths: Sequence[Path | str], count: int, seed: int = 0) -> Pictures:
    """About `count` frames, as many of each video: one of each of as many stretches of even length, drawn by `seed`.

    paths: video files, or folders of images. Raises VideoError for one that cannot be read.
    """
    rng, each, found = np.random.default_rng(seed), max(1, count // len(paths)), []
    for path in paths:
        with open_video(path) as video:
            frames = len(video.timestamps_s)
            edges = np.linspace(0, frames, min(each, frames) + 1).astype(int)
            indices = rng.integers(edges[:-1], edges[1:]).tolist()
            found += list(np.asarray(video.frames_at_indices(indices), np.uint8))
    return found


def frames_of_manifest(truth: BoxManifest, count: int, seed: int = 0) -> Pictures:
    """Up to `count` annotated frames in their order, drawn by `seed`. Raises as `read_frame` does."""
    numbers = np.random.default_rng(seed).permutation(len(truth.frames))[:count]
    return [read_frame(truth, truth.frames[number]) for number in sorted(numbers.tolist())]


def drawn_footage(videos: Sequence[Path | str], train: Callable[[], BoxManifest], count: int, seed: int = 0) -> tuple[Pictures, str]:
    """About `count` frames of these videos, or else of the training frames that `train` gives, drawn by `seed`; and what they are."""
    if videos:
        frames = frames_of_videos(videos, count, seed)
        return frames, f"{len(frames)} frames of {len(videos)} videos"
    frames = frames_of_manifest(train(), count, seed)
    return frames, f"{len(frames)} training frames"


def judged_footage(videos: Sequence[Path | str], known: BoxManifest, judged: BoxManifest) -> list[str]:
    """Those of the videos (files, or folders of images) that hold frames which are judged, or frames of a group which is; copies too.

    known: all frames of the data set; the group of footage that is not in it cannot be known.
    """
    groups = {frame.group for frame in judged.frames}
    files = [
        *(judged.root / frame.path for frame in judged.frames),
        *(known.root / frame.path for frame in known.frames if frame.group in groups),
    ]
    places = {file.resolve() for file in files}
    places |= {place.parent for place in places}  # of folders of images, whose frames may be single images
    return copies_among({str(video): Path(video).resolve() for video in videos}, places)
