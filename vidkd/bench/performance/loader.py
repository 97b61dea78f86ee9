"""The training loader against bare decoding and pipelines of other libraries to the same end, and optical flow computed on the fly."""

import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidkd.base.random_streams import random_stream
from vidkd.bench.performance.suite import Measured, Part, Setting, per_second
from vidkd.bench.performance.videos import FPS, SEED, TRAINING_DATA, WINDOW, ClipSet, moving_textures, training_set
from vidkd.data.dataset import ClipDataset
from vidkd.data.flow import Preset, dis_flow
from vidkd.data.loaders import StepSampler, training_loader
from vidkd.data.observation import choose_window
from vidkd.video import open_video, write_video
from vidkd.video.opening import Backend

BATCH = 4
BATCHES_A_ROUND = 8
PREFETCHED_A_WORKER = 2
OURS: dict[str, Backend] = {"vidkd": "auto", "vidkd, data.decoder=decord": "decord"}
BARE = "decord alone"
TEXT = (
    "Frames a second of `ClipDataset` behind `training_loader` (RGB view, no cache), with the default decoder (PyAV along the index "
    "that `prepare_data` writes) and with decord, against decord that opens the same files, decodes the same frames in as many "
    "processes and drops them, and against other pipelines to the same end. All sit behind the same `DataLoader`, one decoding thread "
    "a process. Every file was opened before, in the round that does not count. A ratio above 1 means that vidkd is faster."
)
Samples: TypeAlias = "Dataset[dict[str, Any]]"
Read: TypeAlias = Callable[[str, Sequence[int], NDArray[np.float64]], Tensor]


def measure_loader(setting: Setting) -> Part:
    """All sets of videos, with workers and without (there against bare decord only)."""
    torch.set_num_threads(1)
    part = Part(
        title="Loader",
        text=TEXT,
        settings={
            "videos": "; ".join(f"{len(clips.clips)} files {clips.name}" for clips in setting.sets),
            "window": f"{WINDOW.frames} frames, stride {WINDOW.stride}",
            "crop": f"{TRAINING_DATA.transform.crop}x{TRAINING_DATA.transform.crop}",
            "batch": BATCH,
            "threads a process": 1,
        },
    )
    for clips in setting.sets:
        ours = {name: training_set(clips, decoder=decoder) for name, decoder in OURS.items()}
        alone: dict[str, Samples] = {**ours, BARE: Pipeline(clips, read_with_decord, transforms=False)}
        rivals, absent = peers(clips)
        part.notes.extend(line for line in absent if line not in part.notes)
        for workers, sources in ((setting.workers, {**alone, **rivals}), (0, alone)):
            batches = 2 if setting.quick else BATCHES_A_ROUND if workers else BATCHES_A_ROUND // 2
            paces = {name: _pace(source, len(clips.clips), workers, batches) for name, source in sources.items()}
            ratios = [
                (one, other, "" if one != "vidkd" else ">= 0.95" if other == BARE else ">= 1")
                for one in OURS
                for other in sources
                if other not in OURS
            ]
            part.compare(paces, "frames/s", ratios, rounds=setting.rounds, where=f" ({clips.name}, {workers} workers)")
    return part


def _pace(source: Samples, clips: int, workers: int, batches: int) -> Measured:
    """Measures frames a second of a loader over `source`, which starts working at once."""
    sampler = StepSampler(clips, BATCH, seed=SEED, first_step=0, last_step=10**6)
    endless = iter(training_loader(cast(ClipDataset, source), sampler, workers))
    return lambda: BATCH * WINDOW.frames * batches_per_second(endless, batches, ahead=PREFETCHED_A_WORKER * workers)


