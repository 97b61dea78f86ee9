"""The training loader against bare decoding and against pipelines of other libraries to the same end."""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidkd.base.random_streams import random_stream
from vidkd.bench.performance.rows import Measured, Part, Row, Setting, ratio_row, value_row
from vidkd.bench.performance.videos import SEED, TRAINING_DATA, WINDOW, ClipSet, training_set
from vidkd.bench.speed.rounds import interleave
from vidkd.data.dataset import ClipDataset
from vidkd.data.loaders import StepSampler, training_loader
from vidkd.data.windows import choose_window
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


Item = tuple[int, int]
Samples: TypeAlias = "Dataset[dict[str, Any]]"
Read: TypeAlias = Callable[[str, Sequence[int], NDArray[np.float64]], Tensor]


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
        """Take the batches that are ready, time `count` further batches, and wait until the workers have made as many ahead again."""
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


class SameWindows:
    """The frame indices that vidkd's training set takes for (epoch, clip number), known without opening the file."""

    def __init__(self, clips: ClipSet) -> None:
        self.times_s = clips.times_s

    def indices(self, item: Item) -> list[int]:
        """Rising frame indices of one sample."""
        epoch, number = item
        position = float(random_stream(SEED, "sample", epoch, number).random())
        return [int(index) for index in choose_window(self.times_s[number], WINDOW, position=position).frames]


class BareDecord(Dataset[dict[str, Any]]):
    """Decoding alone: open, get_batch, let go. The frames do not leave the process."""

    def __init__(self, clips: ClipSet) -> None:
        self.paths = [str(clips.root / clip.path) for clip in clips.clips]
        self.windows = SameWindows(clips)

    def __getitem__(self, item: Item) -> dict[str, Any]:
        """The number of frames that were decoded."""
        return {"frames": len(decord_frames(self.paths[item[1]], self.windows.indices(item)))}


class Straightforward(Dataset[dict[str, Any]]):
    """A reader of frames followed by torchvision's transforms: resize, random crop, random flip; uint8 as vidkd's samples are."""

    def __init__(self, clips: ClipSet, read: Read) -> None:
        self.paths = [str(clips.root / clip.path) for clip in clips.clips]
        self.windows, self.read = SameWindows(clips), read
        self.transform: Any = None

    def __getitem__(self, item: Item) -> dict[str, Any]:
        """{"rgb": (T, 3, S, S)}."""
        if self.transform is None:
            self.transform = _transform()
        frames = self.read(self.paths[item[1]], self.windows.indices(item), self.windows.times_s[item[1]])
        return {"rgb": self.transform(frames)}


def _transform() -> Any:
    from torchvision.transforms import v2

    sizes = TRAINING_DATA.transform
    crop = v2.RandomResizedCrop(sizes.crop, scale=(sizes.min_scale**2, 1), ratio=(1, 1), antialias=True)
    return v2.Compose([v2.Resize(sizes.short_side, antialias=True), crop, v2.RandomHorizontalFlip()])


def decord_frames(path: str, indices: Sequence[int]) -> NDArray[np.uint8]:
    """uint8 (T, H, W, 3), one decoding thread."""
    decord = importlib.import_module("decord")
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    return np.asarray(reader.get_batch(list(indices)).asnumpy())


def read_with_decord(path: str, indices: Sequence[int], _: NDArray[np.float64]) -> Tensor:
    """uint8 (T, 3, H, W)."""
    return torch.from_numpy(decord_frames(path, indices)).permute(0, 3, 1, 2)


def read_with_torchcodec(path: str, indices: Sequence[int], _: NDArray[np.float64]) -> Tensor:
    """uint8 (T, 3, H, W), one decoding thread, exact seeking."""
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(path, num_ffmpeg_threads=1)
    frames: Tensor = decoder.get_frames_at(list(indices)).data
    return frames


def read_with_pytorchvideo(path: str, indices: Sequence[int], times_s: NDArray[np.float64]) -> Tensor:
    """float32 (T, 3, H, W): EncodedVideo decodes all frames of an interval, of which the wanted ones are taken."""
    video = importlib.import_module("pytorchvideo.data.encoded_video").EncodedVideo.from_path(path, decode_audio=False)
    clip = video.get_clip(float(times_s[indices[0]]) - 1e-3, float(times_s[indices[-1]]) + 1e-3)["video"]
    video.close()
    frames: Tensor = clip[:, [index - indices[0] for index in indices]].permute(1, 0, 2, 3)
    return frames


def available(clips: ClipSet) -> tuple[dict[str, Samples], list[str]]:
    """The rivals that run here, by name, and a sentence for each one that does not."""
    readers = {
        "decord + torchvision.transforms.v2": read_with_decord,
        "torchcodec + torchvision.transforms.v2": read_with_torchcodec,
        "pytorchvideo EncodedVideo + torchvision.transforms.v2": read_with_pytorchvideo,
    }
    found: dict[str, Samples] = {}
    skipped = []
    for name, read in readers.items():
        rival = Straightforward(clips, read)
        reason = why_not(partial(rival.__getitem__, (0, 0)))
        if reason is None:
            found[name] = rival
        else:
            skipped.append(f"{name} was left out: {reason}")
    return found, skipped


def why_not(attempt: Callable[[], object]) -> str | None:
    """None if the attempt succeeds, else its error in one line, without folders of this machine."""
    try:
        attempt()
    except (ImportError, OSError, RuntimeError, AttributeError, TypeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        return f"{type(cause).__name__}: " + " ".join(Path(word).name if word.startswith("/") else word for word in line.split())
    return None
