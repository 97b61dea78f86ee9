"""The networks of pytorchvideo as backbones, and the only place that knows pytorchvideo; it is imported when one is built."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage
from vidkd.models.config import View


def _layout(channels: tuple[int, ...], strides: tuple[tuple[int, int], ...], spec: tuple[int, int], linear_head: str | None) -> Layout:
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


_X3D = (24, 24, 48, 96, 192), ((1, 2), (1, 4), (1, 8), (1, 16), (1, 32))
_R50_CHANNELS = (64, 256, 512, 1024, 2048)


class PytorchVideoNet(Backbone):
    """A network of pytorchvideo's model zoo without its head: X3D (arXiv 2004.04730), Slow (1812.03982), C2D, R(2+1)D-50."""

    layouts: ClassVar[Mapping[str, Layout]] = {
        "x3d_xs": _layout(*_X3D, (4, 160), None),
        "x3d_s": _layout(*_X3D, (13, 160), None),
        "x3d_m": _layout(*_X3D, (16, 224), None),
        "slow_r50": _layout(_R50_CHANNELS, ((1, 4), (1, 4), (1, 8), (1, 16), (1, 32)), (8, 224), "blocks.5"),
        # the pooling of time after res2 is a block of its own, counted to res3
        "c2d_r50": _layout(_R50_CHANNELS, ((1, 4), (1, 4), (2, 8), (2, 16), (2, 32)), (8, 224), "blocks.6"),
        "r2plus1d_r50": _layout(_R50_CHANNELS, ((1, 2), (1, 4), (1, 8), (2, 16), (4, 32)), (16, 224), "blocks.5"),
    }

    def __init__(self, name: str, view: View) -> None:
        from pytorchvideo.models import hub

        net: nn.Module = getattr(hub, name)(pretrained=False)
        blocks = net.get_submodule("blocks")
        assert isinstance(blocks, nn.ModuleList)
        del blocks[-1]  # the head
        super().__init__(net, self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stem, res2 .. res5."""
        for block in self.net.get_submodule("blocks").children():
            clip = block(clip)
            if not isinstance(block, nn.MaxPool3d):
                yield clip