def batches_per_second(
    batches: Iterator[Any],
    count: int,
    *,
    ahead: int,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> float:
    """A round of an endless loader, timed at full pace, which leaves no work behind that would measure_loader in the time of another.

    ahead: batches that the workers make before they are asked for; those are ready when a round begins, so they do not count. After
    `count` further ones it waits until the workers have made as many ahead again.
    """
    for _ in range(ahead):
        next(batches)
    start = clock()
    for _ in range(count):
        next(batches)
    seconds = clock() - start
    if ahead:
        sleep(1.5 * ahead * seconds / count + 0.05)
    return count / seconds


class Pipeline(Dataset[dict[str, Any]]):
    """A reader of the very frames that vidkd's training set takes, known without opening the file, and torchvision's transforms.

    Without `transforms` it is decoding alone, and the frames do not leave the process.
    """

    def __init__(self, clips: ClipSet, read: Read, *, transforms: bool = True) -> None:
        self.paths, self.times_s = [str(clips.root / clip.path) for clip in clips.clips], clips.times_s
        self.read, self.transforms = read, transforms

    def indices(self, item: tuple[int, int]) -> list[int]:
        """Rising frame indices of the sample (epoch, clip number)."""
        position = float(random_stream(SEED, "sample", *item).random())
        return [int(index) for index in choose_window(self.times_s[item[1]], WINDOW, position=position).frames]

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        """{"rgb": (T, 3, S, S)} in uint8 as vidkd's samples are, or the number of frames that were decoded."""
        frames = self.read(self.paths[item[1]], self.indices(item), self.times_s[item[1]])
        return {"rgb": _transform()(frames)} if self.transforms else {"frames": len(frames)}


@functools.cache
def _transform() -> Any:
    """Resize, random crop, random flip."""
    from torchvision.transforms import v2

    sizes = TRAINING_DATA.transform
    crop = v2.RandomResizedCrop(sizes.crop, scale=(sizes.min_scale**2, 1), ratio=(1, 1), antialias=True)
    return v2.Compose([v2.Resize(sizes.short_side, antialias=True), crop, v2.RandomHorizontalFlip()])


def read_with_decord(path: str, indices: Sequence[int], _: NDArray[np.float64]) -> Tensor:
    """uint8 (T, 3, H, W), one decoding thread."""
    decord = importlib.import_module("decord")
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    return torch.from_numpy(reader.get_batch(list(indices)).asnumpy()).permute(0, 3, 1, 2)


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


def peers(clips: ClipSet) -> tuple[dict[str, Samples], list[str]]:
    """The rivals that measure_loader here, by name, and a sentence for each one that does not, without folders of this machine."""
    readers = {"decord": read_with_decord, "torchcodec": read_with_torchcodec, "pytorchvideo EncodedVideo": read_with_pytorchvideo}
    found: dict[str, Samples] = {}
    absent = []
    for name, read in readers.items():
        rival = Pipeline(clips, read)
        try:
            rival[(0, 0)]
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            words = " ".join(Path(word).name if word.startswith("/") else word for word in line.split())
            absent.append(f"{name} was left out: {type(error).__name__}: {words}")
        else:
            found[f"{name} + torchvision.transforms.v2"] = rival
    return found, absent


FLOW_SIZES = ((320, 240), (96, 72))
PRESETS: tuple[Preset, ...] = ("ultrafast", "fast", "medium")
FLOW_STEP = 4
DECODED = 100


def measure_flow(setting: Setting) -> Part:
    """Every preset at every size, and decoding at that size."""
    cv2.setNumThreads(1)
    pairs = 8 if setting.quick else 32
    part = Part(
        title="Optical flow",
        text=f"`dis_flow` between frames {FLOW_STEP} apart, conversion to grey included, and decoding an H.264 video of the same size from "
        "its first frame on, file opening included. Frames or pairs a second; a ratio is the time of a pair to that of a decoded frame.",
        settings={"threads": 1, "pairs a round": pairs, "decoded frames a round": DECODED, "cv2": str(cv2.__version__)},
    )
    for width, height in FLOW_SIZES:
        path = setting.scratch / f"flow-{width}x{height}.mp4"
        frames = np.stack(list(moving_textures(width, height, DECODED, seed=0)))
        write_video(path, frames, fps=FPS)
        work: dict[str, Measured] = {"decode in order": partial(per_second, partial(_decode, path), DECODED)}
        for preset in PRESETS:
            flow = partial(dis_flow, frames[:pairs], frames[FLOW_STEP : FLOW_STEP + pairs], preset=preset)
            work[f"DIS {preset}"] = partial(per_second, flow, pairs)
        ratios = [("decode in order", f"DIS {preset}", "") for preset in PRESETS]
        part.compare(work, "a second", ratios, rounds=setting.rounds, where=f", {width}x{height}")
    return part


def _decode(path: Path) -> Any:
    with open_video(path) as video:
        return video.frames_at_indices(range(DECODED))
