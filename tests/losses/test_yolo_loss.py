import math

import pytest
import torch

from vidkd.losses.boxes import box_iou
from vidkd.losses.yolo import YoloLossOptions, bernoulli_kl, yolo_loss
from vidkd.losses.yolo_heads import HeadSpec, boxes_of_cells, split_head
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


def test_class_terms_of_one_cell_by_hand():
    raw, truth = one_cell(classes=(-0.5, 0.9)), truths([8.0, 12.0, 32.0, 16.0], labels=[1])
    smoothed = bce(-0.5, 0.1) - bce(logit(0.1), 0.1) + bce(0.9, 0.9) - bce(logit(0.9), 0.9)
    assert float(loss(raw, truth, label_smoothing=0.2).classes) == pytest.approx(smoothed)
    assert float(loss(raw, truth, class_loss="cross_entropy").classes) == pytest.approx(math.log(1 + math.exp(-1.4)))
    of_both = 0.9 * math.log(1 + math.exp(-1.4)) + 0.1 * math.log(1 + math.exp(1.4))
    assert float(loss(raw, truth, class_loss="cross_entropy", label_smoothing=0.2).classes) == pytest.approx(of_both)


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
@pytest.mark.parametrize("class_loss", ["bce", "cross_entropy"])
def test_a_perfect_and_sure_prediction_costs_nothing(iou_loss, class_loss):
    raw, truth = perfect()
    terms = loss(raw, truth, spec=GRID, iou_loss=iou_loss, class_loss=class_loss)
    assert all(abs(float(term)) < 1e-6 for term in terms)


def perfect():
    """A head (1, 16, 3, 3) that says what is true of two boxes, and nothing of the rest."""
    raw = torch.full((1, 2, 8, 3, 3), SILENT, dtype=torch.float64)
    raw[0, 0, :, 1, 2] = torch.tensor([logit(0.25), logit(0.5), math.log(0.8), math.log(1.2), 30, SILENT, 30, SILENT])
    raw[0, 1, :, 2, 0] = torch.tensor([logit(0.75), logit(0.1), 0, 0, 30, 30, SILENT, SILENT])
    boxes = [[36 - 4.0, 24 - 6.0, 36 + 4.0, 24 + 6.0], [12 - 15.0, 33.6 - 10, 12 + 15.0, 33.6 + 10]]
    return raw.flatten(1, 2), truths(*boxes, labels=[1, 0])


def test_without_truths_every_cell_is_silenced_and_nothing_else_moves():
    raw = torch.randn(2, 16, 3, 3, requires_grad=True)
    terms = loss(raw, truths(), truths(), spec=GRID)
    cells = split_head(raw, GRID)
    torch.testing.assert_close(terms.objectness, torch.nn.functional.softplus(cells[..., 4]).sum() / 2)
    assert terms.box.item() == terms.classes.item() == 0
    terms.total.backward()
    grad = split_head(raw.grad, GRID)
    assert (grad[..., 4] > 0).all()
    assert grad[..., :4].abs().sum() == grad[..., 5:].abs().sum() == 0


def test_gradient_reaches_boxes_and_classes_of_the_cell_that_answers_only():
    raw = torch.randn(2, 16, 3, 3, requires_grad=True)
    loss(raw, truths(), truths([20.0, 33, 29, 45], labels=[2]), spec=GRID, ignore_thresh=1.0).total.backward()
    grad = split_head(raw.grad, GRID)
    answers = torch.zeros(2, 2, 3, 3, dtype=torch.bool)
    answers[1, 0, 2, 1] = True
    assert (grad[answers] != 0).all()
    assert (grad[..., 4][answers] < 0).all()
    assert (grad[..., 4][~answers] > 0).all()
    assert grad[~answers][:, [0, 1, 2, 3, 5, 6, 7]].abs().sum() == 0


