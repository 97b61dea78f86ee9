"""Working ahead in a thread: order, bounds, errors and an end in time."""

import threading
import time
from collections.abc import Iterator

import pytest

from vidkd.inference.prefetcher import Prefetcher


def test_items_come_in_order_and_all_of_them() -> None:
    with Prefetcher(range(200), depth=3) as ahead:
        assert list(ahead) == list(range(200))


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
