"""Errors of an oracle: how many, of which kinds, the same for the same picture."""

import numpy as np
import pytest

from vidkd.bench.streams.wrong_oracle import WrongOracle
from vidkd.detection.online import Answer
from vidkd.runtime.detections import Detections, box_iou

WIDTH, HEIGHT = 640, 480


def many(count: int = 600) -> Detections:
    """Boxes of unlike scores, by which each can be told again."""
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 80, (count, 2))], axis=1)
    return Detections(boxes=boxes, scores=np.linspace(0.1, 0.9, count), labels=rng.integers(0, 3, count), frame_index=7, time_s=0.5)


def wrong(frame: np.ndarray, share: float, seed: int = 0, found: Detections | None = None) -> Detections:
    oracle = lambda _: Answer(detections=many() if found is None else found, known=frozenset({0, 2}))  # noqa: E731
    answer = WrongOracle(oracle, share, seed)(frame)
    assert answer.known == {0, 2}
    return answer.detections


FRAME = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_a_third_each_is_dropped_shifted_and_joined_by_a_false_box(share: float) -> None:
    true = many()
    found = wrong(FRAME, share, 4)
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
    found = wrong(FRAME, 1.0)
    false = np.setdiff1d(np.arange(len(found)), np.unique(found.scores, return_index=True)[1])
    boxes = found.boxes[false]
    assert len(boxes) > 100
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= WIDTH
    assert boxes[:, 3].max() <= HEIGHT
    sides = {tuple(side) for side in np.round(true.boxes[:, 2:] - true.boxes[:, :2], 1).tolist()}
    assert np.mean([tuple(side) in sides for side in np.round(boxes[:, 2:] - boxes[:, :2], 1).tolist()]) > 0.9  # else rounded otherwise


def test_errors_depend_only_on_picture_and_seed() -> None:
    other = FRAME.copy()
    other[0, 0, 0] ^= 1
    first = wrong(FRAME, 0.3, 2).boxes
    np.testing.assert_array_equal(first, wrong(FRAME.copy(), 0.3, 2).boxes)
    for boxes in (wrong(other, 0.3, 2).boxes, wrong(FRAME, 0.3, 3).boxes):
        assert boxes.shape != first.shape or not np.array_equal(boxes, first)
    np.testing.assert_array_equal(wrong(FRAME, 0.0).boxes, many().boxes)
    assert len(wrong(FRAME, 1.0, found=Detections.none())) == 0
