import math

import pytest
import torch

from vidkd.losses.shift_tolerant import attentive, position, window

SHAPE, OTHER = (2, 5, 2, 2, 3), (2, 5, 3, 3, 1)


def features(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vectors(maps):
    """(B, N, C) with mean squared length C."""
    rows = maps.flatten(2).transpose(1, 2)
    return rows / rows.square().mean((1, 2), keepdim=True).sqrt()


def slow_one_way(queries, keys, temperature, held=None):
    """mean_i ||q_i - sum_j W_ij k_j||^2 / (2 C) by loops over clips and positions, in vectors of mean squared length C.

    held: (queries, keys) out of which W is computed, by default the same ones.
    """
    weights_q, weights_k = (queries, keys) if held is None else held
    channels, losses = queries.shape[2], []
    for b in range(len(queries)):
        for i in range(queries.shape[1]):
            scores = []
            for j in range(keys.shape[1]):
                q, k = weights_q[b, i], weights_k[b, j]
                score = -(q - k).square().sum() / 2
                scores.append(score / (temperature * math.sqrt(channels)))
            weights = torch.stack(scores).softmax(0)
            losses.append((queries[b, i] - sum(w * k for w, k in zip(weights, keys[b], strict=True))).square().sum() / (2 * channels))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("directions", ["both", "student"])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_against_explicit_loops(temperature, directions):
    student, teacher = features(0), features(1, OTHER)
    S, T = vectors(student), vectors(teacher)
    expected = slow_one_way(S, T, temperature)
    if directions == "both":
        expected = (expected + slow_one_way(T, S, temperature)) / 2
    value = attentive(student, teacher, temperature=temperature, directions=directions)
    torch.testing.assert_close(value, expected)


def test_gradient_with_the_attention_held():
    student, teacher = features(0).requires_grad_(), features(1, OTHER)
    S, T = vectors(student), vectors(teacher)
    held = (S.detach(), T)
    expected = slow_one_way(S, T, 0.5, held) + slow_one_way(T, S, 0.5, held[::-1])
    (slow,) = torch.autograd.grad(expected / 2, student)
    (fast,) = torch.autograd.grad(attentive(student, teacher, temperature=0.5), student)
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0, 10.0])
def test_equal_features_cost_no_more_than_the_entropy_allows(temperature):
    maps = features(0, (2, 8, 3, 4, 4)).relu()
    value = float(attentive(maps, maps, temperature=temperature))
    assert 0 <= value <= temperature * math.log(48) / math.sqrt(8)
    if temperature == 0.01:
        assert value < 1e-6


def test_at_low_temperature_it_is_the_nearest_neighbour_and_at_high_the_mean():
    student, teacher = features(0), features(1, OTHER)
    torch.testing.assert_close(attentive(student, teacher, temperature=1e-4), window(student, teacher, radius=None))
    mean = vectors(teacher).mean(1)[:, :, None, None, None].expand(SHAPE)
    high = attentive(student, teacher, temperature=1e9, directions="student")
    scaled = vectors(student).transpose(1, 2).reshape(SHAPE)
    torch.testing.assert_close(high, (scaled - mean).square().sum(1).mean() / (2 * SHAPE[1]))


def test_one_direction_is_fooled_by_a_student_that_shows_one_vector_and_both_are_not():
    teacher = features(1)
    teacher = teacher / teacher.norm(dim=1, keepdim=True)
    copied = teacher[:, :, :1, :1, :1].expand(SHAPE)
    options = {"temperature": 0.01}
    assert float(attentive(copied, teacher, directions="student", **options)) == pytest.approx(0, abs=1e-9)
    assert float(attentive(copied, teacher, **options)) > 0.3
    assert float(position(copied, teacher)) > 0.3


def test_equal_vectors_match_even_where_another_is_longer():
    maps = torch.tensor([[1.0, 3.0]], dtype=torch.float64).reshape(1, 1, 1, 1, 2)
    assert float(attentive(maps, maps, temperature=0.01)) == pytest.approx(0, abs=1e-9)
