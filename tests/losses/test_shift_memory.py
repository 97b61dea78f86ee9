"""Matrices of all pairs of positions exist for one chunk of clips at a time."""

import sys

import pytest
import torch
from live_bytes import LiveBytes

from vidkd.losses.shift_tolerant import SHIFT_TOLERANT, sets

CLIPS, CHANNELS, GRID = 12, 1, (4, 7, 7)
PAIRS = (4 * 7 * 7) ** 2
# matrices (N, M) of one clip that live at once, `position`'s own peak taken off. The docstrings allow one more: what an operation uses
# inside itself is not seen here. With one channel the vectors beside them take less than half a matrix, so one more would show.
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


def test_the_meter_sees_what_the_graph_keeps():
    x = torch.ones(1000, requires_grad=True)
    with LiveBytes() as memory:
        y = x.exp()
        for _ in range(9):
            y = y.exp()
        kept = memory.now
        del y
        assert memory.now == 0
        x.detach().exp().exp().exp()
    assert kept == 4 * 10_000
    assert memory.peak == 4 * 10_000
    assert memory.largest == 4 * 1000


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.usefixtures("one_clip_at_a_time")
def test_pairs_of_one_clip_at_a_time(name):
    peak, largest = beyond_position(name)
    assert largest < 1.01
    assert LIVE[name] - 0.5 < peak < LIVE[name]


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.usefixtures("one_clip_at_a_time")
def test_one_matrix_more_would_be_seen(name, monkeypatch):
    module, kept = sys.modules[f"vidkd.losses.shift_tolerant.{name}"], {}
    made = module.cost_matrix

    def made_and_kept(*sets):
        kept.clear()
        cost = made(*sets)
        kept["copy"] = cost.clone()
        return cost

    monkeypatch.setattr(module, "cost_matrix", made_and_kept)
    assert beyond_position(name)[0] > LIVE[name]


def test_what_is_computed_again_gives_the_same_gradient(monkeypatch):
    gradients = []
    for _ in range(2):
        student = features(0, 64, (1, 2, 2)).requires_grad_()
        SHIFT_TOLERANT["gram"](student, features(1, 64, (1, 2, 2))).backward()
        gradients.append(student.grad)
        monkeypatch.setattr(sets, "KEPT_ENTRIES", 64**2)
        monkeypatch.setattr(sets, "CHUNK_ENTRIES", 64**2)
    torch.testing.assert_close(*gradients)


def test_second_moments_of_one_clip_at_a_time(monkeypatch):
    monkeypatch.setattr(sets, "CHUNK_ENTRIES", 256**2)
    monkeypatch.setattr(sets, "KEPT_ENTRIES", 256**2)
    student, teacher = features(0, 256, (1, 2, 2)), features(1, 256, (1, 2, 2))
    peak, largest = matrices_at_peak("gram", student, teacher, 256**2)
    assert largest < 1.01
    assert peak < 8


def test_as_shipped_a_batch_of_large_maps_keeps_below_a_gigabyte_in_one_matrix():
    """16 clips of 4x28x28 positions have 157 M pairs; a chunk is one clip of them."""
    sizes = []
    S = torch.zeros(16, 3136, 1)
    result = sets.by_clips(lambda s, t: sizes.append(len(s)) or s[:, 0, 0], S, S, entries=3136**2)
    assert sizes == [1] * 16
    assert result.shape == (16,)
