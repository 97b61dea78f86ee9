"""One window through a classifier: its view of the footage, its probabilities, and where it looked."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.data.footage import Footage
from vidkd.data.transforms import Geometry, crop_flow, crop_frames
from vidkd.models import VideoClassifier


class Classified(NamedTuple):
    """probabilities: (K,). attention: (T', h, w) probabilities of the motion map, each frame summing to one (None without attention)."""

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64] | None


def classify(model: VideoClassifier, view_CTHW: Tensor, device: torch.device, observed: float | None = None) -> Classified:
    """What a model on `device`, in evaluation mode, says of one window of its view, uint8 RGB or flow in pixels (C, T, H, W).

    observed: the share of the clip that the window was taken from, for a model that is told it.
    """
    share = None if observed is None else torch.tensor([observed], device=device)
    with torch.inference_mode():
        output = model(view_CTHW[None].to(device), share)
    attention = output.attention.get("motion")
    return Classified(
        output.logits[0].cpu().double().softmax(0).numpy(),  # on the CPU: MPS has no float64
        None if attention is None else each_frame_to_one(attention[0].cpu().double().exp().numpy()),
    )


def view_of(model: VideoClassifier, footage: Footage, geometry: Geometry) -> Tensor:
    """The crop of a window's footage that a model sees, (C, T, size, size)."""
    if model.view == "flow" and footage.flow is not None:
        array: NDArray[np.generic] = crop_flow(footage.flow, geometry)
    else:
        array = crop_frames(footage.frames, geometry)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(3, 0, 1, 2)))


def each_frame_to_one(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (T', h, w) scaled so that each frame sums to one, where a spatio-temporal softmax summed over the whole clip."""
    return np.asarray(maps / maps.sum(axis=(1, 2), keepdims=True))
