import itertools
import math

import numpy as np
import pytest
import torch
from reference_nets import CASES

from vidkd.models.darknet import Head, decode, decode_head
from vidkd.models.darknet.decode import decode_above

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


def test_one_head_equals_a_loop() -> None:
    raw = raw_head(2, 16, 3, 5)
    decoded = decode_head(raw, HEAD)
    assert decoded.boxes.shape == (2, 2, 3, 5, 4)
    for sample in range(2):
        slow = slow_decode(raw[sample].numpy(), HEAD)
        np.testing.assert_allclose(decoded.boxes[sample].reshape(-1, 4), [box for box, _ in slow], rtol=1e-12)
        scores = decoded.objectness[sample, ..., None] * decoded.class_scores[sample]
        np.testing.assert_allclose(scores.reshape(-1, 3), [scores for _, scores in slow], rtol=1e-12)


def test_all_heads_of_a_network_equal_loops() -> None:
    net = CASES[0].build()
    raw = [raw_head(2, 3 * 8, 4, 6), raw_head(2, 2 * 8, 8, 12)]
    boxes, scores = decode(raw, net.heads)
    assert (boxes.shape, scores.shape) == ((2, 3 * 24 + 2 * 96, 4), (2, 3 * 24 + 2 * 96, 3))
    slow = [pair for head, values in zip(net.heads, raw, strict=True) for pair in slow_decode(values[1].numpy(), head)]
    np.testing.assert_allclose(boxes[1], [box for box, _ in slow], rtol=1e-12)
    np.testing.assert_allclose(scores[1], [score for _, score in slow], rtol=1e-12)


def test_zeros_stand_for_the_anchor_in_the_middle_of_its_cell() -> None:
    decoded = decode_head(torch.zeros(1, 16, 2, 2), HEAD)
    assert decoded.boxes[0, 1, 1, 0].tolist() == [8 - 15.5, 24 - 3.5, 8 + 15.5, 24 + 3.5]
    assert decoded.objectness.unique().tolist() == decoded.class_scores.unique().tolist() == [0.5]


def test_half_precision_is_widened_and_gradients_flow() -> None:
    raw = raw_head(1, 16, 2, 2).to(torch.bfloat16).requires_grad_()
    decoded = decode_head(raw, HEAD)
    assert {part.dtype for part in decoded} == {torch.float32}
    sum(part.square().sum() for part in decoded).backward()
    assert (raw.grad != 0).all()


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(B, 16, h, w\)"):
        decode_head(torch.zeros(1, 15, 2, 2), HEAD)
    with pytest.raises(ValueError, match="1 raw heads where the network has 2"):
        decode([torch.zeros(1, 16, 2, 2)], [HEAD, HEAD])


@pytest.mark.parametrize("least", [0.0, 0.3, 0.7, 1.0])
def test_cells_above_a_score_are_those_of_decoding_all(least: float) -> None:
    generator = torch.Generator().manual_seed(4)
    heads = [
        Head(layer=1, source=0, mask=(0, 1), anchors=((8.0, 9.0), (12.0, 20.0)), stride=16, scale_x_y=1.05, classes=3),
        Head(layer=3, source=2, mask=(2,), anchors=((25.0, 17.0),), stride=8, classes=3),
    ]
    raw = [2 * torch.randn(2, 16, 4, 6, generator=generator), 2 * torch.randn(2, 8, 8, 12, generator=generator)]
    raw[0][0, 4] = float("nan")
    boxes, scores = decode(raw, heads)
    best, labels = scores.max(-1)
    for image, found in enumerate(decode_above(raw, heads, least)):
        above = best[image] >= least
        for each, expected in zip(found, (boxes, best, labels), strict=True):
            torch.testing.assert_close(each, expected[image][above])
    if least == 0.3:
        assert 5 < int((best >= least).sum()) < best.numel() - 5
