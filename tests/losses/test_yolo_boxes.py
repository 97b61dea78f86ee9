import pytest
import torch
from torchvision import ops

from vidkd.losses.boxes import box_iou, centre_from_corners, corners_from_centre, covered_share

KINDS = ("iou", "giou", "diou", "ciou")


def boxes(seed, count):
    corner, size = torch.rand(2, count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([60 * corner, 60 * corner + 40 * size + 1], dim=1)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("iou", ops.box_iou),
        ("giou", ops.generalized_box_iou),
        ("diou", ops.distance_box_iou),
        ("ciou", ops.complete_box_iou),
    ],
)
def test_values_of_torchvision_for_all_pairs(kind, theirs):
    a, b = boxes(0, 30), boxes(1, 40)
    torch.testing.assert_close(box_iou(a[:, None], b, kind=kind), theirs(a, b), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [("giou", ops.generalized_box_iou_loss), ("diou", ops.distance_box_iou_loss), ("ciou", ops.complete_box_iou_loss)],
)
def test_gradients_of_torchvision(kind, theirs):
    truth = boxes(1, 30)
    ours, other = boxes(0, 30).requires_grad_(), boxes(0, 30).requires_grad_()
    (1 - box_iou(ours, truth, kind=kind)).sum().backward()
    theirs(other, truth, reduction="sum").backward()
    torch.testing.assert_close(ours.grad, other.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_centre_form_is_the_same_boxes(kind):
    a, b = boxes(0, 8), boxes(1, 8)
    in_centres = box_iou(centre_from_corners(a), centre_from_corners(b), kind=kind, form="centre")
    torch.testing.assert_close(in_centres, box_iou(a, b, kind=kind))
    torch.testing.assert_close(corners_from_centre(centre_from_corners(a)), a)
    torch.testing.assert_close(centre_from_corners(torch.tensor([2.0, 10, 6, 11])), torch.tensor([4.0, 10.5, 4, 1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "box", [[5.0, 5, 5, 5], [5.0, 5, 5, 9], [5.0, 5, 9, 5], [9.0, 9, 5, 5], [0.0, 0, 4, 4], [4.0, 0, 8, 4], [0.0, 0, 1e-6, 1e4]]
)
def test_values_and_gradients_are_finite_for_degenerate_touching_and_equal_boxes(kind, box):
    for other in ([5.0, 5, 5, 5], [0.0, 0, 4, 4]):
        a, b = torch.tensor(box, requires_grad=True), torch.tensor(other, requires_grad=True)
        value = box_iou(a, b, kind=kind)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(a.grad).all()
        assert torch.isfinite(b.grad).all()
        assert -2 <= value.item() <= 1 + 1e-6


def test_covered_share_is_of_the_first_box_alone():
    small, large = torch.tensor([1.0, 1, 3, 3]), torch.tensor([0.0, 0, 10, 10])
    assert float(covered_share(small, large)) == 1
    assert float(covered_share(large, small)) == pytest.approx(0.04)
    assert float(covered_share(torch.tensor([2.0, 2, 2, 2]), large)) == 0
