"""Temporal shift (Lin et al. 2019, TSM, arXiv 1811.08383): channels move between neighbouring frames, at no multiplication."""

from typing import Any

import torch
from torch import Tensor, nn


def temporal_shift(images: Tensor, frames: int, *, fold: int = 8, causal: bool = False) -> Tensor:
    """Move 1/fold of the channels one frame back in time and 1/fold one frame ahead, zeros at the ends.

    images: (B*frames, C, H, W), frames of one clip in a row. After it, the first C // fold channels of frame t hold those of t+1,
    the next C // fold those of t-1, the rest are the frame's own. `causal`: only the second kind, so that no frame sees a later one (the
    paper's online form). Same shape.
    """
    clip = images.reshape(-1, frames, *images.shape[1:])
    part = clip.shape[2] // fold
    later, earlier, own = clip[:, :, :part], clip[:, :, part : 2 * part], clip[:, :, 2 * part :]
    zeros = torch.zeros_like(later[:, :1])
    back = later if causal else torch.cat([later[:, 1:], zeros], 1)
    shifted = torch.cat([back, torch.cat([zeros, earlier[:, :-1]], 1), own], dim=2)
    return shifted.flatten(0, 1)


class ShiftedInput:
    """Shifts what a layer reads, as a hook before it, so that parameters keep their names. `frames`: of a clip, set before each pass."""

    def __init__(self, *, causal: bool = False) -> None:
        self.frames = 1
        self.causal = causal
        self.layers = 0

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The layer's inputs with the first one shifted."""
        return (temporal_shift(inputs[0], self.frames, causal=self.causal), *inputs[1:])


def shift_residual_branches(net: nn.Module, *, causal: bool = False) -> ShiftedInput:
    """Put a shift before the first convolution of every residual branch of an image network of timm; the identity stays unshifted.

    The placement of the paper: before `conv1` of every block of a ResNet, before the expansion of the blocks of a MobileNet or
    EfficientNet that have a residual connection. Branches that do not train get none (ours): they could not learn to use it.
    """
    shift = ShiftedInput(causal=causal)
    for block in residual_branches(net).values():
        first = next(layer for layer in block.modules() if isinstance(layer, nn.Conv2d))
        if first.weight.requires_grad:
            first.register_forward_pre_hook(shift)
            shift.layers += 1
    return shift


def residual_branches(net: nn.Module) -> dict[str, nn.Module]:
    """The residual blocks with a convolution of an image network of timm, by name."""
    blocks = {
        name: block
        for name, block in net.named_modules()
        if getattr(block, "has_skip", type(block).__name__ in ("BasicBlock", "Bottleneck"))
    }
    return {name: block for name, block in blocks.items() if any(isinstance(layer, nn.Conv2d) for layer in block.modules())}
