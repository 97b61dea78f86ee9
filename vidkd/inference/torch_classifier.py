"""Windows through a classifier in torch: their probabilities, and where it looked."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.data.footage import Footage
from vidkd.data.transforms import Geometry
from vidkd.inference.predict import crop_view
from vidkd.models import VideoClassifier
from vidkd.runtime.clip_classifier import ClipScores, each_frame_to_one
from vidkd.runtime.metadata import View


class Classified(NamedTuple):
    """probabilities: (K,). attention: (T', h, w) probabilities of the motion map, each frame summing to one (None without attention)."""

    probabilities: NDArray[np.float64]
    attention: NDArray[np.float64] | None


class TorchClassifier:
    """A `ClipClassifier` on a network in torch, which is put on `device` and into evaluation mode."""

    def __init__(self, model: VideoClassifier, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        self._model = model.to(self._device).eval()

    @property
    def view(self) -> View:
        """What the network sees."""
        return self._model.view

    @property
    def map_shift_cells(self) -> float:
        """See `Stage.shift_cells`."""
        return self._model.map_shift_cells

    def __call__(self, clip_BCTHW: NDArray[Any]) -> ClipScores:
        """See `ClipClassifier`."""
        return _scores(self._model, torch.from_numpy(clip_BCTHW).to(self._device), None)


def classify(model: VideoClassifier, view_CTHW: Tensor, device: torch.device, observed: float | None = None) -> Classified:
    """What a model on `device`, in evaluation mode, says of one window of its view, uint8 RGB or flow in pixels (C, T, H, W).

    observed: the share of the clip that the window was taken from, for a model that takes it as an input.
    """
    share = None if observed is None else torch.tensor([observed], device=device)
    found = _scores(model, view_CTHW[None].to(device), share)
    return Classified(found.probabilities[0], None if found.attention is None else found.attention[0])


def _scores(model: VideoClassifier, clip_BCTHW: Tensor, observed: Tensor | None) -> ClipScores:
    with torch.inference_mode():
        output = model(clip_BCTHW, observed)
    attention = output.attention.get("motion")
    return ClipScores(
        _softmax(output.logits),
        {name: _softmax(logits) for name, logits in output.targets.items()},
        None if attention is None else each_frame_to_one(attention.cpu().double().exp().numpy()),
    )


def _softmax(logits: Tensor) -> NDArray[np.float64]:
    return np.asarray(logits.cpu().double().softmax(1).numpy())  # on the CPU: MPS has no float64


def view_of(model: VideoClassifier, footage: Footage, geometry: Geometry) -> Tensor:
    """The crop of a window's footage that a model sees, (C, T, size, size)."""
    return torch.from_numpy(crop_view(model.view, footage, geometry))
