"""Losses between feature maps of which the contents may have shifted: a student that sees the past, a teacher that sees the future.

A family reconstructed from the idea of Tran, Wang, Hoai 2019 (arXiv 1904.04868), whose own loss is not public. All are pure functions of
(B, C, T, H, W) pairs with equal C and free T, H, W, in one unit: 0 for equal features, about 1 for unrelated ones around zero (see `sets`).
After a ReLU, where features are not around zero, only `position` and `window` keep what unrelated ones cost at another size: `pooled` and
`gram` fall as positions grow, `attentive` and `transport` less so, and their weights are to be tuned again.
"""

from collections.abc import Callable

from torch import Tensor

from vidkd.losses.shift_tolerant.attentive import attentive
from vidkd.losses.shift_tolerant.moments import gram, pooled
from vidkd.losses.shift_tolerant.position import position
from vidkd.losses.shift_tolerant.transport import transport
from vidkd.losses.shift_tolerant.window import window

SHIFT_TOLERANT: dict[str, Callable[..., Tensor]] = {
    "position": position,
    "pooled": pooled,
    "gram": gram,
    "attentive": attentive,
    "window": window,
    "transport": transport,
}

__all__ = ["SHIFT_TOLERANT", "attentive", "gram", "pooled", "position", "transport", "window"]
