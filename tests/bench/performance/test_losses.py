"""What the benchmark of the tolerant losses compares, at a size that takes no time."""

import pytest
import torch

from vidkd.bench.performance.losses import QUICK, STEP, Bench, bound, milliseconds
from vidkd.losses.shift_tolerant import SHIFT_TOLERANT


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(QUICK[0])


def test_every_loss_and_the_step_are_called(bench: Bench) -> None:
    alternatives = bench.alternatives(calls=1)
    assert list(alternatives) == [STEP, *SHIFT_TOLERANT]
    assert bench.student_map.shape == bench.teacher_map.shape
    assert not torch.equal(bench.student_map, bench.teacher_map)
    before = [parameter.clone() for parameter in bench.task.student.parameters()]
    assert all(call() > 0 for call in alternatives.values())
    assert any(not torch.equal(old, new) for old, new in zip(before, bench.task.student.parameters(), strict=True)), "the step updates"


def test_targets() -> None:
    assert {name: bound(name) for name in SHIFT_TOLERANT} == {**dict.fromkeys(SHIFT_TOLERANT, 0.15), "transport": 0.4}


def test_milliseconds_a_call() -> None:
    now = [0.0]

    def call() -> None:
        now[0] += 0.02

    assert milliseconds(call, 4, clock=lambda: now[0]) == pytest.approx(20.0)
