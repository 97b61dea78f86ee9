"""The videos that are measured on, generated in two sizes."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset
from vidkd.data.index import index_file, inspect_videos
from vidkd.data.manifest import Clip
from vidkd.data.observation import WindowConfig
from vidkd.data.transforms import TransformConfig
from vidkd.video import open_video, write_video
from vidkd.video.index import write_index_file
from vidkd.video.opening import Backend

SIZES = ((340, 256), (170, 128))
CLIPS_A_SIZE, QUICK_CLIPS = 12, 2
FRAMES, FPS = 250, 25
SEED = 0
WINDOW = WindowConfig(frames=8, stride=4)
TRAINING_DATA = DataConfig(window=WINDOW, transform=TransformConfig(short_side=72, crop=64, min_scale=0.75))
CLASSES = ("even", "odd")


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Videos of one size, as clips relative to `root`, and the presentation times of the frames of each."""

    name: str
    root: Path
    clips: tuple[Clip, ...]
    times_s: tuple[NDArray[np.float64], ...]


def generated_set(folder: Path, width: int, height: int, *, clips: int = CLIPS_A_SIZE, frames: int = FRAMES) -> ClipSet:
    """Write so many H.264 videos of a size below `folder`, and their index as `prepare_data` writes it."""
    root, found, times = folder / f"{width}x{height}", [], []
    root.mkdir(parents=True)
    for number in range(clips):
        path = f"clip{number:02d}.mp4"
        write_video(root / path, moving_textures(width, height, frames, seed=number), fps=FPS)
        with open_video(root / path) as video:
            times.append(video.timestamps_s)
        found.append(Clip(path=path, label=number % len(CLASSES), group=path, subsets={"1": "train"}))
    write_index_file(index_file(root / "manifest.jsonl"), inspect_videos(root, [clip.path for clip in found]).records)
    return ClipSet(name=root.name, root=root, clips=tuple(found), times_s=tuple(times))


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
