import pytest
import torch
import torch.nn.functional as F

from vidkd.losses import pooled_feature_mse


def test_is_the_mse_of_the_pooled_vectors():
    student, teacher = torch.randn(3, 5, 2, 4, 4), torch.randn(3, 5, 4, 3, 2)
    expected = F.mse_loss(student.mean((2, 3, 4)), teacher.mean((2, 3, 4)))
    torch.testing.assert_close(pooled_feature_mse(student, teacher), expected)
    torch.testing.assert_close(pooled_feature_mse(student.mean((2, 3, 4)), teacher), expected)


def test_does_not_see_where_a_feature_is():
    student = torch.randn(2, 3, 4, 5, 6)
    assert float(pooled_feature_mse(student.roll((1, 2, 3), (2, 3, 4)), student)) == pytest.approx(0, abs=1e-12)


def test_weights_and_gradient():
    student, teacher = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    loss = pooled_feature_mse(student, teacher, weight=torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(loss, F.mse_loss(student[[0, 2]], teacher[[0, 2]]))
    loss.backward()
    assert teacher.grad is None
    assert student.grad[1].abs().sum() == 0
    assert student.grad[0].abs().sum() > 0


def test_bfloat16_under_autocast_is_pooled_in_float32():
    student, teacher = torch.full((1, 1, 8, 32, 32), 1.0078125).bfloat16(), torch.zeros(1, 1, 8, 32, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = pooled_feature_mse(student, teacher)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(1.0078125**2, rel=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="differ in shape"):
        pooled_feature_mse(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="pooled"):
        pooled_feature_mse(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
