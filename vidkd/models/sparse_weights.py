"""Weights that are zero and stay so through training."""

from collections.abc import Mapping

from torch import Tensor, nn

Zeros = Mapping[str, Tensor]
"""Names of weights -> masks of their shape, True where a weight is zero."""


def layers_with_weights(net: nn.Module) -> dict[str, nn.Conv2d | nn.Conv3d | nn.Linear]:
    """The convolutions and linear layers of a network, whose weights sparsity is about."""
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear)}


def zeros(net: nn.Module) -> Zeros:
    """The weights of convolutions and linear layers that are zero now, by name."""
    return {f"{name}.weight": layer.weight.detach() == 0 for name, layer in layers_with_weights(net).items() if (layer.weight == 0).any()}


def hold_zeros(net: nn.Module) -> Zeros:
    """Let no gradient reach the weights that are zero now: whatever optimiser begins afresh leaves them zero. Returns which these are.

    Weight decay shrinks weights, so zeros stay; an optimiser with momentum from before would move them once more.
    """
    held = zeros(net)
    for name, mask in held.items():
        net.get_parameter(name).register_hook(  # type: ignore[no-untyped-call]
            lambda gradient, mask=mask: gradient.masked_fill(mask.to(gradient.device), 0)
        )
    return held
