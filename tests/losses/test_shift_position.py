"""Position, pooled and gram against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from vidkd.losses.shift_tolerant import gram, pooled, position

SHAPE = (3, 5, 2, 3, 4)


def features(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_position_is_one_minus_the_cosine_of_the_maps():
    student, teacher = features(0), features(1)
    cosine = F.cosine_similarity(student.flatten(1), teacher.flatten(1))
    torch.testing.assert_close(position(student, teacher), (1 - cosine).mean())


def test_position_averages_a_finer_teacher_and_interpolates_a_coarser_one():
    coarse = features(0)
    fine = coarse.repeat_interleave(2, 2).repeat_interleave(3, 3)
    fine = fine + torch.tensor([-1.0, 0.0, 1.0])[None, None, None, :, None].repeat(1, 1, 1, 3, 1)
    assert float(position(coarse, fine)) == pytest.approx(0, abs=1e-12)
    finer = F.interpolate(coarse, (2, 6, 4), mode="trilinear", align_corners=False)
    assert float(position(finer, coarse)) == pytest.approx(0, abs=1e-12)
    mixed = F.interpolate(F.adaptive_avg_pool3d(coarse, (1, 3, 4)), (1, 3, 9), mode="trilinear", align_corners=False)
    assert float(position(mixed, coarse)) == pytest.approx(0, abs=1e-12)


def test_pooled_is_one_minus_the_cosine_of_the_means():
    student, teacher = features(0), features(1, (3, 5, 4, 2, 2))
    cosine = F.cosine_similarity(student.mean((2, 3, 4)), teacher.mean((2, 3, 4)))
    torch.testing.assert_close(pooled(student, teacher), (1 - cosine).mean())


def test_gram_against_loops_over_channels_and_positions():
    student, teacher = features(0), features(1, (3, 5, 4, 2, 2))
    losses = []
    for s, t in zip(student.flatten(2), teacher.flatten(2), strict=True):
        moments = [torch.zeros(5, 5, dtype=torch.float64) for _ in range(2)]
        for moment, vectors in zip(moments, (s, t), strict=True):
            for n in range(vectors.shape[1]):
                moment += torch.outer(vectors[:, n], vectors[:, n]) / vectors.shape[1]
        difference = moments[0] / moments[0].norm() - moments[1] / moments[1].norm()
        losses.append(difference.square().sum() / 2)
    torch.testing.assert_close(gram(student, teacher), torch.stack(losses).mean())


@pytest.mark.parametrize("loss", [position, pooled, gram])
def test_gradient_is_that_of_the_value(loss):
    student, teacher = features(0, (2, 4, 2, 2, 2)).requires_grad_(), features(1, (2, 4, 2, 2, 2))
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
