from fractions import Fraction
from itertools import product

import pytest
import torch

from vidkd.losses.shift_tolerant import window


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


def test_gradient_is_that_of_the_value():
    student, teacher = features(0, (2, 3, 2, 2, 2)).requires_grad_(), features(1, (2, 3, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: window(s, teacher, radius=(0, 1, 1)), student)
