"""tiny3d: a small 3-D convolutional network of ours, fast enough to be trained on two CPU cores."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage
from vidkd.models.config import View


class Tiny3D(Backbone):
    """Four stages, 0.27 M parameters; a clip of 8x64x64 gives (4, 8, 8) positions in the last two.

    Works in the channels_last_3d memory layout, which CPU convolutions handle about 1.2 times faster.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {
        "tiny3d": Layout(
            stages={"stem": Stage(24, 1, 2), "stage2": Stage(48, 2, 4), "stage3": Stage(96, 2, 8), "stage4": Stage(96, 2, 8)},
            input=InputSpec(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), frames=8, size=64),
        )
    }

    def __init__(self, name: str, view: View) -> None:
        net = nn.Sequential()
        net.add_module("stem", _conv(3, 24, kernel=(3, 3, 3), stride=(1, 2, 2)))
        net.add_module("stage2", _conv(24, 48, kernel=(3, 3, 3), stride=(2, 2, 2)))
        net.add_module("stage3", _conv(48, 96, kernel=(3, 3, 3), stride=(1, 2, 2)))
        net.add_module("stage4", FactorisedResidual(96))
        super().__init__(net, self.layouts[name], view)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stem, stage2, stage3, stage4."""
        yield from self._walk(self.stages, clip.contiguous(memory_format=torch.channels_last_3d))

    def walk_from(self, stage: str, features: Tensor) -> Iterator[Tensor]:
        """Yield the stages after `stage`."""
        yield from self._walk(self.stages[self.stages.index(stage) + 1 :], features)

    def _walk(self, stages: Sequence[str], features: Tensor) -> Iterator[Tensor]:
        for stage in stages:
            features = self.net.get_submodule(stage)(features)
            yield features


class FactorisedResidual(nn.Module):
    """x + BN(temporal conv(ReLU(BN(spatial conv(x))))), then ReLU; the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = _conv(channels, channels, kernel=(1, 3, 3))
        self.temporal = _conv(channels, channels, kernel=(3, 1, 1), activation=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        return torch.relu(features + self.temporal(self.spatial(features)))


def _conv(
    inputs: int, outputs: int, *, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1), activation: bool = True
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    convolution = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    layers: list[nn.Module] = [convolution, nn.BatchNorm3d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if activation else nn.Sequential(*layers)
