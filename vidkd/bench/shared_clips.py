"""The clips that two cells of a comparison were both judged on, where one of them can observe clips that the other cannot."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Content = Mapping[str, Any]
"""What a cell's file holds."""


def on_shared_clips(cells: Sequence[Content], others: Sequence[Content]) -> tuple[list[Content], list[Content]]:
    """The cells of which both sides have one of the same seed and fold, with the predictions of the clips that both were judged on.

    Cells that share no clip are left out; those that were judged on the same clips are as they were.
    """
    first, second = [], []
    for cell, other in _pairs(cells, others):
        rows, other_rows = shared_rows(cell["predictions"], other["predictions"])
        if rows:
            first.append(_with_rows(cell, rows))
            second.append(_with_rows(other, other_rows))
    return first, second


def left_out(cells: Sequence[Content], others: Sequence[Content]) -> tuple[int, int]:
    """How many clips one side alone was judged on, and how many there are in all, over the folds together; seeds judge the same clips."""
    by_fold = {}
    for cell, other in _pairs(cells, others):
        shared = len(shared_rows(cell["predictions"], other["predictions"])[0])
        whole = len(cell["predictions"]["clip"]) + len(other["predictions"]["clip"]) - shared
        by_fold[cell["fold"]] = (whole - shared, whole)
    return sum(alone for alone, _ in by_fold.values()), sum(whole for _, whole in by_fold.values())


def shared_rows(rows: Content, others: Content) -> tuple[list[int], list[int]]:
    """Places, on both sides, of the clips that both have.

    Both keep the order of the manifest. Clips of one file are told apart by their start, in cells that keep it, and by their label; where
    that leaves several, they are shared if both sides have as many, for else nobody knows which.
    """
    here, there = (_names(side, "start_s" in rows and "start_s" in others) for side in (rows, others))
    if here == there:
        return list(range(len(here))), list(range(len(there)))
    counts, other_counts = Counter(here), Counter(there)
    places = defaultdict(list)
    for place, name in enumerate(there):
        places[name].append(place)
    kept = [place for place, name in enumerate(here) if counts[name] == other_counts[name]]
    return kept, [places[here[place]].pop(0) for place in kept]


def _names(rows: Content, by_start: bool) -> list[tuple[Any, ...]]:
    columns = [rows[name] for name in ("clip", "group", "label", *(["start_s"] if by_start else []))]
    return list(zip(*columns, strict=True))


def _pairs(cells: Sequence[Content], others: Sequence[Content]) -> Iterator[tuple[Content, Content]]:
    against = {(other["seed"], other["fold"]): other for other in others}
    return ((cell, against[cell["seed"], cell["fold"]]) for cell in cells if (cell["seed"], cell["fold"]) in against)


def _with_rows(cell: Content, rows: Sequence[int]) -> Content:
    if len(rows) == len(cell["predictions"]["clip"]):
        return cell
    return {**cell, "predictions": {name: [column[row] for row in rows] for name, column in cell["predictions"].items()}}
