"""Multiply-accumulates and parameters of a network, counted while it runs: convolutions, matrix products, attention.

Counted below the modules, at the operations that torch dispatches, so that subclasses of a layer and products without a layer are not
missed. Additions, normalisation, activations and pooling count nothing, as is usual.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What one forward pass costs.

    macs: multiply-accumulates of the input as it was given, all samples of the batch. parameters: how many numbers are trained or frozen,
    shared ones once. layers: macs of each layer that has a weight, by its name in the network ("" for a bare layer). products: those of
    products between activations (attention), which no layer owns. called: layers that ran as modules; the weights of others were read past
    them.
    """

    macs: int
    parameters: int
    layers: Mapping[str, int]
    products: int
    called: frozenset[str]


def network_cost(net: nn.Module, *inputs: Tensor) -> NetworkCost:
    """Run `net` once on `inputs`, in eval mode and without gradients, and count; its mode is restored.

    FlopCounterMode of torch counts the same twice over (a MAC is two operations). Raises NotImplementedError for an operation that
    torch counts and this function does not know: nothing is left out in silence.
    """
    owners = {parameter.untyped_storage().data_ptr(): name.rpartition(".")[0] for name, parameter in net.named_parameters()}
    called: set[str] = set()
    hooks = [module.register_forward_pre_hook(_noting(called, name)) for name, module in net.named_modules()]
    modes = {module: module.training for module in net.modules()}
    counting, fused = _Counting(owners), torch.backends.mha.get_fastpath_enabled()
    try:
        net.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one operation for a whole attention layer, which hides its products
        with torch.no_grad(), counting:
            net(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    layers = dict(counting.layers)
    return NetworkCost(
        macs=sum(layers.values()) + counting.products,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        layers=layers,
        products=counting.products,
        called=frozenset(called & layers.keys()),
    )


def _noting(called: set[str], name: str) -> Callable[[nn.Module, Any], None]:
    return lambda _module, _inputs: called.add(name)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the MACs of all that is dispatched. owners: address of a parameter's memory -> layer; views of a weight share it."""

    def __init__(self, owners: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owners = owners
        self.layers: Counter[str] = Counter()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in _MACS:
            self._add(_MACS[packet](args, result), args)
        elif packet in flop_registry:
            raise NotImplementedError(f"the multiply-accumulates of {packet} are not known")
        return result

    def _add(self, macs: int, args: tuple[Any, ...]) -> None:
        for each in args:
            owner = self.owners.get(each.untyped_storage().data_ptr()) if isinstance(each, Tensor) and each.ndim > 1 else None
            if owner is not None:
                self.layers[owner] += macs
                return
        self.products += macs


def _convolution(args: tuple[Any, ...], result: Tensor) -> int:
    """Every value of the output (of the input where transposed) meets all that one filter holds."""
    inputs, weight, transposed = args[0], args[1], bool(args[6])
    return int((inputs if transposed else result).numel() * math.prod(weight.shape[1:]))


def _product(first: int) -> Callable[[tuple[Any, ...], Tensor], int]:
    """A matrix product whose left factor is argument `first`."""
    return lambda args, result: int(result.numel() * args[first].shape[-1])


def _attention(args: tuple[Any, ...], _result: Any) -> int:
    """Queries (B, H, S, E), keys (B, H, L, E), values (B, H, L, F): S x L products of E, and as many of F."""
    query, key, value = args[:3]
    return int(math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


_MACS: dict[Any, Callable[[tuple[Any, ...], Any], int]] = {
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten.mm: _product(0),
    aten.bmm: _product(0),
    aten.addmm: _product(1),
    aten.baddbmm: _product(1),
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}
