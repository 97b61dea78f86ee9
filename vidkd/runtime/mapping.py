"""The classes of one detector as those of another, by name."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidkd.base.errors import ConfigError
from vidkd.runtime.detections import Detections

UNKNOWN = -1


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassMapping:
    """labels: (number of source classes,) int64, the target's label of each, -1 where it has none.

    only_source, only_target: names that the other list lacks, in their order.
    """

    labels: NDArray[np.int64]
    only_source: tuple[str, ...]
    only_target: tuple[str, ...]

    def translate(self, detections: Detections) -> Detections:
        """The detections of the source with labels of the target; those of classes that it lacks are left out."""
        labels = self.labels[detections.labels]
        kept = detections.select(labels != UNKNOWN)
        return dataclasses.replace(kept, labels=labels[labels != UNKNOWN])


def map_classes(source: Sequence[str], target: Sequence[str], *, of: str = "two detectors") -> ClassMapping:
    """Match two lists of class names: those that are equal once case, underscores, hyphens and runs of spaces are levelled; no other guess.

    of: whose lists these are, for the message. Raises ConfigError if a list holds a name twice, once levelled, or if no name is in both.
    """
    places, known = _places(source), _places(target)
    labels = np.asarray([known.get(name, UNKNOWN) for name in places], np.int64)
    if not (labels != UNKNOWN).any():
        raise ConfigError(f"{of} have no class in common", first=_some(source), second=_some(target), hint="give both lists the same names")
    return ClassMapping(
        labels=labels,
        only_source=tuple(name for name, label in zip(source, labels, strict=True) if label == UNKNOWN),
        only_target=tuple(name for name, level in zip(target, known, strict=True) if level not in places),
    )


def _places(names: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if (level := _level(name)) in places:
            raise ConfigError(f"class names '{names[places[level]]}' and '{name}' are the same", hint="rename or remove one of them")
        places[level] = place
    return places


def _level(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
