"""The oracle's last boxes, carried on by flow and by tracks."""

import numpy as np
import pytest

from vidkd.bench.streams.carried import FlowCarrier, TrackCarrier
from vidkd.runtime.detections import Detections

BOX = np.array([40.0, 30, 70, 80])


def textured(shift: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A picture of soft spots whose patch under BOX moves to the right by `shift` pixels; the ground stays."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(60, 90, (size[0] // 8, size[1] // 8)), np.ones((8, 8))).astype(np.uint8)
    patch = np.kron(rng.integers(0, 255, (15, 10)), np.ones((4, 4))).astype(np.uint8)
    frame = ground.copy()
    frame[25:85, 35 + shift : 75 + shift] = patch
    return np.repeat(frame[:, :, None], 3, axis=2)


def moved(right: float, down: float, scale: float = 1) -> np.ndarray:
    return BOX * scale + np.tile([right, down], 2)


def one(box: np.ndarray, label: int = 0, score: float = 0.9) -> Detections:
    return Detections(boxes=box[None], scores=[score], labels=[label])


def test_flow_takes_a_box_along_with_what_is_in_it() -> None:
    carrier = FlowCarrier()
    assert len(carrier.carry(textured(0), Detections.none())) == 0
    carrier.take(one(BOX))
    for shift in (2, 4, 6):
        found = carrier.carry(textured(shift), Detections.none())
    np.testing.assert_allclose(found.boxes[0], moved(6, 0), atol=2.0)
    assert found.scores.tolist() == pytest.approx([0.9])


def walked(carrier: TrackCarrier, shifts: range, label: int = 0) -> Detections:
    found = Detections.none()
    for shift in shifts:
        found = carrier.carry(textured(0), one(moved(shift, 0), label))
    return found


def test_a_box_follows_the_track_of_the_student_s_box() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(one(moved(5, 1)))
    np.testing.assert_allclose(walked(carrier, range(6, 12, 2)).boxes[0], moved(11, 1))


def test_a_box_stays_while_its_track_is_lost_and_catches_up_after() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(one(moved(4, 0)))
    lost = carrier.carry(textured(0), Detections.none())
    np.testing.assert_allclose(lost.boxes[0], moved(4, 0))
    np.testing.assert_allclose(walked(carrier, range(8, 9)).boxes[0], moved(8, 0))


def test_a_box_is_cut_at_the_edge_gone_beyond_it_and_whole_when_it_returns() -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 80, 2))
    carrier.take(one(moved(78, 0)))
    np.testing.assert_array_equal(walked(carrier, range(80, 102, 2)).boxes[0], [140, 30, 160, 80])
    assert len(walked(carrier, range(102, 112, 2))) == 0, "its centre is 5 pixels beyond the frame"
    np.testing.assert_array_equal(walked(carrier, range(108, 78, -2)).boxes[0], moved(80, 0))


@pytest.mark.parametrize("answer", [one(BOX + np.array([70, 30, 70, 30])), one(BOX, label=1)])
def test_a_box_that_no_track_fits_stays_where_it_is(answer: Detections) -> None:
    carrier = TrackCarrier(fps=10)
    walked(carrier, range(0, 6, 2))
    carrier.take(answer)
    np.testing.assert_array_equal(walked(carrier, range(6, 10, 2)).boxes, answer.boxes)
