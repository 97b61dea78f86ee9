"""Settings of the steps of compression."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.models.low_rank import METHODS, Method

Criterion = Literal["l1", "l2", "norm_scale", "taylor", "random"]
Scope = Literal["global", "uniform"]
TOLERANCE = 1e-4
"""How far an exported file may be from its network: of any output, times the largest output where that is above 1."""


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """Which filters are removed.

    Attributes:
        ratio: share of the filters that may go which is removed in the end, in (0, 1). Parameters shrink by about 1 - (1 - ratio)^2.
        criterion: what a filter is kept for: "l1" or "l2" norm of its weights, "norm_scale" the scale of its batch normalisation (after
            training with `vidkd.losses.slimming`), "taylor" what the loss would change by without it (to first order), "random" nothing.
        scope: "global" ranks the filters of all layers together, "uniform" takes the same share of each layer.
        steps: in how many steps the ratio is reached; between them the network is repaired.
        most_of_layer: "global" never takes more than this share of one layer, in (0, 1], over all its steps together.
        exclude: patterns of layers (`backbone.net.stem*`) that keep all filters, besides those that are found by rule.
        seed: of "random".
    """

    ratio: float = 0.5
    criterion: Criterion = "l2"
    scope: Scope = "global"
    steps: int = 1
    most_of_layer: float = 0.9
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _in_unit("ratio", self.ratio, one=False)
        _in_unit("most_of_layer", self.most_of_layer)
        _known("criterion", self.criterion, get_args(Criterion))
        _known("scope", self.scope, get_args(Scope))
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, not {self.steps}")

    def share(self, step: int) -> float:
        """The share of the filters left before this step (from 1) that it removes, so that the last one reaches `ratio` in even steps."""
        if not 1 <= step <= self.steps:
            raise ConfigError(f"there are {self.steps} steps of pruning, and {step} is none of them")
        return (self.ratio / self.steps) / (1 - self.ratio * (step - 1) / self.steps)


@dataclass(frozen=True, kw_only=True)
class FactoriseConfig:
    """Which layers become products of smaller ones, and of what rank. Exactly one of energy, ratio and macs is given.

    Attributes:
        method: "channel" or "spatial" (singular values), "tucker" (both channel dimensions), or "any": whichever serves a layer
            best.
        energy: each layer keeps at least this share of its squared singular values, in (0, 1]; of each mode for "tucker".
        ratio: each layer keeps this share of its full rank, in (0, 1]; not with "any".
        macs: the whole network takes at most this share of its MACs, in (0, 1), at the largest product of kept energies.
        exclude: patterns of layers that stay as they are.
    """

    method: Method | Literal["any"] = "channel"
    energy: float | None = None
    ratio: float | None = None
    macs: float | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _known("method", self.method, (*METHODS, "any"))
        given = {name: getattr(self, name) for name in ("energy", "ratio", "macs") if getattr(self, name) is not None}
        if len(given) != 1:
            raise ConfigError("exactly one of energy, ratio and macs decides the ranks", given=", ".join(given) or "none")
        for name, value in given.items():
            _in_unit(name, value, one=name != "macs")
        if self.method == "any" and self.ratio is not None:
            raise ConfigError(
                "ratio means another size for each method, so method 'any' cannot be chosen by it", hint="give energy or macs"
            )


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """Layers of what is left of a detector are fitted to the outputs of the whole network, by least squares on footage.

    Attributes:
        frames: how many are drawn, as `distil` draws them.
        rows: places of the maps that are fitted to, a multiple of the numbers that an output of the layer is made of.
        ridge: pull of the weights towards what they were, as a share of the mean square of their inputs, above 0.
        seed: of frames and places.
    """

    frames: int = 60
    rows: float = 4.0
    ridge: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1, not {self.frames}")
        if not self.rows >= 1 or not self.ridge > 0:
            raise ConfigError("rows must be at least 1 and ridge above 0", found=f"{self.rows}, {self.ridge}")


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What is left of a detector learns from an oracle, on the recipe's footage (or else its training frames) without their boxes.

    Attributes:
        frames: how many are drawn, as many of each video, one of each stretch of it; each is learned from `passes` times, in an order
            drawn anew.
        passes: see frames.
        norms: measure the statistics of batch normalisation anew on these frames (a hundred or more serve well) before anything is
            learned: behind filters that went, those of the whole network are wrong.
        oracle: "original" is the student as it was before any step; or a run, or an exported detector.
        metadata: of an exported oracle that carries none.
        score: least score of the oracle's boxes.
        seed: of all that is drawn.
        update: settings of one update, as those of `vidkd tkd`, but nothing is taken back (interpolate). Of the original,
            `loss: matched_heads` compares raw heads cell by cell.
        replay: bounds of the buffer of earlier frames, as those of `vidkd tkd`.
    """

    frames: int = 200
    passes: int = 1
    norms: bool = False
    oracle: str = "original"
    metadata: str | None = None
    score: float = 0.25
    seed: int = 0
    update: Mapping[str, Any] = field(default_factory=dict)
    replay: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames < 1 or self.passes < 1:
            raise ConfigError("frames and passes must be at least 1", found=f"{self.frames}, {self.passes}")
        _in_unit("score", self.score)


@dataclass(frozen=True, kw_only=True)
class QuantiseConfig:
    """Which layers of an exported file compute in eight-bit integers, with ranges of activations that are found on training data.

    Attributes:
        clips: how many training clips (pictures of a detector) the ranges are found on, drawn over all classes.
        seed: of the draw.
        weight_bits: 8, or 7 for processors whose eight-bit products saturate (x86 without VNNI).
        exclude: patterns of layers that stay in float.
        sensitivity: also find what each layer alone in integers does to the outputs.
    """

    clips: int = 128
    seed: int = 0
    weight_bits: Literal[7, 8] = 8
    exclude: tuple[str, ...] = ()
    sensitivity: bool = False

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8):
            raise ConfigError(f"weight_bits must be 7 or 8, not {self.weight_bits}")
        if self.clips < 1:
            raise ConfigError(f"clips must be at least 1, not {self.clips}")


def _in_unit(name: str, value: float, *, one: bool = True) -> None:
    if not (0 < value < 1 or (one and value == 1)):
        raise ConfigError(f"{name} must lie in (0, 1{']' if one else ')'}, not {value}")


def _known(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise unknown_name(kind, name, known)
