import math

import pytest
import torch
import torch.nn.functional as F

from vidkd.losses import generalized_distillation, logit_mse, logits_kd

B, C = 5, 7


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(B, C, generator=generator, dtype=torch.float64).requires_grad_()
    return student, torch.randn(B, C, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_gradient_is_t_times_the_difference_of_tempered_softmaxes(pair, temperature):
    student, teacher = pair
    logits_kd(student, teacher, temperature=temperature).backward()
    expected = temperature * (F.softmax(student / temperature, 1) - F.softmax(teacher / temperature, 1)) / B
    torch.testing.assert_close(student.grad, expected.detach(), rtol=0, atol=1e-15)


def test_zero_where_logits_differ_by_a_constant_per_clip(pair):
    _, teacher = pair
    shifted = teacher + torch.arange(B, dtype=torch.float64)[:, None]
    assert float(logits_kd(shifted, teacher, temperature=3.0)) == pytest.approx(0, abs=1e-14)
    assert float(logit_mse(shifted, teacher)) == pytest.approx(float(torch.arange(B).double().square().mean()))


def test_kl_of_two_classes_in_closed_form():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(logits_kd(student, teacher, temperature=1.0)) == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    return student, torch.randn(6, 4, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


def test_code_mode_weighs_the_soft_term_by_the_squared_temperature(batch):
    student, teacher, label = batch
    hard = F.cross_entropy(student, label)
    soft = F.cross_entropy(student, F.softmax(teacher / 2, 1))
    for mode, factor in (("paper", 1), ("code", 4)):
        loss = generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.3, mode=mode)
        torch.testing.assert_close(loss, 0.7 * hard + 0.3 * factor * soft)


def test_clips_without_a_label_drop_from_the_hard_term_only(batch):
    student, teacher, label = batch
    label[4:] = -1
    loss = generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.5)
    hard, soft = F.cross_entropy(student[:4], label[:4]), F.cross_entropy(student, F.softmax(teacher / 2, 1))
    torch.testing.assert_close(loss, 0.5 * hard + 0.5 * soft)
    half = torch.tensor([1.0, 1, 0, 0, 1, 1])
    loss = generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.0, label_weight=half)
    torch.testing.assert_close(loss, F.cross_entropy(student[:2], label[:2]))
