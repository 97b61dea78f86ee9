"""What the benchmark of a distillation step compares does the same, and a difference is told."""

import importlib.util

import pytest
import torch

from vidkd.bench.performance.training import BY_HAND, OURS, PEER, DistillBench, largest_difference


def test_the_alternatives_take_the_same_steps_on_networks_of_their_own() -> None:
    alternatives = DistillBench(2).alternatives()
    installed = importlib.util.find_spec(PEER) is not None
    assert list(alternatives) == [OURS, BY_HAND, *([PEER] if installed else [])]
    first = [step() for step in alternatives.values()]
    second = [step() for step in alternatives.values()]
    assert largest_difference(first) < 1e-5
    assert largest_difference(second) < 1e-4
    assert float(first[0]) != float(second[0]), "the step updates"


def test_alternatives_that_do_not_do_the_same_are_not_timed() -> None:
    with pytest.raises(RuntimeError, match="do not compute the same loss"):
        largest_difference([torch.tensor(1.0), torch.tensor(1.001)])
