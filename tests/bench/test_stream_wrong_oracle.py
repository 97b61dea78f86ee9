"""Errors of an oracle: how many, of which kinds, the same for the same picture."""

import numpy as np
import pytest

from vidkd.base.errors import ConfigError
from vidkd.bench.streams.wrong_oracle import BoxErrors, WrongOracle
from vidkd.detection.online import Answer
from vidkd.runtime.detections import Detections
from vidkd.runtime.nms import box_iou

WIDTH, HEIGHT = 640, 480


def many(count: int = 600) -> Detections:
    """Boxes of unlike scores, by which each can be told again."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 80, (count, 2))], axis=1)
    return Detections(boxes=boxes, scores=np.linspace(0.1, 0.9, count), labels=rng.integers(0, 3, count), frame_index=7, time_s=0.5)


FRAME = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def test_no_error_changes_nothing() -> None:
    found = BoxErrors(share=0.0)(many(), FRAME)
    np.testing.assert_array_equal(found.boxes, many().boxes)
    assert (found.frame_index, found.time_s) == (7, 0.5)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_a_third_each_is_dropped_shifted_and_joined_by_a_false_box(share: float) -> None:
    true = many()
    found = BoxErrors(share=share, seed=4)(true, FRAME)
    place = {float(score): number for number, score in enumerate(true.scores)}
    of_true = np.array([place[float(score)] for score in found.scores])
    first = np.unique(of_true, return_index=True)[1]
    dropped, added = len(true) - len(first), len(found) - len(first)
    own = np.diag(box_iou(found.boxes[first], true.boxes[of_true[first]]))
    shifted = int((own < 0.99).sum())
    for count in (dropped, shifted, added):
        assert count == pytest.approx(share * len(true) / 3, abs=4 * np.sqrt(share * len(true) / 3))
    assert own[own < 0.99].max() <= 1 / 7 + 1e-3
    np.testing.assert_array_equal(found.labels, true.labels[of_true])


def test_false_boxes_lie_in_the_frame_and_have_the_size_of_a_true_one() -> None:
    true = many()
    found = BoxErrors(share=1.0)(true, FRAME)
    false = np.setdiff1d(np.arange(len(found)), np.unique(found.scores, return_index=True)[1])
    boxes = found.boxes[false]
    assert len(boxes) > 100
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= WIDTH
    assert boxes[:, 3].max() <= HEIGHT
    sides = {tuple(side) for side in np.round(true.boxes[:, 2:] - true.boxes[:, :2], 1).tolist()}
    assert np.mean([tuple(side) in sides for side in np.round(boxes[:, 2:] - boxes[:, :2], 1).tolist()]) > 0.9  # else rounded otherwise


def test_errors_depend_on_picture_and_seed_alone() -> None:
    errors, other = BoxErrors(share=0.3, seed=2), FRAME.copy()
    other[0, 0, 0] ^= 1
    first = errors(many(), FRAME).boxes
    np.testing.assert_array_equal(first, errors(many(), FRAME.copy()).boxes)
    for boxes in (errors(many(), other).boxes, BoxErrors(share=0.3, seed=3)(many(), FRAME).boxes):
        assert boxes.shape != first.shape or not np.array_equal(boxes, first)


def test_a_frame_without_boxes_stays_empty() -> None:
    assert len(BoxErrors(share=1.0)(Detections.none(), FRAME)) == 0


class Heads:
    gives_heads = True

    def __call__(self, frame: np.ndarray) -> Answer:
        raise AssertionError("not asked")


class Boxes:
    gives_heads = False

    def __call__(self, frame: np.ndarray) -> Answer:
        return Answer(detections=many(), known=frozenset({0, 2}))


def test_the_wrapper_errs_as_the_errors_do() -> None:
    errors = BoxErrors(share=0.3)
    answer = WrongOracle(Boxes(), errors)(FRAME)
    np.testing.assert_array_equal(answer.detections.boxes, errors(many(), FRAME).boxes)
    assert answer.known == {0, 2}


def test_raw_heads_and_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="raw heads"):
        WrongOracle(Heads(), BoxErrors(share=0.1))
    with pytest.raises(ConfigError, match=r"\[0, 1\], not 1.5"):
        BoxErrors(share=1.5)
