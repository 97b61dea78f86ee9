from fractions import Fraction
from itertools import product

import pytest
import torch

from vidkd.losses.shift_tolerant import position, window


def features(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scaled(maps):
    return maps / maps.square().sum(1).mean((1, 2, 3), keepdim=True).sqrt()[:, None]


def slow_one_way(student, teacher, radius):
    """Three loops over the places of one clip (C, T, H, W), and three over the places that a match may have."""
    costs = []
    for place in product(*(range(n) for n in student.shape[1:])):
        found = []
        for other in product(*(range(m) for m in teacher.shape[1:])):
            if radius is None or all(near(*axis) for axis in zip(place, other, student.shape[1:], teacher.shape[1:], radius, strict=True)):
                found.append((student[(slice(None), *place)] - teacher[(slice(None), *other)]).square().sum() / 2)
        costs.append(min(found))
    return torch.stack(costs).mean()


def near(i, j, n, m, radius):
    apart = abs(Fraction(2 * i + 1, 2 * n) - Fraction(2 * j + 1, 2 * m)) * min(n, m)
    return apart <= radius + Fraction(1, 2)


@pytest.mark.parametrize("radius", [(0, 0, 0), (1, 1, 1), (0, 2, 1), (9, 9, 9), None])
@pytest.mark.parametrize("grids", [((3, 4, 4), (3, 4, 4)), ((2, 4, 3), (3, 2, 6)), ((1, 5, 2), (4, 3, 2))])
def test_against_explicit_loops(grids, radius):
    student, teacher = features(0, (2, 3, *grids[0])), features(1, (2, 3, *grids[1]))
    expected = []
    for s, t in zip(scaled(student), scaled(teacher), strict=True):
        expected.append((slow_one_way(s, t, radius) + slow_one_way(t, s, radius)) / 2)
    torch.testing.assert_close(window(student, teacher, radius=radius), torch.stack(expected).mean())


def test_no_radius_on_equal_grids_is_position_and_more_never_costs_more():
    student, teacher = features(0, (3, 6, 3, 4, 4)), features(1, (3, 6, 3, 4, 4))
    values = [float(window(student, teacher, radius=radius)) for radius in ((0, 0, 0), (0, 1, 1), (1, 1, 1), (2, 2, 2), (3, 3, 3))]
    assert values[0] == pytest.approx(float(position(student, teacher)))
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(float(window(student, teacher, radius=None)))


def actor_at(place, channels=6, grid=(5, 7, 7)):
    """One object of a few positions on empty ground."""
    maps = torch.zeros(1, channels, *grid, dtype=torch.float64)
    maps[:, :, place[0], place[1] : place[1] + 2, place[2]] = features(3, (1, channels, 2))
    return maps


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 0, 0), (0, 2, 0), (0, 0, -2), (1, 2, 2), (-1, -2, 1)])
def test_a_shift_inside_the_window_costs_nothing(shift):
    before, after = actor_at((2, 3, 3)), actor_at((2 + shift[0], 3 + shift[1], 3 + shift[2]))
    assert float(window(after, before, radius=(1, 2, 2))) == pytest.approx(0, abs=1e-12)
    assert (float(position(after, before)) > 0.5) == (shift != (0, 0, 0))


@pytest.mark.parametrize("shift", [(2, 0, 0), (0, 3, 0), (0, 0, 3), (-2, 2, 1)])
def test_a_shift_outside_the_window_costs(shift):
    before, after = actor_at((2, 2, 3)), actor_at((2 + shift[0], 2 + shift[1], 3 + shift[2]))
    assert float(window(after, before, radius=(1, 2, 2))) > 0.3
    assert float(window(after, before, radius=None)) == pytest.approx(0, abs=1e-12)


def test_gradient_is_that_of_the_value():
    student, teacher = features(0, (2, 3, 2, 2, 2)).requires_grad_(), features(1, (2, 3, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: window(s, teacher, radius=(0, 1, 1)), student)
