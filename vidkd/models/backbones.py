"""Every backbone by name, and the only place that knows pytorchvideo (imported when one of its networks is built)."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from vidkd.base.errors import unknown_name
from vidkd.models import mobilenet_shift, tiny3d, torchvision_nets
from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage
from vidkd.models.config import View
from vidkd.models.weights import load_backbone, read_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Architecture:
    """A backbone that can be built: what it declares, and how to make one with random weights for a view."""

    layout: Layout
    create: Callable[[View], Backbone]


def _blocks_layout(
    channels: tuple[int, ...], strides: tuple[tuple[int, int], ...], spec: tuple[int, int], linear_head: str | None
) -> Layout:
    names = ("stem", "res2", "res3", "res4", "res5")
    stages = {name: Stage(width, *stride) for name, width, stride in zip(names, channels, strides, strict=True)}
    # pytorchvideo's Kinetics-400 weights: mean 0.45, std 0.225 in every channel
    frames, size = spec
    return Layout(
        stages=stages,
        input=InputSpec(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), frames=frames, size=size),
        head=(f"{linear_head or 'blocks.5'}.",),
        linear_head=(f"{linear_head}.proj.weight", f"{linear_head}.proj.bias") if linear_head else None,
    )


_X3D_CHANNELS, _X3D_STRIDES = (24, 24, 48, 96, 192), ((1, 2), (1, 4), (1, 8), (1, 16), (1, 32))
_R50_CHANNELS = (64, 256, 512, 1024, 2048)

PYTORCHVIDEO_LAYOUTS: Mapping[str, Layout] = {
    "x3d_xs": _blocks_layout(_X3D_CHANNELS, _X3D_STRIDES, (4, 160), None),
    "x3d_s": _blocks_layout(_X3D_CHANNELS, _X3D_STRIDES, (13, 160), None),
    "x3d_m": _blocks_layout(_X3D_CHANNELS, _X3D_STRIDES, (16, 224), None),
    "slow_r50": _blocks_layout(_R50_CHANNELS, ((1, 4), (1, 4), (1, 8), (1, 16), (1, 32)), (8, 224), "blocks.5"),
    # the pooling of time after res2 is a block of its own, counted to res3
    "c2d_r50": _blocks_layout(_R50_CHANNELS, ((1, 4), (1, 4), (2, 8), (2, 16), (2, 32)), (8, 224), "blocks.6"),
    "r2plus1d_r50": _blocks_layout(_R50_CHANNELS, ((1, 2), (1, 4), (1, 8), (2, 16), (4, 32)), (16, 224), "blocks.5"),
}


class PytorchVideoNet(Backbone):
    """A network of pytorchvideo's model zoo without its head: X3D (arXiv 2004.04730), Slow (1812.03982), C2D, R(2+1)D-50."""

    def __init__(self, name: str, view: View) -> None:
        super().__init__(_create_pytorchvideo(name), PYTORCHVIDEO_LAYOUTS[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stem, res2 .. res5."""
        for block in self.net.get_submodule("blocks").children():
            clip = block(clip)
            if not isinstance(block, nn.MaxPool3d):
                yield clip


def _create_pytorchvideo(name: str) -> nn.Module:
    """The network with random weights; its last block is the head and is left out."""
    from pytorchvideo.models import hub

    net: nn.Module = getattr(hub, name)(pretrained=False)
    blocks = net.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    del blocks[-1]
    return net


_TORCHVISION: Mapping[str, Callable[[str, View], Backbone]] = {
    "r3d_18": torchvision_nets.VideoResNet,
    "mc3_18": torchvision_nets.VideoResNet,
    "r2plus1d_18": torchvision_nets.VideoResNet,
    "s3d": torchvision_nets.S3D,
    "mvit_v2_s": torchvision_nets.MViT,
    "swin3d_t": torchvision_nets.Swin3D,
}

BACKBONES: dict[str, Architecture] = {
    "tiny3d": Architecture(tiny3d.LAYOUT, tiny3d.Tiny3D),
    "mobilenet_v3_small": Architecture(mobilenet_shift.LAYOUT, mobilenet_shift.MobileNetShift),
    **{name: Architecture(torchvision_nets.LAYOUTS[name], partial(create, name)) for name, create in _TORCHVISION.items()},
    **{name: Architecture(layout, partial(PytorchVideoNet, name)) for name, layout in PYTORCHVIDEO_LAYOUTS.items()},
}


def build_backbone(name: str, *, view: View = "rgb", weights: str | None = None) -> Backbone:
    """A backbone of `BACKBONES` for `view`.

    weights: None for random ones, a local file (.safetensors, .pt, .pth, .pyth), or "torchvision" to download torchvision's default
    weights. For view "flow" RGB weights are averaged over the three channels (see `flow_filters`).
    Raises ConfigError for an unknown name, CheckpointError for weights that are missing or do not fit.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    backbone = BACKBONES[name].create(view)
    if weights is not None:
        dropped = load_backbone(backbone, read_weights(weights, name), f"{weights} into {name}")
        log.info("%s: not part of backbone %s, left out: %s", weights, name, ", ".join(dropped) or "nothing")
    return backbone
