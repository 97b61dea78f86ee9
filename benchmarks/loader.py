"""Frames a second that the training loader delivers, against decoding alone and against other pipelines."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any, cast

import torch

from benchmarks.clips import SEED, TRAINING_DATA, WINDOW, ClipSet, training_set
from benchmarks.rivals import BareDecord, Samples, available
from benchmarks.rounds import Measured, Part, Row, interleave, ratio_row, value_row
from benchmarks.setting import Setting
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import StepSampler, training_loader
from vidkd.video.opening import Backend

BATCH = 4
BATCHES_A_ROUND = 8
PREFETCHED_A_WORKER = 2
OURS: dict[str, Backend] = {"vidkd": "auto", "vidkd, data.decoder=pyav": "pyav"}
BARE = "decord alone"
TEXT = (
    "Frames a second of `ClipDataset` behind `training_loader` (RGB view, no cache), with the default decoder (decord, for plain files) "
    "and with PyAV, against decord that opens the same files, decodes the same frames in as many processes and drops them, and against "
    "other pipelines to the same end. All sit behind the same `DataLoader`, one decoding thread a process. Every file was opened before, "
    "in the round that does not count. A ratio above 1 means that vidkd is faster."
)


class SteadyLoader:
    """Rounds of one endless loader: each is timed at full pace and leaves no work behind that would run in the time of another.

    ahead: batches that the workers make before they are asked for; those lie ready when a round begins, so they do not count.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        *,
        ahead: int,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._batches, self._ahead, self._clock, self._sleep = batches, ahead, clock, sleep

    def batches_per_second(self, count: int) -> float:
        """Take what lies ready, time `count` further batches, and wait until the workers have made as many ahead again."""
        for _ in repeat(None, self._ahead):
            next(self._batches)
        start = self._clock()
        for _ in repeat(None, count):
            next(self._batches)
        seconds = self._clock() - start
        if self._ahead:
            self._sleep(1.5 * self._ahead * seconds / count + 0.05)
        return count / seconds


def run(setting: Setting) -> Part:
    """All sets of videos, with workers and without (there against bare decord alone)."""
    values: list[Row] = []
    ratios: list[Row] = []
    notes: list[str] = []
    torch.set_num_threads(1)
    for clips in setting.sets:
        rivals, skipped = available(clips)
        notes += [line for line in skipped if line not in notes]
        for workers in (setting.workers, 0):
            more_values, more_ratios = _compare(clips, rivals, workers, setting)
            values += more_values
            ratios += more_ratios
    return Part(title="Loader", text=TEXT, settings=_settings(setting), values=values, ratios=ratios, notes=notes)


def _settings(setting: Setting) -> dict[str, str | int | float]:
    sets = "; ".join(f"{len(clips.clips)} files {clips.name}" for clips in setting.sets)
    window = f"{WINDOW.frames} frames, stride {WINDOW.stride}"
    crop = f"{TRAINING_DATA.transform.crop}x{TRAINING_DATA.transform.crop}"
    return {"videos": sets, "window": window, "crop": crop, "batch": BATCH, "workers": setting.workers, "threads a process": 1}


def _compare(clips: ClipSet, rivals: dict[str, Samples], workers: int, setting: Setting) -> tuple[list[Row], list[Row]]:
    """Values and ratios of one set of videos with so many workers."""
    sources: dict[str, Samples] = {name: training_set(clips, decoder=decoder) for name, decoder in OURS.items()}
    sources[BARE] = BareDecord(clips)
    if workers:
        sources |= rivals
    batches = 2 if setting.quick else BATCHES_A_ROUND if workers else BATCHES_A_ROUND // 2
    paces = {name: _pace(source, len(clips.clips), workers, batches) for name, source in sources.items()}
    measured = interleave(paces, rounds=setting.rounds)
    where = f"{clips.name}, {workers} workers"
    values = [value_row(f"{name} ({where})", "frames/s", found) for name, found in measured.items()]
    ratios = [
        ratio_row(f"{ours} / {name} ({where})", measured[ours], found, at_least=0.9 if name == BARE else 1.0)
        for ours in OURS
        for name, found in measured.items()
        if name not in OURS
    ]
    return values, ratios


def _pace(source: Samples, clips: int, workers: int, batches: int) -> Measured:
    """Measures frames a second of a loader over `source`, which starts working at once."""
    sampler = StepSampler(clips, BATCH, seed=SEED, first_step=0, last_step=10**6)
    loader = training_loader(cast(ClipDataset, source), sampler, workers)
    return partial(_frames_per_second, SteadyLoader(iter(loader), ahead=PREFETCHED_A_WORKER * workers), batches)


def _frames_per_second(loader: SteadyLoader, batches: int) -> float:
    return BATCH * WINDOW.frames * loader.batches_per_second(batches)
