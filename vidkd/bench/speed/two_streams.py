"""Two classifiers that see one window in two ways, RGB and flow, and answer by the mean of their probabilities.

Late fusion of Simonyan and Zisserman 2014 (two-stream networks, arXiv 1406.2199), by averaging.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.bench.speed.config import ModelSpec
from vidkd.bench.speed.opening import ClipInput, OpenModel
from vidkd.runtime.metadata import CHANNELS


@dataclass(frozen=True, kw_only=True)
class TwoStreamInput:
    """One sample of both: RGB, then flow in pixels, float32 (5, frames, size, size)."""

    rgb: ClipInput
    flow: ClipInput

    def noise(self, count: int, seed: int) -> NDArray[Any]:
        """(count, 5, T, S, S)."""
        return joined(self.rgb.noise(count, seed), self.flow.noise(count, seed))

    def __str__(self) -> str:
        return f"{self.rgb} and {self.flow}"


def joined(rgb: NDArray[Any], flow: NDArray[Any]) -> NDArray[np.float32]:
    """RGB (B, 3, T, S, S) and flow (B, 2, T, S, S) of the same windows -> (B, 5, T, S, S)."""
    return np.concatenate([rgb.astype(np.float32), flow.astype(np.float32)], axis=1)


def parted(both: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """`joined`, undone."""
    return both[:, : CHANNELS["rgb"]].astype(np.uint8), np.ascontiguousarray(both[:, CHANNELS["rgb"] :], np.float32)


def open_two_streams(spec: ModelSpec, open_one: Callable[[ModelSpec], OpenModel]) -> OpenModel:
    """Open a classifier and its partner. Raises ConfigError unless one sees RGB, the other flow, and all else is alike."""
    assert spec.ensemble_with is not None
    pair = [open_one(dataclasses.replace(spec, checkpoint=name, ensemble_with=None)) for name in (spec.checkpoint, spec.ensemble_with)]
    by_view = {one.input.view: one for one in pair if isinstance(one.input, ClipInput)}
    if set(by_view) != {"rgb", "flow"}:
        raise ConfigError(
            "two streams are a classifier that sees RGB and one that sees flow", found=", ".join(str(one.input) for one in pair)
        )
    rgb, flow = by_view["rgb"], by_view["flow"]
    for name, (one, other) in _that_must_agree(rgb, flow).items():
        if one != other:
            raise ConfigError(f"two streams see the same windows and name the same classes: other {name}", rgb=one, flow=other)
    assert isinstance(rgb.input, ClipInput)
    assert isinstance(flow.input, ClipInput)

    def answer(both: NDArray[Any]) -> object:
        images, motion = parted(both)
        one, other = rgb.answer(images), flow.answer(motion)
        return (one.probabilities + other.probabilities) / 2  # type: ignore[attr-defined]

    timed = next((one for one in pair if one.clock_device != "cpu"), None)
    return OpenModel(
        kind="classifier",
        runs_on=rgb.runs_on if rgb.runs_on == flow.runs_on else f"{rgb.runs_on}; {flow.runs_on}",
        threads=rgb.threads,
        answer=answer,
        model=None,
        network=None,
        input=TwoStreamInput(rgb=rgb.input, flow=flow.input),
        classes=rgb.classes,
        data=flow.data,
        device=(timed or rgb).device,
        waits=timed is None,
        streams=tuple(pair),
    )


def _that_must_agree(rgb: OpenModel, flow: OpenModel) -> dict[str, tuple[Any, Any]]:
    assert rgb.data is not None
    assert flow.data is not None
    found = {name: (getattr(rgb.data, name), getattr(flow.data, name)) for name in ("window", "transform", "observe")}
    return {"classes": (rgb.classes, flow.classes), **found}
