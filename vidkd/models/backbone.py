"""The interface of backbones: an ordered set of named stages, an input normalisation, a network that yields one feature map per stage."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError, unknown_name
from vidkd.models.config import FLOW_BOUND_PX, View

FLOW_STD = 0.5


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network expects: `mean` and `std` per channel of values in 0..1 (rgb) or -1..1 (flow), and the clip it was trained on.

    frames and size are hints (clip length, side of the square crop), not limits. `bound_px` is set for flow only: displacements are
    clamped to +-bound_px and divided by it. The flow std of 0.5 gives values in -2..2, about the range of normalised RGB.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int
    size: int
    bound_px: float | None = None

    def for_flow(self, stack: int = 1) -> "InputSpec":
        """The specification of the same network on optical flow, `stack` fields (dx, dy) a frame."""
        channels = 2 * stack
        return InputSpec(mean=(0.0,) * channels, std=(FLOW_STD,) * channels, frames=self.frames, size=self.size, bound_px=FLOW_BOUND_PX)


class Normalise(nn.Module):
    """The raw view of a batch -> what the network was trained on.

    rgb: uint8 in 0..255 or floating point in 0..1, (B, 3, T, H, W). flow: floating point pixels, (B, 2L, T, H, W), L fields a frame.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, -1, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, -1, 1, 1, 1), persistent=False)

    def forward(self, clip: Tensor) -> Tensor:
        """Normalised clip of the same shape, in the floating-point type of the network. Raises ConfigError for other channels."""
        channels = self.mean.shape[1]
        if clip.shape[1] != channels:
            mend = "the view rgb" if self.spec.bound_px is None else f"the view flow with data.flow.stack={channels // 2}"
            raise ConfigError(f"this network sees {channels} channels, the clip has {clip.shape[1]}", hint=mend)
        values = clip.to(self.mean.dtype)
        if self.spec.bound_px is not None:
            values = values.clamp(-self.spec.bound_px, self.spec.bound_px) / self.spec.bound_px
        elif not clip.is_floating_point():
            values = values / 255
        return (values - self.mean) / self.std


@dataclass(frozen=True)
class Stage:
    """Declared size of a stage: channels, and how many input frames and pixels one position strides over.

    first_px: the input pixel on which the first position is centred. With odd kernels and half padding that is pixel 0, so such a grid
    is almost half a cell to the upper left of an even division of the picture; patches are centred, at (space_stride - 1) / 2.
    """

    channels: int
    time_stride: int
    space_stride: int
    first_px: float = 0.0

    @property
    def shift_cells(self) -> float:
        """How far, in cells, the grid is displaced against an even division of the input: 0 for patches, near -0.5 for convolutions."""
        return (self.first_px + 0.5) / self.space_stride - 0.5


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All that is declared about an architecture before it is built.

    stages: ordered name -> Stage. head: prefixes of the parameters of its classification head, dropped when weights are loaded.
    linear_head: names of weight and bias of a head that is exactly mean pooling, dropout and one linear layer; None otherwise.
    """

    stages: Mapping[str, Stage]
    input: InputSpec
    head: tuple[str, ...] = ()
    linear_head: tuple[str, str] | None = None


class Backbone(nn.Module):
    """A network without head: normalised clip (B, C, T, H, W) -> {stage: features (B, c, t, h, w)}, in order of `stages`.

    A subclass declares `layouts`, one by the name of each backbone that it builds, has a constructor of name and view, implements `walk`,
    and is listed in `vidkd.models.backbones`. The network itself is `net` and keeps the parameter names of its library, so that published
    weights fit. Channels and strides (time, space) are declared per stage; grids are rounded as the layers round.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {}
    frame_by_frame: ClassVar[bool] = False
    """Whether, without `shift`, features of a frame are of that frame alone."""

    def __init__(self, net: nn.Module, layout: Layout, view: View) -> None:
        super().__init__()
        self.net = net
        self.layout = layout
        self.view = view
        self.stages: tuple[str, ...] = tuple(layout.stages)
        self.input = layout.input
        if view == "flow":
            self.read_flow(1)

    def read_flow(self, stack: int) -> None:
        """Let the network, freshly initialised, see `stack` flow fields a frame."""
        self.input = self.layout.input.for_flow(stack)
        take_flow(self.net, 2 * stack)

    def declare_channels(self, channels: Mapping[str, int]) -> None:
        """State how many channels some stages have, after their filters were removed. Raises KeyError for an unknown stage."""
        stages = {name: dataclasses.replace(self.layout.stages[name], channels=count) for name, count in channels.items()}
        self.layout = dataclasses.replace(self.layout, stages={**self.layout.stages, **stages})

    @property
    def channels(self) -> dict[str, int]:
        """Of each stage."""
        return {name: stage.channels for name, stage in self.layout.stages.items()}

    def show_differences(self) -> None:
        """Show the network differences of pairs of frames; for networks of single images. Raises ConfigError for others."""
        raise ConfigError("model.temporal.input is for networks of single images", hint="model.backbone: timm:NAME, or input: frames")

    def shift(self, kind: Literal["both", "past"]) -> None:  # noqa: ARG002 - of networks of images
        """Let features of neighbouring frames into every residual branch; for networks of single images. Raises ConfigError for others."""
        raise ConfigError("model.temporal.shift is for networks of single images", hint="model.backbone: timm:NAME, or shift: none")

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield the features of each stage in order."""
        raise NotImplementedError

    def walk_from(self, stage: str, features: Tensor) -> Iterator[Tensor]:  # noqa: ARG002
        """Yield the features of each stage after `stage`, whose features are given. Raises ConfigError for a network that cannot."""
        raise not_entered(self, stage)

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """Features of every stage of a normalised clip."""
        return dict(zip(self.stages, self.walk(clip), strict=True))

    def resume(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The features of some stages, and those of all stages after the last of them."""
        last = max(known, key=self.stages.index)
        later = self.stages[self.stages.index(last) + 1 :]
        return {**known, **(dict(zip(later, self.walk_from(last, known[last]), strict=True)) if later else {})}


