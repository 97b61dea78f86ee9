"""Which filters go, by their scores: pure arithmetic."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vidkd.base.errors import ConfigError
from vidkd.compress.config import PruneConfig


def filters_to_remove(
    scores: Mapping[str, Tensor], config: PruneConfig, *, share: float, whole: Mapping[str, int] | None = None
) -> dict[str, list[int]]:
    """For each layer the filters of lowest score, in ascending order, so that `share` of all ("global") or of each ("uniform") goes.

    whole: how many filters each layer had before the first step, of which `most_of_layer` is a share; by default those that it has.
    Counts are rounded to the nearest, halves up; equal scores go in the order of layers and filters.
    Raises ConfigError if a layer would lose all its filters, or if `most_of_layer` admits less than the share.
    """
    if config.scope == "uniform":
        counts = {name: _nearest(share * len(values)) for name, values in scores.items()}
    else:
        counts = _global_counts(scores, config, share, whole or {})
    for name, count in counts.items():
        if count >= len(scores[name]):
            raise ConfigError(
                f"pruning by {share:.3g} would remove all {len(scores[name])} filters of {name}",
                hint="a smaller ratio, scope 'global' with most_of_layer below 1, or spare this layer",
            )
    return {name: sorted(_ascending(scores[name])[:count]) for name, count in counts.items() if count}


def _ascending(values: Tensor) -> list[int]:
    return [int(index) for index in torch.argsort(values, stable=True)]


def _global_counts(scores: Mapping[str, Tensor], config: PruneConfig, share: float, whole: Mapping[str, int]) -> dict[str, int]:
    most = {}
    for name, values in scores.items():
        first = whole.get(name, len(values))
        most[name] = max(0, math.floor(config.most_of_layer * first + 1e-9) - (first - len(values)))
    total = sum(len(values) for values in scores.values())
    wanted = _nearest(share * total)
    if wanted > sum(most.values()):
        raise ConfigError(
            f"pruning by {share:.3g} would remove {wanted} of {total} filters, but only {sum(most.values())} may go",
            most_of_layer=config.most_of_layer,
            hint="a smaller ratio or a larger most_of_layer",
        )
    owners = [name for name, values in scores.items() for _ in range(len(values))]
    counts = dict.fromkeys(scores, 0)
    for index in _ascending(torch.cat(list(scores.values()))):
        if wanted and counts[owners[index]] < most[owners[index]]:
            counts[owners[index]] += 1
            wanted -= 1
    return counts


def _nearest(number: float) -> int:
    return math.floor(number + 0.5)
