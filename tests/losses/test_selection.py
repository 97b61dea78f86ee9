import math

import pytest
import torch

from vidkd.losses.selection import above_threshold_bce, disagreement_huber, order_in_window

NAN = math.nan


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_huber_by_hand():
    predicted, truth = rows([0.1, 0.5, -0.2]), rows([0.15, 0.2, 0.0])
    expected = (0.05**2 / 2 + 0.1 * (0.3 - 0.05) + 0.1 * (0.2 - 0.05)) / 3
    assert float(disagreement_huber(predicted, truth)) == pytest.approx(expected)
    assert float(disagreement_huber(truth, truth)) == 0


def test_bce_by_hand():
    logits, truth = rows([0.4, -1.0, 2.0]), rows([0.31, 0.3, 0.29])
    terms = [math.log(1 + math.exp(-0.4)), math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(2.0))]
    assert float(above_threshold_bce(logits, truth, threshold=0.3)) == pytest.approx(sum(terms) / 3)


def slow_order(predicted, truth, mask, window):
    losses = []
    for row in range(len(predicted)):
        for i in range(predicted.shape[1]):
            for j in range(predicted.shape[1]):
                near = 0 < abs(i - j) <= window and mask[row, i] and mask[row, j]
                if near and truth[row, i] - truth[row, j] > 0:
                    losses.append(math.log(1 + math.exp(-float(predicted[row, i] - predicted[row, j]))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("window", [1, 3, 50])
def test_order_against_loops_over_pairs(window):
    random = torch.Generator().manual_seed(0)
    predicted, truth = torch.rand(2, 3, 9, generator=random, dtype=torch.float64)
    mask = torch.rand(3, 9, generator=random) > 0.2
    expected = slow_order(predicted, truth, mask, window)
    value = order_in_window(predicted, truth, window=window, mask=mask)
    assert float(value) == pytest.approx(expected)


def test_order_sees_neither_scale_nor_pairs_out_of_the_window_nor_ties():
    predicted = rows([0.1, 0.9, 0.2])
    assert float(order_in_window(predicted, rows([0.2, 0.3, 0.2]), window=1)) == pytest.approx(
        (math.log(1 + math.exp(-0.8)) + math.log(1 + math.exp(-0.7))) / 2
    )
    same = [order_in_window(predicted, truth, window=2) for truth in (rows([0.1, 0.7, 0.3]), rows([10.0, 70, 30]))]
    torch.testing.assert_close(*same)
    assert float(order_in_window(predicted, rows([0.4, 0.4, 0.4]), window=2)) == 0
    assert float(order_in_window(torch.zeros(1, 3), rows([0.1, 0.4, 0.2]), window=2)) == pytest.approx(math.log(2))


LOSSES = [
    disagreement_huber,
    lambda p, d, **o: above_threshold_bce(p, d, threshold=0.5, **o),
    lambda p, d, **o: order_in_window(p, d, window=2, **o),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_counts_for_nothing_whatever_stands_there(loss):
    kept, truth = rows([0.3, 0.9, 0.1], [0.2, 0.4, 0.6]), rows([0.6, 0.2, 0.7], [0.1, 0.9, 0.3])
    padded, padded_truth = torch.cat([kept, rows([7.0], [-3.0])], 1).requires_grad_(), torch.cat([truth, rows([NAN], [NAN])], 1)
    mask = torch.tensor([[True, True, True, False]] * 2)
    value = loss(padded, padded_truth, mask=mask)
    torch.testing.assert_close(value, loss(kept, truth))
    value.backward()
    assert padded.grad[:, 3].tolist() == [0, 0]
    assert (padded.grad[:, :3].abs().sum(1) > 0).all()
    assert float(loss(kept, truth, mask=torch.zeros(2, 3))) == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_reaches_the_prediction_only(loss):
    predicted, truth = rows([0.3, 0.9, 0.1]).requires_grad_(), rows([0.6, 0.2, 0.7]).requires_grad_()
    loss(predicted, truth).backward()
    assert truth.grad is None
    # Frames 0 and 2 disagree more than is said, frame 1 less.
    assert (predicted.grad.sign() == torch.tensor([[-1.0, 1, -1]])).all()
