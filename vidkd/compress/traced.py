"""How the networks of vidkd are shown to the dependency graph: whole, or in pieces where a graph of the whole would be wrong.

- A `VideoClassifier` is traced from its normalised clip to its linear layers. A map of attention multiplies all channels alike, so pooling
  is shown as the mean, and the map as an output of its own.
- Temporal shift moves eighths of the channels, counted from the first, so these must stay: each block of `mobilenet_v3_small` is a piece.
- In token networks the channels of a token are bound together by residuals, attention heads and normalisation: only the hidden widths of
  their MLPs can go, each MLP a piece.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.models.classifier import VideoClassifier
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.blocks import Route
from vidkd.models.mobilenet_shift import MobileNetShift
from vidkd.models.torchvision_nets import MViT, Swin3D

PARTED = "a route parts it"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a network with an input for it.

    prefix: goes before the names of its layers. run: its forward pass, to one output or several. kept: layers that must keep their outputs,
    each with the reason.
    """

    net: nn.Module
    inputs: Tensor
    prefix: str = ""
    run: Callable[[Any, Tensor], Any] = lambda net, inputs: net(inputs)
    kept: Mapping[str, str] = field(default_factory=dict)


def pieces_of(net: nn.Module, example: Tensor) -> tuple[Piece, ...]:
    """The pieces of a classifier (example: a raw clip), a detector (images) or any other network (its input); put into eval mode."""
    net.eval()
    if isinstance(net, VideoClassifier):
        backbone = net.backbone
        if isinstance(backbone, MobileNetShift):
            return tuple(_shifted_blocks(backbone, net.normalise(example)))
        if isinstance(backbone, MViT | Swin3D):
            return tuple(_mlps(backbone))
        return (Piece(net=net, inputs=net.normalise(example), run=_classify),)
    if isinstance(net, Darknet):
        return (Piece(net=net, inputs=example, kept=_parted(net)),)
    return (Piece(net=net, inputs=example),)


def _classify(net: VideoClassifier, clip: Tensor) -> list[Tensor]:
    """What the class does after normalisation, with the mean in the place of each attended vector."""
    features = net.backbone(clip)
    maps = list(net.pooling.maps.values())
    pooled = torch.cat([features[net.to_stage].mean(dim=(2, 3, 4))] * max(1, len(maps)), dim=1)
    if net.observed is not None:
        pooled = pooled + net.observed(pooled.new_ones(len(pooled)))
    logits = [each.get_submodule("conv")(features[net.from_stage]) for each in maps]
    return [*logits, net.fc(pooled), *(layer(pooled) for layer in net.target_fc.values())]


def _shifted_blocks(backbone: MobileNetShift, clip: Tensor) -> Iterator[Piece]:
    """Each inverted residual block, at the size of its input."""
    inputs: dict[nn.Module, Tensor] = {}
    layers = dict(backbone.net.get_submodule("features").named_children())
    blocks = {name: layer.get_submodule("block") for name, layer in layers.items() if hasattr(layer, "block")}
    hooks = [block.register_forward_pre_hook(lambda module, given: inputs.update({module: given[0].detach()})) for block in blocks.values()]
    with torch.no_grad():
        backbone(clip)
    for hook in hooks:
        hook.remove()
    for name, block in blocks.items():
        yield Piece(net=block, inputs=inputs[block][:1], prefix=f"backbone.net.features.{name}.block.")


def _mlps(backbone: MViT | Swin3D) -> Iterator[Piece]:
    """Each MLP of the network: linear, GELU, linear."""
    for name, module in backbone.named_modules():
        if name.endswith(".mlp"):
            width = next(layer.in_features for layer in module.modules() if isinstance(layer, nn.Linear))
            weight = next(module.parameters())
            yield Piece(net=module, inputs=weight.new_zeros(1, width), prefix=f"backbone.{name}.")


def _parted(net: Darknet) -> dict[str, str]:
    """Layers that a route cuts into equal parts, which would have to lose as many filters each."""
    kept = {}
    for index, layer in enumerate(net.config.layers):
        if isinstance(layer, Route) and layer.groups > 1:
            waiting = list(net.sources[index])
            while waiting:
                source = waiting.pop()
                kept[f"layers.{source}.conv"] = PARTED
                if source >= 0 and not hasattr(net.layers[source], "conv"):
                    waiting.extend(net.sources[source])
    return kept
