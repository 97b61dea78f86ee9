"""Presentation times of decoded frames, from what containers write down."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


def presentation_times(pts: Sequence[int | None], dts: Sequence[int | None], time_base: Fraction, frame_s: float) -> Times:
    """Times in seconds from the first frame, strictly increasing, for frames in the order in which a decoder gives them out.

    pts, dts: stamps of the decoded frames in units of `time_base`, None where there is none. frame_s: nominal length of a frame.
    A decoder gives frames out in the order of display, so stamps that go back are wrong (AVI stores none for files with B-frames
    and they are guessed while reading): then the decoding stamps count, which rise by one a frame, and failing them the frame rate.
    """
    for stamps in (_complete(pts), _complete(_carried_on(dts))):
        if stamps and all(a < b for a, b in itertools.pairwise(stamps)):
            return in_seconds([stamp - stamps[0] for stamp in stamps], time_base)
    return np.arange(len(pts), dtype=np.float64) * frame_s


def in_seconds(ticks: Sequence[int] | npt.NDArray[np.int64], time_base: Fraction) -> Times:
    """Seconds of multiples of `time_base` that rise from 0, each rounded once: the double nearest to the fraction."""
    if int(ticks[-1]) * time_base.numerator < 2**53 and time_base.denominator < 2**53:  # exact up to the division
        return np.asarray(ticks, np.int64) * time_base.numerator / time_base.denominator
    return np.array([float(int(tick) * time_base) for tick in ticks], dtype=np.float64)


def _complete(stamps: Sequence[int | None]) -> list[int]:
    """The stamps, or nothing if one of them is missing."""
    known = [stamp for stamp in stamps if stamp is not None]
    return known if len(known) == len(stamps) else []


def _carried_on(stamps: Sequence[int | None]) -> list[int | None]:
    """The last frames come out of a decoder when the file has ended, without a stamp: count on from the last one that has one."""
    known = len(stamps)
    while known and stamps[known - 1] is None:
        known -= 1
    carried = list(stamps[:known])
    if known < 2 or carried[-1] is None or carried[-2] is None:
        return list(stamps)
    step = carried[-1] - carried[-2]
    return carried + [carried[-1] + step * (place + 1) for place in range(len(stamps) - known)]


def last_frame_s(times_s: Times, declared_s: float | None, nominal_s: float) -> float:
    """Length of the last frame in seconds: as its packet declares, or the usual gap where that is missing or a mere tick of the clock."""
    typical_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else nominal_s
    return declared_s if declared_s is not None and declared_s >= 0.5 * typical_s else typical_s
