import math

import numpy as np
import pytest

from vidkd.runtime.heads import HEADS, Candidates
from vidkd.runtime.metadata import Head, InputFormat, ModelMetadata

CLASSES = ("cat", "dog", "cow")
SIZE = (32, 16)  # width, height: a mixed-up axis shows
ANCHORS = (((10.0, 14.0), (23.0, 27.0)), ((3.0, 5.0), (8.0, 4.0)))


def metadata(style: str, classes=CLASSES, layout="NCHW", **head) -> ModelMetadata:
    form = InputFormat(size=SIZE, layout=layout, colour="rgb", pixel_max=1, resize="centre")
    return ModelMetadata(classes=classes, input=form, head=Head(style=style, **head))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def check(found: Candidates, expected: list[tuple[float, ...]]) -> None:
    """expected: centre x, centre y, width, height, score, label; in any order."""
    rows = np.asarray(sorted((x - w / 2, y - h / 2, x + w / 2, y + h / 2, s, label) for x, y, w, h, s, label in expected)).reshape(-1, 6)
    got = np.concatenate([found.boxes, found.scores[:, None], found.labels[:, None]], 1)
    got = got[np.lexsort(got.T[::-1])]
    np.testing.assert_allclose(got, rows, rtol=1e-4, atol=1e-4)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)


def slow_yolox(rows, least):
    expected, place = [], 0
    for stride in (8, 16):
        for row in range(SIZE[1] // stride):
            for column in range(SIZE[0] // stride):
                x, y, w, h, objectness, *classes = rows[place]
                place += 1
                score = objectness * max(classes)
                if score >= least:
                    box = ((x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride)
                    expected.append((*box, score, classes.index(max(classes))))
    return expected


@pytest.mark.parametrize("least", [0.0, 0.25, 1.1])
def test_yolox_is_a_slow_loop(least):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(10, 4)), rng.uniform(size=(10, 4))], 1).astype(np.float32)
    found = HEADS["yolox"]([rows], metadata("yolox", strides=(8, 16)), least)
    check(found, slow_yolox(rows.tolist(), least))
    assert (least > 1) == (len(found.scores) == 0)


@pytest.mark.parametrize(("unit", "scale"), [("pixels", (1, 1, 1, 1)), ("unit", (32, 16, 32, 16))])
def test_yolov5_and_yolov8_are_a_slow_loop(unit, scale):
    rng = np.random.default_rng(1)
    rows = rng.uniform(size=(50, 8)).astype(np.float32)
    v5, v8 = [], []
    for row in rows.tolist():
        box = [value * side for value, side in zip(row[:4], scale, strict=True)]
        best = max(row[5:])
        v8.append((*box, best, row[5:].index(best)))
        v5.append((*box, row[4] * best, row[5:].index(best)))
    check(HEADS["yolov5"]([rows], metadata("yolov5", boxes=unit), 0.4), [row for row in v5 if row[4] >= 0.4])
    table = np.delete(rows, 4, 1).T
    check(HEADS["yolov8"]([table], metadata("yolov8", boxes=unit), 0.4), [row for row in v8 if row[4] >= 0.4])


def slow_darknet(outputs, least, scale_xy):
    expected = []
    for output, anchors, scale in zip(outputs, ANCHORS, scale_xy, strict=True):
        height, width = output.shape[1:]
        for a, (wide, high) in enumerate(anchors):
            for row in range(height):
                for column in range(width):
                    x, y, w, h, objectness, *classes = output[8 * a : 8 * a + 8, row, column].tolist()
                    score = sigmoid(objectness) * sigmoid(max(classes))
                    if score >= least:
                        cx = (sigmoid(x) * scale - (scale - 1) / 2 + column) / width * SIZE[0]
                        cy = (sigmoid(y) * scale - (scale - 1) / 2 + row) / height * SIZE[1]
                        expected.append((cx, cy, math.exp(w) * wide, math.exp(h) * high, score, classes.index(max(classes))))
    return expected


