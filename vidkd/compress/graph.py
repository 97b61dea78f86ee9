"""Which filters must go together: the dependency graph of a network, by torch-pruning (Fang et al. 2023, DepGraph, arXiv 2301.12900).

The graph is traced on pieces of a network (`vidkd.compress.traced`). What a piece puts out is spared, since whoever reads it counts on its
size: heads, attention maps and the raw heads of detectors are found by that, without being named.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from vidkd.base.extras import require
from vidkd.compress.traced import Piece

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

    name: the layer that stands for them. filters: how many there are. members: layers whose outputs they are, in no particular order.
    spared: why they must stay, None if they may go.
    """

    name: str
    filters: int
    members: tuple[Member, ...]
    spared: str | None
    _group: Any
    _graph: Any

    def remove(self, filters: Sequence[int]) -> None:
        """Take these filters out of every layer concerned, in place. Other couplings of the network stay valid."""
        first = self._group[0].dep
        self._graph.get_pruning_group(first.target.module, first.handler, list(filters)).prune()


def couplings(pieces: Sequence[Piece], spare: Sequence[str] = ()) -> tuple[Coupling, ...]:
    """All couplings of the pieces of a network. spare: patterns of layer names (`backbone.net.stem*`) whose outputs must stay.

    The network is traced in eval mode and left in it. Raises MissingExtraError without torch-pruning.
    """
    return tuple(coupling for piece in pieces for coupling in _of_piece(piece, spare))


def _of_piece(piece: Piece, spare: Sequence[str]) -> list[Coupling]:
    pruning = require("torch_pruning", EXTRA)
    graph = pruning.DependencyGraph()
    with torch.enable_grad():
        # an operation of the graph, so that what is bound to the input (a residual around the whole piece) is seen to be
        entered = piece.inputs.detach().clone().requires_grad_() * 1
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operations that it takes to be elementwise: the result is run and checked afterwards
        graph.build_dependency(piece.net, example_inputs=entered, forward_fn=lambda net, inputs: piece.run(net, inputs), verbose=False)
    names = {module: piece.prefix + name for name, module in piece.net.named_modules()}
    kept = [*piece.kept.items(), *((pattern, f"spare: {pattern}") for pattern in spare)]
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
