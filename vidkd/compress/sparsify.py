"""Unstructured sparsity: single weights of small magnitude become zero.

It makes a file smaller once that is compressed. It saves no time and no memory on a runtime of dense tensors, which multiplies zeros as
fast as anything else; for speed whole filters must go (`vidkd.compress.prune`).
"""

import copy
import dataclasses
import math
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.compress.config import SparsifyConfig
from vidkd.compress.outcome import Compressed, Net
from vidkd.models.macs import network_cost

Zeros = Mapping[str, Tensor]
"""Names of weights -> masks of their shape, True where a weight stays zero."""


def sparsify(net: Net, example: Tensor, config: SparsifyConfig) -> Compressed[Net]:
    """Set the weights of smallest magnitude to zero (Han et al. 2015, arXiv 1506.02626), those that are zero already first.

    The plan changes no shape: the weights say it all, and `layers` says how many of each layer are zero. `zeros` and `keep_zeros` hold them
    through a repair. Raises ConfigError if the network has no layer that may be thinned, or one would lose all its weights.
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
    return Compressed(
        model=made,
        plan={"kind": "sparsify", "settings": {**dataclasses.asdict(config), "spare": list(config.spare)}, "layers": {}},
        layers={name: f"{int((weight == 0).sum())} of {weight.numel()} weights are zero" for name, weight in weights.items()},
        left={name: "spare" for name in _layers(made) if name not in weights},
        before=cost,
        after=cost,
    )


def zeros(net: nn.Module) -> Zeros:
    """The weights of convolutions and linear layers that are zero now, by name."""
    return {f"{name}.weight": layer.weight.detach() == 0 for name, layer in _layers(net).items() if bool((layer.weight == 0).any())}


@torch.no_grad()
def keep_zeros(net: nn.Module, kept: Zeros) -> None:
    """Set the weights of `kept` to zero again, in place: after every step of the optimiser that repairs a sparse network."""
    for name, mask in kept.items():
        net.get_parameter(name).masked_fill_(mask, 0)


def compressed_bytes(net: nn.Module) -> int:
    """Size of all tensors of a network, as they lie in memory, after zlib at its strongest: what sparsity is good for."""
    packer, size = zlib.compressobj(9), 0
    for tensor in net.state_dict().values():
        size += len(packer.compress(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()))
    return size + len(packer.flush())


def _layers(net: nn.Module) -> dict[str, nn.Conv2d | nn.Conv3d | nn.Linear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)}


def _weights(net: nn.Module, config: SparsifyConfig) -> dict[str, Tensor]:
    kept = {name for name in _layers(net) if any(fnmatchcase(name, pattern) for pattern in config.spare)}
    return {name: layer.weight for name, layer in _layers(net).items() if name not in kept}


def _counts(weights: Mapping[str, Tensor], config: SparsifyConfig) -> dict[str, int]:
    """How many weights of each layer become zero."""
    if config.scope == "uniform":
        return {name: math.floor(config.ratio * weight.numel() + 0.5) for name, weight in weights.items()}
    every = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    owners = torch.repeat_interleave(torch.tensor([weight.numel() for weight in weights.values()]))
    lowest = torch.argsort(every, stable=True)[: math.floor(config.ratio * len(every) + 0.5)]
    counts = torch.bincount(owners[lowest.cpu()], minlength=len(weights))
    return dict(zip(weights, counts.tolist(), strict=True))
