import numpy as np
import pytest

from vidkd.report.annotate import draw_boxes
from vidkd.runtime.detections import Detections


def drawn(*boxes, scores=None, labels=None, tracks=None, size=(60, 80)) -> np.ndarray:
    count = len(boxes)
    found = Detections(boxes=boxes, scores=scores or [0.5] * count, labels=labels or [0] * count, track_ids=tracks)
    return draw_boxes(np.zeros((*size, 3), np.uint8), found, ("person", "car"))


def colours(image: np.ndarray, row: int, column: int) -> tuple[int, ...]:
    return tuple(image[row, column].tolist())


def test_the_edge_of_a_box_is_drawn_on_its_own_pixels_and_nothing_outside():
    image = drawn([20, 30, 50, 55])
    inside = image[31:54, 21:49]
    assert not inside.any()
    for row, column in ((30, 20), (30, 49), (54, 20), (54, 49), (40, 20), (40, 49), (54, 35)):
        assert any(colours(image, row, column))
    assert not image[55:].any()
    assert not image[30:, 50:].any()


def test_a_copy_is_drawn_on():
    frame = np.zeros((60, 80, 3), np.uint8)
    draw_boxes(frame, Detections(boxes=[[1, 1, 9, 9]], scores=[1], labels=[0]), ("person",))
    assert not frame.any()


def test_classes_differ_in_colour_and_tracks_do():
    edge = (54, 35)
    by_class = [colours(drawn([20, 30, 50, 55], labels=[label]), *edge) for label in (0, 1)]
    assert by_class[0] != by_class[1]
    by_track = [colours(drawn([20, 30, 50, 55], tracks=[track]), *edge) for track in (3, 4, -1)]
    assert len(set(by_track)) == 3
    assert len(set(by_track[2])) == 1, "what has no track next to those that have one is grey"
    assert colours(drawn([20, 30, 50, 55], tracks=None), *edge) == by_class[0]


def test_the_better_box_lies_on_top():
    boxes = [[20, 30, 50, 55], [20, 30, 50, 55]]
    assert colours(drawn(*boxes, labels=[0, 1], scores=[0.9, 0.3]), 54, 35) == colours(drawn(boxes[0]), 54, 35)


def test_the_words_stay_inside_the_frame():
    image = drawn([60, 0, 80, 20], size=(60, 80))
    assert image[:12].any(2).sum() > 200
    assert image.shape == (60, 80, 3)


@pytest.mark.parametrize(("size", "expected"), [((59, 80), (60, 80)), ((60, 81), (60, 82)), ((61, 61), (62, 62)), ((60, 80), (60, 80))])
def test_odd_sizes_get_a_row_or_column(size, expected):
    image = draw_boxes(np.full((*size, 3), 7, np.uint8), Detections.none(), ())
    assert image.shape == (*expected, 3)
    assert (image == 7).all()


def test_letters_are_dark_on_a_bright_ground_and_bright_on_a_dark_one():
    for label in range(6):
        found = Detections(boxes=[[20, 30, 70, 55]], scores=[0.5], labels=[label])
        image = draw_boxes(np.full((60, 80, 3), 90, np.uint8), found, [f"class {number}" for number in range(6)])
        ground = image[54, 35].astype(float)
        letters = image[:30].reshape(-1, 3).astype(float)
        furthest = letters[np.abs(letters - ground).sum(1).argmax()]
        assert np.abs(furthest.mean() - ground @ (0.299, 0.587, 0.114)) > 90
