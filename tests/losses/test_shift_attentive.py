import math

import pytest
import torch

from vidkd.losses.shift_tolerant import attentive

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


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_against_explicit_loops(temperature):
    student, teacher = features(0), features(1, OTHER)
    S, T = vectors(student), vectors(teacher)
    expected = (slow_one_way(S, T, temperature) + slow_one_way(T, S, temperature)) / 2
    torch.testing.assert_close(attentive(student, teacher, temperature=temperature), expected)


def test_gradient_with_the_attention_held():
    student, teacher = features(0).requires_grad_(), features(1, OTHER)
    S, T = vectors(student), vectors(teacher)
    held = (S.detach(), T)
    expected = slow_one_way(S, T, 0.5, held) + slow_one_way(T, S, 0.5, held[::-1])
    (slow,) = torch.autograd.grad(expected / 2, student)
    (fast,) = torch.autograd.grad(attentive(student, teacher, temperature=0.5), student)
    torch.testing.assert_close(fast, slow)
