"""The videos that are measured on: generated ones of two sizes, or those of the user's folder."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, VideoError
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.manifest import Clip
from vidkd.data.transforms import TransformConfig
from vidkd.data.windows import WindowConfig
from vidkd.video import open_video, write_video
from vidkd.video.opening import Backend

SIZES = ((340, 256), (170, 128))
CLIPS_A_SIZE = 12
FRAMES, FPS = 250, 25
SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv"}
MOST_OF_A_FOLDER = 48
SEED = 0
WINDOW = WindowConfig(frames=8, stride=4)
TRAINING_DATA = DataConfig(window=WINDOW, transform=TransformConfig(short_side=72, crop=64, min_scale=0.75))
CLASSES = ("even", "odd")


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Videos of one kind, as clips relative to `root`, and the presentation times of the frames of each."""

    name: str
    root: Path
    clips: tuple[Clip, ...]
    times_s: tuple[NDArray[np.float64], ...]


def generated_sets(folder: Path, *, clips: int = CLIPS_A_SIZE, frames: int = FRAMES) -> list[ClipSet]:
    """Write `clips` H.264 videos of each size into `folder`."""
    sets = []
    for width, height in SIZES:
        paths = [folder / f"{width}x{height}" / f"clip{number:02d}.mp4" for number in range(clips)]
        for number, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, moving_textures(width, height, frames, seed=number), fps=FPS)
        sets.append(clip_set(f"{width}x{height}", folder, paths))
    return sets


def users_set(folder: Path) -> ClipSet:
    """The videos below `folder`, at most MOST_OF_A_FOLDER of them, evenly spread. Raises DataError if none is long enough to be read."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    step = max(1, len(found) // MOST_OF_A_FOLDER)
    chosen = clip_set(folder.name, folder, found[::step][:MOST_OF_A_FOLDER])
    if not chosen.clips:
        raise DataError(f"no video of at least {WINDOW.span} frames below {folder}", files_found=len(found))
    return chosen


def clip_set(name: str, root: Path, paths: Sequence[Path]) -> ClipSet:
    """The videos that can be read and hold a whole window."""
    clips: list[Clip] = []
    times: list[NDArray[np.float64]] = []
    for path in paths:
        try:
            with open_video(path) as video:
                found_s = video.timestamps_s
        except VideoError:
            continue
        if len(found_s) >= WINDOW.span:
            label = len(clips) % len(CLASSES)
            clips.append(Clip(path=path.relative_to(root).as_posix(), label=label, group=path.stem, subsets={"1": "train"}))
            times.append(found_s)
    return ClipSet(name=name, root=root, clips=tuple(clips), times_s=tuple(times))


def training_set(clips: ClipSet, views: Sequence[str] = ("rgb",), *, decoder: Backend = "auto") -> ClipDataset:
    """The clips as vidkd's training samples, not cached."""
    data = dataclasses.replace(TRAINING_DATA, decoder=decoder)
    return ClipDataset(clips.root, clips.clips, data, views=views, training=True, seed=SEED)


def moving_textures(width: int, height: int, frames: int, *, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Frames (height, width, 3) of a textured background that pans, a textured square that moves over it, and some sensor noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.addWeighted(_texture(rng, width, height, 16), 0.6, _texture(rng, width, height, 4), 0.4, 0)
    actor = _texture(rng, width, height, 8)
    noise = rng.integers(0, 6, (4, height, width, 3), dtype=np.uint8)
    side = height // 3
    for t in range(frames):
        x, y = _swing(width, t / 40), _swing(height, t / 55)
        image = ground[y : y + height, x : x + width].copy()
        left, top = _swing(width - side, t / 15 + seed), _swing(height - side, t / 19)
        image[top : top + side, left : left + side] = actor[top : top + side, left : left + side]
        yield np.asarray(cv2.add(image, noise[t % 4]), np.uint8)


def _swing(most: int, phase: float) -> int:
    return int(most * (0.5 + 0.5 * np.sin(phase)))


def _texture(rng: np.random.Generator, width: int, height: int, grain: int) -> NDArray[np.uint8]:
    """Smooth random colours, twice as wide and high as a frame."""
    coarse = rng.integers(0, 256, (2 * height // grain, 2 * width // grain, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC), np.uint8)
