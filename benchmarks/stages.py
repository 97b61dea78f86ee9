"""Where the time of one training sample goes: processor time of each stage, beside decord alone."""

import time

import cv2
import numpy as np
import torch

from benchmarks.clips import SEED, TRAINING_DATA, WINDOW, ClipSet, training_set
from benchmarks.rivals import BareDecord, Item, decord_frames
from benchmarks.rounds import Part, Row, spread
from benchmarks.setting import Setting
from vidkd.base.timing import Stopwatch
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
    watch = Stopwatch(time.process_time)
    with watch.part("decord alone, open and decode"):
        decord_frames(path, indices)
    with watch.part("open_video"):
        video = open_video(path)
    with watch.part("decode the frames"):
        frames = video.frames_at_indices(indices)
    with watch.part("close"):
        video.close()
    with watch.part("resize"):
        height, width = working_size(frames.shape[1], frames.shape[2], TRAINING_DATA.transform)
        small = resize_frames(frames, height, width)
    with watch.part("crop and flip"):
        rng = np.random.default_rng([SEED, *item])
        crop_frames(small, random_geometry(height, width, TRAINING_DATA.transform, rng, may_flip=True))
    with watch.part("the whole sample"):
        sample = dataset[item]
    with watch.part(f"collate {COLLATED} samples"):
        collate([sample] * COLLATED)
    return {name: seconds for name, seconds in watch.seconds().items() if name != "other"}
