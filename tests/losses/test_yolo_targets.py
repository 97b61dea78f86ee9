"""Cells, anchors and boxes of yolo heads: overlap against torchvision, and which cell is responsible for which true box."""

import dataclasses

import pytest
import torch
from torchvision import ops

from vidkd.losses.yolo_heads import (
    HeadSpec,
    box_iou,
    boxes_of_cells,
    centre_from_corners,
    corners_from_centre,
    covered_share,
    split_head,
    split_heads,
)
from vidkd.losses.yolo_targets import Truths, assign, box_targets, flatten_truths

COARSE = HeadSpec(anchors=((40.0, 40.0), (80.0, 40.0)), stride=32, classes=3)
FINE = HeadSpec(anchors=((10.0, 10.0), (10.0, 30.0)), stride=16, classes=3)
GRIDS = [(4, 6), (8, 12)]


def truths(*boxes, **others):
    return Truths(boxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)), **others)


def places(*images, specs=(COARSE, FINE), grids=GRIDS, **options):
    """Per head: (image, anchor, row, column, truth) of every cell that answers."""
    found = assign(flatten_truths(images, torch.zeros(1)), specs, grids, **options)
    return [list(zip(*(part.tolist() for part in (*cells.place, cells.truth)), strict=True)) for cells in found]


def test_the_best_fitting_anchor_of_all_heads_answers_in_the_cell_of_the_centre():
    wide, tall = [30.0, 41, 100, 79], [86.0, 0, 95, 31]
    assert places(truths(wide, tall)) == [[(0, 1, 1, 2, 0)], [(0, 1, 0, 5, 1)]]


def test_a_threshold_adds_every_anchor_that_fits_better():
    square = truths([20.0, 20, 60, 60])
    assert places(square) == [[(0, 0, 1, 1, 0)], []]
    assert places(square, iou_thresh=0.49) == [[(0, 0, 1, 1, 0), (0, 1, 1, 1, 0)], []]
    assert places(square, iou_thresh=0.18) == [[(0, 0, 1, 1, 0), (0, 1, 1, 1, 0)], [(0, 1, 2, 2, 0)]]
    assert places(square, iou_thresh=0.51) == places(square)


def test_a_box_of_an_unused_anchor_has_no_cell():
    spared = dataclasses.replace(COARSE, unused_anchors=((5.0, 5.0),))
    assert places(truths([20.0, 20, 25, 24]), specs=(spared, FINE)) == [[], []]
    assert places(truths([20.0, 20, 25, 24])) == [[], [(0, 0, 1, 1, 0)]]


def test_boxes_without_area_or_with_a_centre_outside_are_left_out():
    assert places(truths([5.0, 5, 5, 30], [30.0, 9, 20, 19], [-12.0, 0, 10, 20], [180.0, 0, 204, 20], [0.0, 120, 20, 136])) == [[], []]
    assert places(truths([-8.0, 0, 10, 20])) == [[], [(0, 1, 0, 0, 0)]]


def test_ignored_regions_answer_to_nothing_and_do_not_shift_the_rows():
    both = truths([20.0, 20, 60, 60], [0.0, 0, 10, 10], ignore=torch.tensor([True, False]))
    assert places(both) == [[], [(0, 0, 0, 0, 0)]]
    flat = flatten_truths([both], torch.zeros(1))
    assert flat.labels.tolist() == [1]
    assert flat.weight.tolist() == flat.confidence.tolist() == [1.0]


def test_truths_stay_on_their_device(monkeypatch):
    def refuse(tensor, *_arguments, **_options):
        raise AssertionError("a copy to the host")

    monkeypatch.setattr(torch.Tensor, "cpu", refuse)
    given = truths([20.0, 20, 60, 60], [0.0, 0, 10, 10], ignore=torch.tensor([True, False]))
    assert flatten_truths([given], torch.zeros(1)).boxes.tolist() == [[0, 0, 10, 10]]


def test_targets_are_offset_in_the_cell_and_log_of_size_over_anchor():
    flat = flatten_truths([truths([30.0, 41, 100, 79])], torch.zeros(1))
    cells, _ = assign(flat, (COARSE, FINE), GRIDS)
    expected = torch.tensor([[65 / 32 - 2, 60 / 32 - 1, *torch.tensor([70 / 80, 38 / 40]).log().tolist()]])
    torch.testing.assert_close(box_targets(flat.boxes, cells, COARSE), expected)


def test_decoding_by_hand():
    spec = HeadSpec(anchors=((10.0, 20.0), (30.0, 40.0)), stride=8, classes=1, scale_x_y=1.2)
    raw = torch.zeros(1, 12, 2, 3)
    raw[0, 6:10, 1, 2] = torch.tensor([0.5, -1.0, 0.3, -0.2])
    x, y = (2 + 1.2 / (1 + torch.tensor(-0.5).exp()) - 0.1) * 8, (1 + 1.2 / (1 + torch.tensor(1.0).exp()) - 0.1) * 8
    w, h = 30 * torch.tensor(0.3).exp(), 40 * torch.tensor(-0.2).exp()
    boxes = boxes_of_cells(split_head(raw, spec), spec)
    torch.testing.assert_close(boxes[0, 1, 1, 2], torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    torch.testing.assert_close(boxes[0, 0, 1, 0], torch.tensor([4.0 - 5, 12 - 10, 4 + 5, 12 + 10]))


def test_a_head_is_split_anchor_by_anchor():
    raw = torch.arange(2 * 16 * 2 * 3).reshape(2, 16, 2, 3)
    cells = split_head(raw, COARSE)
    assert cells.shape == (2, 2, 2, 3, 8)
    assert cells[1, 1, 0, 2].tolist() == raw[1, 8:, 0, 2].tolist()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(1, 16, 4, 6)], "zip"),
        ([(1, 16, 4, 6), (1, 15, 8, 12)], r"\(B, 16, h, w\)"),
    ],
)
def test_heads_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=message):
        split_heads([torch.zeros(shape) for shape in shapes], (COARSE, FINE))


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
