"""Multiply-accumulates and parameters of a network, counted while it runs: convolutions, matrix products, attention.

torch counts them at the operations that it dispatches, so that products without a layer are not missed. Additions, normalisation,
activations and pooling count nothing, as is usual.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

aten = torch.ops.aten


def _attention(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_others: object, **_named: object) -> int:
    """What torch does not count by itself: its attention on a CPU."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What one forward pass costs.

    macs: multiply-accumulates of the input as it was given, all samples of the batch. parameters: how many numbers are trained or frozen,
    shared ones once. layers: macs of each layer that has a weight and ran as a module, by its name in the network ("" for a bare layer);
    those of a weight that another module reads are only in the sum.
    """

    macs: int
    parameters: int
    layers: Mapping[str, int]


def network_cost(net: nn.Module, *inputs: Tensor) -> NetworkCost:
    """Run `net` once on `inputs`, in eval mode and without gradients, and count; its mode is restored."""
    modes, fused = {module: module.training for module in net.modules()}, torch.backends.mha.get_fastpath_enabled()
    try:
        net.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole attention layer, which hides its products
        with (
            torch.no_grad(),
            FlopCounterMode(display=False, custom_mapping={aten._scaled_dot_product_flash_attention_for_cpu: _attention}) as counter,
        ):
            net(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training
    # two operations are one MAC; names begin with the class of the network
    macs = {name.partition(".")[2]: sum(counts.values()) // 2 for name, counts in counter.get_flop_counts().items()}
    layers = {
        name: macs[name]
        for name, module in net.named_modules()
        if name in macs and isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim > 1
    }
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return NetworkCost(macs=counter.get_total_flops() // 2, parameters=parameters, layers=layers)
