"""Unstructured sparsity: single weights of small magnitude become zero.

It makes a file smaller once that is compressed. It saves no time and no memory on a runtime of dense tensors, which multiplies zeros as
fast as anything else; for speed whole filters must go (`vidkd.compress.prune`).
"""

import copy
import dataclasses
import math
import zlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import SparsifyConfig
from vidkd.compress.outcome import Compressed, Net
from vidkd.compress.patterns import matched
from vidkd.models.changes import apply_changes
from vidkd.models.macs import network_cost
from vidkd.models.sparse_weights import layers_with_weights

SIZE_NOT_SPEED = "size after compression, not speed: a runtime of dense tensors multiplies zeros as fast as anything else"
"""What is said wherever sizes or speeds of weights that are zero on purpose are told."""


def sparsify(net: Net, example: Tensor, config: SparsifyConfig) -> Compressed[Net]:
    """Set the weights of smallest magnitude to zero (Han et al. 2015, arXiv 1506.02626), those that are zero already first.

    The plan changes no shape: the weights say it all, and `layers` says how many of each layer are zero. A run that begins with the result
    (`init`) keeps them zero. Raises ConfigError if the network has no layer that may be thinned, or one would lose all its weights.
    """
    made = copy.deepcopy(net)
    weights = _weights(made, config)
    if not weights:
        raise ConfigError("no layer of this network may lose weights", spare=", ".join(config.spare) or "none")
    counts = _counts(weights, config)
    for name, weight in weights.items():
        if counts[name] >= weight.numel():
            raise ConfigError(f"a ratio of {config.ratio:.3g} would zero all {weight.numel()} weights of {name}", to_mend="a smaller ratio")
        with torch.no_grad():
            smallest = torch.argsort(weight.abs().flatten(), stable=True)[: counts[name]]
            mask = torch.ones(weight.numel(), dtype=weight.dtype, device=weight.device)
            mask[smallest] = 0
            weight.mul_(mask.view_as(weight))
    cost = network_cost(net, example)
    plan = {"kind": "sparsify", "settings": {**dataclasses.asdict(config), "spare": list(config.spare)}, "layers": {}}
    apply_changes(made, [plan])
    return Compressed(
        model=made,
        plan=plan,
        layers={name: f"{int((weight == 0).sum())} of {weight.numel()} weights are zero" for name, weight in weights.items()},
        left={name: "spare" for name in layers_with_weights(made) if name not in weights},
        before=cost,
        after=cost,
    )


def compressed_bytes(net: nn.Module) -> int:
    """Size of all tensors of a network, as they lie in memory, after zlib at its strongest: what sparsity is good for."""
    return packed_bytes(
        tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() for tensor in net.state_dict().values()
    )


def packed_bytes(parts: Iterable[bytes]) -> int:
    """Size of these, one behind another, after zlib at its strongest."""
    packer = zlib.compressobj(9)
    return sum(len(packer.compress(part)) for part in parts) + len(packer.flush())


def _weights(net: nn.Module, config: SparsifyConfig) -> dict[str, Tensor]:
    kept = matched(config.spare, layers_with_weights(net), every=(name for name, _ in net.named_modules() if name))
    return {name: layer.weight for name, layer in layers_with_weights(net).items() if name not in kept}


def _counts(weights: Mapping[str, Tensor], config: SparsifyConfig) -> dict[str, int]:
    """How many weights of each layer become zero."""
    if config.scope == "uniform":
        return {name: math.floor(config.ratio * weight.numel() + 0.5) for name, weight in weights.items()}
    every = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    owners = torch.repeat_interleave(torch.tensor([weight.numel() for weight in weights.values()]))
    lowest = torch.argsort(every, stable=True)[: math.floor(config.ratio * len(every) + 0.5)]
    counts = torch.bincount(owners[lowest.cpu()], minlength=len(weights))
    return dict(zip(weights, counts.tolist(), strict=True))
