"""Settings of the steps of compression."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from vidkd.base.errors import ConfigError
from vidkd.base.fields import Bounds, Count, Positive
from vidkd.models.low_rank import Method

Criterion = Literal["l1", "l2", "norm_scale", "taylor", "random"]
Format = Literal["onnx", "xml", "pt2", "darknet"]
# How far an exported file may be from its network: of any output, times the largest output where that is above 1.
TOLERANCE = 1e-4
# A number in (0, 1), in (0, 1].
Part = Annotated[float, Bounds(gt=0, lt=1)]
Most = Annotated[float, Bounds(gt=0, le=1)]


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

    ratio: Part = 0.5
    criterion: Criterion = "l2"
    scope: Literal["global", "uniform"] = "global"
    steps: Count = 1
    most_of_layer: Most = 0.9
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def share(self, step: int) -> float:
        """The share of the filters left before this step (from 1) that it removes, so that the last one reaches `ratio` in even steps."""
        return (self.ratio / self.steps) / (1 - self.ratio * (step - 1) / self.steps)


@dataclass(frozen=True, kw_only=True)
class FactoriseConfig:
    """Which layers become products of smaller ones, and of what rank. Either energy or macs is given.

    Attributes:
        method: "channel" or "spatial" (singular values), "tucker" (both channel dimensions), or "any": whichever serves a layer
            best.
        energy: each layer keeps at least this share of its squared singular values, in (0, 1]; of each mode for "tucker".
        macs: the whole network takes at most this share of its MACs, in (0, 1), at the largest product of kept energies.
        exclude: patterns of layers that stay unchanged.
    """

    method: Method | Literal["any"] = "channel"
    energy: Most | None = None
    macs: Part | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.energy is None) == (self.macs is None):
            raise ConfigError("either energy or macs decides the ranks")


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """Layers of what is left of a detector are fitted to the outputs of the whole network, by least squares on footage.

    Attributes:
        frames: how many are drawn, as `distil` draws them.
        ridge: pull of the weights towards what they were, as a share of the mean square of their inputs, above 0.
        seed: of frames and places.
    """

    frames: Count = 60
    ridge: Positive = 0.01
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What is left of a detector learns from the network before any step, on the recipe's footage (or else its training frames).

    Attributes:
        frames: how many are drawn, as many of each video, one of each stretch of it; each is learned from `passes` times, in an order
            drawn again each time.
        passes: see frames.
        norms: measure the statistics of batch normalisation again on these frames (a hundred or more serve well) before anything is
            learned: behind filters that went, those of the whole network are wrong.
        seed: of all that is drawn.
        update: settings of one update, as those of `vidkd tkd`, without `interpolate` and `retain`. `loss: matched_heads` compares raw
            heads cell by cell.
    """

    frames: Count = 200
    passes: Count = 1
    norms: bool = False
    seed: int = 0
    update: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QuantiseConfig:
    """Which layers of an exported file compute in eight-bit integers, with ranges of activations that are found on training data.

    Attributes:
        clips: how many training clips (pictures of a detector) the ranges are found on, drawn over all classes.
        seed: of the draw.
        weight_bits: 8, or 7 for processors whose eight-bit products saturate (x86 without VNNI).
        exclude: patterns of layers that stay in float.
    """

    clips: Count = 128
    seed: int = 0
    weight_bits: Literal[7, 8] = 8
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Files that are written of the network, in integers after a step `quantise`.

    Attributes:
        formats: onnx, xml (OpenVINO) or pt2; of a detector onnx, xml or darknet (cfg and weights).
        licence: of the weights, for the card.
        tolerance: how far a file may be from its network, of outputs up to 1 and in proportion above; not of integers, which round.
    """

    formats: Annotated[tuple[Format, ...], Bounds(min_length=1)] = ("onnx",)
    licence: str | None = None
    tolerance: Positive = TOLERANCE


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Training of what is left.

    Attributes:
        settings: settings over those of the student's own run. `teacher: original` is the student as it was before any step.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
