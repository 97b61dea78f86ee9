"""Held-out groups and label fractions: subsets of the training clips that never cut a group in two."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from vidkd.base.errors import ConfigError
from vidkd.data.manifest import Clip

ATTEMPTS = 16  # orders to try where groups of several classes get in each other's way


def hold_out_groups(clips: Sequence[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Split training clips into (train, val): no group on both sides, every class on both where its groups allow it.

    About `fraction` of the clips are held out; more where each class's one group asks for it. Training never loses the last group of
    a class, so a class with one group stays in training; so does one whose every group is some class's last. A group may hold several
    classes. Both lists keep the order of `clips`; the choice depends on the seed and the clips' groups and labels, not on their order.
    Unlabelled clips go with their group. Raises ConfigError unless 0 <= fraction < 1; 0 holds nothing out.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"the fraction to hold out must be at least 0 and below 1, found {fraction:g}")
    held = _held_out(clips, fraction, seed) if fraction else set()
    return [clip for clip in clips if clip.group not in held], [clip for clip in clips if clip.group in held]


def label_fraction(clips: Sequence[Clip], fraction: float, seed: int) -> list[Clip]:
    """The clips of `fraction` of the groups (rounded up), as evenly over the classes as groups allow, at least one group a class.

    Nested: with the same seed a smaller fraction is a subset of a larger one. Keeps the order of `clips`. Groups without a
    labelled clip cost no label and are kept. Raises ConfigError unless 0 < fraction <= 1.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"the fraction of labels must be above 0 and at most 1, found {fraction:g}")
    labels = _labels_by_group(clips)
    order = _balanced_order(labels, str(seed))
    # 0.1 * 30 is 3.0000000000000004 in floating point: not a fourth group
    kept = set(order[: max(math.ceil(fraction * len(order) - 1e-9), _covering(order, labels))])
    return [clip for clip in clips if clip.group in kept or clip.group not in labels]


def _held_out(clips: Sequence[Clip], fraction: float, seed: int) -> set[str]:
    """The groups of the first walk that brings every class with two groups; of the walk that brings most, if none of ATTEMPTS does."""
    labels = _labels_by_group(clips)
    size = Counter(clip.group for clip in clips)
    total = Counter(label for group in labels.values() for label in group)
    most = sum(groups >= 2 for groups in total.values())
    best: set[str] = set()
    covers = -1
    for attempt in range(ATTEMPTS):
        held = _walk(_balanced_order(labels, f"{seed}/{attempt}" if attempt else str(seed)), labels, size, total, fraction)
        covered = len({label for group in held for label in labels[group]})
        best, covers = (held, covered) if covered > covers else (best, covers)
        if covers == most:
            break
    return best


def _walk(
    order: Sequence[str], labels: Mapping[str, set[int]], size: Mapping[str, int], total: Mapping[int, int], fraction: float
) -> set[str]:
    """Hold groups out, in order, while clips are wanted or a group brings a class not yet held out; never the last one of a class."""
    left = Counter(total)
    wanted = fraction * sum(size[group] for group in labels)
    held: set[str] = set()
    covered: set[int] = set()
    for group in order:
        if any(left[label] == 1 for label in labels[group]):
            continue
        if size[group] < 2 * wanted or labels[group] - covered:  # the first: it brings the number held out closer to what is wanted
            held.add(group)
            covered |= labels[group]
            left.subtract(labels[group])
            wanted -= size[group]
    return held


def _labels_by_group(clips: Sequence[Clip]) -> dict[str, set[int]]:
    labels: dict[str, set[int]] = {}
    for clip in clips:
        if clip.label is not None:
            labels.setdefault(clip.group, set()).add(clip.label)
    return labels


def _balanced_order(labels: Mapping[str, set[int]], seed: str) -> list[str]:
    """All groups in a seeded order of which every beginning is balanced: next comes a group of the class furthest behind.

    Behind: the smallest share of its groups taken. The same idea as iterative stratification (Sechidis et al. 2011).
    """
    waiting: dict[int, list[str]] = {}
    for group in sorted(labels, key=lambda group: _draw(seed, group), reverse=True):
        for label in labels[group]:
            waiting.setdefault(label, []).append(group)
    total = {label: len(groups) for label, groups in waiting.items()}
    taken = Counter[int]()
    draw = {label: _draw(seed, str(label)) for label in waiting}
    heap = [(0.0, total[label], draw[label], label) for label in waiting]
    heapq.heapify(heap)
    order: dict[str, None] = {}
    while heap:
        share, *_, label = heapq.heappop(heap)
        while waiting[label] and waiting[label][-1] in order:  # taken for another of its classes
            waiting[label].pop()
        if share != taken[label] / total[label] or not waiting[label]:
            continue  # an entry from before that
        group = waiting[label].pop()
        order[group] = None
        for other in labels[group]:
            taken[other] += 1
            heapq.heappush(heap, (taken[other] / total[other], total[other], draw[other], other))
    return list(order)


def _covering(order: Sequence[str], labels: Mapping[str, set[int]]) -> int:
    """How many groups of the order it takes until every class has one."""
    first: dict[int, int] = {}
    for position, group in enumerate(order, start=1):
        for label in labels[group]:
            first.setdefault(label, position)
    return max(first.values(), default=0)


def _draw(seed: str, name: str) -> bytes:
    """A pseudo-random key that depends on the seed and the name alone: adding a group does not reshuffle the others."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
