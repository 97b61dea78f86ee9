import math

import pytest
import torch

from vidkd.losses import attention_kl, attention_uniform_kl, resize_attention

DIRECTIONS = ["student||teacher", "teacher||student"]


def attention(seed, shape=(3, 4, 5, 6), over="frame", dtype=torch.float64, scale=1.0):
    logits = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return logits.flatten(2 if over == "frame" else 1).log_softmax(-1).view(shape)


def one_hot(shape=(1, 2, 2, 4)):
    logp = torch.full(shape, -math.inf, dtype=torch.float64)
    logp[..., 0, 0] = 0
    return logp


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("over", ["frame", "clip"])
def test_agrees_with_sums_over_single_positions(direction, over):
    student, teacher = attention(0, over=over), attention(1, over=over)
    p, q = (student, teacher) if direction == "student||teacher" else (teacher, student)
    B, T, H, W = p.shape
    slow = sum(
        math.exp(p[b, t, h, w]) * float(p[b, t, h, w] - q[b, t, h, w])
        for b in range(B)
        for t in range(T)
        for h in range(H)
        for w in range(W)
    )
    slow /= B * (T * math.log(H * W) if over == "frame" else math.log(T * H * W))
    assert float(attention_kl(student, teacher, direction=direction, over=over)) == pytest.approx(slow, rel=1e-12)


def test_uniform_prior_is_zero_for_a_flat_map_and_one_for_a_single_position():
    flat = torch.full((2, 3, 4, 4), -math.log(16), dtype=torch.float64)
    assert float(attention_uniform_kl(flat)) == pytest.approx(0, abs=1e-15)
    assert float(attention_uniform_kl(one_hot())) == pytest.approx(1, rel=1e-12)
    student = attention(0)
    entropy = -(student.exp() * student).sum((2, 3)).mean() / math.log(30)
    assert float(attention_uniform_kl(student)) == pytest.approx(1 - float(entropy), rel=1e-12)


def test_gradient_of_teacher_first_is_q_minus_p_in_the_logits():
    logits = torch.randn(2, 3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    teacher = attention(1, (2, 3, 4, 5))
    attention_kl(logits.log_softmax(-1).view(2, 3, 4, 5), teacher, direction="teacher||student").backward()
    expected = (logits.softmax(-1) - teacher.exp().flatten(2)) / (2 * 3 * math.log(20))
    torch.testing.assert_close(logits.grad, expected.detach(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("masked", ["student", "teacher", "both"])
def test_masked_and_extreme_positions_stay_finite(direction, masked):
    logits = 1e4 * torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    student, teacher = logits.log_softmax(-1).view(1, 2, 2, 4), attention(1, (1, 2, 2, 4), dtype=torch.float32, scale=1e4)
    mask = torch.zeros(1, 2, 2, 4, dtype=torch.bool)
    mask[..., 1] = True
    if masked in ("student", "both"):
        student = student.masked_fill(mask, -math.inf)
    if masked in ("teacher", "both"):
        teacher = teacher.masked_fill(mask, -math.inf)
    loss = attention_kl(student, teacher, direction=direction)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_resize_averages_probabilities_of_whole_cells():
    probability = torch.arange(1.0, 17).view(1, 1, 4, 4).double()
    probability /= probability.sum()
    coarse = resize_attention(probability.log(), (1, 2, 2)).exp()
    expected = torch.tensor([[1 + 2 + 5 + 6, 3 + 4 + 7 + 8], [9 + 10 + 13 + 14, 11 + 12 + 15 + 16]]).double() / 136
    torch.testing.assert_close(coarse[0, 0], expected)


@pytest.mark.parametrize("size", [(2, 3, 3), (8, 10, 12), (4, 5, 6), (1, 1, 2)])
@pytest.mark.parametrize("over", ["frame", "clip"])
def test_resized_maps_sum_to_one(size, over):
    resized = resize_attention(attention(0, over=over, scale=3), size, over=over)
    assert resized.shape == (3, *size)
    total = resized.exp().sum((2, 3) if over == "frame" else (1, 2, 3))
    torch.testing.assert_close(total, torch.ones_like(total))


def test_resize_keeps_flat_maps_flat_and_one_hot_maps_finite():
    flat = torch.full((1, 4, 6, 6), -math.log(36), dtype=torch.float64)
    torch.testing.assert_close(resize_attention(flat, (2, 4, 4)), torch.full((1, 2, 4, 4), -math.log(16), dtype=torch.float64))
    assert torch.isfinite(resize_attention(one_hot(), (1, 1, 2))).all()
