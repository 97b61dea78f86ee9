import pytest
import torch
import torch.nn.functional as F

from vidkd.losses import attention_transfer, pooled_feature_mse

SHAPE = (3, 8, 2, 4, 5)
POSITIONS = 2 * 4 * 5


def features(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transfer(student, teacher, **options):
    return attention_transfer([student], [teacher], **options)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_blind_to_positive_scale_and_to_the_order_of_channels(form):
    student, teacher = features(0), features(1)
    plain = transfer(student, teacher, form=form)
    permuted = 7.5 * student[:, torch.randperm(8, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(transfer(permuted, 0.01 * teacher, form=form), plain)
    assert float(transfer(student, -3 * student, form=form)) == pytest.approx(0, abs=1e-15)


def test_code_form_is_two_minus_two_cosines_over_the_positions():
    student, teacher = features(0), features(1)
    cosine = F.cosine_similarity(student.square().sum(1).flatten(1), teacher.square().sum(1).flatten(1))
    assert float(transfer(student, teacher)) == pytest.approx(float((2 - 2 * cosine).mean()) / POSITIONS, rel=1e-12)
    paper = float((2 - 2 * cosine).sqrt().mean()) / 2
    assert float(transfer(student, teacher, form="paper")) == pytest.approx(paper, rel=1e-12)


def test_reference_size_makes_the_value_independent_of_the_number_of_frames():
    student, teacher = features(0), features(1)
    longer = [x.repeat(1, 1, 3, 1, 1) for x in (student, teacher)]
    assert float(transfer(*longer)) == pytest.approx(float(transfer(student, teacher)) / 3)
    at_64 = transfer(student, teacher, reference_size=64)
    torch.testing.assert_close(transfer(*longer, reference_size=64), at_64)
    torch.testing.assert_close(at_64, transfer(student, teacher) * POSITIONS / 64)


def test_maps_of_unlike_channels_and_sizes_meet_at_the_smaller_of_each():
    student, teacher = features(0, (3, 4, 4, 4, 10)), features(1, (3, 16, 2, 8, 5))
    energy_S = F.avg_pool3d(student.square().mean(1, keepdim=True), (2, 1, 2)).flatten(1)
    energy_T = F.avg_pool3d(teacher.square().mean(1, keepdim=True), (1, 2, 1)).flatten(1)
    expected = (F.normalize(energy_S, dim=1) - F.normalize(energy_T, dim=1)).square().mean()
    torch.testing.assert_close(transfer(student, teacher), expected)


def test_layers_are_summed():
    layers_S, layers_T = [features(0), features(2, (3, 4, 1, 2, 2))], [features(1), features(3, (3, 6, 1, 2, 2))]
    alone = [transfer(s, t) for s, t in zip(layers_S, layers_T, strict=True)]
    torch.testing.assert_close(attention_transfer(layers_S, layers_T), sum(alone))


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradient_is_finite_at_equality_and_at_zero(form):
    teacher = features(1)
    for start in (teacher.clone(), torch.zeros(SHAPE, dtype=torch.float64)):
        start.requires_grad_()
        transfer(start, teacher, form=form).backward()
        assert torch.isfinite(start.grad).all()


def test_pooled_features_are_compared_by_mean_squared_error():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(pooled_feature_mse(student, teacher), F.mse_loss(student, teacher))
