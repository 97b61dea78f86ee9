import math

import pytest
import torch

from vidkd.losses.yolo import YoloLossOptions, bernoulli_kl, yolo_loss
from vidkd.losses.yolo_heads import HeadSpec, split_head
from vidkd.losses.yolo_targets import Truths

ONE_CELL = HeadSpec(anchors=((16.0, 8.0),), stride=32, classes=2)
GRID = HeadSpec(anchors=((10.0, 10.0), (30.0, 20.0)), stride=16, classes=3)
SILENT = -30.0


def truths(*boxes, labels=None, **others):
    boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    return Truths(boxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels), **others)


def one_cell(x=0.0, y=0.0, w=0.0, h=0.0, objectness=0.0, classes=(0.0, 0.0)):
    return torch.tensor([x, y, w, h, objectness, *classes], dtype=torch.float64).reshape(1, 7, 1, 1)


def loss(raw, *images, spec=ONE_CELL, **options):
    return yolo_loss([raw], images, [spec], options=YoloLossOptions(**options))


def test_one_cell_by_hand():
    truth = truths([8.0, 12.0, 32.0, 16.0], labels=[1])  # centre (20, 14), size (24, 4)
    terms = loss(one_cell(0.4, -0.3, 0.2, 0.1, 0.7, (-0.5, 0.9)), truth)
    offsets = bce(0.4, 20 / 32) - bce(logit(20 / 32), 20 / 32) + bce(-0.3, 14 / 32) - bce(logit(14 / 32), 14 / 32)
    sizes = ((0.2 - math.log(24 / 16)) ** 2 + (0.1 - math.log(4 / 8)) ** 2) / 2
    assert float(terms.box) == pytest.approx((2 - 96 / 1024) * (offsets + sizes))
    assert float(terms.objectness) == pytest.approx(bce(0.7, 1))
    assert float(terms.classes) == pytest.approx(bce(-0.5, 0) + bce(0.9, 1))
    assert float(terms.total) == pytest.approx(float(terms.box + terms.objectness + terms.classes))


def test_an_iou_loss_of_one_cell_by_hand():
    truth = truths([8.0, 12.0, 24.0, 28.0])
    assert float(loss(one_cell(), truth, iou_loss="iou", iou_normalizer=0.5).box) == pytest.approx(0.5 * (1 - 128 / 256))


