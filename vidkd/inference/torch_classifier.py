"""Windows through a classifier in torch: their probabilities, and where it looked."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.models import VideoClassifier
from vidkd.runtime.clip_classifier import ClipScores, each_frame_to_one
from vidkd.runtime.metadata import View


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

    def __call__(self, clip_BCTHW: NDArray[Any], observed: float | None = None) -> ClipScores:
        """See `ClipClassifier`. observed: the share of the clips that is seen, for a network that takes it as an input."""
        share = None if observed is None else torch.full((len(clip_BCTHW),), float(observed), device=self._device)
        with torch.inference_mode():
            output = self._model(torch.from_numpy(clip_BCTHW).to(self._device), share)
        attention = output.attention.get("motion")
        return ClipScores(
            _softmax(output.logits),
            {name: _softmax(logits) for name, logits in output.targets.items()},
            None if attention is None else each_frame_to_one(attention.cpu().double().exp().numpy()),
        )


def _softmax(logits: Tensor) -> NDArray[np.float64]:
    return np.asarray(logits.cpu().double().softmax(1).numpy())  # on the CPU: MPS has no float64
