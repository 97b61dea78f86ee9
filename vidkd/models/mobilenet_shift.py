"""MobileNetV3-small on every frame, with temporal shift in its residual branches (Lin et al. 2019, TSM, arXiv 1811.08383)."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage
from vidkd.models.config import View
from vidkd.models.temporal_shift import temporal_shift
from vidkd.models.torchvision_nets import IMAGENET_MEAN, IMAGENET_STD


class MobileNetShift(Backbone):
    """A 2-D network of 0.9 M parameters applied to B*T frames; shifted channels are all that crosses time, at no multiplication.

    Keeps torchvision's parameter names, so its ImageNet weights fit. Frames stay as many as they were.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {
        "mobilenet_v3_small": Layout(
            stages={
                "stem": Stage(16, 1, 2),
                "stage1": Stage(16, 1, 4),
                "stage2": Stage(24, 1, 8),
                "stage3": Stage(48, 1, 16),
                "stage4": Stage(576, 1, 32),
            },
            input=InputSpec(mean=IMAGENET_MEAN, std=IMAGENET_STD, frames=8, size=224),
            head=("classifier.",),
        )
    }
    # the first layer of `features` after each stage
    ENDS = (1, 2, 4, 9, 13)

    def __init__(self, name: str, view: View) -> None:
        from torchvision.models import mobilenet_v3_small

        net: nn.Module = mobilenet_v3_small(weights=None)
        delattr(net, "classifier")
        super().__init__(net, self.layouts[name], view)

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield stem, stage1 .. stage4."""
        frames = clip.shape[2]
        images = clip.transpose(1, 2).flatten(0, 1)
        for number, layer in enumerate(self.net.get_submodule("features").children(), start=1):
            images = _shifted_layer(layer, images, frames)
            if number in self.ENDS:
                yield images.reshape(-1, frames, *images.shape[1:]).transpose(1, 2)


def _shifted_layer(layer: nn.Module, images: Tensor, frames: int) -> Tensor:
    """One layer; a residual one gets shifted input in its branch only, so that the identity keeps the frame's own features."""
    if not getattr(layer, "use_res_connect", False):
        shifted: Tensor = layer(images)
        return shifted
    branch: Tensor = layer.get_submodule("block")(temporal_shift(images, frames))
    return images + branch