def bce(logit_of_guess, target):
    p = 1 / (1 + math.exp(-logit_of_guess))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_the_gradient_of_mse_is_darknets_delta(scale):
    spec = HeadSpec(anchors=ONE_CELL.anchors, stride=32, classes=2, scale_x_y=scale)
    raw = one_cell(0.4, -0.3, 0.2, 0.1, 0.7, (-0.5, 0.9)).requires_grad_()
    loss(raw, truths([8.0, 12.0, 32.0, 16.0], labels=[1]), spec=spec).total.backward()
    squashed = raw.detach().flatten().sigmoid()
    scaled, weight = scale * squashed[:2] - (scale - 1) / 2, 2 - 96 / 1024
    offsets = weight * (scaled - torch.tensor([20 / 32, 14 / 32]))
    sizes = weight * (raw.detach().flatten()[2:4] - torch.tensor([24 / 16, 4 / 8]).log())
    others = squashed[4:] - torch.tensor([1.0, 0, 1])
    torch.testing.assert_close(raw.grad.flatten(), torch.cat([offsets, sizes, others]).double(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("iou_loss", ["mse", "iou", "giou", "diou", "ciou"])
def test_a_perfect_and_sure_prediction_costs_nothing(iou_loss):
    raw, truth = perfect()
    terms = loss(raw, truth, spec=GRID, iou_loss=iou_loss)
    assert all(abs(float(term)) < 1e-6 for term in terms)


def perfect():
    """A head (1, 16, 3, 3) that says what is true of two boxes, and nothing of the rest."""
    raw = torch.full((1, 2, 8, 3, 3), SILENT, dtype=torch.float64)
    raw[0, 0, :, 1, 2] = torch.tensor([logit(0.25), logit(0.5), math.log(0.8), math.log(1.2), 30, SILENT, 30, SILENT])
    raw[0, 1, :, 2, 0] = torch.tensor([logit(0.75), logit(0.1), 0, 0, 30, 30, SILENT, SILENT])
    boxes = [[36 - 4.0, 24 - 6.0, 36 + 4.0, 24 + 6.0], [12 - 15.0, 33.6 - 10, 12 + 15.0, 33.6 + 10]]
    return raw.flatten(1, 2), truths(*boxes, labels=[1, 0])


def spared_by(*images, **options):
    """Cells of a head of zeros (1, 2, 3, 3) that get no gradient in their objectness."""
    raw = torch.zeros(1, 16, 3, 3, requires_grad=True)
    loss(raw, *images, spec=GRID, **options).total.backward()
    return {tuple(place) for place in (split_head(raw.grad, GRID)[..., 4] == 0).nonzero()[:, 1:].tolist()}


def test_an_ignored_region_takes_the_punishment_away_from_what_lies_in_it():
    region = truths([0.0, 0, 17, 17], ignore=torch.tensor([True]))
    assert spared_by(region) == {(0, 0, 0)}
    both = truths([0.0, 0, 17, 17], [33.0, 33, 43, 43], ignore=torch.tensor([True, False]))
    assert spared_by(both) == {(0, 0, 0)}
    silent, answers = torch.full((1, 16, 3, 3), -5.0), truths([0.0, 0, 17, 17])
    assert float(loss(silent, answers, spec=GRID).classes) > 0
    assert float(loss(silent, region, spec=GRID).classes) == float(loss(silent, region, spec=GRID).box) == 0


def test_a_cell_of_two_truths_is_asked_for_both_classes():
    raw = torch.zeros(1, 16, 3, 3, requires_grad=True)
    loss(raw, truths([18.0, 18, 28, 28], [20.0, 20, 30, 30], labels=[0, 2]), spec=GRID).total.backward()
    grad = split_head(raw.grad, GRID)[0, 0, 1, 1]
    assert grad[4] == -0.5
    assert grad[5:].tolist() == [-1.0, 1.0, -1.0]


def test_weights_scale_the_terms_of_a_box_and_nought_asks_nothing_of_its_cell():
    raw, box = torch.randn(1, 16, 3, 3, dtype=torch.float64), [18.0, 18, 28, 28]
    full, half, none = (loss(raw, truths(box, weight=torch.tensor([w])), spec=GRID) for w in (1.0, 0.5, 0.0))
    assert float(half.box) == pytest.approx(float(full.box) / 2)
    assert float(half.classes) == pytest.approx(float(full.classes) / 2)
    assert float(none.box) == float(none.classes) == 0
    own = bce(float(split_head(raw, GRID)[0, 0, 1, 1, 4]), 1)
    assert float(full.objectness - half.objectness) == pytest.approx(own / 2)
    assert float(full.objectness - none.objectness) == pytest.approx(own)


def test_the_bound_leaves_boxes_alone_that_are_near_enough():
    truth = truths([8.0, 12.0, 24.0, 28.0])  # IoU 1/2 with the prediction of zeros
    for iou_loss in ("mse", "ciou"):
        assert float(loss(one_cell(), truth, iou_loss=iou_loss, box_iou_bound=0.49).box) == 0
        free = loss(one_cell(), truth, iou_loss=iou_loss)
        assert float(loss(one_cell(), truth, iou_loss=iou_loss, box_iou_bound=0.51).box) == float(free.box) > 0


def test_bernoulli_kl_is_nought_at_equality_and_gives_no_gradient_to_the_target():
    logits, target = torch.tensor([0.3, 2.0, -9.0], requires_grad=True), torch.tensor([0.2, 1.0, 0.0], requires_grad=True)
    torch.testing.assert_close(bernoulli_kl(logits, logits.sigmoid()), torch.zeros(3), atol=1e-6, rtol=0)
    values = bernoulli_kl(logits, target)
    assert values[1].item() == pytest.approx(math.log(1 + math.exp(-2)))
    values.sum().backward()
    assert target.grad is None
    torch.testing.assert_close(logits.grad, (logits.sigmoid() - target).detach())
