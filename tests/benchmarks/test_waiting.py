import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import waiting
from benchmarks.waiting import FRAME, OWN, SLEEPS, STEP, milliseconds


def test_median_of_calls_until_the_seconds_are_over() -> None:
    now, lasts = [0.0], iter([9.0, 0.1, 0.2, 0.3, 0.4, 0.5])

    def call() -> None:
        now[0] += next(lasts)

    assert milliseconds(call, 0.95, clock=lambda: now[0]) == pytest.approx(250.0), "0.1 + 0.2 + 0.3 + 0.4 s, the first call left out"
    lasts = iter([1.0, 5.0, 7.0, 6.0])
    assert milliseconds(call, 0.1, clock=lambda: now[0]) == pytest.approx(6000.0), "three calls at the least"


def test_each_way_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.setattr(subprocess, "run", lambda command, env, **_: started.append((command, env)) or SimpleNamespace(stdout="1.5\n"))
    assert waiting._measured(FRAME, SLEEPS, 2.0) == waiting._measured(STEP, OWN, 2.0) == 1.5
    (first, asleep), (second, own) = started
    assert first[-2:] == [FRAME, "2.0"]
    assert second[-2:] == [STEP, "2.0"]
    assert asleep["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(own)


@pytest.mark.parametrize("step", [FRAME, STEP])
def test_what_is_called(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "available_cores", lambda: 1)
    waiting._call(step)()
