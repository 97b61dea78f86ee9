"""What an exported detector is compared on, from which score on, and what is said of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_detector_export import frames, opened

from vidkd.compress.export_detector import export_detector
from vidkd.compress.parity import FAINT_BOXES, DetectorParity, Frames, compared_from, drawn_frames
from vidkd.runtime.opening import open_detector


def test_drawn_pictures_are_scenes_that_differ() -> None:
    drawn = drawn_frames(3)
    assert drawn.source == "3 drawn pictures"
    assert [(frame.shape, frame.dtype) for frame in drawn.values] == [((112, 112, 3), np.uint8)] * 3
    first, second, third = (frame.astype(int) for frame in drawn.values)
    assert min(np.abs(first - second).mean(), np.abs(second - third).mean()) > 5
    assert all(np.array_equal(one, two) for one, two in zip(drawn.values, drawn_frames(3).values, strict=True))


@pytest.mark.parametrize(
    ("scores", "score"),
    [
        ([0.3, 0.2, 0.001], 0.25),  # one is shown
        ([], 0.25),
        ([0.2, 0.1, 0.1, 0.1, 0.05], 0.025),  # few: all of them
        ([0.2, 0.1, 0.1, 0.1, 0.1, 0.09, 0.01, 0.009], 0.03),  # the widest gap is below the sixth
        ([0.2, 0.01, 0.01, 0.01, 0.01, 0.009, 0.0], (0.01 * 0.009) ** 0.5),  # that after the first would leave too few
    ],
)
def test_boxes_are_compared_from_the_score_that_is_shown_or_from_a_gap_below_it(scores: list[float], score: float) -> None:
    assert compared_from(np.array(scores, np.float32), 0.25) == pytest.approx(score)


def test_where_nothing_is_shown_fainter_boxes_are_compared(tmp_path: Path) -> None:
    here = opened()
    best = max(float(found.scores.max()) for found in here(np.stack(frames())))
    here.score_threshold = 1.0
    assert best < here.score_threshold
    made = export_detector(here, tmp_path / "net.onnx", frames=Frames(values=frames(), source="noise"), tolerance=1e-3)
    assert FAINT_BOXES[0] <= made.parity.boxes <= FAINT_BOXES[1]
    assert made.parity.f1 == 1
    assert made.parity.score < best
    assert open_detector(tmp_path / "net.onnx", device="cpu")(np.stack(frames()))[0].scores.size == 0, "the file shows none either"
    assert f"its {made.parity.boxes} boxes of a score of at least {made.parity.score:.2g}" in str(made.parity)
    assert "it finds none from its own 1 on (noise)" in str(made.parity)


def test_what_is_said_of_boxes() -> None:
    parity = DetectorParity(heads=1e-6, scale=20.0, boxes=9, f1=1.0, frames=8, signal_db=9.0, source="8 of 'val'", shown=0.25, score=0.25)
    assert str(parity) == (
        "largest difference to the network: 1e-06 of raw heads up to 20; F1 1.000 (IoU 0.9) against its 9 boxes (8 of 'val')"
    )
    assert "no box was compared, for the network finds none at any score (8 of 'val')" in str(replace(parity, boxes=0))
