"""Where the time of one training sample goes: processor time of each stage, beside decord alone."""

import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from benchmarks.clips import SEED, TRAINING_DATA, WINDOW, ClipSet, training_set
from benchmarks.rivals import BareDecord, Item, decord_frames
from benchmarks.rounds import Part, Row, spread
from benchmarks.setting import Setting
from vidkd.data.dataset import ClipDataset, collate
from vidkd.data.transforms import crop_frames, random_geometry, resize_frames, working_size
from vidkd.video import open_video

COLLATED = 8


def run(setting: Setting) -> Part:
    """The stages, for every set of videos."""
    samples = 12 if setting.quick else 60
    return Part(
        title="Stages of one sample",
        text="Processor time of what the loader does for one sample, a stage at a time, in one process and one thread, without waiting.",
        settings={"samples": samples, "window": f"{WINDOW.frames} frames, stride {WINDOW.stride}"},
        values=[row for clips in setting.sets for row in stage_rows(clips, samples=samples)],
    )


def stage_rows(clips: ClipSet, *, samples: int) -> list[Row]:
    """Milliseconds of processor time of the stages of one sample, in this process; the files are in the page cache."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    dataset, bare = training_set(clips), BareDecord(clips)
    found: dict[str, list[float]] = {}
    for number in range(samples):
        item = (number // len(clips.clips), number % len(clips.clips))
        for name, seconds in _stages_of(dataset, bare, item).items():
            found.setdefault(name, []).append(1e3 * seconds)
    return [{"name": f"{name} ({clips.name})", "unit": "ms CPU", **spread(values)} for name, values in found.items()]


def _stages_of(dataset: ClipDataset, bare: BareDecord, item: Item) -> dict[str, float]:
    path, indices = bare.paths[item[1]], bare.windows.indices(item)
    laps = Laps()
    decord_frames(path, indices)
    laps.end("decord alone, open and decode")
    video = open_video(path)
    laps.end("open_video")
    frames = video.frames_at_indices(indices)
    laps.end("decode the frames")
    video.close()
    laps.end("close")
    height, width = working_size(frames.shape[1], frames.shape[2], TRAINING_DATA.transform)
    small = resize_frames(frames, height, width)
    laps.end("resize")
    rng = np.random.default_rng([SEED, *item])
    crop_frames(small, random_geometry(height, width, TRAINING_DATA.transform, rng, may_flip=True))
    laps.end("crop and flip")
    sample = dataset[item]
    laps.end("the whole sample")
    collate([sample] * COLLATED)
    laps.end(f"collate {COLLATED} samples")
    return laps.seconds


class Laps:
    """Time between calls of `end`, by name; of the processor, all threads of the process, if no other clock is given."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._last = clock()

    def end(self, name: str) -> None:
        """What ran since the last call was `name`."""
        now = self._clock()
        self.seconds[name] = now - self._last
        self._last = now
