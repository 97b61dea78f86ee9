"""What holds for every loss between student and teacher: gradients to the student only, float32 inside, shapes that must pair."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from vidkd.losses import (
    SHIFT_TOLERANT,
    attention_kl,
    attention_transfer,
    generalized_distillation,
    logit_mse,
    logits_kd,
    pooled_feature_mse,
)

Loss = Callable[[Tensor, Tensor], Tensor]
LABEL = torch.tensor([0, 1, 2, 3, -1])
LOGITS, FEATURES, MAPS = (5, 7), (3, 8, 2, 4, 4), (3, 4, 5, 6)
WRONG = {LOGITS: ((5, 6), "equal shapes"), FEATURES: ((3, 8, 4, 4), r"\(B, C, T, H, W\)"), MAPS: ((3, 4, 5, 5), "resize_attention")}


def transfer(student: Tensor, teacher: Tensor, form: str) -> Tensor:
    return attention_transfer([student], [teacher], form=form)  # type: ignore[arg-type]


LOSSES: dict[str, tuple[Loss, tuple[int, ...]]] = {
    "logits_kd": (partial(logits_kd, temperature=4.0), LOGITS),
    "logit_mse": (logit_mse, LOGITS),
    "generalized_distillation": (partial(generalized_distillation, label=LABEL, temperature=2.0, imitation=0.5), LOGITS),
    "pooled_feature_mse": (pooled_feature_mse, LOGITS),
    "attention_transfer, paper": (partial(transfer, form="paper"), FEATURES),
    "attention_transfer, code": (partial(transfer, form="code"), FEATURES),
    "attention_kl, student first": (partial(attention_kl, direction="student||teacher"), MAPS),
    "attention_kl, teacher first": (partial(attention_kl, direction="teacher||student"), MAPS),
    **{name: (loss, FEATURES) for name, loss in SHIFT_TOLERANT.items()},
}
every_loss = pytest.mark.parametrize(("loss", "shape"), LOSSES.values(), ids=LOSSES)


def values(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Noise; attention maps are log-probabilities."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.flatten(2).log_softmax(-1).view(shape) if shape == MAPS else noise


@every_loss
def test_gradient_reaches_the_student_only(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = values(0, shape).requires_grad_(), values(1, shape).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert (student.grad.flatten(1).abs().sum(1) > 0).all()


@every_loss
def test_bfloat16_under_autocast_is_computed_in_float32(loss: Loss, shape: tuple[int, ...]) -> None:
    student, teacher = (values(seed, shape).bfloat16() for seed in (0, 1))
    student.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    assert student.grad is not None
    assert student.grad.dtype == torch.bfloat16
    assert float(value.detach()) == pytest.approx(float(loss(student.detach().double(), teacher.double())), rel=1e-4)


@every_loss
def test_shapes_must_pair(loss: Loss, shape: tuple[int, ...]) -> None:
    other, message = WRONG[shape]
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(shape), torch.zeros(other))