def not_entered(backbone: Backbone, stage: str) -> ConfigError:
    """The error for a network whose later stages cannot be computed from the features of `stage`."""
    return ConfigError(
        f"{type(backbone.net).__name__} cannot be entered after its stage {stage}, so activations of frozen stages cannot be kept",
        hint="model.freeze: all, or data.features.views: 0",
    )


def first_convolution(net: nn.Module) -> tuple[str, nn.Module]:
    """Name and module of the first convolution, the one that reads the clip."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return name, module
    raise ValueError(f"{type(net).__name__} has no convolution")


def take_flow(net: nn.Module, channels: int = 2) -> None:
    """Let a freshly initialised network read so many channels: its filters in turn, scaled to keep the response variance."""
    _, convolution = first_convolution(net)
    assert isinstance(convolution, nn.Conv2d | nn.Conv3d)
    filters = convolution.weight.detach()
    turns = torch.arange(channels, device=filters.device) % filters.shape[1]
    convolution.weight = nn.Parameter(filters[:, turns] * (filters.shape[1] / channels) ** 0.5)
    convolution.in_channels = channels


def flow_filters(filters: Tensor, channels: int = 2) -> Tensor:
    """Pretrained RGB filters (O, 3, ...) -> flow filters (O, channels, ...): the mean over RGB in every channel, times 3 / channels.

    The rule behind the factor: a clip with one value in all channels gives the same response before and after. The averaging is the
    cross-modality initialisation of Wang et al. 2016 (TSN), which leaves the scale unchanged.
    """
    mean = filters.mean(dim=1, keepdim=True)
    return mean.expand(-1, channels, *mean.shape[2:]).clone() * (filters.shape[1] / channels)


def freeze_norm_statistics(module: nn.Module) -> None:
    """Put every batch normalisation in `module` into eval mode: running statistics are used and no longer updated.

    Call it again after each `module.train()`; `VideoClassifier` does so itself with `freeze_norm`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def freeze_untrained_norms(module: nn.Module) -> None:
    """As `freeze_norm_statistics`, for the batch normalisations whose scales do not train."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine and not layer.weight.requires_grad:
            layer.eval()


def stage_parameters(backbone: Backbone) -> dict[str, list[str]]:
    """The names of the parameters by the first stage that depends on them, in order of the stages; those of no stage with the last.

    Found by backward passes without memory or arithmetic (device "meta"), so for any network.
    """
    spec, was_training = backbone.input, backbone.training
    tensors = {name: torch.empty_like(tensor, device="meta") for name, tensor in [*backbone.named_parameters(), *backbone.named_buffers()]}
    left = {name: tensors[name].requires_grad_() for name, _ in backbone.named_parameters()}
    clip = torch.empty(1, len(spec.mean), spec.frames, spec.size, spec.size, device="meta")
    with torch.inference_mode(False), torch.enable_grad():
        features = torch.func.functional_call(backbone.eval(), tensors, (clip,))
        found: dict[str, list[str]] = {}
        for stage, maps in features.items():
            gradients = torch.autograd.grad(maps.sum(), list(left.values()), allow_unused=True, retain_graph=True) if left else ()
            last = stage == backbone.stages[-1]
            found[stage] = [name for name, gradient in zip(left, gradients, strict=True) if last or gradient is not None]
            left = {name: tensor for name, tensor in left.items() if name not in found[stage]}
    backbone.train(was_training)
    return found


def freeze_stages(backbone: Backbone, last: str) -> None:
    """Stop the training of all parameters that the stage `last`, or "all" stages, depend on. Raises ConfigError for an unknown stage."""
    if last not in ("all", *backbone.stages):
        raise unknown_name("stage for model.freeze", last, ["all", *backbone.stages])
    backbone.requires_grad_(False)
    if last != "all":
        later = backbone.stages[backbone.stages.index(last) + 1 :]
        found = stage_parameters(backbone)
        for stage in later:
            for name in found[stage]:
                backbone.get_parameter(name).requires_grad_()
