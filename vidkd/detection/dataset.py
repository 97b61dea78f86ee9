"""Annotated frames as training samples: read, augmented and batched, each a function of (seed, epoch, index)."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from vidkd.base.errors import DataError, VidkdError
from vidkd.base.lru import LRUCache
from vidkd.base.random_streams import random_stream
from vidkd.data.loaders import Item, batch_loader
from vidkd.detection.annotations import BoxManifest, FrameKey, LabelledFrame
from vidkd.detection.layouts.common import read_image
from vidkd.detection.transforms import BoxedImage, BoxTransformConfig, letterboxed, mosaic_sample, training_sample
from vidkd.video import open_video
from vidkd.video.image_sequence import list_images

Sample = dict[str, Any]

VIDEOS_KEPT = 4
"""A video is decoded as a whole only if as many of its size could be kept: else its frames would drive each other out."""


class BoxDataset(Dataset[Sample]):
    """Annotated frames as samples, deterministic given (seed, epoch, index) whatever process asks.

    Training: item (epoch, index) is frame `index` under a random scale, place, flip and colour, or, for a share `transform.mosaic` of them,
    a mosaic of it and three others; items (epoch, index, draw) with draw > 0 are further ones. Evaluation: item (0, index), or index, is
    the letterboxed frame. `vidkd.data.loaders.StepSampler` draws such items.
    A sample has "image" uint8 (3, height, width), "boxes" float32 (N, 4) x1 y1 x2 y2 in pixels of it, "labels" int64 (N,), "ignore" bool
    (N,), "index" of the frame (of a mosaic's first one).

    cache_bytes: decoded frames that each process keeps, at most; 0 keeps none.
    """

    def __init__(
        self, manifest: BoxManifest, transform: BoxTransformConfig, *, training: bool, seed: int = 0, cache_bytes: int = 0
    ) -> None:
        self.manifest, self.transform, self.training, self.seed, self.cache_bytes = manifest, transform, training, seed, cache_bytes

    @functools.cached_property
    def _decoded(self) -> LRUCache[FrameKey, NDArray[np.uint8]]:
        return LRUCache(most_entries=2**31, most_bytes=self.cache_bytes)

    @functools.cached_property
    def _by_path(self) -> Mapping[str, Sequence[LabelledFrame]]:
        return self.manifest.by_path()

    def __getstate__(self) -> dict[str, Any]:
        """Without the decoded frames, so that a process starts with none."""
        return {name: value for name, value in vars(self).items() if name not in ("_decoded", "_by_path")}

    def __len__(self) -> int:
        return len(self.manifest.frames)

    def __getitem__(self, item: Item | int) -> Sample:
        """One sample; an unreadable frame gives {"bad": message, "path": its path} in training and raises in evaluation."""
        epoch, index, *draw = item if isinstance(item, tuple) else (0, item)
        rng = random_stream(self.seed, "sample", epoch, index, *(d for d in draw if d))
        mosaic = self.training and rng.random() < self.transform.mosaic
        images = []
        for number in [index, *(rng.integers(len(self), size=3).tolist() if mosaic else ())]:
            try:
                images.append(self._image(self.manifest.frames[number]))
            except (VidkdError, OSError) as error:
                if not self.training:
                    raise
                path = self.manifest.frames[number].path
                return {"bad": f"{path}: {error}", "path": path}
        if mosaic:
            sample = mosaic_sample(images, self.transform, rng)
        else:
            sample = training_sample(images[0], self.transform, rng) if self.training else letterboxed(images[0], self.transform)
        return {**vars(sample), "index": index}

    def _image(self, frame: LabelledFrame) -> BoxedImage:
        if self._decoded.get(frame.key) is None:
            self._keep_whole_video(frame)
        pixels = self._decoded.get(frame.key)
        if pixels is None:
            pixels = read_frame(self.manifest, frame)
            if pixels.shape[:2] != (frame.height, frame.width):
                found, said = f"{pixels.shape[1]} x {pixels.shape[0]}", f"{frame.width} x {frame.height}"
                raise DataError(f"a frame of {found} pixels, annotated as {said}", frame=frame.path, hint="annotate the upright image")
            self._decoded.put(frame.key, pixels, pixels.nbytes)
        return BoxedImage.of(pixels, frame.boxes, frame.labels, frame.ignore)

    def _keep_whole_video(self, frame: LabelledFrame) -> None:
        """Decode all annotated frames of a video at once, which takes little longer than one, where they fit well into what is kept."""
        if frame.frame_index is None or not self.cache_bytes or (self.manifest.root / frame.path).is_dir():
            return
        frames = self._by_path[frame.path]
        if len(frames) * 3 * frame.width * frame.height > self.cache_bytes // VIDEOS_KEPT:
            return
        with contextlib.suppress(VidkdError, OSError), open_video(self.manifest.root / frame.path) as reader:
            images = reader.frames_at_indices([each.frame_index or 0 for each in frames])
            for each, image in zip(frames, images, strict=True):
                if image.shape[:2] == (each.height, each.width):
                    pixels = np.array(image, np.uint8)
                    self._decoded.put(each.key, pixels, pixels.nbytes)


def read_frame(manifest: BoxManifest, frame: LabelledFrame) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) of a frame, opened and closed here. Raises DataError or VideoError if it cannot be read."""
    path = manifest.root / frame.path
    if frame.frame_index is None:
        return read_image(path)
    if path.is_dir():
        images = list_images(str(path))
        if frame.frame_index >= len(images):
            raise DataError(f"no frame {frame.frame_index} in: {path}", frames=f"0 to {len(images) - 1}")
        return read_image(images[frame.frame_index])
    with open_video(path) as reader:
        return np.asarray(reader.frames_at_indices([frame.frame_index])[0], np.uint8)


def collate_boxes(samples: Sequence[Sample]) -> Sample:
    """A batch: "image" uint8 (B, 3, H, W) and "index" (B,) stacked, the rest lists of B; unreadable frames are listed under "bad" only.

    "bad" holds (path, message); a batch of nothing else holds nothing else.
    """
    whole = [sample for sample in samples if "bad" not in sample]
    batch: Sample = {"bad": [(sample["path"], sample["bad"]) for sample in samples if "bad" in sample]}
    if whole:
        batch["image"] = torch.stack([sample["image"] for sample in whole])
        batch["index"] = torch.tensor([sample["index"] for sample in whole])
        batch |= {name: [sample[name] for sample in whole] for name in ("boxes", "labels", "ignore")}
    return batch


def box_loader(
    dataset: BoxDataset, batches: Sampler[list[Item]] | Sampler[list[int]], workers: int, *, pin_memory: bool = False
) -> DataLoader[Sample]:
    """Batches in the sampler's order: a `StepSampler` for training, a torch `BatchSampler` of indices for evaluation."""
    return batch_loader(dataset, batches, workers, collate_boxes, pin_memory=pin_memory)
