"""An exponential moving average of a classifier's weights while it trains."""

import dataclasses
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from vidkd.models import VideoClassifier


class MovingAverage:
    """A second classifier, `model`, whose weights follow those of `student`: decay * average + (1 - decay) * student after every update.

    The first update copies. Running statistics are averaged as the weights are; counters are copied. decay in [0, 1).
    """

    def __init__(self, student: VideoClassifier, decay: float) -> None:
        self.decay, self.updates = decay, 0
        config = dataclasses.replace(student.config, weights=None)
        with torch.random.fork_rng():  # the random weights that are overwritten draw nothing from the run's noise
            self.model = VideoClassifier(config, student.num_classes, student.view, student.targets)
        self.model.load_state_dict(student.state_dict())
        self.model.requires_grad_(False).to(next(student.parameters()).device)

    @torch.no_grad()
    def update(self, student: VideoClassifier) -> None:
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


def _tensors(model: VideoClassifier) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())
