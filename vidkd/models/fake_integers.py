"""Quantisation-aware training: layers round weights and inputs as the integer file will, gradients pass as if they did not.

Straight-through estimator (Jacob et al. 2018, arXiv 1712.05877, section 3). Weights are rounded with a scale for each filter, so folding
batch normalisation into them later changes nothing; inputs in training with one scale, over the range of the batch at hand, in evaluation
with one for each sample, so that no prediction depends on the other samples of its batch. There is nothing to save: checkpoints are those
of the plain network.
"""

import functools

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError

WEIGHT_STEPS, INPUT_STEPS = 127, 255


def compute_in_fake_integers(net: nn.Module) -> list[str]:
    """Make every convolution and linear layer of a network round from now on, in place; returns their names.

    Weights that are read past their layer (those of torch's MultiheadAttention, Video Swin's) are not rounded. Raises ConfigError for a
    network without such layers.
    """
    found = {name: module for name, module in net.named_modules() if _is_plain(module)}
    if not found:
        raise ConfigError("train.integers rounds convolutions and linear layers, and this network has none")
    for module in found.values():
        module.__class__ = _rounding(type(module))  # type: ignore[arg-type]  # classes can be hashed
    return list(found)


def rounded_weight(weight: Tensor) -> Tensor:
    """Weights (O, ...) on a grid of 127 steps to either side, symmetric, a scale for each of the O filters; gradient as of the identity."""
    scale = weight.detach().abs().flatten(1).amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / WEIGHT_STEPS
    scale = scale.view(-1, *(1,) * (weight.ndim - 1))
    return _straight_through(weight, (weight / scale).round() * scale)


def rounded_input(values: Tensor, *, per_sample: bool = False) -> Tensor:
    """Activations on a grid of 255 steps from their least to their largest value, which holds zero exactly; gradient as of the identity.

    per_sample: each entry of the first dimension has a range, and so a grid, of its own.
    """
    given = values.detach()
    over = tuple(range(int(per_sample), values.ndim))
    low, high = given.amin(over, keepdim=True).clamp(max=0), given.amax(over, keepdim=True).clamp(min=0)
    scale = ((high - low) / INPUT_STEPS).clamp(min=torch.finfo(values.dtype).tiny)
    zero = (-low / scale).round()
    return _straight_through(values, ((values / scale).round() + zero).clamp(0, INPUT_STEPS).sub(zero) * scale)


def _straight_through(values: Tensor, rounded: Tensor) -> Tensor:
    return values + (rounded - values).detach()


class _Rounding(nn.Module):
    """The mixin that is put before the class of a layer."""

    def forward(self, input: Tensor) -> Tensor:
        values, weight = rounded_input(input, per_sample=not self.training), rounded_weight(self.get_parameter("weight"))
        if isinstance(self, nn.Linear):
            return nn.functional.linear(values, weight, self.bias)
        assert isinstance(self, nn.Conv2d | nn.Conv3d)
        convolved: Tensor = self._conv_forward(values, weight, self.bias)
        return convolved


@functools.cache
def _rounding(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f"Rounding{kind.__name__}", (_Rounding, kind), {})


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer multiplies by its weight as torch's own classes do; one with a forward of its own is left unchanged."""
    return type(module).forward in (nn.Conv2d.forward, nn.Conv3d.forward, nn.Linear.forward)
