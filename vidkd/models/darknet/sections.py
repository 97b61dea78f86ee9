"""Sections put into a cfg between those that stand there: what refers to layers by number follows."""

import dataclasses
from collections.abc import Sequence

from vidkd.models.darknet.blocks import DarknetConfig, Layer, Route, Shortcut


def with_sections(config: DarknetConfig, sections: Sequence[Sequence[Layer]]) -> DarknetConfig:
    """The cfg in which each layer gives way to some sections, of which the last puts out what the layer did.

    sections: at least one for each layer. Where the last is a [route] or [shortcut], it refers to layers by the numbers of `config`; one
    before it refers to the sections right before itself, by negative numbers.
    """
    last, count = [], 0  # of each old layer, the new one that puts out what it did
    for parts in sections:
        count += len(parts)
        last.append(count - 1)
    layers = [part for old, (*new, kept) in enumerate(sections) for part in (*new, _renumbered(kept, old, last))]
    return dataclasses.replace(config, layers=tuple(layers))


def _renumbered(layer: Layer, old: int, last: Sequence[int]) -> Layer:
    """A layer that refers to others by number; `old` is its own number before."""

    def follow(number: int) -> int:
        return last[old + number] - last[old] if number < 0 else last[number]

    if isinstance(layer, Route):
        return dataclasses.replace(layer, layers=tuple(follow(number) for number in layer.layers))
    if isinstance(layer, Shortcut):
        return dataclasses.replace(layer, from_layer=follow(layer.from_layer))
    return layer
