"""Working ahead in a thread: order, bounds, errors and an end in time."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from vidkd.base.errors import VideoError
from vidkd.inference.prefetcher import Prefetcher
from vidkd.inference.sources import open_source
from vidkd.video import write_video


def test_no_more_is_made_than_was_asked_for_and_depth_allows() -> None:
    """Of what is made, `depth` items lie ready, one waits for room, and the others were taken."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with Prefetcher(items(), depth=4) as ahead:
        taken = iter(ahead)
        for count in range(1, 20):
            next(taken)
            deadline = time.monotonic() + 5
            while len(made) < count + 4 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.002)
            assert count + 4 <= len(made) <= count + 5


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("here")

    got = []
    with Prefetcher(items(), depth=8) as ahead, pytest.raises(KeyError, match="here"):
        got.extend([*ahead])
    with Prefetcher(items(), depth=8) as ahead:
        taken = iter(ahead)
        assert [next(taken), next(taken)] == [1, 2]


def test_leaving_early_ends_the_thread_and_closes_what_it_read() -> None:
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    before = set(threading.enumerate())
    with Prefetcher(items(), depth=2) as ahead:
        next(iter(ahead))
    assert set(threading.enumerate()) <= before
    assert closed != [threading.current_thread().name]
    assert len(closed) == 1


def test_none_says_that_nothing_came_in_time_and_no_item_is_lost() -> None:
    goes_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        goes_on.wait()
        yield 2

    with Prefetcher(items(), depth=2) as ahead:
        taken = ahead.within(0.02)
        start = time.monotonic()
        assert [next(taken), next(taken), next(taken)] == [1, None, None]
        assert 0.04 <= time.monotonic() - start < 5
        goes_on.set()
        assert [item for item in taken if item is not None] == [2]


def test_a_file_that_was_cut_between_two_packets_is_not_whole(frames_of: Callable[..., np.ndarray], tmp_path: Path) -> None:
    """No packet is torn, and the index at the file's beginning promises all frames."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_video(whole, frames_of(0, 0), fps=25)
    with av.open(str(whole)) as container:
        places = sorted(packet.pos for packet in container.demux(video=0) if packet.pos is not None and packet.size)
    cut.write_bytes(whole.read_bytes()[: places[7]])
    seen: list[int] = []
    with open_source(str(cut)) as source, pytest.raises(VideoError, match="the video is not whole") as caught:
        seen.extend(frame.index for frame in source.frames)
    assert seen == list(range(len(seen)))
    assert 0 < len(seen) <= 7
    assert str(cut) in str(caught.value)
