"""Video classifiers: the interface that the rest of vidkd uses, and a classifier in an exported file."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import CheckpointError
from vidkd.runtime.metadata import ATTENTION, CLIP, LOGITS, OBSERVED, ClassifierMetadata, View, target_output
from vidkd.runtime.networks import Network, misfit

Array = NDArray[np.floating[Any]]


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

    @property
    def map_shift_cells(self) -> float:
        """How far, in cells, its attention map is displaced against an even division of the crop: 0 for patches."""

    def __call__(self, clip_BCTHW: NDArray[Any]) -> ClipScores:
        """RGB uint8 (B, 3, T, S, S), or flow in pixels a flow step, floating point (B, 2, T, S, S) -> what it says of each clip.

        A classifier that takes the share of a clip that it sees is given 1.
        """


def each_frame_to_one(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Maps (..., h, w) scaled so that each frame sums to one, where a spatio-temporal softmax summed over the whole clip."""
    return np.asarray(maps / maps.sum(axis=(-2, -1), keepdims=True))


class ExportedClassifier:
    """A `ClipClassifier` on any `Network`. device: where it really runs, cpu or cuda.

    Raises ConfigError where file and metadata do not fit, CheckpointError for a file that gives no numbers; a trial run on a blank clip
    shows.
    """

    def __init__(self, network: Network, metadata: ClassifierMetadata) -> None:
        self._network, self.metadata = network, metadata
        self.view, self.device, self.map_shift_cells = metadata.view, network.device, metadata.map_shift_cells or 0.0
        names, wanted = [port.name for port in network.inputs], [CLIP, OBSERVED] if metadata.observed else [CLIP]
        if names != wanted:
            raise misfit(network, f"its inputs are {', '.join(names)}; the metadata make them {', '.join(wanted)}")
        self._port, dtype = network.inputs[0], np.dtype(np.uint8 if metadata.view == "rgb" else np.float32)
        if not self._port.fits(*metadata.clip_shape) or self._port.dtype != dtype:
            taken = f"{self._port.dtype} {self._port.shape}"
            raise misfit(network, f"its input is {taken}, the metadata make it {dtype} {(None, *metadata.clip_shape)}")
        self._outputs = [*metadata.output_sizes(), *([] if metadata.map_shift_cells is None else [ATTENTION])]
        if missing := sorted(set(self._outputs) - {port.name for port in network.outputs}):
            raise misfit(network, f"it has no output {', '.join(missing)}")
        found = self.raw(np.zeros((1, *metadata.clip_shape), dtype))
        if not all(np.isfinite(output).all() for output in found.values()):
            raise CheckpointError(f"model gives values that are not numbers: {network.path}", hint="export it again, in float32")

    def __call__(self, clip_BCTHW: NDArray[Any]) -> ClipScores:
        """See `ClipClassifier`. Raises ValueError for clips of another shape than the file was made for."""
        found = self.raw(clip_BCTHW)
        return ClipScores(
            softmax(found[LOGITS]),
            {name: softmax(found[target_output(name)]) for name in self.metadata.targets},
            each_frame_to_one(np.exp(found[ATTENTION].astype(np.float64))) if ATTENTION in found else None,
        )

    def raw(self, clip_BCTHW: NDArray[Any], observed_B: NDArray[Any] | None = None) -> dict[str, Array]:
        """The outputs by name: logits (B, K), those of further labels, and the map's log-probabilities (B, T', h, w).

        observed_B: shares of the clips that are seen, all of them where it is not given; read if the file asks for it alone.
        """
        if clip_BCTHW.shape[1:] != self.metadata.clip_shape:
            raise ValueError(f"clips must be (B, {', '.join(map(str, self.metadata.clip_shape))}): {clip_BCTHW.shape}")
        count = len(clip_BCTHW)
        observed = np.ones(count, np.float32) if observed_B is None else observed_B.astype(np.float32)
        piece = self._port.shape[0] or count
        pieces = [self._run(clip_BCTHW[at : at + piece], observed[at : at + piece]) for at in range(0, count, piece)]
        return {name: np.concatenate(parts) for name, parts in zip(self._outputs, zip(*pieces, strict=True), strict=True)}

    def _run(self, clip_BCTHW: NDArray[Any], observed_B: NDArray[np.float32]) -> list[Array]:
        """The outputs of at most as many clips as a file of fixed batch size takes; it is filled up."""
        count = len(clip_BCTHW)
        filling = [*range(count), *[count - 1] * ((self._port.shape[0] or count) - count)]
        batch = np.ascontiguousarray(clip_BCTHW[filling], self._port.dtype)
        further = {OBSERVED: np.ascontiguousarray(observed_B[filling])} if self.metadata.observed else None
        outputs = self._network.run(batch, self._outputs, further)
        for name, output in zip(self._outputs, outputs, strict=True):
            size = self.metadata.output_sizes().get(name)
            fits = output.ndim == 4 if size is None else output.shape[1:] == (size,)
            if not fits or len(output) != len(batch):
                raise misfit(self._network, f"output '{name}' of a batch of {len(batch)} has the shape {output.shape}")
        return [output[:count] for output in outputs]


def softmax(logits_BK: Array) -> NDArray[np.float64]:
    """Probabilities (B, K), in float64."""
    powers = np.exp(logits_BK.astype(np.float64) - logits_BK.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
