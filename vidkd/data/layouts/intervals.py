"""Labelled intervals of untrimmed videos: inside their video, and one at a time."""

from collections.abc import Callable, Sequence

from vidkd.base.errors import DataError
from vidkd.data.manifest import Clip

SLACK_S = 0.1
"""How far past the end of its video an interval may be written to end; it then ends with the video. Annotations are rounded."""


def inside(start_s: float, end_s: float | None, duration_s: float, where: str, video: object) -> float | None:
    """The end of an interval in a video of `duration_s`: as given, or the video's own where it is passed by no more than SLACK_S.

    Raises DataError, beginning with `where`, for an interval that begins after the video's end or ends after it by more than that.
    """
    if start_s >= duration_s or (end_s is not None and end_s > duration_s + SLACK_S):
        given = f"{start_s:g} s to {'the end' if end_s is None else f'{end_s:g} s'}"
        raise DataError(
            f"{where}: the interval lies outside the video",
            interval=given,
            video=f"{video}, {duration_s:.2f} s long",
            hint="give seconds from the first frame, inside the video; or is it the list of another cut of it?",
        )
    return None if end_s is None else min(end_s, duration_s)


def overlaps(clips: Sequence[Clip]) -> list[tuple[int, int]]:
    """(earlier, later): for each clip that begins before an earlier one of its file has ended, its number and that of the one."""
    order = sorted(range(len(clips)), key=lambda number: (clips[number].path, clips[number].start_s, number))
    found = []
    longest: int | None = None  # of the clips of this file so far, the one that ends last
    for number in order:
        if longest is None or clips[longest].path != clips[number].path:
            longest = number
        elif clips[number].start_s < _end(clips[longest]):
            found.append((longest, number))
        if _end(clips[number]) > _end(clips[longest]):
            longest = number
    return found


def _end(clip: Clip) -> float:
    return float("inf") if clip.end_s is None else clip.end_s


def check_overlaps(clips: Sequence[Clip], where: Callable[[int], str], *, allowed: bool) -> tuple[str, ...]:
    """Raise DataError naming both rows where two intervals of one file overlap; where that is allowed, a remark that counts them."""
    found = overlaps(clips)
    if found and not allowed:
        earlier, later = found[0]
        raise DataError(
            f"{where(later)}: overlaps the interval of {where(earlier)}",
            file=clips[later].path,
            intervals=" and ".join(f"{clips[number].start_s:g} s to {_end(clips[number]):g} s" for number in (earlier, later)),
            found=f"{len(found)} such rows",
            hint="correct the times, or let actions overlap with --allow-overlap",
        )
    return (f"{len(found)} of {len(clips)} intervals begin before an earlier one of their video has ended",) if found else ()
