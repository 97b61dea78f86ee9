"""Progress: which lines come when, on a clock that moves only when told; a bar only on a terminal."""

import contextlib
import io

import pytest

from vidkd.base.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_n_steps_and_one_at_the_end() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with Progress(10, "train", stream=stream, every_steps=4, every_s=1e9, clock=clock) as progress:
        for step in range(10):
            clock.now += 0.5
            progress.step(loss=1.0 / (step + 1), epoch=3)
    assert stream.getvalue().splitlines() == [
        "train 4/10  loss 0.25  epoch 3  3s left",
        "train 8/10  loss 0.125  epoch 3  1s left",
        "train 10/10  loss 0.1  epoch 3  0s left",
    ]


def test_steps_made_before_a_resume_do_not_count_in_the_speed() -> None:
    clock = FakeClock()
    with Progress(100, "train", done=90, stream=io.StringIO(), clock=clock) as progress:
        assert progress.left_s() is None
        clock.now += 3
        progress.step()
        clock.now += 3
        progress.step()
        assert progress.left_s() == pytest.approx(24)


def test_the_first_step_does_not_count_in_the_speed() -> None:
    """It waits for the loader's processes, and libraries warm up in it."""
    clock = FakeClock()
    with Progress(100, "train", stream=io.StringIO(), clock=clock) as progress:
        clock.now += 50
        progress.step()
        assert progress.left_s() is None
        clock.now += 1
        progress.step()
        assert progress.left_s() == pytest.approx(98)


def test_lines_come_more_often_in_the_beginning() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with Progress(1000, "walk", stream=stream, every_steps=10**6, clock=clock) as progress:
        for _ in range(1000):
            clock.now += 1
            progress.step()
    counts = [int(line.split()[1].partition("/")[0]) for line in stream.getvalue().splitlines()]
    assert counts[:4] == [5, 10, 15, 20]
    assert {later - earlier for earlier, later in zip(counts[-5:-2], counts[-4:-1], strict=True)} == {60}


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_other_ranks_are_silent(stream: io.StringIO) -> None:
    with Progress(2, "train", rank=1, stream=stream, every_steps=1) as progress:
        progress.step()
        progress.step()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_values() -> None:
    stream = Terminal()
    assert list(Progress(3, "validate", stream=stream).over("abc")) == ["a", "b", "c"]
    text = stream.getvalue()
    assert "validate" in text
    assert "3/3" in text
    assert "left" in text
    bar = Terminal()
    with Progress(2, "train", stream=bar) as progress:
        progress.step(loss=0.123456)
    assert "loss 0.1235" in bar.getvalue()


def test_a_loop_that_breaks_still_says_how_far_it_came() -> None:
    stream = io.StringIO()
    progress = Progress(5, "train", stream=stream)
    with contextlib.suppress(KeyError), progress:
        progress.step()
        raise KeyError
    assert stream.getvalue().startswith("train 1/5")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (200, "3m20s"), (3599.6, "1h00m"), (7500, "2h05m")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_steps_that_fill_a_cache_are_an_upper_bound_and_count_no_more_afterwards() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with Progress(10, "train", filling=4, stream=stream, every_steps=1, clock=clock) as progress:
        for step in range(7):
            clock.now += 5 if step < 4 else 0.5
            progress.step()
    lines = stream.getvalue().splitlines()
    assert lines[2] == "train 3/10  at most 35s left (the first epoch fills the cache)"
    assert lines[3:] == ["train 4/10", "train 5/10  2s left", "train 6/10  2s left", "train 7/10  2s left"]
