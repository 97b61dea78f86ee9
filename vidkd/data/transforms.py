"""One geometry for all views of a sample: the same crop and flip of frames and flow."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError
from vidkd.base.fields import for_training
from vidkd.data.flow import mirror, resample_each, resize_flow

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class TransformConfig:
    """Sizes and augmentation.

    Args:
        short_side: frames are first resized so that their shorter side has this many pixels.
        square: resize to short_side x short_side instead, where the shape of a clip would give its class away.
        crop: side of the square that a network sees, in pixels, from 1 to `short_side`.
        min_scale: training crops a square of random side between this share of the shorter side and all of it.
        flip: mirror half of the training clips, unless the data set's labels name directions.
        colour: strength in [0, 1) of random brightness, contrast and saturation in training, one draw a clip, frames only.
    """

    short_side: int = 72
    square: bool = False
    crop: int = 64
    min_scale: float = for_training(0.75)
    flip: bool = for_training(True)
    colour: float = for_training(0.0)

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.short_side:
            raise DataError(f"data.transform.crop must lie between 1 and data.transform.short_side ({self.short_side}), not {self.crop}")
        if not 0 < self.min_scale <= 1:
            raise DataError(f"data.transform.min_scale must lie in (0, 1], not {self.min_scale}")
        if not 0 <= self.colour < 1:
            raise DataError(f"data.transform.colour must lie in [0, 1), not {self.colour}")


@dataclass(frozen=True)
class Geometry:
    """A square window of `side` pixels at (top, left) of the resized frame, mirrored or not, brought to `size` x `size` pixels."""

    top: int
    left: int
    side: int
    size: int
    flip: bool = False


def working_size(height: int, width: int, config: TransformConfig) -> tuple[int, int]:
    """Height and width after the first resize."""
    if config.square:
        return config.short_side, config.short_side
    scale = config.short_side / min(height, width)
    return max(round(height * scale), config.short_side), max(round(width * scale), config.short_side)


def random_geometry(height: int, width: int, config: TransformConfig, rng: np.random.Generator, *, may_flip: bool) -> Geometry:
    """A training crop: side, place and flip drawn from `rng`; always the same number of draws."""
    draws = rng.random(4)
    shorter = min(height, width)
    side = round(shorter * (config.min_scale + draws[0] * (1 - config.min_scale)))
    top, left = round(draws[1] * (height - side)), round(draws[2] * (width - side))
    return Geometry(top, left, side, config.crop, bool(config.flip and may_flip and draws[3] < 0.5))


def evaluation_geometry(height: int, width: int, config: TransformConfig, crop: int = 0, crops: int = 1) -> Geometry:
    """Test crop number `crop` of `crops`: squares of the shorter side, evenly spaced along the longer one, or the middle one."""
    side = min(height, width)
    share = 0.5 if crops == 1 else crop / (crops - 1)
    return Geometry(round(share * (height - side)), round(share * (width - side)), side, config.crop)


def resize_frames(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 (T, H, W, 3) frames; an axis that shrinks is averaged, one that grows is interpolated linearly."""
    if frames.shape[1:3] == (height, width):
        return frames
    return resample_each(frames, height, width)


def shrink(frames: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) scaled so that their shorter side is `short_side`; smaller ones, or all if it is None, stay unchanged."""
    height, width = frames.shape[1:3]
    if short_side is None or min(height, width) <= short_side:
        return frames
    scale = short_side / min(height, width)
    return resize_frames(frames, round(height * scale), round(width * scale))


def crop_frames(frames: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Cut, resize and mirror (T, H, W, 3) frames to (T, size, size, 3)."""
    cut = np.ascontiguousarray(resize_frames(_cut(frames, geometry), geometry.size, geometry.size))
    return mirror(cut) if geometry.flip else cut


def crop_flow(flow: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Cut, resize and mirror (T, H, W, 2) flow to (T, size, size, 2), in pixels of the result."""
    return resize_flow(_cut(flow, geometry), geometry.size, geometry.size, flip=geometry.flip)


def stack_channels(view: NDArray[Number], frames: int) -> NDArray[Number]:
    """Fields (2, T * L, H, W), L for each of `frames` frames, as channels (2L, T, H, W): dx and dy of the first pair, then of the next."""
    channels, fields, height, width = view.shape
    if fields == frames:
        return view
    return view.reshape(channels, frames, -1, height, width).transpose(2, 0, 1, 3, 4).reshape(-1, frames, height, width)


def _cut(array: NDArray[Number], geometry: Geometry) -> NDArray[Number]:
    return array[:, geometry.top : geometry.top + geometry.side, geometry.left : geometry.left + geometry.side]


def jitter_colour(frames: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast and saturation, each multiplied by a factor in [1 - strength, 1 + strength], one draw for all frames."""
    brightness, contrast, saturation = 1 + strength * (2 * rng.random(3) - 1)
    image = frames.astype(np.float32) * np.float32(brightness)
    image = (image - image.mean()) * np.float32(contrast) + image.mean()
    grey = image.mean(axis=-1, keepdims=True)
    return np.asarray(np.clip(np.rint(grey + (image - grey) * np.float32(saturation)), 0, 255), np.uint8)
