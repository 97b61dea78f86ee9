"""What a recipe is done to, by interface: a classifier of clips, or a detector."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vidkd.compress.config import QuantiseConfig
from vidkd.compress.parity import Nearness
from vidkd.compress.quantise import Quantised
from vidkd.compress.recipe import ExportConfig, RepairConfig, Step
from vidkd.detection.annotations import BoxManifest
from vidkd.detection.evaluate import DetectorJudgement, RecallJudgement


@dataclass(frozen=True, kw_only=True)
class Made:
    """model: the network in float, a checkpoint or the folder of a run. file: what is judged in its place where it was exported.

    further: more files that it was exported to and that are judged too. notes: what happened to its layers; plain values. files: all that
    the step wrote and that may not get lost.
    """

    model: Path
    file: Path | None = None
    further: tuple[Path, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


Interval = Callable[[Mapping[str, Any]], tuple[float, float] | None]
"""The 95 % interval of the main metric of an outcome; None where it cannot be known. What works it out stands above this room."""


def no_interval(_: Mapping[str, Any]) -> None:
    """The interval of whoever asks for none."""


BoxDraws = Callable[[DetectorJudgement | RecallJudgement, BoxManifest], Sequence[float]]
"""The main metric of a detector's judgement in draws of groups of its frames, the same draws for all that were judged on these."""


def no_draws(_: DetectorJudgement | RecallJudgement, __: BoxManifest) -> Sequence[float]:
    """The draws of whoever asks for none."""
    return ()


def export_notes(notes: Mapping[str, Any], file: Path, parity: Nearness, quantised: Quantised | None) -> dict[str, Any]:
    """The notes of a step with those of one more file that it exported.

    Under `parity`, by its name, how near it is to the network, with a `warning` where it is in integers and mostly differs; of one in
    integers also which layers are and which are not.
    """
    near = parity.record()
    if quantised is not None and parity.apart:
        near["warning"] = f"mostly differs from its network: {parity.apart}"
    noted = {**notes, "parity": {**notes.get("parity", {}), file.name: near}}
    if quantised is None:
        return noted
    noted |= {"layers": dict(quantised.layers), "left": dict(quantised.left), "integer_convolutions": quantised.convolutions}
    return noted | ({"sensitivity_db": _finite(quantised.sensitivity)} if quantised.sensitivity else {})


def _finite(noise: Mapping[str, float]) -> dict[str, float | None]:
    """Signal to noise as JSON can hold it: None where there is no noise at all."""
    return {name: value if math.isfinite(value) else None for name, value in noise.items()}


class Subject(Protocol):
    """A kind of network that recipes know. Every step gets the network as a path and makes a new one in its folder."""

    @property
    def main_metric(self) -> str:
        """What steps are compared by; more is better."""
        ...

    @property
    def original(self) -> Path:
        """The student before any step."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What numbers depend on beside the student: the settings of its training, of data and judging, the data set; plain values."""
        ...

    def taught_by(self, step: Step) -> str | None:
        """What a step depends on and its settings do not say: the content of a teacher, defaults of learning. None: nothing."""
        ...

    def check(self, steps: Sequence[Step], ahead: Sequence[Step]) -> None:
        """Raise for a step that this network, its data or this machine cannot do, before anything is done: ConfigError or DataError.

        ahead: those of the steps that are not finished yet, whose packages must be there: MissingExtraError.
        """
        ...

    def change(self, model: Path, step: Step, folder: Path, *, whole: Path) -> Made:
        """Prune or factorise. whole: the network before the first part of a pruning in several steps."""
        ...

    def repair(self, model: Path, config: RepairConfig, folder: Path) -> Made:
        """Train what is left, as a run in this folder."""
        ...

    def quantise(self, model: Path, config: QuantiseConfig, judged: Mapping[str, Any], folder: Path) -> Made:
        """Export with integers. judged: the last outcome of the network in float, for the card."""
        ...

    def export(self, model: Path, config: ExportConfig, integers: QuantiseConfig | None, judged: Mapping[str, Any], folder: Path) -> Made:
        """Write the files that ship, in integers where the network was quantised. judged: as in `quantise`."""
        ...

    def judge(self, made: Made) -> dict[str, Any]:
        """`metrics`, `predictions` (compact rows, for intervals) and `counts`."""
        ...

    def cost(self, made: Made) -> dict[str, Any]:
        """`parameters`, `macs` of one clip or picture, `bytes` of the weights (of the file where there is one), and `original_bytes`.

        original_bytes: of the student before any step in the same form: weights, or a file of this suffix in float.
        """
        ...
