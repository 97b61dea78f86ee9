import pytest
import torch
import torch.nn.functional as F

from vidkd.losses import generalized_distillation, logits_kd


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


def test_clips_drop_only_from_the_term_that_lacks_something(batch):
    student, teacher, label = batch
    label[4:] = -1
    seen = torch.tensor([0.0, 0, 1, 1, 1, 1])
    loss = generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.5, teacher_weight=seen)
    hard, soft = F.cross_entropy(student[:4], label[:4]), F.cross_entropy(student[2:], F.softmax(teacher[2:] / 2, 1))
    torch.testing.assert_close(loss, 0.5 * hard + 0.5 * soft)
    half = torch.tensor([1.0, 1, 0, 0, 1, 1])
    loss = generalized_distillation(student, teacher, label, temperature=2.0, imitation=0.0, label_weight=half)
    torch.testing.assert_close(loss, F.cross_entropy(student[:2], label[:2]))


def test_gradient_reaches_the_student_only(batch):
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0, "imitation": 0.5}, "temperature"),
        ({"temperature": 1.0, "imitation": 1.5}, "imitation"),
        ({"temperature": 1.0, "imitation": 0.5, "mode": "both"}, "mode"),
    ],
)
def test_errors(batch, options, message):
    with pytest.raises(ValueError, match=message):
        generalized_distillation(*batch, **options)


def test_shapes_must_agree(batch):
    with pytest.raises(ValueError, match="differ in shape"):
        generalized_distillation(batch[0], batch[1][:, :3], batch[2], temperature=1.0, imitation=0.5)
