"""Which filters must go together: the dependency graph of a network, by torch-pruning (Fang et al. 2023, DepGraph, arXiv 2301.12900).

The graph is traced on pieces of a network. What a piece puts out is excluded, since its readers count on its size: heads, attention maps,
and the raw heads of detectors are found by that, without being named.

- A `VideoClassifier` is traced from its normalised clip to its linear layers. A map of attention multiplies all channels alike, so pooling
  is represented by the mean, and the map by an output of its own.
- Temporal shift moves eighths of the channels, counted from the first, so these must stay: each residual block of `mobilenet_v3_small`
  or of a network of timm with shift is a piece.
- In token networks the channels of a token are bound together by residuals, attention heads and normalisation: only the hidden widths of
  their MLPs can go, each MLP a piece.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from vidkd.base.errors import require, unknown_name
from vidkd.models.backbone import Backbone
from vidkd.models.classifier import VideoClassifier
from vidkd.models.darknet import Darknet
from vidkd.models.darknet.cfg import Route
from vidkd.models.mobilenet_shift import MobileNetShift
from vidkd.models.temporal_shift import residual_branches
from vidkd.models.timm_nets import TimmNet
from vidkd.models.torchvision_nets import MViT, Swin3D


def matched(patterns: Sequence[str], names: Iterable[str], *, every: Iterable[str] = ()) -> set[str]:
    """The names that a pattern like `backbone.net.stem*` fits. Raises ConfigError for a pattern that fits none of them, nor of `every`.

    every: further names that a pattern may mean, for which there is nothing to do.
    """
    known = list(names)
    others = [*known, *every]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in others):
            raise unknown_name("layer", pattern, others)
    return {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}


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
            layers = dict(backbone.net.get_submodule("features").named_children())
            blocks = {f"features.{name}.block": layer.get_submodule("block") for name, layer in layers.items() if hasattr(layer, "block")}
            return tuple(_blocks(backbone, net.normalise(example), blocks, images=1))
        if isinstance(backbone, TimmNet) and backbone.shifted is not None:  # whose order of channels says which ones move
            blocks = residual_branches(backbone.net)
            return tuple(_blocks(backbone, net.normalise(example), blocks, images=backbone.shifted.frames))
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
    logits = [each.get_submodule("conv")(features[net.from_stage]) for each in maps]
    temporal = net.temporal
    if temporal.config.pooling == "difference":
        pooled = torch.cat([pooled, pooled], dim=1)
    elif temporal.config.pooling in ("gru", "transformer"):  # nothing in them goes: what they read is an output
        logits.append(pooled if temporal.config.pooling == "gru" else temporal.narrow(pooled))
        pooled = pooled.new_zeros(len(pooled), temporal.output_channels)
    if net.observed is not None:
        pooled = pooled + net.observed(pooled.new_ones(len(pooled)))
    return [*logits, net.fc(pooled), *(layer(pooled) for layer in net.target_fc.values())]


def _blocks(backbone: Backbone, clip: Tensor, blocks: Mapping[str, nn.Module], *, images: int) -> Iterator[Piece]:
    """Each of the residual blocks, at the size of its input, of so many images."""
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [block.register_forward_pre_hook(lambda module, given: inputs.update({module: given[0].detach()})) for block in blocks.values()]
    with torch.no_grad():
        backbone(clip)
    for hook in hooks:
        hook.remove()
    for name, block in blocks.items():
        yield Piece(net=block, inputs=inputs[block][:images], prefix=f"backbone.net.{name}.")


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


EXTRA = "compress"
PUT_OUT = "it leaves the network, or the part of it that can be pruned"


@dataclass(frozen=True)
class Member:
    """A layer whose outputs belong to a coupling: output own[i] of `module` goes with filter root[i] of the coupling."""

    name: str
    module: nn.Module
    own: tuple[int, ...]
    root: tuple[int, ...]


@dataclass(frozen=True)
class Coupling:
    """Filters of one layer, and of all that have to lose the same ones: residual branches, normalisation, depthwise convolutions, readers.

    name: the layer that they are named after. filters: how many there are. members: layers whose outputs they are, in no particular order.
    excluded: why they must stay, None if they may go.
    """

    name: str
    filters: int
    members: tuple[Member, ...]
    excluded: str | None
    _group: Any
    _graph: Any

    def remove(self, filters: Sequence[int]) -> None:
        """Take these filters out of every layer concerned, in place. Other couplings of the network stay valid."""
        first = self._group[0].dep
        self._graph.get_pruning_group(first.target.module, first.handler, list(filters)).prune()


def couplings(pieces: Sequence[Piece], exclude: Sequence[str] = ()) -> tuple[Coupling, ...]:
    """All couplings of the pieces of a network. exclude: patterns of layer names (`backbone.net.stem*`) whose outputs must stay.

    The network is traced in eval mode and left in it. Raises MissingExtraError without torch-pruning.
    """
    return tuple(coupling for piece in pieces for coupling in _of_piece(piece, exclude))


def _of_piece(piece: Piece, exclude: Sequence[str]) -> list[Coupling]:
    pruning = require("torch_pruning", EXTRA)
    graph = pruning.DependencyGraph()
    with torch.enable_grad():
        # an operation of the graph, so that what is bound to the input (a residual around the whole piece) is seen to be
        entered = piece.inputs.detach().clone().requires_grad_() * 1
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations that it takes to be elementwise: the result is run and checked afterwards
        graph.build_dependency(piece.net, example_inputs=entered, forward_fn=lambda net, inputs: piece.run(net, inputs), verbose=False)
    names = {module: piece.prefix + name for name, module in piece.net.named_modules()}
    kept = [*piece.kept.items(), *((pattern, f"exclude: {pattern}") for pattern in exclude)]
    groups = graph.get_all_groups(root_module_types=(nn.Conv2d, nn.Conv3d, nn.Linear))
    return [_coupling(graph, group, names, kept, entered.grad_fn) for group in groups]


def _coupling(graph: Any, group: Any, names: dict[nn.Module, str], kept: Sequence[tuple[str, str]], entry: Any) -> Coupling:
    members, reasons = [], []
    for item in group:
        module, handler = item.dep.target.module, item.dep.handler
        node, name = graph.module2node[module], names.get(module)
        writes = graph.is_out_channel_pruning_fn(handler)
        if writes and not node.outputs:
            reasons.append(PUT_OUT)
        if name is None:  # an operation without weights
            if node.grad_fn is entry:
                reasons.append("it is bound to the input")
        elif _in_groups(module):
            reasons.append(f"the channels of {name} are in groups")
        elif writes:
            members.append(Member(name, module, tuple(item.idxs), tuple(item.root_idxs)))
            reasons += [why for pattern, why in kept if fnmatchcase(name, pattern)]
    root = group[0].dep.target.module
    return Coupling(names[root], len(group[0].idxs), tuple(members), reasons[0] if reasons else None, group, graph)


def _in_groups(module: nn.Module) -> bool:
    """Whether a convolution has groups of several channels, so that each would have to lose as many."""
    return isinstance(module, nn.Conv2d | nn.Conv3d) and 1 < module.groups < module.in_channels
