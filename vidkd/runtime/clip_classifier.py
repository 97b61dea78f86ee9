"""What every video classifier is to the rest of vidkd, whatever runs it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

View = Literal["rgb", "flow"]


class ClipScores(NamedTuple):
    """What a classifier says of B clips.

    probabilities: (B, K), each row sums to one. targets: those of its further labels, (B, K_name) by name.
    attention: (B, T', h, w) probabilities of the motion map, each frame summing to one; None without attention.
    """

    probabilities: NDArray[np.float64]
    targets: Mapping[str, NDArray[np.float64]]
    attention: NDArray[np.float64] | None


class ClipClassifier(Protocol):
    """Raw crops in, probabilities out; normalisation is the classifier's own."""

    @property
    def view(self) -> View:
        """What it sees: the frames themselves, or the flow between them."""
        ...

    @property
    def map_shift_cells(self) -> float:
        """How far, in cells, its attention map is displaced against an even division of the crop: 0 for patches."""
        ...

    def __call__(self, clip_BCTHW: NDArray[Any]) -> ClipScores:
        """RGB uint8 (B, 3, T, S, S), or flow in pixels a flow step, floating point (B, 2, T, S, S) -> what it says of each clip.

        A classifier that can be told which share of a clip it sees is told: all of it.
        """
        ...


def each_frame_to_one(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (..., h, w) scaled so that each frame sums to one, where a spatio-temporal softmax summed over the whole clip."""
    return np.asarray(maps / maps.sum(axis=(-2, -1), keepdims=True))
