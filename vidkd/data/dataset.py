"""Labelled clips as samples: named views cut by one window and one geometry."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidkd.base.errors import DataError, VidkdError
from vidkd.base.random_streams import random_stream
from vidkd.data.cache import ClipCache, cached_file
from vidkd.data.config import DataConfig
from vidkd.data.features import FeatureStore
from vidkd.data.footage import Footage, read_seen
from vidkd.data.index import index_file
from vidkd.data.manifest import Clip
from vidkd.data.observation import Request, UnobservableError
from vidkd.data.transforms import (
    Geometry,
    crop_flow,
    crop_frames,
    evaluation_geometry,
    jitter_colour,
    random_geometry,
    stack_channels,
)
from vidkd.video.index import use_index_file

VIEWS = ("rgb", "flow", "future_rgb", "future_flow")
"""What the student sees, `rgb` and `flow`, and what only its teacher sees; under `observe.protocol=whole` that is the same window."""
Sample = dict[str, Any]


class ClipDataset(Dataset[Sample]):
    """Clips as samples, deterministic given (seed, epoch, index) whatever process asks.

    Training: item (epoch, index) is one random window and crop of clip `index`, and (epoch, index, draw) with draw > 0 another one, for a
    clip that is drawn again within the epoch. Evaluation: item (0, number) is one of the
    `views_per_clip` windows and crops of clip `number // views_per_clip`.
    A sample has "rgb" uint8 (3, T, S, S), "flow" float16 (2 `flow.stack`, T, S, S) in pixels per flow step, "label" (-1: none), "index"
    (of the clip), "weight" (0 for a clip without a label of any kind, else 1); where student and teacher see different parts,
    "future_rgb" and "future_flow" of the teacher's, "observed" (share of the clip, 1 if the protocol knows none), "held" (the student's
    part is so short that frames are repeated) and, with the teacher's, "held_future".
    One crop and flip serves all views.

    targets: further labels of the manifest; each is the sample's "label_<name>", -1 where the clip has none.
    fraction: the observed share at which an evaluation of early recognition judges; training draws one of `observe.fractions`.
    """

    def __init__(
        self,
        root: Path,
        clips: Sequence[Clip],
        config: DataConfig,
        *,
        views: Sequence[str],
        training: bool,
        seed: int = 0,
        may_flip: bool = True,
        fraction: float | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        unknown = set(views) - set(VIEWS)
        if unknown or not views:
            raise DataError(f"unknown views {sorted(unknown)}", known=", ".join(VIEWS))
        self.root, self.clips, self.config, self.views = root, list(clips), config, tuple(views)
        self.training, self.seed, self.may_flip, self.fraction = training, seed, may_flip, fraction
        self.targets = tuple(targets)
        self.features: FeatureStore | None = None
        self.footage = config.footage
        self.index_file = index_file(config.manifest or root / "manifest.jsonl")
        self.cache = ClipCache(config.cache, self.footage) if config.cache.enabled else None

    @property
    def views_per_clip(self) -> int:
        """Samples a clip."""
        return 1 if self.training else self.config.eval_clips * self.config.eval_crops

    def __len__(self) -> int:
        return len(self.clips) * self.views_per_clip

    def __getitem__(self, item: tuple[int, ...]) -> Sample:
        """One sample; an unreadable clip gives {"bad": message, "path": its path} in training and raises in evaluation.

        A clip of which nothing can be observed is no bad one: it gives {"unobservable": its number}.
        """
        epoch, number, *draw = item
        clip_number, view_number = divmod(number, self.views_per_clip)
        try:
            return self._sample(self._key(epoch, clip_number, *(d for d in draw if d)), clip_number, view_number)
        except UnobservableError:
            return {"unobservable": clip_number}
        except (VidkdError, OSError) as error:
            if not self.training:
                raise
            path = self.clips[clip_number].path
            return {"bad": f"{path}: {error}", "path": path}

    def _key(self, epoch: int, number: int, *draw: int) -> tuple[int, ...]:
        """What the random numbers of a sample depend on besides the seed; with fixed views the clip itself, not its place in a list."""
        if self.features is None or not self.training:
            return (epoch, number, *draw)
        clip = self.clips[number]
        return ((epoch + sum(draw)) % self.config.features.views, crc32(f"{clip.path} {clip.start_s}".encode("utf-8", "surrogatepass")))

    def feature_file(self, entry: str, item: tuple[int, ...]) -> Path:
        """Where the feature store has an entry of the sample of an item."""
        epoch, number, *draw = item
        clip_number, view_number = divmod(number, self.views_per_clip)
        return self._feature_file(entry, self._key(epoch, clip_number, *draw), clip_number, view_number)

    def _feature_file(self, entry: str, key: tuple[int, ...], number: int, view_number: int) -> Path:
        assert self.features is not None
        clip, config = self.clips[number], self.config
        video = cached_file(_file(self.root, clip.path), config.flow, clip.path)
        drawn = [self.seed, key, self.may_flip] if self.training else [view_number, config.eval_clips, config.eval_crops, self.fraction]
        parts = [dataclasses.asdict(part) for part in (config.transform, config.window, config.observe, config.flow)]
        interval = [clip.path, clip.start_s, clip.end_s, clip.onset_s, clip.fps, video]
        return self.features.file(entry, self.training, drawn, parts, config.decode_short_side, config.decoder, interval)

    def _sample(self, key: tuple[int, ...], number: int, view_number: int) -> Sample:
        """key: what the random numbers depend on besides the seed."""
        clip = self.clips[number]
        rng = random_stream(self.seed, "sample", *key)
        request = self._request(rng, view_number)
        path = _file(self.root, clip.path)
        label = -1 if clip.label is None else clip.label
        sample: Sample = {"label": label, "index": number, "weight": float(clip.is_labelled)}
        sample |= {f"label_{name}": clip.targets.get(name, -1) for name in self.targets}
        if self.config.observe.protocol != "whole":
            sample["observed"] = 1.0 if request.fraction is None else request.fraction
        kept: Sample | None = {}
        if self.features is not None:
            if clip.path in self.features.unreadable:
                raise DataError(self.features.unreadable[clip.path].removeprefix(f"{clip.path}: "))
            kept = self.features.read({entry: self._feature_file(entry, key, number, view_number) for entry in self.features.networks})
            if kept is not None:
                sample |= kept
                if not self.views:
                    return sample
        use_index_file(self.index_file, self.root)
        read = functools.partial(read_seen, config=self.footage) if self.cache is None else self.cache.seen
        observed, future = read(path, clip, request=request)
        if self.features is not None and self.features.filled and kept is None:
            raise DataError(
                f"kept activations were removed or damaged: {self.features.config.folder}",
                clip=clip.path,
                hint="start again, after removing what is damaged: activations that are missing are computed before training",
            )
        geometry = self._geometry(observed.frames, rng, view_number)
        sample |= self._views(observed, geometry, rng)
        if self.config.observe.protocol != "whole":
            sample["held"] = observed.held
            if future is not None:
                sample["held_future"] = future.held
        if future is not None:
            sample |= self._views(future, geometry, rng, "future_")
        return sample

    def _request(self, rng: np.random.Generator, view_number: int) -> Request:
        position = (view_number // self.config.eval_crops + 0.5) / self.config.eval_clips
        if self.training:
            position = float(rng.random())
        fraction = self.fraction
        if self.config.observe.protocol == "early" and self.training:
            fraction = float(rng.choice(self.config.observe.fractions))
        return Request(
            position=position,
            fraction=fraction,
            flow="flow" in self.views,
            future=any(view.startswith("future_") for view in self.views),
            future_flow="future_flow" in self.views,
        )

    def _views(self, footage: Footage, geometry: Geometry, rng: np.random.Generator, prefix: str = "") -> dict[str, Tensor]:
        """The views asked for of one part; colour is the student's part's alone to be changed, as the teacher was trained otherwise."""
        views: dict[str, Tensor] = {}
        if f"{prefix}rgb" in self.views:
            frames = crop_frames(footage.frames, geometry)
            if self.training and self.config.transform.colour > 0 and not prefix:
                frames = jitter_colour(frames, self.config.transform.colour, rng)
            views[f"{prefix}rgb"] = _channels_first(frames, len(frames))
        if f"{prefix}flow" in self.views and footage.flow is not None:
            views[f"{prefix}flow"] = _channels_first(crop_flow(footage.flow, geometry), len(footage.frames)).half()
        return views

    def _geometry(self, frames: NDArray[np.uint8], rng: np.random.Generator, view_number: int) -> Geometry:
        height, width = frames.shape[1:3]
        if self.training:
            return random_geometry(height, width, self.config.transform, rng, may_flip=self.may_flip)
        return evaluation_geometry(height, width, self.config.transform, view_number % self.config.eval_crops, self.config.eval_crops)


def _channels_first(array: NDArray[Any], frames: int) -> Tensor:
    """(T, H, W, C) as (C, T, H, W), by OpenCV, which takes a fifth of numpy's time; stacked flow with its fields as channels."""
    images, height, width, channels = array.shape
    planes = np.empty((channels, images, height, width), array.dtype)
    cv2.split(array.reshape(-1, width, channels), [plane.reshape(-1, width) for plane in planes])
    return torch.from_numpy(stack_channels(planes, frames))


@functools.lru_cache(maxsize=65_536)
def _file(root: Path, path: str) -> Path:
    return root / path


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples to a batch; unreadable ones are left out and listed under "bad" as (path, message).

    So are those of which nothing can be observed, if there are any: under "unobservable", as numbers of clips.
    """
    whole = [sample for sample in samples if not {"bad", "unobservable"} & sample.keys()]
    batch: Sample = {"bad": [(sample["path"], sample["bad"]) for sample in samples if "bad" in sample]}
    unobservable = [sample["unobservable"] for sample in samples if "unobservable" in sample]
    if unobservable:
        batch["unobservable"] = unobservable
    if not whole:
        return batch
    for name in whole[0]:
        values = [sample[name] for sample in whole]
        batch[name] = _stacked(values)
    return batch


def _stacked(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {name: _stacked([value[name] for value in values]) for name in values[0]}
    return torch.stack(list(values)) if isinstance(values[0], Tensor) else torch.tensor(values)
