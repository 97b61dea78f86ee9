"""Backbones of which each kind has a small one that every run of the tests builds; the others are marked slow."""

from collections.abc import Iterable

import pytest

QUICK = {"tiny3d", "mobilenet_v3_small", "mc3_18", "x3d_xs", "swin3d_t"}


def quick_first(names: Iterable[str], quick: set[str] = QUICK) -> list[object]:
    """Parameters of a test, in their order."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]
