"""Configuration of a video classifier: which network, which weights, how its features are pooled."""

from dataclasses import dataclass, field
from typing import Literal

from vidkd.base.errors import ConfigError
from vidkd.base.fields import Count, Positive, ShareBelow1
from vidkd.runtime.metadata import View

__all__ = ["FLOW_BOUND_PX", "AttentionConfig", "ModelConfig", "TemporalConfig", "View"]

FLOW_BOUND_PX = 20.0


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """How the last feature map becomes one vector.

    Attributes:
        pooling: "mean" averages all positions (no attention map); "soft" weights them by a map; "probabilistic" is "soft" with
            Gumbel noise on the logits while training.
        softmax: what sums to one: "spatial" each frame over its H*W positions, "spatiotemporal" the whole clip over T*H*W.
        residual: adds the mean-pooled vector to the attended one (weights 1 + A, A scaled to mean one).
        maps: "one" map ("motion") or "two" ("motion" and "appearance", the pooled vectors are concatenated).
        temperature: divides the noisy logits, > 0; None: 1 for one map, 2 for two. Used by "probabilistic" while training only.
        from_stage: the stage that the map is computed from; None: the last but one.
        to_stage: the stage whose features the map weights; None: the last.
    """

    pooling: Literal["mean", "soft", "probabilistic"] = "mean"
    softmax: Literal["spatial", "spatiotemporal"] = "spatial"
    residual: bool = False
    maps: Literal["one", "two"] = "one"
    temperature: Positive | None = None
    from_stage: str | None = None
    to_stage: str | None = None

    def __post_init__(self) -> None:
        if self.pooling == "mean" and (self.residual or self.maps == "two"):
            raise ConfigError(
                "attention.pooling 'mean' has no attention map, so residual and two maps mean nothing",
                hint="set attention.pooling to soft or probabilistic, or leave residual=false and maps=one",
            )

    @property
    def map_names(self) -> tuple[str, ...]:
        """Names of the attention maps, in the order in which their pooled vectors are concatenated."""
        if self.pooling == "mean":
            return ()
        return ("motion",) if self.maps == "one" else ("motion", "appearance")

    @property
    def noise_temperature(self) -> float:
        """The temperature in use: the one given, else 1 for one map and 2 for two."""
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.maps == "one" else 2.0


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """How the frames of a clip see each other, for networks of single images (`timm:NAME`); their pooling also serves the others.

    Attributes:
        pooling: how the vectors of frames become one: "mean"; "difference" (mean, and mean absolute difference of neighbours); "gru"
            (the last state of a recurrent unit, causal); "transformer".
        width: of the recurrent unit's state, or of the transformer.
        layers: of the transformer.
        input: what an image network is shown: "frames", or "differences" of pairs of neighbouring frames (second minus first, fourth
            minus third, ...), half as many pictures as the window has frames, in which what stands still is grey.
        shift: temporal shift in the residual branches of an image network: "none", "both" ways, or features of the "past" only.
        answers: "clip": one for the clip; "frames": one after every frame, from it and those before, by a pooling that is causal here
            whichever it is (running means, states, masked attention). For networks that see no later frame; the last is that of the clip.
    """

    pooling: Literal["mean", "difference", "gru", "transformer"] = "mean"
    width: Count = 256
    layers: Count = 2
    input: Literal["frames", "differences"] = "frames"
    shift: Literal["none", "both", "past"] = "none"
    answers: Literal["clip", "frames"] = "clip"

    def __post_init__(self) -> None:
        if self.answers == "frames" and self.shift == "both":
            raise ConfigError("model.temporal.answers 'frames' sees no later frame, shift 'both' does", hint="model.temporal.shift: past")
        if self.answers == "frames" and self.input == "differences":
            raise ConfigError("a network of differences has an answer for each pair of frames only", hint="model.temporal.input: frames")
        if self.width % 4:
            raise ConfigError("model.temporal.width must be a multiple of 4", found=self.width)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One video classifier.

    Attributes:
        backbone: a name of `vidkd.models.BACKBONES`, or timm:NAME for an image network of timm on every frame.
        weights: None for random weights, the path of a .safetensors, .pt, .pth or .pyth file, or "pretrained" to download what torchvision
            or timm publishes.
        attention: how features are pooled.
        temporal: how frames see each other, and become one vector.
        freeze: the last stage of the backbone that is not trained, with all before it and their norm statistics; "all": none of it trains.
        dropout: probability of dropping an entry of the pooled vector while training, in [0, 1).
        freeze_norm: keep the running statistics of the backbone's batch normalisation fixed (for small batches).
        condition_on_observed: whether the share of the clip that is observed is an input of the classifier (early recognition).
        flow_bound_px: displacements are clamped to +- this many pixels a sampled step and divided by it (view "flow" only).
    """

    backbone: str = "tiny3d"
    weights: str | None = None
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    freeze: str | None = None
    dropout: ShareBelow1 = 0.5
    freeze_norm: bool = False
    condition_on_observed: bool = False
    flow_bound_px: Positive = FLOW_BOUND_PX

    def __post_init__(self) -> None:
        if self.temporal.answers == "clip":
            return
        if self.attention.softmax == "spatiotemporal":
            raise ConfigError(
                "a spatio-temporal softmax weighs a frame by later ones, so it has no answer after every frame",
                hint="model.attention.softmax: spatial, or model.temporal.answers: clip",
            )
        if self.condition_on_observed:
            raise ConfigError("model.condition_on_observed tells one share of a clip, model.temporal.answers 'frames' has all")
