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


LOSSES = {"logits_kd": lambda s, t: logits_kd(s, t, temperature=4.0), "logit_mse": logit_mse}


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


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    return student, torch.randn(6, 4, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("mode", ["paper", "code"])
def test_no_imitation_is_exactly_cross_entropy(batch, mode):
    student, teacher, label = batch
    loss = generalized_distillation(student, teacher, label, temperature=5.0, imitation=0.0, mode=mode)
    torch.testing.assert_close(loss, F.cross_entropy(student, label), rtol=0, atol=0)


def test_full_imitation_is_kl_of_the_untempered_student_plus_the_teachers_entropy(batch):
    student, teacher, label = batch
    soft = F.softmax(teacher / 3, 1)
    entropy = -(soft * soft.log()).sum(1).mean()
    loss = generalized_distillation(student, teacher, label, temperature=3.0, imitation=1.0)
    torch.testing.assert_close(loss - entropy, logits_kd(student, teacher / 3, temperature=1.0), rtol=0, atol=1e-14)


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


def test_gradient_of_generalized_distillation_reaches_the_student_only(batch):
    student, teacher, label = batch
    teacher.requires_grad_()
    generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.5).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_bfloat16_under_autocast_and_extreme_logits(batch):
    student, teacher, label = (x.detach() for x in batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = generalized_distillation(student.bfloat16(), teacher.bfloat16(), label, temperature=2.0, imitation=0.5)
    assert value.dtype == torch.float32
    wide = generalized_distillation(student.bfloat16().double(), teacher.bfloat16().double(), label, temperature=2.0, imitation=0.5)
    assert float(value) == pytest.approx(float(wide), rel=1e-5)
    far = generalized_distillation(1e4 * student.float(), 1e4 * teacher.float(), label, temperature=1.0, imitation=0.5)
    assert torch.isfinite(far)


def test_shapes_of_generalized_distillation_must_agree(batch):
    with pytest.raises(ValueError, match="differ in shape"):
        generalized_distillation(batch[0], batch[1][:, :3], batch[2], temperature=1.0, imitation=0.5)