def spared_by(*images, **options):
    """Cells of a head of zeros (1, 2, 3, 3) that get no gradient in their objectness."""
    raw = torch.zeros(1, 16, 3, 3, requires_grad=True)
    loss(raw, *images, spec=GRID, **options).total.backward()
    return {tuple(place) for place in (split_head(raw.grad, GRID)[..., 4] == 0).nonzero()[:, 1:].tolist()}


def test_a_prediction_near_a_truth_is_spared_above_the_threshold():
    """Anchor 1 stands 30 x 20 around the centre of each cell: (24, 24) in the middle one, where anchor 0 answers."""
    truth = truths([17.0, 17, 31, 31])
    assert spared_by(truth, ignore_thresh=0.3) == {(1, 1, 1)}
    assert spared_by(truth, ignore_thresh=0.33) == set()


def test_an_ignored_region_takes_the_punishment_away_from_what_lies_in_it():
    region = truths([0.0, 0, 17, 17], ignore=torch.tensor([True]))
    assert spared_by(region) == {(0, 0, 0)}
    both = truths([0.0, 0, 17, 17], [33.0, 33, 43, 43], ignore=torch.tensor([True, False]))
    assert spared_by(both) == {(0, 0, 0)}
    silent, answers = torch.full((1, 16, 3, 3), -5.0), truths([0.0, 0, 17, 17])
    assert float(loss(silent, answers, spec=GRID).classes) > 0
    assert float(loss(silent, region, spec=GRID).classes) == float(loss(silent, region, spec=GRID).box) == 0


def test_a_cell_that_answers_is_not_spared_by_a_region():
    truth = truths([0.0, 0, 17, 17], [3.0, 3, 13, 13], ignore=torch.tensor([True, False]))
    assert spared_by(truth) == set()


def test_truth_thresh_teaches_what_overlaps_and_leaves_the_cell_that_answers_as_it_is():
    truth, raw = truths([17.0, 17, 31, 31], labels=[2]), torch.zeros(1, 16, 3, 3, requires_grad=True)
    loss(raw, truth, spec=GRID, truth_thresh=0.3).total.backward()
    grad = split_head(raw.grad, GRID)[0, :, 1, 1]
    assert (grad[:, 4] == -0.5).all()
    assert grad[:, 5:].tolist() == [[0.5, 0.5, -0.5]] * 2
    assert (grad[1, 2:4] > 0).all()
    assert (split_head(raw.grad, GRID)[..., 4] < 0).sum() == 2


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


def test_a_box_of_no_weight_adds_neither_class_nor_confidence_to_a_cell_that_it_shares():
    raw, boxes = torch.randn(1, 16, 3, 3), ([18.0, 18, 28, 28], [20.0, 20, 30, 30])
    confidence, weight = torch.tensor([0.6, 0.9]), torch.tensor([1.0, 0.0])
    both = loss(raw, truths(*boxes, labels=[0, 2], confidence=confidence, weight=weight), spec=GRID, ignore_thresh=1.0)
    alone = loss(raw, truths(boxes[0], labels=[0], confidence=confidence[:1]), spec=GRID, ignore_thresh=1.0)
    torch.testing.assert_close(both, alone)


def test_confidence_is_the_objectness_that_is_taught():
    truth = truths([8.0, 12, 32, 16], confidence=torch.tensor([0.3]))
    assert float(loss(one_cell(objectness=logit(0.3)), truth).objectness) == pytest.approx(0, abs=1e-7)
    raw = one_cell(objectness=0.7).requires_grad_()
    loss(raw, truth).objectness.backward()
    assert float(raw.grad[0, 4]) == pytest.approx(1 / (1 + math.exp(-0.7)) - 0.3)


