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
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.config import BoxDataConfig
from vidkd.detection.dataset import frames_by_path, read_frame
from vidkd.detection.layouts import BOX_LAYOUTS, BoxOptions
from vidkd.detection.layouts.common import in_classes
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
            raise DataError(
                f"data set '{self.manifest.name}' has no frame in subset '{name}'",
                hint="data.validation_fraction > 0 makes a `val` subset" if name == "val" else "another --subset",
            )
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

    Raises ConfigError where none is named, DataError for one that is not there.
    """
    manifest = _manifest(config)
    named = any(frame.subset for frame in manifest.frames)
    train = [frame for frame in manifest.frames if (frame.subset == "train" if named else True) and _chosen(frame, config)]
    val = [frame for frame in manifest.frames if frame.subset == "val" and _chosen(frame, config) and frame.complete]
    if config.validation_fraction > 0:
        held = _held_out_groups(train, config.validation_fraction, config.split_seed)
        val += [frame for frame in train if frame.group in held and frame.complete]
        if not val:
            raise _nothing_held_out(manifest.name, train)
        train = [frame for frame in train if frame.group not in held]
    if config.incomplete == "leave_out":
        train = [frame for frame in train if frame.complete]
    return RunFrames(manifest, *(dataclasses.replace(manifest, frames=tuple(part)) for part in (train, val)))


def _manifest(config: BoxDataConfig) -> BoxManifest:
    if config.manifest is not None:
        manifest = BoxManifest.read(config.manifest, config.root or None)
        return in_classes(manifest, config.classes)[0] if config.classes else manifest
    check_set_of_frames(config)
    root = Path(config.root)
    annotations = tuple(root / name for name in config.annotations)
    return BOX_LAYOUTS[config.layout](root, BoxOptions(classes=config.classes, annotations=annotations)).manifest


def check_set_of_frames(config: BoxDataConfig) -> None:
    """Raise ConfigError where no data set is named, DataError where its folder is not there. A manifest is checked when it is read."""
    if config.manifest is not None:
        return
    if not config.root or not config.layout:
        missing = "data.root" if not config.root else "data.layout"
        raise ConfigError(
            f"{missing} is not set", hint="--data.root DIR --data.layout NAME   (or --data.manifest FILE)", known=", ".join(BOX_LAYOUTS)
        )
    if not Path(config.root).is_dir():
        raise DataError(f"data set not found: {config.root}", looked_for="data.root", **NO_DATA)


def _chosen(frame: LabelledFrame, config: BoxDataConfig) -> bool:
    """Whether a frame is one of those to train or validate on."""
    if (frame.frame_index or 0) % config.every:
        return False
    return not config.paths or any(fnmatchcase(frame.path, pattern) for pattern in config.paths)


def _held_out_groups(frames: list[LabelledFrame], fraction: float, seed: int) -> set[str]:
    """Groups for validation: of every class about this share of its frames, as clips are held out."""
    stand_ins = [
        Clip(path=frame.path, label=label, group=frame.group, subsets={})
        for frame in frames
        for label in (sorted(set(frame.labels[~frame.ignore].tolist())) or [None])
    ]
    return {clip.group for clip in hold_out_groups(stand_ins, fraction, seed)[1]}


def _nothing_held_out(name: str, train: list[LabelledFrame]) -> DataError:
    groups = sorted({frame.group for frame in train})
    return DataError(
        f"data set '{name}': no video can be held out for validation",
        videos=f"{len(groups)}: {shortened(groups)}",
        hint="every class needs two videos (folders, or names such as street_0001.jpg); or split by hand: a val subset in the data set",
    )


def check_training(frames: RunFrames, config: BoxDataConfig) -> None:
    """Raise DataError unless there are training frames, and every class has a box in them to learn from."""
    name, classes = frames.manifest.name, frames.manifest.classes
    if not frames.train.frames:
        why = {"patterns": ", ".join(config.paths)} if config.paths else {}
        raise DataError(f"data set '{name}' has no frame to train on", **why, hint="other data.paths, data.incomplete or data.every")
    learnt = {label for frame in frames.train.frames for label in frame.labels[~frame.ignore].tolist()}
    without = [name for label, name in enumerate(classes) if label not in learnt]
    if without:
        raise DataError(
            f"{len(without)} of {len(classes)} classes of '{name}' have no box to train on",
            classes=shortened(without),
            hint="name those to learn in data.classes",
        )


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
