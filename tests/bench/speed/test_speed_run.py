"""A whole benchmark's turns on time that moves only when told: order, numbers of calls, threads, and the figures that come of it."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_clocks import FakeCuda, FakeTime

from vidkd.base.timing import timed
from vidkd.bench.speed import run as speed_run
from vidkd.bench.speed.config import Benchmark, BenchmarkConfig, DataSpec, ModelSpec
from vidkd.bench.speed.opening import ClipInput, OpenModel
from vidkd.bench.speed.run import Condition, _Shown, _shown, _timed
from vidkd.bench.speed.statistics import median, rate, ratio
from vidkd.engine.interrupts import Interrupt

SECONDS = {"quick": 0.01, "slow": 0.2}
"""Of one clip on one thread."""


class Begun(OpenModel):
    """A model that notes when it begins."""

    noted: list[tuple[str, int]]

    def begin(self) -> None:
        self.noted.append((self.runs_on, self.threads))


def config(**over: Any) -> BenchmarkConfig:
    settings = {"rounds": 3, "warmup_rounds": 1, "calls": 10, "block_s": 0.5, "end_to_end": 0, "batches": [1, 4], "threads": [1, 2], **over}
    return BenchmarkConfig(models={name: ModelSpec(backbone=name) for name in SECONDS}, **settings)


def model(name: str, threads: int, device: str, answer: Any, noted: list[tuple[str, int]]) -> OpenModel:
    found = Begun(
        kind="classifier",
        runs_on=name,
        threads=threads,
        answer=answer,
        model=None,
        network=None,
        input=ClipInput(view="rgb", frames=1, size=2),
        classes=(),
        device=device,
    )
    object.__setattr__(found, "noted", noted)
    return found


@pytest.mark.parametrize(("tf32", "within"), [(False, "0"), (True, None)])
def test_libraries_are_told_of_tf32_for_as_long_as_is_measured(tf32: bool, within: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(speed_run, "_measured", lambda *_: os.environ.get("NVIDIA_TF32_OVERRIDE"))
    asked = Benchmark(config=config(threads=[1], tf32=tf32), path=Path("b.yaml"), overrides=(), roots=())
    assert speed_run.run_benchmark(asked) == within
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


def test_turns_calls_and_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    time, noted = FakeTime(), []
    monkeypatch.setattr(speed_run, "clock_of", lambda _: partial(timed, clock=time))

    def answer(name: str, threads: int, batch: Any) -> None:
        time.spend(SECONDS[name] * len(batch) / threads)

    models = {(name, threads): model(name, threads, "cpu", partial(answer, name, threads), noted) for threads in (1, 2) for name in SECONDS}
    shown = {name: _Shown(reader=None, batch=ClipInput(view="rgb", frames=1, size=2).noise(4, 0)) for name in SECONDS}
    latency, end_to_end = _timed(config(), models, shown, Interrupt())
    assert end_to_end == {"quick": {}, "slow": {}}
    assert set(latency["slow"]) == {Condition(batch, threads) for batch in (1, 4) for threads in (1, 2)}
    for name, seconds in SECONDS.items():
        for condition, rounds in latency[name].items():
            one = seconds * condition.batch / condition.threads
            assert rounds == [pytest.approx([one] * max(1, min(10, int(0.5 / one + 1e-9))))] * 3
    one = Condition(1, 1)
    assert median(latency["slow"][one]).value == pytest.approx(0.2)
    assert median(latency["slow"][one]).n == 2 * 3
    assert rate(latency["quick"][Condition(4, 2)], each=4).value == pytest.approx(200.0)
    assert ratio(latency["slow"][one], latency["quick"][one]).value == pytest.approx(20.0)
    turns = [(name, threads) for _ in (1, 4) for threads in (1, 2) for name in SECONDS]
    assert noted == [*turns, *turns, *turns[::-1], *turns, *turns[::-1]], "prepared once, then there and back"


def test_a_model_on_a_gpu_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
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

    models = {
        ("quick", 1): model("quick", 1, "cpu", partial(answer, "quick"), []),
        ("slow", 1): model("slow", 1, "cuda", partial(answer, "slow"), []),
    }
    shown = {name: _Shown(reader=None, batch=ClipInput(view="rgb", frames=1, size=2).noise(1, 0)) for name in SECONDS}
    latency, _ = _timed(config(batches=[1], threads=[1]), models, shown, Interrupt())
    assert median(latency["slow"][Condition(1, 1)]).value == pytest.approx(0.201)
    assert median(latency["quick"][Condition(1, 1)]).value == pytest.approx(0.001)


def test_a_run_under_either_key_is_not_judged_on_frames_that_it_may_have_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(speed_run, "shown_frames", lambda _, *, runs: asked.append(runs))
    monkeypatch.setattr(speed_run, "_shown_frames", lambda *_: {})
    for spec in (ModelSpec(checkpoint="runs/street"), ModelSpec(detector=str(tmp_path)), ModelSpec(detector="tiny.onnx")):
        given = BenchmarkConfig(models={"a": spec}, data=DataSpec(root="somewhere"))
        _shown(Benchmark(given, tmp_path, (), ()), {"a": SimpleNamespace(kind="detector")})
    assert asked == [True, True, False]
