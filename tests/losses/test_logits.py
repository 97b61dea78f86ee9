import math

import pytest
import torch
import torch.nn.functional as F

from vidkd.losses import logit_mse, logits_kd, multilabel_kd, regression_kd, regression_matching

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


def test_high_temperature_is_half_the_mean_centred_logit_difference(pair):
    student, teacher = pair
    loss = logits_kd(student, teacher, temperature=1000.0).detach()
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = difference.square().sum(1).mean().detach() / (2 * C)
    assert 0.995 < float(loss / limit) < 1.005


def test_soft_cross_entropy_is_kl_plus_entropy(pair):
    student, teacher = pair
    p = F.softmax(teacher / 4, 1)
    soft_ce = F.cross_entropy(student / 4, p)
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(logits_kd(student, teacher, temperature=4.0) / 16, soft_ce - entropy, rtol=0, atol=1e-14)


def test_zero_where_logits_differ_by_a_constant_per_clip(pair):
    _, teacher = pair
    shifted = teacher + torch.arange(B, dtype=torch.float64)[:, None]
    assert float(logits_kd(shifted, teacher, temperature=3.0)) == pytest.approx(0, abs=1e-14)
    assert float(logit_mse(shifted, teacher)) == pytest.approx(float(torch.arange(B).double().square().mean()))


def test_kl_of_two_classes_in_closed_form():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(logits_kd(student, teacher, temperature=1.0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_multilabel_gradient_and_value(pair, temperature):
    student, teacher = pair
    loss = multilabel_kd(student, teacher, temperature=temperature)
    loss.backward()
    q, p = torch.sigmoid(student / temperature).detach(), torch.sigmoid(teacher / temperature)
    torch.testing.assert_close(student.grad, temperature * (q - p) / B, rtol=0, atol=1e-15)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    slow = temperature**2 * (F.binary_cross_entropy(q, p, reduction="none") - entropy).sum(1).mean()
    assert float(loss) == pytest.approx(float(slow), rel=1e-10)
    assert float(multilabel_kd(teacher, teacher, temperature=temperature)) == 0


def test_multilabel_gradient_at_high_temperature(pair):
    student, teacher = pair
    multilabel_kd(student, teacher, temperature=1e4).backward()
    torch.testing.assert_close(student.grad, ((student - teacher) / 4 / B).detach(), rtol=1e-3, atol=1e-9)


def test_bounded_regression_pulls_only_where_the_student_is_not_better_by_the_margin():
    target = torch.zeros(3, 2)
    student = torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]]).requires_grad_()
    teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [2.1, 0.0]])
    # squared errors: student 25, 1, 4; teacher 1, 4, 4.41
    assert float(regression_kd(student, teacher, target)) == pytest.approx(25 / 3)
    assert float(regression_kd(student, teacher, target, margin=0.5)) == pytest.approx(29 / 3)
    loss = regression_kd(student, teacher, target, margin=0.5)
    loss.backward()
    torch.testing.assert_close(student.grad, torch.tensor([[2.0, 8 / 3], [0, 0], [4 / 3, 0]]))
    assert float(regression_kd(target + 1, target + 1, target)) == 0  # as good as the teacher, no margin


def test_regression_matching_sums_over_numbers_and_averages_over_rows():
    assert float(regression_matching(torch.zeros(2, 3), torch.tensor([[1.0, 2, 2], [0, 0, 1]]))) == pytest.approx(5)


LOSSES = {
    "logits_kd": lambda s, t, **k: logits_kd(s, t, temperature=4.0, **k),
    "multilabel_kd": lambda s, t, **k: multilabel_kd(s, t, temperature=4.0, **k),
    "logit_mse": logit_mse,
    "regression_kd": lambda s, t, **k: regression_kd(s, t, torch.zeros_like(s), margin=100.0, **k),
    "regression_matching": regression_matching,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
class TestEveryLoss:
    def test_gradient_reaches_the_student_only(self, loss, pair):
        student, teacher = pair
        teacher.requires_grad_()
        loss(student, teacher).backward()
        assert teacher.grad is None
        assert student.grad.abs().sum() > 0

    def test_shapes_must_agree(self, loss):
        with pytest.raises(ValueError, match="differ in shape"):
            loss(torch.zeros(2, 3), torch.zeros(2, 4))
        with pytest.raises(ValueError, match="expected 2 dimensions"):
            loss(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1))

    def test_a_clip_of_weight_zero_drops_out(self, loss, pair):
        student, teacher = pair
        weight = torch.tensor([1.0, 0, 1, 0, 1])
        kept = [0, 2, 4]
        torch.testing.assert_close(loss(student, teacher, weight=weight), loss(student[kept], teacher[kept]))
        assert float(loss(student, teacher, weight=torch.zeros(B))) == 0
        with pytest.raises(ValueError, match="one number a clip"):
            loss(student, teacher, weight=torch.ones(B, 1))

    def test_bfloat16_under_autocast_is_computed_in_float32(self, loss, pair):
        student, teacher = (x.detach().bfloat16() for x in pair)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(student, teacher)
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(loss(student.double(), teacher.double())), rel=1e-5)

    def test_extreme_logits_give_finite_loss_and_gradient(self, loss):
        student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]]).requires_grad_()
        value = loss(student, torch.tensor([[-1e4, 1e4, 0.0], [-1e4, 1e4, 0.0]]))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("loss", [logits_kd, multilabel_kd])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(loss, temperature):
    with pytest.raises(ValueError, match="temperature"):
        loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)
