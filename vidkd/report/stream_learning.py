"""Whether learning helped along a stream, in words and as a table: what its key frames can say of it, and what they cannot."""

import math
from collections.abc import Sequence

import numpy as np

from vidkd.bench.intervals import Cell, Interval, paired_difference
from vidkd.detection.metrics import IOU, SCORE
from vidkd.detection.online.account import Account, FrozenComparison
from vidkd.report.parts import Estimate, Table, format_number

STRETCHES = 20
"""Parts of a stream that are drawn as a whole for an interval: key frames that lie close are alike."""
FEWEST = 8
"""Key frames below which no verdict is given."""

DISAGREEMENT = (
    "Disagreement is 1 \N{MINUS SIGN} F1 of the student's boxes against the oracle's: 0 % where all boxes agree, 100 % where none does. "
    f"Boxes count from a score of {SCORE:g} on, on both sides (the student's from its own --score, where that is higher); two are the same "
    f"if they have one class and overlap with an IoU of at least {IOU:g}."
)
LIMITS = (
    "The oracle is taken as ground truth, though it errs too, and only key frames are judged, each before the student learned from it. "
    "Of the frames between them this says as much as they resemble the key frames, and nothing of another video."
)
LOOKED = (
    "These frames were chosen by what the student that had learned made of them, often where it was in doubt, and the other had no say: "
    "it looks worse here, compared with the initial student, than on all frames."
)


def verdict(account: Account, judged: Sequence[FrozenComparison] = (), *, blind: bool = True) -> str:
    """A paragraph: whether learning helped on the key frames, and what that says; empty for a stream without any disagreement.

    judged: see `compare_with_frozen`; without them only the first and the last quarter of the key frames are known. blind: whether the key
    frames were chosen without a look at the student; else they cannot show that learning did harm.
    """
    if account.quarters is None:
        return ""
    updated = [one for one in judged if one.updated]
    if not judged:
        return f"{_by_quarters(account)} {LIMITS}"
    if not updated:
        return "The student learned nothing before its last key frame: no update was kept, or only the last one."
    return " ".join([_by_pairs(updated, blind=blind), *([] if blind else [LOOKED]), LIMITS])


def _by_pairs(updated: Sequence[FrozenComparison], *, blind: bool) -> str:
    difference = _difference(updated)
    learned, frozen = (_mean(updated, name) for name in ("learned", "frozen"))
    frames = f"the {len(updated)} key frames" if len(updated) > 1 else "the one key frame"
    numbers = (
        f"On {frames} after its first update the student's disagreement with the oracle was {_percent(learned)}; that of the frozen "
        f"student is {_percent(frozen)} on the same frames"
    )
    if difference.ci95 is None:
        return f"{numbers}. These are too few to say whether learning helped."
    low, high = difference.ci95
    bounds = f"{_points(difference.mean)} points, 95 % interval {_points(low)} to {_points(high)}"
    if high < 0:
        return f"Learning helped on the key frames. {numbers} ({bounds})."
    if low > 0 and blind:
        return f"Learning did harm on the key frames. {numbers} ({bounds})."
    if low > 0:
        return f"Whether learning helped cannot be judged from these key frames. {numbers} ({bounds})."
    return f"Whether learning helped cannot be distinguished from chance. {numbers} ({bounds})."


def _by_quarters(account: Account) -> str:
    assert account.quarters is not None
    first, last = account.quarters
    count = math.ceil(sum(key.disagreement is not None for key in account.keys) / 4)
    return (
        f"Whether learning helped cannot be judged from this run. The student's disagreement with the oracle was {_percent(first)} on "
        f"the first quarter of the key frames and {_percent(last)} on the last ({count} each), but what is to be seen changes along a "
        "stream too, and the frames cannot be shown again to a student that learned nothing."
    )


def learning_table(judged: Sequence[FrozenComparison], *, answered: int) -> Table:
    """Disagreement of both students on the first and the last quarter of the key frames, and on all after the first update.

    judged: at least one. answered: how many key frames the oracle answered, of which these may be a part.
    """
    quarter = math.ceil(len(judged) / 4)
    parts = {"first quarter": judged[:quarter], "last quarter": judged[-quarter:]}
    if updated := [one for one in judged if one.updated]:
        parts["all after the first update"] = updated
    rows = []
    for name, part in parts.items():
        learned, frozen = (_mean(part, which) for which in ("learned", "frozen"))
        found = _difference(part) if part is updated else None
        change = Estimate(value=learned - frozen, ci95=None if found is None else found.ci95, signed=True)
        rows.append((name, len(part), Estimate(value=learned), Estimate(value=frozen), change))
    columns = ("key frames", "number", "learning (%)", "frozen (%)", "difference (points)")
    of = "" if len(judged) == answered else f" Judged on {len(judged)} of {answered} key frames, spread evenly."
    brackets = "" if len(updated) < FEWEST else " In brackets the 95 % interval over stretches of the stream."
    caption = f"{DISAGREEMENT} Frozen: the student without any learning, on the same frames.{brackets}{of}"
    return Table(title="Disagreement with and without learning", columns=columns, rows=tuple(rows), caption=caption)


def _difference(part: Sequence[FrozenComparison]) -> Interval:
    """Learning minus frozen, over stretches of the stream; without an interval for fewer than FEWEST frames."""
    groups = [str(place * min(STRETCHES, len(part)) // len(part)) for place in range(len(part))]
    learned, frozen = (
        [Cell(seed=0, place="all", correct=[getattr(one, name) for one in part], group=groups)] for name in ("learned", "frozen")
    )
    return paired_difference(learned, frozen, over=("groups",) if len(part) >= FEWEST else ("seeds",))


def _mean(part: Sequence[FrozenComparison], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in part]))


def _percent(share: float) -> str:
    return f"{format_number(share, percent=True)} %"


def _points(share: float) -> str:
    return format_number(share, percent=True, signed=True)