def test_the_bound_leaves_boxes_alone_that_are_near_enough():
    truth = truths([8.0, 12.0, 24.0, 28.0])  # IoU 1/2 with the prediction of zeros
    for iou_loss in ("mse", "ciou"):
        assert float(loss(one_cell(), truth, iou_loss=iou_loss, box_iou_bound=0.49).box) == 0
        free = loss(one_cell(), truth, iou_loss=iou_loss)
        assert float(loss(one_cell(), truth, iou_loss=iou_loss, box_iou_bound=0.51).box) == float(free.box) > 0


def test_is_the_mean_over_images_and_the_sum_over_heads():
    raw, other = torch.randn(2, 16, 3, 3), torch.randn(2, 16, 3, 3)
    images = (truths([18.0, 18, 28, 28]), truths([0.0, 3, 30, 23], labels=[1]))
    apart = [loss(raw[i : i + 1], images[i], spec=GRID).total for i in range(2)]
    torch.testing.assert_close(loss(raw, *images, spec=GRID).total, sum(apart) / 2)
    twins = yolo_loss([raw, other], images, [GRID, GRID])
    torch.testing.assert_close(twins.total, loss(raw, *images, spec=GRID).total + loss(other, *images, spec=GRID).total)


@pytest.mark.parametrize("iou_loss", ["mse", "ciou"])
def test_adam_on_the_raw_numbers_finds_the_boxes(iou_loss):
    torch.manual_seed(0)
    raw = torch.randn(2, 16, 3, 3).requires_grad_()
    images = (truths([20.0, 33, 29, 45], labels=[2]), truths([1.0, 2, 30, 25], [33.0, 34, 44, 46], labels=[0, 1]))
    optimiser = torch.optim.Adam([raw], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(raw, *images, spec=GRID, iou_loss=iou_loss).total.backward()
        optimiser.step()
    cells, boxes = split_head(raw.detach(), GRID), boxes_of_cells(split_head(raw.detach(), GRID), GRID)
    for image, truth in enumerate(images):
        found = cells[image, ..., 4] > 0
        iou = box_iou(boxes[image][found][:, None], truth.boxes)
        assert found.sum() == len(truth.boxes)
        assert (iou.amax(0) > 0.9).all()
        assert cells[image, ..., 5:][found].argmax(1).tolist() == truth.labels[iou.argmax(1)].tolist()


def test_bernoulli_kl_is_nought_at_equality_and_gives_no_gradient_to_the_target():
    logits, target = torch.tensor([0.3, 2.0, -9.0], requires_grad=True), torch.tensor([0.2, 1.0, 0.0], requires_grad=True)
    torch.testing.assert_close(bernoulli_kl(logits, logits.sigmoid()), torch.zeros(3), atol=1e-6, rtol=0)
    values = bernoulli_kl(logits, target)
    assert values[1].item() == pytest.approx(math.log(1 + math.exp(-2)))
    values.sum().backward()
    assert target.grad is None
    torch.testing.assert_close(logits.grad, (logits.sigmoid() - target).detach())


def test_bfloat16_under_autocast_is_computed_in_float32():
    raw, truth = torch.randn(1, 16, 3, 3).bfloat16(), truths([18.0, 18, 28, 28])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(raw, truth, spec=GRID, iou_loss="ciou")
    assert terms.total.dtype == torch.float32
    assert float(terms.total) == pytest.approx(float(loss(raw.double(), truth, spec=GRID, iou_loss="ciou").total), rel=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((truths([0.0, 0, 9, 9], labels=[2]),), "2 classes: 2 to 2"),
        ((truths([0.0, 0, 9, 9], labels=[-1]),), "2 classes: -1 to -1"),
    ],
)
def test_errors_of_truths(images, message):
    with pytest.raises(ValueError, match=message):
        loss(one_cell(), *images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore_thresh": 1.5}, "ignore_thresh"),
        ({"box_iou_bound": -0.1}, "box_iou_bound"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"obj_normalizer": -1.0}, "not negative"),
    ],
)
def test_errors_of_options(options, message):
    with pytest.raises(ValueError, match=message):
        YoloLossOptions(**options)
