"""What a step of compression gives: the new network, the plan that rebuilds it, and what it cost and costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from vidkd.base.errors import ConfigError
from vidkd.models.classifier import ClassifierOutput
from vidkd.models.darknet import Darknet
from vidkd.models.macs import NetworkCost

Net = TypeVar("Net", bound=nn.Module)
EXCLUDE = "exclude the layers concerned: what they do to their channels is not understood"


@dataclass(frozen=True, kw_only=True)
class Compressed(Generic[Net]):
    """One step of compression, done.

    model: the new network, in the mode of the old one, which is untouched. plan: plain values, for `vidkd.models.changes` (a darknet is
    rebuilt from its cfg instead). layers: what was done to each layer, in words. left: layers that were not changed, and why.
    before, after: costs of one pass of the example.
    """

    model: Net
    plan: dict[str, Any]
    layers: Mapping[str, str]
    left: Mapping[str, str]
    before: NetworkCost
    after: NetworkCost

    @property
    def notes(self) -> dict[str, dict[str, str]]:
        """What happened to every layer, as plain values."""
        return {"layers": dict(self.layers), "left": dict(self.left)}


def checked_outputs(net: nn.Module, example: Tensor, like: nn.Module) -> None:
    """Run both networks, in eval mode. Raises ConfigError if `net` fails, or puts out other shapes than `like` (features aside)."""
    try:
        found = _shapes(net, example)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError("the compressed network does not run: its layers no longer fit together", reason=error, hint=EXCLUDE) from error
    expected = _shapes(like, example)
    if found != expected:
        raise ConfigError("the compressed network puts out other shapes", found=found, expected=expected, hint=EXCLUDE)


def _shapes(net: nn.Module, example: Tensor) -> list[tuple[int, ...]]:
    net.eval()
    with torch.no_grad():
        given = net(example)
    if isinstance(given, ClassifierOutput):
        given = (given.logits, *given.attention.values(), *given.targets.values())
    return [tuple(each.shape) for each in ((given,) if isinstance(given, Tensor) else given)]


def restore_modes(made: nn.Module, like: nn.Module) -> None:
    """Put every module into the training or eval mode of that of the same name, new ones into that of the network.

    A darknet has that of the network everywhere, since its numbers may have changed.
    """
    modes = {} if isinstance(made, Darknet) else {name: module.training for name, module in like.named_modules()}
    for name, module in made.named_modules():
        module.training = modes.get(name, like.training)
