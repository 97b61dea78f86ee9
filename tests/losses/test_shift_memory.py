"""Matrices of all pairs of positions exist for one chunk of clips at a time."""

import pytest
import torch
from live_bytes import LiveBytes

from vidkd.losses.shift_tolerant import SHIFT_TOLERANT, sets

CLIPS, CHANNELS, GRID = 12, 1, (4, 7, 7)
PAIRS = (4 * 7 * 7) ** 2
# matrices (N, M) of one clip that live at once, `position`'s own peak taken off. The docstrings allow one more: what an operation uses
# inside itself is not seen here. With one channel the vectors next to them take less than half a matrix, so one more would show.
LIVE = {"attentive": 2, "window": 1.5, "transport": 3}


def features(seed, channels=CHANNELS, grid=GRID):
    return torch.randn(CLIPS, channels, *grid, generator=torch.Generator().manual_seed(seed))


def matrices_at_peak(name, student, teacher, entries, **options):
    student = student.clone().requires_grad_()
    with LiveBytes() as memory:
        SHIFT_TOLERANT[name](student, teacher, **options).backward()
    return memory.peak / (4 * entries), memory.largest / (4 * entries)


def beyond_position(name, **options):
    """Matrices at the peak, less those of `position`, and the largest."""
    student, teacher = features(0), features(1)
    peak, largest = matrices_at_peak(name, student, teacher, PAIRS, **options)
    return peak - matrices_at_peak("position", student, teacher, PAIRS)[0], largest


@pytest.fixture
def one_clip_at_a_time(monkeypatch):
    monkeypatch.setattr(sets, "CHUNK_ENTRIES", PAIRS)


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.usefixtures("one_clip_at_a_time")
def test_pairs_of_one_clip_at_a_time(name):
    peak, largest = beyond_position(name)
    assert largest < 1.01
    assert LIVE[name] - 0.5 < peak < LIVE[name]


def test_what_is_computed_again_gives_the_same_gradient(monkeypatch):
    gradients = []
    for _ in range(2):
        student = features(0, 64, (1, 2, 2)).requires_grad_()
        SHIFT_TOLERANT["gram"](student, features(1, 64, (1, 2, 2))).backward()
        gradients.append(student.grad)
        monkeypatch.setattr(sets, "KEPT_ENTRIES", 64**2)
        monkeypatch.setattr(sets, "CHUNK_ENTRIES", 64**2)
    torch.testing.assert_close(*gradients)
