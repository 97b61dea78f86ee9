"""An exponential moving average of a network's weights while it trains."""

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class MovingAverage:
    """A second network, `model`, whose weights follow those of `student`: decay * average + (1 - decay) * student after every update.

    The first update copies. Running statistics are averaged as the weights are; counters are copied. decay in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.model = copy.deepcopy(student)
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Follow the student by one step."""
        for average, value in zip(_tensors(self.model), _tensors(student), strict=True):
            if self.updates == 0 or not average.is_floating_point():
                average.copy_(value)
            else:
                average.lerp_(value, 1 - self.decay)
        self.updates += 1

    def restore(self, state: dict[str, Tensor], updates: int) -> None:
        """Put back the weights of `model` and the number of updates that made them."""
        self.model.load_state_dict(state)
        self.updates = updates


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
