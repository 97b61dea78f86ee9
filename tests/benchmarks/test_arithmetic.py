"""The arithmetic of the single parts, on a clock that moves only when told."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from benchmarks.imports import beyond
from benchmarks.loader import SteadyLoader
from benchmarks.memory import slope, status_mib
from benchmarks.page import number, performance_page
from benchmarks.rivals import why_not
from benchmarks.run import PAGE, RESULTS, ROOT
from benchmarks.step import bare_step, seconds_a_step
from vidkd.base.files import read_json


class Workers:
    """Two processes that make batches of 0.5 s each, `ahead` of them before they are asked for, as a loader with prefetching does."""

    def __init__(self, ahead: int) -> None:
        self.now, self.ahead = 0.0, ahead
        self.done_at = [0.0] * ahead  # finished before the measurement begins
        self.taken = 0

    def batches(self) -> Iterator[int]:
        while True:
            self.now = max(self.now, self.done_at[self.taken])
            # the batch that replaces a taken one is begun when one of the two processes is free
            self.done_at.append(max(self.now, self.done_at[-2]) + 0.5)
            self.taken += 1
            yield self.taken

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_loader_rounds_run_at_full_pace_and_leave_nothing_running() -> None:
    workers = Workers(ahead=4)
    loader = SteadyLoader(workers.batches(), ahead=4, clock=lambda: workers.now, sleep=workers.sleep)
    for _ in range(3):
        assert loader.batches_per_second(8) == pytest.approx(4.0)  # not (8 + 4) / 2 s: what lay ready does not count
        assert max(workers.done_at) <= workers.now  # the processes rest while another loader is measured


def test_loader_without_workers_does_not_wait() -> None:
    clock = SimpleNamespace(now=0.0)

    def batches() -> Iterator[None]:
        while True:
            clock.now += 0.25
            yield

    def refuse(_: float) -> None:
        raise AssertionError("nothing to wait for")

    assert SteadyLoader(batches(), ahead=0, clock=lambda: clock.now, sleep=refuse).batches_per_second(3) == pytest.approx(4.0)


def test_steps_are_averaged() -> None:
    clock, spent = SimpleNamespace(now=1.0), iter([0.5, 0.1, 0.1, 0.1])

    def step() -> None:
        clock.now += next(spent)

    assert seconds_a_step(step, steps=4, clock=lambda: clock.now) == pytest.approx(0.2)


@pytest.mark.parametrize("update", [False, True])
def test_a_bare_step_computes_gradients_and_updates_only_where_asked(update: bool) -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 3.0)
    optimizer, found = torch.optim.SGD(layer.parameters(), lr=0.25), []
    layer.weight.register_hook(lambda gradient: found.append(float(gradient)))
    for _ in range(2):
        bare_step(lambda batch: {"loss": layer(batch["x"]).sum()}, optimizer, {"x": torch.ones(1, 1)}, update=update)  # type: ignore[arg-type]
    assert found == [1.0, 1.0]
    assert layer.weight.grad is None
    assert layer.weight.item() == (2.5 if update else 3.0)


def test_start_is_what_lies_beyond_the_interpreter() -> None:
    assert beyond([0.30, 0.10, 0.20], [0.10, 0.12, 0.05]) == pytest.approx([0.20, 0.0, 0.15])


@pytest.mark.parametrize("rise", [0.0, 0.25, -3.0])
def test_slope_of_a_line(rise: float) -> None:
    assert slope([(x, 40 + rise * x) for x in (1.0, 4.0, 5.0, 10.0)]) == pytest.approx(rise)


def test_slope_is_least_squares() -> None:
    assert slope([(0.0, 0.0), (1.0, 3.0), (2.0, 0.0), (3.0, 3.0)]) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="two places"):
        slope([(1.0, 0.0), (1.0, 2.0)])


def test_memory_of_a_process() -> None:
    status = "Name:\tpython\nVmPeak:\t 9999 kB\nVmHWM:\t  307200 kB\nVmRSS:\t  153600 kB\n"
    assert status_mib(status, "VmRSS") == 150
    assert status_mib(status, "VmHWM") == 300
    with pytest.raises(ValueError, match="VmSwap"):
        status_mib(status, "VmSwap")


def test_a_rival_that_does_not_run_says_why_in_one_line() -> None:
    def fail() -> None:
        try:
            raise OSError("libx.so: cannot open\nsecond line")
        except OSError as error:
            raise RuntimeError("could not load /some/where/libcodec.so") from error

    assert why_not(fail) == "OSError: libx.so: cannot open"
    assert why_not(lambda: None) is None


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1234"), (99.96, "100"), (12.345, "12.3"), (0.9049, "0.905"), (0.0, "0")])
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_page_shows_command_numbers_targets_and_notes() -> None:
    part = {
        "title": "Loader",
        "text": "What is compared.",
        "settings": {"batch": 8},
        "values": [{"name": "vidkd", "unit": "frames/s", "median": 812.3, "min": 640.0, "max": 901.0, "n": 5}],
        "ratios": [
            {"name": "vidkd / decord", "median": 0.934, "min": 0.9, "max": 0.96, "n": 5, "target": ">= 0.9", "met": True},
            {"name": "vidkd / other", "median": 0.5, "min": 0.4, "max": 0.6, "n": 5, "target": ">= 1", "met": False},
        ],
        "notes": ["torchcodec was left out: no module"],
    }
    results = {"command": "python benchmarks/run.py", "videos": "12 generated ones", "environment": {"cores": "2"}, "seconds": 61.2}
    page = performance_page({**results, "parts": {"loader": part}})
    for line in (
        "Generated by `python benchmarks/run.py`.",
        "## Loader",
        "| vidkd / decord | 0.934 | 0.9 to 0.96 | 5 | >= 0.9: met |",
        "| vidkd / other | 0.5 | 0.4 to 0.6 | 5 | >= 1: **missed** |",
        "| vidkd | 812 frames/s | 640 to 901 | 5 |  |",
        "torchcodec was left out: no module",
    ):
        assert line in page


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert performance_page(read_json(ROOT / RESULTS)) == page, "to mend: python benchmarks/run.py --page-only"
