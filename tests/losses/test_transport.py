import numpy as np
import ot
import pytest
import torch

from vidkd.losses import transport as module
from vidkd.losses.transport import annealing, transport

GRID_S, GRID_T = (1, 2, 3), (1, 4, 2)
CONVERGED = {"iterations": 600}


def features(seed, shape=(2, 4, *GRID_S), dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def costs(student, teacher):
    """||s_i - t_j||^2 / 2 of every clip, (B, N, M), with vectors of mean squared length 1."""
    rows = []
    for maps in (student, teacher):
        vectors = maps.detach().flatten(2).transpose(1, 2).numpy()
        rows.append(vectors / np.sqrt((vectors**2).sum(2).mean(1))[:, None, None])
    return ((rows[0][:, :, None] - rows[1][:, None, :]) ** 2).sum(3) / 2


def uniform(cost):
    return np.full(cost.shape[0], 1 / cost.shape[0]), np.full(cost.shape[1], 1 / cost.shape[1])


def pot_plan(cost, regularisation):
    return ot.sinkhorn(*uniform(cost), cost, regularisation, method="sinkhorn_log", numItermax=2000, stopThr=1e-9)


def pot_cost(cost, regularisation):
    """<P, c> + r KL(P || uniform) with the plan of POT."""
    plan, (a, b) = pot_plan(cost, regularisation), uniform(cost)
    return (plan * cost).sum() + regularisation * (plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b))).sum()


def mean_over_clips(function, cost):
    return float(np.mean([function(each) for each in cost]))


@pytest.mark.parametrize(("grid", "regularisation"), [(GRID_S, 0.2), (GRID_T, 0.2), (GRID_T, 1.0)])
def test_against_pot(grid, regularisation):
    student, teacher = features(0), features(1, (2, 4, *grid))
    expected = mean_over_clips(lambda cost: pot_cost(cost, regularisation), costs(student, teacher))
    for maps in (student, teacher):
        expected -= mean_over_clips(lambda cost: pot_cost(cost, regularisation), costs(maps, maps)) / 2
    assert float(transport(student, teacher, regularisation=regularisation, **CONVERGED)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("regularisation", [0.01, 0.1, 1.0])
def test_equal_features_cost_nothing(regularisation):
    maps = features(0, (2, 4, 2, 4, 4)).relu()
    for iterations in (1, 2, 50):
        student = maps.clone().requires_grad_()
        value = transport(student, maps, regularisation=regularisation, iterations=iterations)
        value.backward()
        assert float(value.detach()) == pytest.approx(0, abs=1e-12)
        assert student.grad.abs().max() < 1e-12


@pytest.mark.parametrize("channels", [8, 96])
@pytest.mark.parametrize("positive", [False, True])
def test_the_defaults_are_near_the_converged_value(channels, positive):
    student, teacher = features(0, (2, channels, 2, 7, 7)), features(1, (2, channels, 2, 7, 7))
    if positive:
        student, teacher = student.relu(), teacher.relu()
    assert abs(transport(student, teacher) - transport(student, teacher, iterations=400)) < 0.01


def in_logs_and_as_called(monkeypatch, student, teacher, **options):
    """Value and gradient with all clips solved in logarithms, then as called; and how many clips that one solved in logarithms."""
    results, solved = [], []
    in_logs = module.solve_in_logs

    def counted(cost, *args, **kwargs):
        solved.append(len(cost))
        return in_logs(cost, *args, **kwargs)

    for kernels in (in_logs, module.solve_by_kernels):
        monkeypatch.setattr(module, "solve_by_kernels", kernels)
        monkeypatch.setattr(module, "solve_in_logs", counted)
        maps = student.clone().requires_grad_()
        value = transport(maps, teacher, **options)
        value.backward()
        results += [value.detach(), maps.grad]
    return results, sum(solved)


@pytest.mark.parametrize("options", [{}, {"iterations": 1}, {"iterations": 2}, {"regularisation": 4.0}, {"regularisation": 0.02}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_give_what_logarithms_give(dtype, options, monkeypatch):
    student, teacher = features(0, (3, 24, 2, 4, 4), dtype).relu(), features(1, (3, 24, 3, 3, 4), dtype)
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-12}
    (value, gradient, fast, fast_gradient), again = in_logs_and_as_called(monkeypatch, student, teacher, **options)
    assert again == 0
    torch.testing.assert_close(fast, value, **tolerance)
    torch.testing.assert_close(fast_gradient, gradient, **tolerance)


@pytest.mark.parametrize("regularisation", [1e-3, 1e-4])
def test_a_clip_that_leaves_the_range_of_numbers_is_solved_in_logarithms(regularisation, monkeypatch):
    student, teacher = features(0, (3, 24, 2, 4, 4), torch.float32), features(1, (3, 24, 2, 4, 4), torch.float32)
    # clips of equal vectors have costs of 0, which every range holds
    student[::2], teacher[::2] = 1, 1
    options = {"regularisation": regularisation, "iterations": 3}
    (value, gradient, fast, fast_gradient), again = in_logs_and_as_called(monkeypatch, student, teacher, **options)
    assert again == 3  # one clip, in three pairs of sets
    torch.testing.assert_close(fast, value, rtol=0, atol=1e-6)
    torch.testing.assert_close(fast_gradient, gradient, rtol=0, atol=1e-6)


def test_annealing():
    assert annealing(0.01, 6) == pytest.approx([1.0, 0.01 ** (1 / 3), 0.01 ** (2 / 3), 0.01, 0.01, 0.01])
    assert annealing(0.01, 1) == [0.01]
    assert annealing(4.0, 4) == [4.0] * 4
