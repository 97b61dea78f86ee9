"""The video networks of torchvision as backbones: VideoResNets, S3D, MViTv2, Video Swin. torchvision is imported when one is built."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage
from vidkd.models.config import View

# torchvision.transforms._presets.VideoClassification, the transform of its Kinetics-400 weights
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _resnet_layout(time_strides: tuple[int, int, int]) -> Layout:
    second, third, fourth = time_strides
    return Layout(
        stages={
            "stem": Stage(64, 1, 2),
            "layer1": Stage(64, 1, 2),
            "layer2": Stage(128, second, 4),
            "layer3": Stage(256, third, 8),
            "layer4": Stage(512, fourth, 16),
        },
        input=InputSpec(mean=KINETICS_MEAN, std=KINETICS_STD, frames=16, size=112),
        head=("fc.",),
        linear_head=("fc.weight", "fc.bias"),
    )


def _token_layout(spec: InputSpec, linear_head: tuple[str, str] | None = None) -> Layout:
    stages = {f"stage{number}": Stage(96 << number - 1, 2, 2 << number, ((2 << number) - 1) / 2) for number in (1, 2, 3, 4)}
    return Layout(stages=stages, input=spec, head=("head.",), linear_head=linear_head)


class VideoResNet(Backbone):
    """R3D-18, MC3-18 and R(2+1)D-18 (Tran et al. 2018, arXiv 1711.11248)."""

    layouts: ClassVar[Mapping[str, Layout]] = {
        "r3d_18": _resnet_layout((2, 4, 8)),
        "mc3_18": _resnet_layout((1, 1, 1)),
        "r2plus1d_18": _resnet_layout((2, 4, 8)),
    }

    def __init__(self, name: str, view: View) -> None:
        super().__init__(_create(name, "fc"), self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stem, layer1 .. layer4."""
        for stage in self.stages:
            clip = self.net.get_submodule(stage)(clip)
            yield clip


class S3D(Backbone):
    """Separable 3-D Inception (Xie et al. 2018, arXiv 1712.04851). Needs at least 14 frames."""

    # slices of `features`: each begins with the pooling that opens the stage
    SLICES = ((0, 1), (1, 4), (4, 7), (7, 13), (13, 16))

    layouts: ClassVar[Mapping[str, Layout]] = {
        "s3d": Layout(
            stages={
                "conv1": Stage(64, 2, 2),
                "conv2": Stage(192, 2, 4),
                "mixed3": Stage(480, 2, 8),
                "mixed4": Stage(832, 4, 16),
                "mixed5": Stage(1024, 8, 32, 8),
            },
            input=InputSpec(mean=KINETICS_MEAN, std=KINETICS_STD, frames=128, size=224),
            head=("classifier.",),
        )
    }

    def __init__(self, name: str, view: View) -> None:
        super().__init__(_create(name, "classifier"), self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield conv1, conv2, mixed3, mixed4, mixed5."""
        layers = list(self.net.get_submodule("features").children())
        for first, end in self.SLICES:
            for layer in layers[first:end]:
                clip = layer(clip)
            yield clip


class MViT(Backbone):
    """MViTv2-S (Li et al. 2022, arXiv 2112.01526); its relative positions are interpolated for other clip sizes.

    Features are the patch tokens of each scale as a grid (B, C, T', H', W'); the class token takes part inside and is left out.
    """

    # the last block of each scale; the next one pools its queries and widens
    LAST_BLOCKS = (0, 2, 13, 15)

    # the class token that MViT's own head reads is dropped here, so that head is not a linear layer on pooled positions
    layouts: ClassVar[Mapping[str, Layout]] = {
        "mvit_v2_s": _token_layout(InputSpec(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225), frames=16, size=224))
    }

    def __init__(self, name: str, view: View) -> None:
        super().__init__(_create(name, "head"), self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stage1 .. stage4, the last after the final normalisation."""
        patches = self.net.get_submodule("conv_proj")(clip)
        grid = tuple(patches.shape[2:])
        tokens = self.net.get_submodule("pos_encoding")(patches.flatten(2).transpose(1, 2))
        for number, block in enumerate(self.net.get_submodule("blocks").children()):
            tokens, grid = block(tokens, grid)
            if number in self.LAST_BLOCKS:
                last = number == self.LAST_BLOCKS[-1]
                yield _as_grid(self.net.get_submodule("norm")(tokens) if last else tokens, grid)


class Swin3D(Backbone):
    """Video Swin, tiny (Liu et al. 2022, arXiv 2106.13230); any clip size, padded to whole windows inside."""

    layouts: ClassVar[Mapping[str, Layout]] = {
        "swin3d_t": _token_layout(InputSpec(mean=IMAGENET_MEAN, std=IMAGENET_STD, frames=32, size=224), ("head.weight", "head.bias"))
    }

    def __init__(self, name: str, view: View) -> None:
        super().__init__(_create(name, "head"), self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stage1 .. stage4, the last after the final normalisation."""
        tokens = self.net.get_submodule("pos_drop")(self.net.get_submodule("patch_embed")(clip))
        layers = list(self.net.get_submodule("features").children())
        for number, layer in enumerate(layers):
            tokens = layer(tokens)
            if number % 2 == 0:  # even: blocks of one scale; odd: patch merging
                last = number == len(layers) - 1
                yield (self.net.get_submodule("norm")(tokens) if last else tokens).permute(0, 4, 1, 2, 3).contiguous()


def _as_grid(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Tokens (B, 1 + T*H*W, C), class token first -> (B, C, T, H, W)."""
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, *grid)


def _create(name: str, head: str) -> nn.Module:
    """The network of torchvision with random weights and without its head."""
    from torchvision.models import get_model

    net: nn.Module = get_model(name, weights=None)
    delattr(net, head)
    return net
