"""A head of examples: a clip is what the training clip is that resembles it most."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NearestExample(nn.Module):
    """(B, D) -> logits (B, K): of each class the largest cosine similarity to one of its examples, divided by `temperature`.

    counts: examples of each class; one without any has the similarity -1. `weight` (N, D) holds the examples at length one, those of the
    first class first.
    """

    def __init__(self, channels: int, counts: Sequence[int], temperature: float) -> None:
        super().__init__()
        self.counts, self.temperature = list(counts), temperature
        self.weight = nn.Parameter(torch.zeros(sum(counts), channels), requires_grad=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits of pooled vectors."""
        similarity = F.normalize(pooled, dim=1) @ self.weight.T
        parts = iter(torch.split(similarity, [count for count in self.counts if count], dim=1))
        none = pooled.new_full((len(pooled),), -1.0)
        return torch.stack([next(parts).amax(1) if count else none for count in self.counts], dim=1) / self.temperature
