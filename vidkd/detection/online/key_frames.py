"""Key frames: the past ones, kept within bounds so that a student does not forget what it no longer sees, and the losses on them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidkd.base.fields import Positive, Whole
from vidkd.losses.teacher_bounded import bounded_box_regression, confidence_bounded_mix, matched_heads, oracle_assigned
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.losses.yolo_targets import Truths

if TYPE_CHECKING:
    from vidkd.detection.online.update import Update

Evict = Literal["oldest", "random"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KeyFrame:
    """A frame and what the oracle said of it, in the student's terms.

    image: (H, W, 3) uint8, of the size of the network's input. boxes: (M, 4) float32 xyxy in its pixels; scores: (M,) float32; labels: (M,)
    int64. heads: the oracle's raw heads (A * (5 + C), h, w) float32, None where it shares no cells.
    """

    frame_index: int
    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    heads: tuple[NDArray[np.float32], ...] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of its arrays."""
        arrays: tuple[NDArray[Any], ...] = (self.image, self.boxes, self.scores, self.labels, *(self.heads or ()))
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Bounds of the replay buffer.

    Attributes:
        frames: most key frames kept; 0 for none.
        memory_mib: most memory of their arrays, in MiB; None for no bound.
        evict: which one gives way to a new one: the oldest, or one at random, by which scenes of long ago keep a share.
        seed: of what is drawn.
    """

    frames: Whole = 64
    memory_mib: Positive | None = 512.0
    evict: Evict = "oldest"
    seed: int = 0


class ReplayBuffer:
    """Key frames in the order in which they were added, within `bounds`; what is drawn depends only on the seed and the calls so far."""

    def __init__(self, bounds: Replay) -> None:
        self.bounds = bounds
        self.frames: list[KeyFrame] = []
        self._rng = np.random.default_rng(bounds.seed)

    def add(self, key: KeyFrame) -> None:
        """Take in a key frame and let others go until all bounds hold; one that is larger than the memory bound is not kept."""
        self.frames.append(key)
        most_bytes = math.inf if self.bounds.memory_mib is None else self.bounds.memory_mib * 2**20
        while len(self.frames) > self.bounds.frames or sum(frame.nbytes for frame in self.frames) > most_bytes:
            older = len(self.frames) - 1
            del self.frames[int(self._rng.integers(older)) if self.bounds.evict == "random" and older else 0]

    def sample(self, count: int) -> list[KeyFrame]:
        """At most `count` different key frames, drawn evenly."""
        count = min(count, len(self.frames))
        return [self.frames[place] for place in self._rng.choice(len(self.frames), count, replace=False)] if count > 0 else []

    def state(self) -> dict[str, Any]:
        """Frames and generator, as plain values and tensors that share no memory with the buffer."""
        return {"frames": [_packed(frame) for frame in self.frames], "rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.frames = [_unpacked(parts) for parts in state["frames"]]
        self._rng.bit_generator.state = state["rng"]


ARRAYS = ("image", "boxes", "scores", "labels")


def _packed(frame: KeyFrame) -> dict[str, Any]:
    heads = None if frame.heads is None else [torch.tensor(head) for head in frame.heads]
    return {"frame_index": frame.frame_index, "heads": heads, **{name: torch.tensor(getattr(frame, name)) for name in ARRAYS}}


def _unpacked(parts: Mapping[str, Any]) -> KeyFrame:
    heads = None if parts["heads"] is None else tuple(head.numpy() for head in parts["heads"])
    return KeyFrame(frame_index=parts["frame_index"], heads=heads, **{name: parts[name].numpy() for name in ARRAYS})


Heads = Sequence[Tensor]


def _assigned(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    found = [truths_of(key, heads[0].device) for key in keys]
    return oracle_assigned(
        heads,
        found,
        specs,
        certain=update.certain,
        scores_as=update.scores_as,
        score_power=update.score_power,
        options=update.options,
    ).total


def _matched(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:  # noqa: ARG001
    return matched_heads(heads, oracle_heads(keys, heads), specs).total


def _mix(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    return confidence_bounded_mix(heads, oracle_heads(keys, heads), specs, threshold=update.mix_threshold, share=update.mix_share)


def _bounded_boxes(heads: Heads, keys: Sequence[KeyFrame], specs: Sequence[HeadSpec], update: "Update") -> Tensor:
    theirs = oracle_heads(keys, heads)
    found = [truths_of(key, heads[0].device) for key in keys]
    boxes = bounded_box_regression(heads, theirs, found, specs, margin=update.margin)
    return boxes + matched_heads(heads, theirs, specs, box_weight=0.0).total


LOSSES: dict[str, Callable[[Heads, Sequence[KeyFrame], Sequence[HeadSpec], "Update"], Tensor]] = {
    "oracle_assigned": _assigned,
    "matched_heads": _matched,
    "confidence_bounded_mix": _mix,
    "bounded_box_regression": _bounded_boxes,
}

NEEDS_HEADS = frozenset(LOSSES) - {"oracle_assigned"}


def truths_of(key: KeyFrame, device: torch.device) -> Truths:
    """What the oracle found, as truths with its scores for confidence."""
    return Truths(
        boxes=torch.from_numpy(key.boxes).to(device),
        labels=torch.from_numpy(key.labels).to(device),
        confidence=torch.from_numpy(key.scores).to(device),
    )


def oracle_heads(keys: Sequence[KeyFrame], like: Heads) -> list[Tensor]:
    """The oracle's raw heads of some key frames, (B, A * (5 + C), h, w) each. Raises ValueError for a key frame without."""
    rows = [key.heads for key in keys if key.heads is not None]
    if len(rows) < len(keys):
        raise ValueError("a key frame has no raw heads of the oracle")
    return [torch.stack([torch.from_numpy(row[place]) for row in rows]).to(like[0].device) for place in range(len(like))]
