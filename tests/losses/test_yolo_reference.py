"""The yolo loss against loops over images, heads, anchors and cells, in plain numbers."""

import math
from itertools import product

import pytest
import torch
from torchvision import ops

from vidkd.losses.yolo import YoloLossOptions, yolo_loss
from vidkd.losses.yolo_heads import HeadSpec
from vidkd.losses.yolo_targets import Truths

SPECS = (
    HeadSpec(anchors=((30.0, 40.0), (50.0, 30.0), (60.0, 60.0)), stride=32, classes=3, scale_x_y=1.05),
    HeadSpec(anchors=((12.0, 10.0), (15.0, 30.0), (30.0, 20.0)), stride=16, classes=3, scale_x_y=1.0),
)
INPUT = 64
OVERLAP = {"iou": ops.box_iou, "giou": ops.generalized_box_iou, "diou": ops.distance_box_iou, "ciou": ops.complete_box_iou}


def random_case(seed, images=2):
    random = torch.Generator().manual_seed(seed)
    heads = [torch.randn(images, 24, INPUT // s.stride, INPUT // s.stride, generator=random, dtype=torch.float64) for s in SPECS]
    truths = []
    for image in range(images):
        count = 1 + 2 * image
        centre, size = torch.rand(2, count, 2, generator=random, dtype=torch.float64)
        size = 8 + 40 * size
        boxes = torch.cat([60 * centre - size / 2, 60 * centre + size / 2], 1)
        weight, confidence = 0.2 + 0.8 * torch.rand(2, count, generator=random, dtype=torch.float64)
        labels = torch.randint(3, (count,), generator=random)
        truths.append(Truths(boxes=boxes, labels=labels, weight=weight, confidence=confidence, ignore=torch.arange(count) == 2))
    return heads, truths


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def kl(x, target):
    """Of two coins, the second of probability sigmoid(x)."""
    p = sigmoid(x)
    return sum(a * math.log(a / b) for a, b in ((target, p), (1 - target, 1 - p)) if a > 0)


def overlap(a, b, kind="iou"):
    a, b = (torch.tensor([box], dtype=torch.float64) for box in (a, b))
    return float(OVERLAP[kind](a, b))


def decoded(vector, spec, anchor, row, column):
    x, y = (
        (spec.scale_x_y * sigmoid(v) - (spec.scale_x_y - 1) / 2 + c) * spec.stride for v, c in zip(vector[:2], (column, row), strict=True)
    )
    w, h = (a * math.exp(v) for a, v in zip(spec.anchors[anchor], vector[2:4], strict=True))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def fit(box, anchor):
    size = (box[2] - box[0], box[3] - box[1])
    shared = min(size[0], anchor[0]) * min(size[1], anchor[1])
    return shared / (size[0] * size[1] + anchor[0] * anchor[1] - shared)


def answers(box, spec, anchor, row, column, options):
    best = max((a for s in SPECS for a in s.anchors), key=lambda a: fit(box, a))
    held = math.floor((box[0] + box[2]) / 2 / spec.stride) == column and math.floor((box[1] + box[3]) / 2 / spec.stride) == row
    return held and (spec.anchors[anchor] == best or fit(box, spec.anchors[anchor]) > options.iou_thresh)


def slow_box(vector, box, spec, anchor, row, column, options):
    guess = decoded(vector, spec, anchor, row, column)
    if options.box_iou_bound is not None and overlap(guess, box) >= options.box_iou_bound:
        return 0.0
    if options.iou_loss != "mse":
        return 1 - overlap(guess, box, options.iou_loss)
    w, h = box[2] - box[0], box[3] - box[1]
    scale, loss = spec.scale_x_y, 0.0
    for value, middle, cell in zip(vector[:2], ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), (column, row), strict=True):
        wanted = (middle / spec.stride - cell + (scale - 1) / 2) / scale
        loss += scale * kl(value, min(max(wanted, 0), 1))
    for value, side, prior in zip(vector[2:4], (w, h), spec.anchors[anchor], strict=True):
        loss += (value - math.log(side / prior)) ** 2 / 2
    return (2 - w * h / INPUT**2) * loss


def slow_classes(vector, labels):
    return sum(kl(x, float(c in labels)) for c, x in enumerate(vector[5:]))


def slow_cell(vector, truth, spec, anchor, row, column, options):
    rows = list(zip(*(part.tolist() for part in (truth.boxes, truth.labels, truth.weight, truth.confidence, truth.ignore)), strict=True))
    asked, regions = [r for r in rows if not r[4]], [r for r in rows if r[4]]
    guess = decoded(vector, spec, anchor, row, column)
    mine = [r for r in asked if answers(r[0], spec, anchor, row, column, options)]
    nearest = max(asked, key=lambda r: overlap(guess, r[0]))
    box = sum(r[2] * slow_box(vector, r[0], spec, anchor, row, column, options) for r in mine)
    classes = sum(r[2] * slow_classes(vector, [m[1] for m in mine]) for r in mine)
    if mine:
        return box, max(r[2] for r in mine) * kl(vector[4], max(r[3] for r in mine)), classes
    inside = [ops.box_iou(*(torch.tensor([b], dtype=torch.float64) for b in (cut(guess, r[0]), guess))) for r in regions]
    spared = overlap(guess, nearest[0]) > options.ignore_thresh or any(float(share) > options.ignore_thresh for share in inside)
    return 0.0, 0.0 if spared else kl(vector[4], 0.0), 0.0


def cut(box, region):
    """The part of a box in a region: its IoU with the box is its share of the box."""
    low, high = [max(a, b) for a, b in zip(box[:2], region[:2], strict=True)], [min(a, b) for a, b in zip(box[2:], region[2:], strict=True)]
    return [*low, *(max(a, b) for a, b in zip(low, high, strict=True))]


def slow_loss(heads, truths, options):
    sums = [0.0, 0.0, 0.0]
    for head, spec in zip(heads, SPECS, strict=True):
        cells = head.reshape(len(truths), 3, 8, *head.shape[2:])
        for image, anchor, row, column in product(range(len(truths)), range(3), range(head.shape[2]), range(head.shape[3])):
            vector = cells[image, anchor, :, row, column].tolist()
            terms = slow_cell(vector, truths[image], spec, anchor, row, column, options)
            sums = [a + b / len(truths) for a, b in zip(sums, terms, strict=True)]
    return [s * n for s, n in zip(sums, (options.iou_normalizer, options.obj_normalizer, options.cls_normalizer), strict=True)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"iou_loss": "iou", "ignore_thresh": 0.2},
        {"iou_loss": "giou"},
        {"iou_loss": "diou", "iou_thresh": 0.213, "iou_normalizer": 0.07},
        {"iou_loss": "ciou", "obj_normalizer": 0.4, "cls_normalizer": 0.5, "iou_thresh": 0.3},
        {"iou_loss": "ciou", "iou_thresh": 0.1, "box_iou_bound": 0.3, "ignore_thresh": 0.25},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_loops(options, seed):
    options = YoloLossOptions(**options)
    heads, truths = random_case(seed)
    terms = yolo_loss(heads, truths, SPECS, options=options)
    slow = slow_loss(heads, truths, options)
    assert [float(term) for term in terms[:3]] == pytest.approx(slow, rel=1e-6)
    assert float(terms.total) == pytest.approx(sum(slow), rel=1e-6)
    assert min(slow) > 0
