import itertools
import math

import numpy as np
import pytest
import torch
from reference_nets import CASES

from vidkd.losses.yolo_heads import boxes_of_cells, split_head
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


def decoded(raw: list[torch.Tensor], heads: list[Head]) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (B, N, 4) and scores (B, N, C) of all cells."""
    cells = [split_head(each, head) for each, head in zip(raw, heads, strict=True)]
    boxes = [boxes_of_cells(each, head).flatten(1, 3) for each, head in zip(cells, heads, strict=True)]
    return torch.cat(boxes, 1), torch.cat([(each[..., 4:5].sigmoid() * each[..., 5:].sigmoid()).flatten(1, 3) for each in cells], 1)


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


def test_half_precision_is_widened() -> None:
    ((boxes, scores, _),) = decode_above([raw_head(1, 16, 2, 2).to(torch.bfloat16)], [HEAD], 0.0)
    assert boxes.dtype == scores.dtype == torch.float32


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(B, 16, h, w\)"):
        decode_above([torch.zeros(1, 15, 2, 2)], [HEAD], 0.1)
    with pytest.raises(ValueError, match="1 raw heads where the network has 2"):
        decode_above([torch.zeros(1, 16, 2, 2)], [HEAD, HEAD], 0.1)


@pytest.mark.parametrize("least", [0.0, 0.3, 0.7, 1.0])
def test_cells_above_a_score_are_those_of_decoding_all(least: float) -> None:
    generator = torch.Generator().manual_seed(4)
    heads = [
        Head(layer=1, source=0, mask=(0, 1), anchors=((8.0, 9.0), (12.0, 20.0)), stride=16, scale_x_y=1.05, classes=3),
        Head(layer=3, source=2, mask=(2,), anchors=((25.0, 17.0),), stride=8, classes=3),
    ]
    raw = [2 * torch.randn(2, 16, 4, 6, generator=generator), 2 * torch.randn(2, 8, 8, 12, generator=generator)]
    raw[0][0, 4] = float("nan")
    boxes, scores = decoded(raw, heads)
    best, labels = scores.max(-1)
    for image, found in enumerate(decode_above(raw, heads, least)):
        above = best[image] >= least
        for each, expected in zip(found, (boxes, best, labels), strict=True):
            torch.testing.assert_close(each, expected[image][above])
    if least == 0.3:
        assert 5 < int((best >= least).sum()) < best.numel() - 5
