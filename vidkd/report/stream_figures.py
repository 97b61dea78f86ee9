"""Drawings of a stream along which a student learned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidkd.detection.online.account import Account, FrozenComparison, KeyFrameRow
from vidkd.report.drawing import SERIES, canvas, finish, log_scale
from vidkd.report.figures import thinned
from vidkd.report.parts import Figure, format_number
from vidkd.report.stream_learning import DISAGREEMENT

SPANS = 200
"""Bars of the calls, one for each of so many equal stretches: thin enough that even distances look even."""
REST = "nothing learned"
KINDS = {"learned": SERIES[2], "undone": SERIES[1], REST: SERIES[5]}
KIND_OF = {"kept": "learned", "rolled_back": "undone", "not_finite": "undone"}


def time_line(account: Account, judged: Sequence[FrozenComparison] = ()) -> Figure:
    """Disagreement of student and oracle on the key frames along the stream; below it the calls and what became of them.

    At least one key frame has a disagreement. Many key frames are drawn as means of MOST_POINTS spans. judged: see
    `compare_with_frozen`; the frozen student is drawn too.
    """
    answered = [key for key in account.keys if key.disagreement is not None]
    at, unit = _places(account.keys)
    known = np.array([key.disagreement is not None for key in account.keys])
    values = np.array([key.disagreement for key in answered], np.float64) * 100
    with canvas(4.0, 9.2) as (drawing, axes):
        axes.remove()
        above, below = drawing.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.2]})
        x, y = thinned(at[known], values)
        above.plot(x, y, "-", color=SERIES[0], lw=1.2, alpha=0.6)
        above.plot(x, y, "o", color=SERIES[0], ms=4, label="learning" if judged else None)
        if judged:
            places = {key.frame: place for key, place in zip(account.keys, at, strict=True)}
            there = np.array([places[one.frame] for one in judged])
            above.plot(*thinned(there, np.array([one.frozen for one in judged]) * 100), "o:", color=SERIES[4], lw=1.2, ms=3, label="frozen")
        above.set(ylim=(-3, 103), ylabel="disagreement (%)")
        _call_bars(below, at, account.keys)
        below.set(xlabel=unit, ylabel="calls")
        below.yaxis.get_major_locator().set_params(integer=True)
        drawing.legend(loc="outside upper right", ncols=5, fontsize=9, handlelength=1.2)
        means = [format_number(mean, percent=True) for mean in account.quarters or ()]
        caption = (
            f"{DISAGREEMENT} Each frame is judged before the student learned from it. "
            f"Mean of the first quarter of key frames {means[0]} %, of the last {means[-1]} %."
        )
        return finish(drawing, "Disagreement, calls and updates", caption=caption, wide=True)


def loss_figure(account: Account) -> Figure:
    """The loss on each key frame before and after its update. At least one key frame has both."""
    known = [key for key in account.keys if key.loss_before is not None and key.loss_after is not None]
    at, unit = _places(known)
    before, after = (np.array([getattr(key, name) for key in known], np.float64) for name in ("loss_before", "loss_after"))
    with canvas(3.1) as (drawing, axes):
        for values, name, colour in ((before, "before", SERIES[1]), (after, "after", SERIES[2])):
            axes.plot(*thinned(at, values), "o-", ms=3, lw=1.2, label=name, color=colour)
        if min(before.min(), after.min()) > 0 and before.max() > 30 * after.min():
            log_scale(axes, "y")
        axes.set(xlabel=unit, ylabel="loss")
        drawing.legend(loc="outside upper left", ncols=2, fontsize=9, handlelength=1.4)
        caption = (
            f"On the key frame itself. Means: {format_number(float(before.mean()))} before, {format_number(float(after.mean()))} after."
        )
        return finish(drawing, "Loss before and after each update", caption=caption)


def _places(keys: Sequence[KeyFrameRow]) -> tuple[NDArray[np.float64], str]:
    """Where along the stream key frames lie: seconds, or frames where one has no time."""
    times = [key.time_s for key in keys]
    if all(time_s is not None for time_s in times):
        return np.array(times, np.float64), "seconds of the video"
    return np.array([key.frame for key in keys], np.float64), "frame"


def _call_bars(axes: Any, at: NDArray[np.float64], keys: Sequence[KeyFrameRow]) -> None:
    """Calls in SPANS equal stretches, stacked by what became of them."""
    edges = np.linspace(at.min(), max(at.max(), at.min() + 1e-6), SPANS + 1)
    kinds = np.array([KIND_OF.get(key.outcome, REST) for key in keys])
    floor = np.zeros(SPANS)
    for kind, colour in KINDS.items():
        counts = np.histogram(at[kinds == kind], edges)[0]
        if counts.any():
            axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.85, align="edge", bottom=floor, color=colour, label=kind, linewidth=0)
            floor = floor + counts
