"""Optical flow computed on the fly, and flow as a thing that moves with its frame: resized, cropped and flipped as vectors."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import DataError, MissingExtraError
from vidkd.base.fields import Count

Preset = Literal["ultrafast", "fast", "medium"]


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Where the flow view comes from.

    Args:
        source: `dis` computes it from the decoded frames; `stored` reads what `prepare_data flow` wrote.
        preset: speed of DIS (Kroeger et al. 2016): ultrafast, fast or medium.
        folder: folder of the stored flow (for `stored`).
        stack: fields of each frame, of pairs that follow each other from that frame on, `window.flow_step` apart (Wang et al. 2016, TSN:
            5). Near the end of a clip they are its last ones.
    """

    source: Literal["dis", "stored"] = "dis"
    preset: Preset = "fast"
    folder: str | None = None
    stack: Count = 1

    def __post_init__(self) -> None:
        if self.source == "stored" and not self.folder:
            raise DataError("data.flow.source is 'stored' but data.flow.folder is not set", hint="vidkd prepare_data flow --help")


@functools.lru_cache(maxsize=4)
def _estimator(preset: Preset) -> tuple[Any, int, int]:
    """OpenCV's estimator, and the finest scale and the patch size of its preset."""
    preset_number = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")
    estimator = cv2.DISOpticalFlow_create(preset_number)  # type: ignore[attr-defined]
    return estimator, estimator.getFinestScale(), estimator.getPatchSize()


def _dis(preset: Preset) -> Any:
    """The estimator as its preset has it: for small frames OpenCV changes scale and patch size for good, and later flow would differ."""
    estimator, finest_scale, patch_size = _estimator(preset)
    estimator.setFinestScale(finest_scale)
    estimator.setPatchSize(patch_size)
    return estimator


def dis_flow(first: NDArray[np.uint8], second: NDArray[np.uint8], *, preset: Preset = "fast") -> NDArray[np.float32]:
    """Dense inverse search flow from each frame of `first` to its partner in `second`.

    first, second: uint8 RGB (T, H, W, 3). Returns float32 (T, H, W, 2): dx to the right, dy downwards, in pixels from one to the other.
    Frames of fewer than 16 pixels a side are refused (DataError): DIS has no pyramid there. Source: Kroeger et al. 2016, as in OpenCV.
    """
    check_pairs(first, second)
    flows = [_dis(preset).calc(grey(a), grey(b), None) for a, b in zip(first, second, strict=True)]
    return np.stack(flows).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _tvl1() -> Any:
    if not hasattr(cv2, "optflow"):
        raise MissingExtraError(
            "TV-L1 flow is not in the OpenCV that is installed",
            installed=f"cv2 {cv2.__version__} without contrib modules",
            hint="uninstall every opencv-* package, then: pip install opencv-contrib-python-headless",
        )
    return cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined, unused-ignore]


def tvl1_settings() -> dict[str, float]:
    """OpenCV's default parameters, by name."""
    names = ("Tau", "Lambda", "Theta", "ScalesNumber", "WarpingsNumber", "Epsilon", "InnerIterations", "OuterIterations", "ScaleStep")
    return {name: getattr(_tvl1(), f"get{name}")() for name in names}


def tvl1_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """TV-L1 flow (Zach, Pock and Bischof 2007), as OpenCV computes it, slow; arrays and DataError as for `dis_flow`.

    Raises MissingExtraError if OpenCV was built without contrib modules.
    """
    check_pairs(first, second)
    flows = [_tvl1().calc(grey(a), grey(b), None) for a, b in zip(first, second, strict=True)]
    return np.stack(flows).astype(np.float32)


def check_pairs(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    """Raise DataError unless both, (T, H, W, 3), have at least 16 pixels a side."""
    if min(*first.shape[1:3], *second.shape[1:3]) < 16:
        raise DataError(
            f"frames of {first.shape[2]}x{first.shape[1]} are too small for optical flow",
            hint="larger frames: data.decode_short_side, or --short-side of prepare_data flow, of at least 16",
        )


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma of one RGB frame (H, W, 3): uint8 (H, W)."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # type: ignore[no-any-return, unused-ignore]


def resize_flow(flow: NDArray[np.float32], height: int, width: int, *, flip: bool = False) -> NDArray[np.float32]:
    """Resize (T, H, W, 2) flow to (T, height, width, 2); vectors are scaled with the image, so they stay pixels of the new size.

    flip: mirror it left to right as well: positions are mirrored and dx is negated.
    """
    resized = resample_each(flow.astype(np.float32, copy=False), height, width)
    factors = np.array([-width / flow.shape[2] if flip else width / flow.shape[2], height / flow.shape[1]], np.float32)
    rows = resized.reshape(-1, width * 2)
    rows *= np.tile(factors, width)  # a row at a time: numpy is slow along an axis of two
    return mirror(resized) if flip else resized


def mirror(images: NDArray[Any]) -> NDArray[Any]:
    """Images or fields (T, H, W, C), as they lie in memory one after another, mirrored left to right."""
    rows = images.reshape(-1, *images.shape[2:])
    return np.asarray(cv2.flip(rows, 1)).reshape(images.shape)


def resample_each(images: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Images or fields (T, H, W, C), C from 2 to 4, as (T, height, width, C), each as `resample` has it; a new array."""
    resized = np.empty((len(images), height, width, images.shape[3]), images.dtype)
    for image, place in zip(images, resized, strict=True):
        resample(image, height, width, place)
    return resized


def resample(image: NDArray[Any], height: int, width: int, out: NDArray[Any]) -> None:
    """Write one image or field (H, W, C) to `out` (height, width, C): what shrinks is averaged, what grows interpolated.

    Each axis by itself, since OpenCV's area mode misplaces values along an axis that grows.
    """
    size, least = (height, width), (min(height, image.shape[0]), min(width, image.shape[1]))
    if image.shape[:2] == size:
        out[...] = image
        return
    if least != image.shape[:2]:
        image = cv2.resize(image, least[::-1], out if least == size else None, interpolation=cv2.INTER_AREA)
    if least != size:
        cv2.resize(image, (width, height), out, interpolation=cv2.INTER_LINEAR)
