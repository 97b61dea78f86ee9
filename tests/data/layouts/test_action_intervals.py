"""Intervals against an explicit comparison of all pairs."""

import random

import pytest

from vidkd.base.errors import DataError
from vidkd.data.layouts.lists import SLACK_S, check_overlaps, inside, overlaps
from vidkd.data.manifest import Clip


def clip(path: str, start_s: float, end_s: float | None) -> Clip:
    return Clip(path=path, label=0, group="g", subsets={}, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("seed", range(20))
def test_every_clip_that_begins_inside_an_earlier_one_is_found(seed: int) -> None:
    draw = random.Random(seed)
    clips = []
    for _ in range(30):
        start = draw.randrange(0, 60)
        clips.append(clip(draw.choice("ab"), start, draw.choice([None, *[start + draw.randrange(1, 4)] * 9])))
    order = sorted(range(30), key=lambda n: (clips[n].start_s, n))
    ends = [float("inf") if one.end_s is None else one.end_s for one in clips]
    expected = {
        later
        for place, later in enumerate(order)
        if any(clips[earlier].path == clips[later].path and clips[later].start_s < ends[earlier] for earlier in order[:place])
    }
    found = overlaps(clips)
    assert {later for _, later in found} == expected
    for earlier, later in found:
        assert clips[earlier].path == clips[later].path
        assert clips[earlier].start_s <= clips[later].start_s < ends[earlier]


def test_touching_intervals_and_other_files_do_not_overlap() -> None:
    clips = [clip("a", 0, 2), clip("a", 2, 3), clip("b", 1, 3)]
    assert check_overlaps(clips, str, allowed=False) == ()


@pytest.mark.parametrize(
    ("start_s", "end_s", "kept"), [(0, 10, 10), (0, None, None), (9.9, 10 + SLACK_S, 10), (3, 4, 4), (0, 10.11, "bad"), (10, None, "bad")]
)
def test_inside(start_s: float, end_s: float | None, kept: object) -> None:
    if kept == "bad":
        with pytest.raises(DataError, match=r"^here: the interval lies outside the video"):
            inside(start_s, end_s, 10, "here", "a.avi")
    else:
        assert inside(start_s, end_s, 10, "here", "a.avi") == kept
