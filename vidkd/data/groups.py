"""Held-out groups and label fractions: subsets of the training clips that never cut a group in two."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from vidkd.base.errors import ConfigError
from vidkd.data.manifest import Clip

ATTEMPTS = 16  # orders to try where groups of several classes get in each other's way
OVERSIZED = 2.0  # a group with more than this many times the clips of its class's average group is taken last

_Counts: TypeAlias = Mapping[str, Counter[int]]  # group -> label -> clips


def hold_out_groups(clips: Sequence[Clip], fraction: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Split training clips into (train, val): no group on both sides, every class on both where its groups allow it.

    About `fraction` of each class's clips are held out; more where one group of a class is more. Training never loses the last group of
    a class, so a class with one group stays in training; so does one whose every group is some class's last. A group may hold several
    classes. Both lists keep the order of `clips`; the choice depends on the seed and the clips' groups and labels, not on their order.
    Unlabelled clips go with their group. Raises ConfigError unless 0 <= fraction < 1; 0 holds nothing out.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"the fraction to hold out must be at least 0 and below 1, found {fraction:g}")
    held = _held_out(_count(clips), fraction, seed) if fraction else set()
    return [clip for clip in clips if clip.group not in held], [clip for clip in clips if clip.group in held]


def label_fraction(clips: Sequence[Clip], fraction: float, seed: int) -> list[Clip]:
    """The clips of `fraction` of the groups (rounded up), as evenly over the classes as groups allow, at least one group a class.

    Nested: with the same seed a smaller fraction is a subset of a larger one. Keeps the order of `clips`. Groups without a
    labelled clip cost no label and are kept. fraction: in (0, 1].
    """
    counts = _count(clips)
    order = _balanced_order(counts, str(seed))
    first = {label: place for place, group in reversed([*enumerate(order, start=1)]) for label in counts[group]}  # of each class
    # 0.1 * 30 is 3.0000000000000004 in floating point: not a fourth group
    kept = set(order[: max(math.ceil(fraction * len(order) - 1e-9), *first.values(), 0)])
    return [clip for clip in clips if clip.group in kept or clip.group not in counts]


def labels_per_class(clips: Sequence[Clip], count: int, seed: int) -> list[Clip]:
    """`count` labelled clips of each class (all that there are, where these are fewer), from as many groups as possible.

    Nested: with the same seed a smaller count is a subset of a larger one. Keeps the order of `clips`; those without a label cost none
    and are kept.
    """
    turns: Counter[tuple[int | None, str]] = Counter()
    ranks: dict[int | None, list[tuple[int, bytes, int]]] = {}
    for number in sorted(range(len(clips)), key=lambda number: _draw(str(seed), f"{clips[number].path} {clips[number].start_s}")):
        clip = clips[number]
        if clip.is_labelled:
            ranks.setdefault(clip.label, []).append((turns[clip.label, clip.group], _draw(str(seed), clip.group), number))
            turns[clip.label, clip.group] += 1
    kept = {number for rank in ranks.values() for *_, number in sorted(rank)[:count]}
    return [clip for number, clip in enumerate(clips) if number in kept or not clip.is_labelled]


def group_folds(clips: Sequence[Clip], folds: int, seed: int) -> list[int]:
    """The part (0 to `folds` - 1) of each clip for cross-validation: whole groups, of each class about as many in every part.

    Fewer parts are used where there are fewer groups. Depends on the seed and the clips' groups and labels, not on their order.
    """
    waiting = _queues(_count(clips), str(seed))
    order = dict.fromkeys(group for label in sorted(waiting) for group in reversed(waiting[label]))
    order |= dict.fromkeys(sorted({clip.group for clip in clips}, key=lambda group: _draw(str(seed), group)))  # those without a label last
    part = {group: number % folds for number, group in enumerate(order)}
    return [part[clip.group] for clip in clips]


def _held_out(counts: _Counts, fraction: float, seed: int) -> set[str]:
    """The groups of the first walk that brings every class with two groups; of the walk that brings most, if none of ATTEMPTS does."""
    most = sum(groups >= 2 for groups in _groups_of_each(counts).values())
    best: set[str] = set()
    covers = -1
    for attempt in range(ATTEMPTS):
        held = _walk(_balanced_order(counts, f"{seed}/{attempt}" if attempt else str(seed)), counts, fraction)
        covered = len({label for group in held for label in counts[group]})
        best, covers = (held, covered) if covered > covers else (best, covers)
        if covers == most:
            break
    return best


def _walk(order: Sequence[str], counts: _Counts, fraction: float) -> set[str]:
    """Hold groups out, in order, that bring the classes closer to `fraction` or a class not yet held out; never the last of a class."""
    left, total = _groups_of_each(counts), _clips_of_each(counts)
    wanted = {label: fraction * clips for label, clips in total.items()}
    held: set[str] = set()
    covered: set[int] = set()
    for group in order:
        closer = sum((abs(wanted[label]) - abs(wanted[label] - clips)) / total[label] for label, clips in counts[group].items())
        if all(left[label] > 1 for label in counts[group]) and (closer > 0 or counts[group].keys() - covered):
            held.add(group)
            covered |= counts[group].keys()
            left.subtract(counts[group].keys())
            for label, clips in counts[group].items():
                wanted[label] -= clips
    return held


def _count(clips: Sequence[Clip]) -> _Counts:
    """Clips with a label of any kind; those with further labels alone are a class of their own, -1."""
    counts: dict[str, Counter[int]] = {}
    for clip in clips:
        if clip.is_labelled:
            counts.setdefault(clip.group, Counter())[-1 if clip.label is None else clip.label] += 1
    return counts


def _groups_of_each(counts: _Counts) -> Counter[int]:
    return Counter(label for group in counts.values() for label in group)


def _clips_of_each(counts: _Counts) -> Counter[int]:
    return sum(counts.values(), Counter[int]())


def _balanced_order(counts: _Counts, seed: str) -> list[str]:
    """All groups in a seeded order of which every beginning is balanced: next comes a group of the class furthest behind.

    First one group for each class, the rarest first; then by Webster's rule, the smallest (taken + 1/2) / total. The idea is that of
    iterative stratification (Sechidis et al. 2011).
    """
    total = _groups_of_each(counts)
    waiting = _queues(counts, seed)
    draw = {label: _draw(seed, str(label)) for label in total}
    taken = Counter[int]()

    def entry(label: int) -> tuple[bool, float, bytes, int, int]:
        behind = (taken[label] + 0.5) / total[label] if taken[label] else total[label]
        return (taken[label] > 0, behind, draw[label], label, taken[label])

    heap = [entry(label) for label in total]
    heapq.heapify(heap)
    order: dict[str, None] = {}
    while heap:
        *_, label, then_taken = heapq.heappop(heap)
        while waiting[label] and waiting[label][-1] in order:  # taken for another of its classes
            waiting[label].pop()
        if then_taken != taken[label] or not waiting[label]:
            continue  # an entry from before that
        group = waiting[label].pop()
        order[group] = None
        for other in counts[group]:
            taken[other] += 1
            heapq.heappush(heap, entry(other))
    return list(order)


def _queues(counts: _Counts, seed: str) -> dict[int, list[str]]:
    """For each class its groups, the next one last: in a drawn order, but oversized groups after the others.

    One film can hold most clips of a class; drawn early, it would be most of a small share of the class, or leave training little.
    """
    groups, clips = _groups_of_each(counts), _clips_of_each(counts)
    limit = {label: OVERSIZED * clips[label] / groups[label] for label in groups}
    keys = {group: (any(n > limit[label] for label, n in counts[group].items()), _draw(seed, group)) for group in counts}
    queues: dict[int, list[str]] = {}
    for group in sorted(counts, key=keys.__getitem__, reverse=True):
        for label in counts[group]:
            queues.setdefault(label, []).append(group)
    return queues


def _draw(seed: str, name: str) -> bytes:
    """A pseudo-random key that depends on the seed and the name alone: adding a group does not reshuffle the others."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
