"""Past key frames, kept within bounds, so that a student does not forget what it no longer sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError

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
        own = self.image.nbytes + self.boxes.nbytes + self.scores.nbytes + self.labels.nbytes
        return own + sum(head.nbytes for head in self.heads or ())


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Bounds of the replay buffer.

    Attributes:
        frames: most key frames kept; 0 for none.
        memory_mib: most memory of their arrays, in MiB; None for no bound.
        age_frames: frames of the stream after which a key frame is dropped; None for never.
        evict: which one gives way to a new one: the oldest, or one at random, by which scenes of long ago keep a share.
        seed: of what is drawn.
    """

    frames: int = 64
    memory_mib: float | None = 512.0
    age_frames: int | None = None
    evict: Evict = "oldest"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 0:
            raise ConfigError(f"replay.frames must be 0 or more, not {self.frames}")
        for name in ("memory_mib", "age_frames"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"replay.{name} must be above 0, not {value}")
        if self.evict not in get_args(Evict):
            raise ConfigError(f"replay.evict must be oldest or random, not {self.evict!r}")


class ReplayBuffer:
    """Key frames in the order in which they were added, within `bounds`; what is drawn depends only on the seed and the calls so far."""

    def __init__(self, bounds: Replay) -> None:
        self.bounds = bounds
        self._frames: list[KeyFrame] = []
        self._rng = np.random.default_rng(bounds.seed)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def frames(self) -> tuple[KeyFrame, ...]:
        """Those kept, as they were added."""
        return tuple(self._frames)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays kept."""
        return sum(frame.nbytes for frame in self._frames)

    def add(self, key: KeyFrame) -> None:
        """Take in a key frame and let others go until all bounds hold; one that is larger than the memory bound is not kept."""
        self.expire(key.frame_index)
        self._frames.append(key)
        while self._frames and self._over():
            del self._frames[self._leaving()]

    def expire(self, now: int) -> None:
        """Drop what is older than the bound at frame `now`."""
        age = self.bounds.age_frames
        if age is not None:
            self._frames = [frame for frame in self._frames if now - frame.frame_index <= age]

    def sample(self, count: int, *, now: int) -> list[KeyFrame]:
        """At most `count` different key frames, drawn evenly from those that are not too old at frame `now`."""
        self.expire(now)
        count = min(count, len(self._frames))
        return [self._frames[place] for place in self._rng.choice(len(self._frames), count, replace=False)] if count > 0 else []

    def state(self) -> dict[str, Any]:
        """Frames and generator, as plain values and tensors that share no memory with the buffer."""
        return {"frames": [_packed(frame) for frame in self._frames], "rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        self._frames = [_unpacked(parts) for parts in state["frames"]]
        self._rng.bit_generator.state = state["rng"]

    def _over(self) -> bool:
        memory = self.bounds.memory_mib
        return len(self._frames) > self.bounds.frames or (memory is not None and self.nbytes > memory * 2**20)

    def _leaving(self) -> int:
        older = len(self._frames) - 1
        return int(self._rng.integers(older)) if self.bounds.evict == "random" and older else 0


def _packed(frame: KeyFrame) -> dict[str, Any]:
    arrays = {name: torch.tensor(getattr(frame, name)) for name in ("image", "boxes", "scores", "labels")}
    return {"frame_index": frame.frame_index, **arrays, "heads": None if frame.heads is None else _tensors(frame.heads)}


def _unpacked(parts: Mapping[str, Any]) -> KeyFrame:
    arrays = {name: parts[name].numpy().copy() for name in ("image", "boxes", "scores", "labels")}
    heads = None if parts["heads"] is None else tuple(head.numpy().copy() for head in parts["heads"])
    return KeyFrame(frame_index=parts["frame_index"], **arrays, heads=heads)


def _tensors(arrays: Sequence[NDArray[np.float32]]) -> list[torch.Tensor]:
    return [torch.tensor(array) for array in arrays]
