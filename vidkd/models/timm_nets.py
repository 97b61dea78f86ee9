"""Image networks of timm on every frame, under the names of their library: `timm:NAME`. timm is imported when one is built."""

import dataclasses
import difflib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError, first_line
from vidkd.models.backbone import Backbone, InputSpec, Layout, Stage, not_entered
from vidkd.models.config import View
from vidkd.models.temporal_shift import ShiftedInput, residual_branches, shift_residual_branches

PREFIX = "timm:"
FRAMES = 8
GAIN, BOUND = 4.0, 2.2
PICTURES = 16
"""How many pictures a pass without gradients takes at a time on a CPU: 512 at once allocate gigabytes and take three times as long.

A longer clip is one part, since temporal shift mixes its frames.
"""


class TimmNet(Backbone):
    """A network of timm without its classifier, applied to B*T frames.

    Stages are those that timm names for features (`feature_info`), called by the name of their last layer; the last one is the map that
    timm's own head pools, as wide as `num_features`. Channels, strides, normalisation and input size are timm's. Works in the channels_last
    memory layout (EfficientNet-Lite0 on a CPU: a pass takes 0.74 of the time, a training step 0.62).
    """

    frame_by_frame = True

    def __init__(self, name: str, view: View = "rgb") -> None:
        net, layout = _create(name)
        first = getattr(net, "pretrained_cfg", {}).get("first_conv")
        if view == "flow" and isinstance(first, tuple | list):
            raise ConfigError(f"{name} reads its input by several layers, so it cannot read flow", layers=", ".join(first))
        super().__init__(net, layout, view)
        self.name = name
        self.takes_one_size = bool(getattr(net, "pretrained_cfg", {}).get("fixed_input_size"))
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.shifted: ShiftedInput | None = None
        self.differences = False

    def show_differences(self) -> None:
        """Show the network `frame_differences`; a position in time then stands for two frames."""
        self.differences = True
        stages = {name: dataclasses.replace(stage, time_stride=2) for name, stage in self.layout.stages.items()}
        self.layout = dataclasses.replace(self.layout, stages=stages)

    def shift(self, kind: Literal["both", "past"]) -> None:
        """Put temporal shift into the residual branches; parameters keep their names."""
        self.shifted = shift_residual_branches(self.net, causal=kind == "past")
        if not self.shifted.layers and residual_branches(self.net):
            raise ConfigError("temporal shift has no place in stages that are frozen", hint="model.freeze: an earlier stage, or none")
        if not self.shifted.layers:
            raise ConfigError("this network has no residual branch that begins with a convolution, so temporal shift has no place in it")

    def walk(self, clip: Tensor) -> Iterator[Tensor]:
        """Yield every stage, (B, C, T, H, W) each; half of T with differences."""
        clip = frame_differences(clip) if self.differences else clip
        frames, size = clip.shape[2], self.input.size
        if self.takes_one_size and clip.shape[3:] != (size, size):
            raise ConfigError(
                f"{self.name} takes pictures of {size} x {size} pixels only",
                found=f"{clip.shape[4]} x {clip.shape[3]}",
                hint=f"--data.transform.crop {size} and a data.transform.short_side of {size} or more",
            )
        if self.shifted is not None:
            self.shifted.frames = frames
        images = clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        in_parts = not torch.is_grad_enabled() and not torch.compiler.is_compiling() and images.device.type == "cpu"
        whole_clips = frames * max(1, PICTURES // frames)
        parts = [self._maps(part) for part in (torch.split(images, whole_clips) if in_parts else [images])]
        for features in zip(*parts, strict=True):
            yield _clips(torch.cat(features) if in_parts else features[0], frames)

    def _maps(self, images: Tensor) -> list[Tensor]:
        """The map of every stage, (N, C, H, W) each, of pictures (N, C, H, W)."""
        final, maps = self.net.forward_intermediates(images, output_fmt="NCHW")  # type: ignore[operator]
        if final.ndim == 3:  # tokens: those of the picture are the last ones
            grid = maps[-1].shape[2:]
            final = final[:, -grid.numel() :].transpose(1, 2).unflatten(2, grid)
        elif getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            final = final.permute(0, 3, 1, 2)
        return [*maps[:-1], final]

    def walk_from(self, stage: str, features: Tensor) -> Iterator[Tensor]:
        """Yield the stages after `stage`, of a network whose layers follow each other: its own children, those in lists one by one."""
        frames = features.shape[2]
        if self.shifted is not None:
            self.shifted.frames = frames
        images = features.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        layers = _in_a_row(self.net)
        names = [name.replace(".", "_") for name, _ in layers]
        if stage not in names:
            raise not_entered(self, stage)
        later = self.stages[self.stages.index(stage) + 1 :]
        for name, layer in layers[names.index(stage) + 1 :]:
            images = layer(images)
            if name.replace(".", "_") in later[:-1]:
                yield _clips(images, frames)
        yield _clips(images, frames)


def frame_differences(clip: Tensor) -> Tensor:
    """Normalised clip (B, C, T, H, W), T even -> (B, C, T / 2, H, W), the second frame of each pair minus the first, times `GAIN`, clamped.

    RGB differences as a cheap motion input are those of Wang et al. 2016 (TSN, arXiv 1608.00859), who train a network for them; gain and
    bound, which bring them to the range of pictures, are ours. Raises ConfigError for an odd number of frames.
    """
    if clip.shape[2] % 2:
        raise ConfigError("differences are of pairs of frames", found=f"{clip.shape[2]} frames", hint="an even data.window.frames")
    return ((clip[:, :, 1::2] - clip[:, :, ::2]) * GAIN).clamp(-BOUND, BOUND)


def timm_layout(name: str) -> Layout:
    """What timm declares about a network. Raises ConfigError for an unknown name, with the nearest ones."""
    with torch.device("meta"):
        return _create(name)[1]


def _create(name: str) -> tuple[nn.Module, Layout]:
    """The network with random weights and without classifier, and its layout."""
    import timm

    name = name.removeprefix(PREFIX)
    if not timm.is_model(name):
        known = timm.list_models()
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        raise ConfigError(f"timm has no network '{name}'", nearest=", ".join(near) or "none", hint="timm.list_models() has all")
    try:
        net: Any = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # a tag of weights that the network does not have
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ConfigError(f"timm cannot build '{name}'", reason=first_line(error), known=", ".join(known)) from error
    if not hasattr(net, "forward_intermediates"):
        raise ConfigError(f"timm gives no maps of features for '{name}'", hint="a network with forward_intermediates, as most have")
    return net, _layout(net)


def _layout(net: Any) -> Layout:
    config, places = net.pretrained_cfg, net.feature_info
    places = list(getattr(places, "info", places))
    channels = [place["num_chs"] for place in places[:-1]] + [net.num_features]
    stages = {
        place["module"].replace(".", "_"): Stage(count, 1, place["reduction"], _first_px(net, place["reduction"]))
        for place, count in zip(places, channels, strict=True)
    }
    head = config.get("classifier") or "fc"
    names = (head,) if isinstance(head, str) else tuple(head)
    return Layout(
        stages=stages,
        input=InputSpec(mean=tuple(config["mean"]), std=tuple(config["std"]), frames=FRAMES, size=config["input_size"][-1]),
        head=tuple(f"{name}." for name in names),
    )


def _first_px(net: nn.Module, stride: int) -> float:
    """The pixel on which the first position is centred, by the rule of the network's padding; see `Stage`."""
    from timm.layers.conv2d_same import Conv2dSame

    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if any(isinstance(layer, Conv2dSame) for layer in convolutions):  # TensorFlow's padding: one pixel less at the beginning
        return stride - 1.0
    patches = convolutions[0].kernel_size == convolutions[0].stride
    return (stride - 1) / 2 if patches else 0.0


def _in_a_row(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers of `net` up to its head, by name, in order; lists of blocks are taken apart."""
    layers: list[tuple[str, nn.Module]] = []
    for name, child in net.named_children():
        if name in ("global_pool", "head", "classifier", "fc", "head_drop"):
            break
        parts = child.named_children() if name in ("blocks", "stages", "layers") else ()
        layers += [(f"{name}.{part}", layer) for part, layer in parts] or [(name, child)]
    return layers


def _clips(images: Tensor, frames: int) -> Tensor:
    """(B*T, C, H, W) -> (B, C, T, H, W)."""
    return images.reshape(-1, frames, *images.shape[1:]).transpose(1, 2)
