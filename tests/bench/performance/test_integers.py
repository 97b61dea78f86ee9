"""What the benchmark of integers compares computes the same heads, in integers where it says so."""

import numpy as np
import pytest

from vidkd.bench.performance.integers import EAGER, FLOAT, OURS, alternatives, frames, signal_to_noise


def test_the_alternatives_answer_alike() -> None:
    runs, integers, _ = alternatives(quick=True)
    frame = frames(1, seed=1, side=96)
    wanted = runs[EAGER](frame)
    assert [head.shape for head in wanted] == [(1, 255, 3, 3), (1, 255, 6, 6)]
    assert signal_to_noise(wanted, runs[FLOAT](frame)) > 80
    assert 20 < signal_to_noise(wanted, runs[OURS](frame)) < 60
    assert integers[OURS] == 13


def test_signal_to_noise() -> None:
    heads = [np.full((2, 3), 2.0, np.float32), np.full(4, 1.0, np.float32)]
    off = [heads[0] + np.float32(0.1), heads[1] - np.float32(0.2)]
    assert signal_to_noise(heads, off) == pytest.approx(10 * np.log10((6 * 4 + 4 * 1) / (6 * 0.01 + 4 * 0.04)), abs=1e-4)
    assert signal_to_noise(heads, heads) == np.inf
