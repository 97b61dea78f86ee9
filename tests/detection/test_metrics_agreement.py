"""F1 against an oracle, disagreement, counts kept by frame."""


import numpy as np
import pytest
from box_samples import found

from vidkd.detection.metrics import FrameCounts, disagreement, f1_against
from vidkd.detection.metrics.matching import expected_disagreement
from vidkd.runtime.detections import Detections

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)


def test_hand_worked_frames() -> None:
    student = [
        found([A, B, A], [0.9, 0.8, 0.7], index=3),  # one right, one duplicate, one where nothing is
        Detections.none(frame_index=4),
        Detections.none(frame_index=5),
        found([A, C], [0.9, 0.39], [1, 0], index=6),  # wrong class; the other is below the score
    ]
    oracle = [
        found([A, C], [0.9, 0.3], index=3),  # C is below the oracle's score
        found([A], [0.5], index=4),
        Detections.none(frame_index=5),
        found([A, C], [0.9, 0.9], [0, 0], index=6),
    ]
    counts = f1_against(student, oracle)
    assert counts.frame_indices.tolist() == [3, 4, 5, 6]
    assert counts.true_positives.tolist() == [1, 0, 0, 0]
    assert counts.false_positives.tolist() == [2, 0, 0, 1]
    assert counts.false_negatives.tolist() == [0, 1, 0, 2]
    assert counts.f1 == pytest.approx(2 / 8)  # 2 TP / (2 TP + FP + FN) = 2 / (2 + 3 + 3)
    assert [disagreement(a, b) for a, b in zip(student, oracle, strict=True)] == [0.5, 1, 0, 1]


def test_thresholds_and_classes() -> None:
    student, oracle = [found([A, C], [0.9, 0.39], [1, 0])], [found([A, C], [0.9, 0.3])]
    assert f1_against(student, oracle).f1 == 0
    assert f1_against(student, oracle, score=0.3).true_positives.tolist() == [1]
    assert disagreement(student[0], oracle[0], score=0.3) == pytest.approx(1 - 2 / 4)
    assert f1_against([found([A], [0.9])], [found([(0, 0, 10, 6)], [0.9])], iou=0.7).f1 == 0


def test_a_detector_agrees_with_itself() -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 9, (6, 2)) * 12
    same = found(np.concatenate([corner, corner + 10], axis=1), rng.uniform(0.4, 1, 6), rng.integers(0, 3, 6))
    assert disagreement(same, same) == 0


def test_nothing_there_and_nothing_found() -> None:
    counts = f1_against([Detections.none()], [Detections.none()])
    assert counts.f1 == 1
    assert len(FrameCounts.of([], [])) == 0


def test_sides_that_are_not_the_same_frames() -> None:
    with pytest.raises(ValueError, match="2 frames of the detector, 1 of the oracle"):
        f1_against([Detections.none(), Detections.none()], [Detections.none()])
    with pytest.raises(ValueError, match="frame 1 of the detector paired with frame 2 of the oracle"):
        f1_against([Detections.none(frame_index=1)], [Detections.none(frame_index=2)])
    two = np.zeros(2, int)
    with pytest.raises(ValueError, match=r"unlike numbers of frames: \[1, 2\]"):
        FrameCounts(frame_indices=np.zeros(1, int), true_positives=two, false_positives=two, false_negatives=two)


def test_what_scores_promise() -> None:
    scores = np.asarray([0.9, 0.5, 0.3], np.float32)
    # of the two that are shown 1.4 are right and 0.6 wrong; 0.3 of the third is missed
    assert expected_disagreement(scores) == pytest.approx(1 - 2 * 1.4 / (2 * 1.4 + 0.6 + 0.3), rel=1e-6)
    assert expected_disagreement(scores, score=0.2) == pytest.approx(1 - 2 * 1.7 / (2 * 1.7 + 1.3), rel=1e-6)
    assert expected_disagreement(np.ones(3, np.float32)) == 0.0
    assert expected_disagreement(np.asarray([0.1], np.float32)) == 1.0, "what is only suspected will all be missed"
    assert expected_disagreement(np.zeros(0, np.float32)) == 0.0


def test_what_scores_promise_is_what_comes_of_them_where_there_are_many() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000, np.float32)
    right = rng.random(20_000) < scores
    shown = scores >= 0.4
    hits, wrong, missed = (right & shown).sum(), (~right & shown).sum(), (right & ~shown).sum()
    assert expected_disagreement(scores) == pytest.approx(1 - 2 * hits / (2 * hits + wrong + missed), abs=0.01)
