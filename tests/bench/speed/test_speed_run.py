"""A whole benchmark's turns on time that moves only when told: order, numbers of calls, threads, and the figures that come of it."""

from functools import partial
from typing import Any

import pytest
from fake_clocks import FakeCuda, FakeTime

from vidkd.base.timing import timed
from vidkd.bench.speed import run as speed_run
from vidkd.bench.speed.config import BenchmarkConfig, ModelSpec
from vidkd.bench.speed.opening import OpenModel, clip_input
from vidkd.bench.speed.run import Condition, Shown, _timed
from vidkd.engine.interrupts import Interrupt

SECONDS = {"quick": 0.01, "slow": 0.2}
"""Of one clip on one thread."""


class Begun(OpenModel):
    """A model that notes when it begins."""

    noted: list[tuple[str, int]]

    def begin(self) -> None:
        self.noted.append((self.runs_on, self.threads))


def config(**over: Any) -> BenchmarkConfig:
    settings = {"rounds": 3, "calls": 10, "block_s": 0.5, "end_to_end": 0, "batches": [1, 4], "threads": [1, 2], **over}
    return BenchmarkConfig(models={name: ModelSpec(backbone=name) for name in SECONDS}, **settings)


def model(name: str, threads: int, device: str, answer: Any, noted: list[tuple[str, int]]) -> OpenModel:
    found = Begun(kind="classifier", runs_on=name, threads=threads, answer=answer, input=clip_input(["rgb"], 1, 2), device=device)
    object.__setattr__(found, "noted", noted)
    return found


def shown(batch: int) -> dict[str, Shown]:
    return {name: Shown(batch=clip_input(["rgb"], 1, 2).noise(batch, 0)) for name in SECONDS}


def test_turns_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    time, noted = FakeTime(), []
    monkeypatch.setattr(speed_run, "clock_of", lambda _: partial(timed, clock=time))

    def answer(name: str, threads: int, batch: Any) -> None:
        time.spend(SECONDS[name] * len(batch) / threads)

    models = {(name, threads): model(name, threads, "cpu", partial(answer, name, threads), noted) for threads in (1, 2) for name in SECONDS}
    measured = _timed(config(), models, shown(4), Interrupt())
    assert set(measured) == {("latency", name, Condition(batch, threads)) for name in SECONDS for batch in (1, 4) for threads in (1, 2)}
    for (_, name, condition), rounds in measured.items():
        one = SECONDS[name] * condition.batch / condition.threads
        assert rounds == [pytest.approx([one] * max(1, min(10, int(0.5 / one + 1e-9))))] * 3
    turns = [(name, threads) for _ in (1, 4) for threads in (1, 2) for name in SECONDS]
    assert noted == [*turns, *turns, *turns[::-1], *turns, *turns[::-1]], "prepared once, then there and back"


def test_a_model_on_a_gpu_is_timed_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host returns at once; its own clock would say a thousandth of a second."""
    time = FakeTime()
    cuda = FakeCuda(time)
    monkeypatch.setattr(
        speed_run, "clock_of", lambda device: partial(timed, clock=time, synchronise={"cuda": cuda.synchronize}.get(device))
    )

    def answer(name: str, batch: Any) -> None:
        time.spend(0.001)
        if name == "slow":
            cuda.launch(0.2 * len(batch))

    models = {(name, 1): model(name, 1, place, partial(answer, name), []) for name, place in (("quick", "cpu"), ("slow", "cuda"))}
    measured = _timed(config(batches=[1], threads=[1]), models, shown(1), Interrupt())
    assert measured["latency", "slow", Condition(1, 1)][0][0] == pytest.approx(0.201)
    assert measured["latency", "quick", Condition(1, 1)][0][0] == pytest.approx(0.001)
