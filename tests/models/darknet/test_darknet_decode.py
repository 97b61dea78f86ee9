import itertools
import math

import numpy as np
import pytest
import torch
from reference_nets import CASES

from vidkd.models.darknet import Head
from vidkd.models.darknet.detector import decode_above

HEAD = Head(layer=9, source=7, anchors=((10, 20), (31, 7)), mask=(0, 2), stride=16, scale_x_y=1.1, classes=3)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def slow_decode(raw: np.ndarray, head: Head) -> list[tuple[list[float], list[float]]]:
    """One box after the other, anchors outermost: corners in pixels, scores of the classes."""
    found = []
    for (number, anchor), y, x in itertools.product(enumerate(head.anchors), range(raw.shape[1]), range(raw.shape[2])):
        tx, ty, tw, th, objectness, *classes = (float(value) for value in raw[number * (5 + head.classes) :, y, x][: 5 + head.classes])
        centre_x = (x + head.scale_x_y * sigmoid(tx) - (head.scale_x_y - 1) / 2) * head.stride
        centre_y = (y + head.scale_x_y * sigmoid(ty) - (head.scale_x_y - 1) / 2) * head.stride
        half_w, half_h = anchor[0] * math.exp(tw) / 2, anchor[1] * math.exp(th) / 2
        box = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
        found.append((box, [sigmoid(objectness) * sigmoid(value) for value in classes]))
    return found


def raw_head(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_all_heads_of_a_network_equal_loops() -> None:
    net = CASES[0].build()
    raw = [raw_head(2, 3 * 8, 4, 6), raw_head(2, 2 * 8, 8, 12)]
    for image, (boxes, scores, labels) in enumerate(decode_above(raw, net.heads, 0.0)):
        assert boxes.shape == (3 * 24 + 2 * 96, 4)
        slow = [pair for head, values in zip(net.heads, raw, strict=True) for pair in slow_decode(values[image].numpy(), head)]
        np.testing.assert_allclose(boxes, [box for box, _ in slow], rtol=1e-12)
        np.testing.assert_allclose(scores, [max(scores) for _, scores in slow], rtol=1e-12)
        assert labels.tolist() == [int(np.argmax(scores)) for _, scores in slow]


def test_zeros_stand_for_the_anchor_in_the_middle_of_its_cell() -> None:
    ((boxes, scores, _),) = decode_above([torch.zeros(1, 16, 2, 2)], [HEAD], 0.0)
    assert boxes[6].tolist() == [8 - 15.5, 24 - 3.5, 8 + 15.5, 24 + 3.5]
    assert scores.unique().tolist() == [0.25]


@pytest.mark.parametrize("least", [0.3, 0.7, 1.0])
def test_cells_above_a_score_are_among_all(least: float) -> None:
    raw = [2 * raw_head(1, 16, 4, 6)]
    raw[0][0, 4, 0, 0] = float("nan")
    ((boxes, scores, labels),) = decode_above(raw, [HEAD], 0.0)
    kept = scores >= least
    for found, expected in zip(decode_above(raw, [HEAD], least)[0], (boxes, scores, labels), strict=True):
        assert torch.equal(found, expected[kept])
