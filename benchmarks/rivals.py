"""Other ways from the same files to the same frames: decoding alone, and pipelines as one writes them without a framework."""

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.clips import SEED, TRAINING_DATA, WINDOW, ClipSet
from vidkd.data.windows import choose_window

Item = tuple[int, int]
Samples: TypeAlias = "Dataset[dict[str, Any]]"
Read: TypeAlias = Callable[[str, Sequence[int], NDArray[np.float64]], Tensor]


class SameWindows:
    """The frame indices that vidkd's training set takes for (epoch, clip number), known without opening the file."""

    def __init__(self, clips: ClipSet) -> None:
        self.times_s = clips.times_s

    def indices(self, item: Item) -> list[int]:
        """Rising frame indices of one sample."""
        epoch, number = item
        position = float(np.random.default_rng([SEED, epoch, number]).random())
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
    import decord

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
