"""How much of what was learned stays: weights between those that a student began with and those that it has come to."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

MEMORY = 0.8
"""Weight of what was, in the running mean of the shares at which `Update.interpolate` goes on."""


class Retention:
    """Interpolation in the space of weights (Wortsman et al. 2022, arXiv 2109.01903, who fix the share); the rest is ours.

    began: the weights that a student begins with; empty where nothing is ever pulled back. retain: `Update.retain`.
    mean_share: of the shares chosen since something was learned; None before.
    """

    def __init__(self, began: list[Tensor], retain: float) -> None:
        self._began, self._retain = began, retain
        self.mean_share: float | None = None

    def at(self, share: float, here: list[Tensor]) -> list[Tensor]:
        """Weights a share of the way from those at the beginning to these."""
        return here if share == 1 else [began.lerp(now, share) for began, now in zip(self._began, here, strict=True)]

    def after_update(self, reached: list[Tensor]) -> list[Tensor]:
        """What an update leaves of the weights that its steps reached."""
        if self.mean_share is None:
            self.mean_share = 1.0
        return self.at(self._retain * self.mean_share, reached)

    def chosen(self, share: float) -> None:
        """A share was chosen on a new key frame; it means nothing before something was learned."""
        if self.mean_share is not None:
            self.mean_share = MEMORY * self.mean_share + (1 - MEMORY) * share

    def state(self) -> dict[str, Any]:
        """Plain values and tensors on the processor."""
        return {"began": [value.cpu().clone() for value in self._began], "mean_share": self.mean_share}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.mean_share = state["mean_share"]
        self._began = [value.to(here) for value, here in zip(state["began"], self._began, strict=True)]