@pytest.mark.parametrize("scale_xy", [(), (1.05, 1.2)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_darknet_is_a_slow_loop(layout, scale_xy):
    rng = np.random.default_rng(2)
    outputs = [rng.normal(size=(16, 2, 4)).astype(np.float32) * 2, rng.normal(size=(16, 1, 2)).astype(np.float32) * 2]
    expected = slow_darknet(outputs, 0.2, scale_xy or (1, 1))
    assert 3 < len(expected) < 20
    given = outputs if layout == "NCHW" else [np.moveaxis(output, 0, -1) for output in outputs]
    check(HEADS["darknet"](given, metadata("darknet", layout=layout, anchors=ANCHORS, scale_xy=scale_xy), 0.2), expected)


def test_decoded_boxes_pass_through():
    boxes, scores, labels = np.asarray([[1, 2, 5, 4], [0, 0, 2, 2.0]]), np.asarray([0.9, 0.1]), np.asarray([2, 0])
    expected = [(3, 3, 4, 2, 0.9, 2)]
    check(HEADS["boxes"]([boxes, scores, labels], metadata("boxes", boxes="pixels"), 0.5), expected)
    rows = np.concatenate([boxes / (32, 16, 32, 16), scores[:, None], labels[:, None]], 1)
    check(HEADS["boxes"]([rows], metadata("boxes", boxes="unit"), 0.5), expected)


def test_padding_rows_of_decoded_boxes_may_have_any_label():
    rows = np.asarray([[1, 2, 5, 4, 0.9, 2], [0, 0, 0, 0, 0, -1]])
    check(HEADS["boxes"]([rows], metadata("boxes", boxes="pixels"), 0.01), [(3, 3, 4, 2, 0.9, 2)])
    with pytest.raises(ValueError, match="labels 7 to 7 do not fit 3 classes"):
        HEADS["boxes"]([rows + np.asarray([0, 0, 0, 0, 0, 5])], metadata("boxes", boxes="pixels"), 0.5)


@pytest.mark.parametrize(
    ("style", "head", "shapes", "message"),
    [
        ("yolox", {"strides": (8, 16)}, [(10, 9)], r"3 classes make an output \(N, 5 \+ 3\), not \(10, 9\)"),
        ("yolox", {"strides": (8, 16)}, [(11, 8)], r"strides \[8, 16\] and size \[32, 16\] make 10 cells, the output has 11 rows"),
        ("yolox", {"strides": (8, 16)}, [(10, 8), (10, 8)], "wants 1 output here, not 2"),
        ("yolov5", {"boxes": "unit"}, [(10, 7)], r"3 classes make an output \(N, 5 \+ 3\), not \(10, 7\)"),
        ("yolov8", {"boxes": "unit"}, [(10, 7)], r"3 classes make an output \(4 \+ 3, N\), not \(10, 7\)"),
        ("darknet", {"anchors": ANCHORS}, [(16, 2, 4)], "wants 2 outputs here, not 1"),
        ("darknet", {"anchors": ANCHORS}, [(16, 2, 4), (18, 1, 2)], r"2 anchors and 3 classes make 16 channels: \(18, 1, 2\)"),
        ("boxes", {"boxes": "unit"}, [(5, 7)], r"one output of decoded boxes is \(N, 6\): \(5, 7\)"),
        ("boxes", {"boxes": "unit"}, [(5, 4), (5,), (4,)], r"\(N, 4\), \(N,\), \(N,\): \(5, 4\), \(5,\), \(4,\)"),
        ("boxes", {"boxes": "unit"}, [(5, 4), (5,)], "wants 3 outputs here, not 2; name them in head.outputs"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(style, head, shapes, message):
    with pytest.raises(ValueError, match=message):
        HEADS[style]([np.zeros(shape, np.float32) for shape in shapes], metadata(style, **head), 0.5)


@pytest.mark.parametrize(
    ("style", "head", "shapes"),
    [
        ("yolox", {"strides": (8, 16)}, [(10, 8)]),
        ("yolov5", {"boxes": "unit"}, [(0, 8)]),
        ("yolov8", {"boxes": "unit"}, [(7, 9)]),
        ("darknet", {"anchors": ANCHORS}, [(16, 2, 4), (16, 1, 2)]),
        ("boxes", {"boxes": "unit"}, [(0, 4), (0,), (0,)]),
    ],
)
def test_nothing_found_has_its_shape(style, head, shapes):
    found = HEADS[style]([np.zeros(shape, np.float32) for shape in shapes], metadata(style, **head), 0.9)
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
