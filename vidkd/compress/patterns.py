"""Layers named by patterns."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from vidkd.base.errors import unknown_name


def matched(patterns: Sequence[str], names: Iterable[str], *, every: Iterable[str] = ()) -> set[str]:
    """The names that a pattern like `backbone.net.stem*` fits. Raises ConfigError for a pattern that fits none of them, nor of `every`.

    every: further names that a pattern may mean, for which there is nothing to do.
    """
    known = list(names)
    others = [*known, *every]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in others):
            raise unknown_name("layer", pattern, others)
    return {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}
