"""Greedy matching: hand-worked cases, and a slow version that reads as the rule does."""

from typing import Any

import numpy as np
import pytest
from box_samples import found, random_boxes

from vidkd.detection.annotations import ANY_CLASS
from vidkd.detection.metrics import disagreement, expected_disagreement, f1_against, match, match_at_each, share_inside
from vidkd.runtime.detections import Detections

BOX, NEAR, FAR = (0, 0, 10, 10), (0, 0, 10, 8), (50, 50, 60, 60)


def slow_iou(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_match(detections: Detections, boxes, labels, ignore, iou: float) -> tuple[list[int], list[bool]]:
    """By falling score; each takes the best free box; then ignored regions excuse what is left."""
    order = sorted(range(len(detections)), key=lambda k: (-detections.scores[k], k))
    truth_of, neutral, taken = [-1] * len(detections), [False] * len(detections), set()
    for k in order:
        best, best_iou = -1, iou
        for j in range(len(boxes)):
            fits = labels[j] in (detections.labels[k], ANY_CLASS)
            if ignore[j] or j in taken or not fits:
                continue
            overlap = slow_iou(detections.boxes[k].astype(float), boxes[j].astype(float))
            if overlap > best_iou or (best < 0 and overlap >= iou):
                best, best_iou = j, overlap
        if best >= 0:
            taken.add(best)
            truth_of[k] = best
            continue
        for j in range(len(boxes)):
            if ignore[j] and (labels[j] in (detections.labels[k], ANY_CLASS)):
                a, b = detections.boxes[k].astype(float), boxes[j].astype(float)
                width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
                inside = max(width, 0) * max(height, 0) / ((a[2] - a[0]) * (a[3] - a[1]))
                neutral[k] |= inside >= iou
    return truth_of, neutral


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_slow_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, labels = random_boxes(rng, 12), rng.integers(0, 2, 12)
    ignore = rng.random(12) < 0.25
    labels[ignore & (rng.random(12) < 0.5)] = ANY_CLASS
    guesses = np.concatenate([boxes[rng.integers(0, 12, 10)] + rng.integers(-2, 3, (10, 4)), random_boxes(rng, 5)])
    detections = Detections(boxes=guesses, scores=rng.integers(1, 5, 15) / 5, labels=rng.integers(0, 2, 15))
    result = match(detections, boxes, labels, ignore=ignore, iou=0.5)
    truth_of, neutral = slow_match(detections, boxes, labels, ignore, 0.5)
    assert result.truth_of.tolist() == truth_of
    assert result.neutral.tolist() == neutral


def test_a_duplicate_is_wrong() -> None:
    result = match(found([BOX, NEAR], [0.5, 0.9]), np.float32([BOX]), np.array([0]))
    assert result.truth_of.tolist() == [-1, 0]  # the surer one takes the box, although the other fits it better


def matched(detections: Detections, boxes: list, label: int = 0, **more: Any) -> tuple[list[int], list[bool]]:
    """The true box of each detection, and whether a region excuses it, where all boxes are of one class."""
    result = match(detections, np.float32(boxes).reshape(-1, 4), np.full(len(boxes), label), **more)
    return result.truth_of.tolist(), result.neutral.tolist()


def test_equal_scores_go_in_the_order_given_and_equal_overlaps_to_the_first_box() -> None:
    assert matched(found([NEAR, BOX], [0.5, 0.5]), [BOX, BOX])[0] == [0, 1]
    assert matched(found([BOX], [0.5]), [BOX, BOX])[0] == [0]


def test_the_overlap_asked_for_is_enough() -> None:
    half = [(0, 0, 10, 5)]  # IoU with BOX is exactly .5
    assert [matched(found([BOX], [0.9]), half, iou=iou)[0] for iou in (0.5, 0.51)] == [[0], [-1]]
    both = match_at_each(found([BOX], [0.9]), np.float32(half), np.array([0]), [0.5, 0.51], np.array([False]))
    assert both.truth_of.tolist() == [[0], [-1]]


def test_classes() -> None:
    assert matched(found([BOX], [0.9], [1]), [BOX])[0] == [-1]


@pytest.mark.parametrize(("label", "excused"), [(0, True), (ANY_CLASS, True), (1, False)])
def test_a_region_excuses_any_number_of_its_class(label: int, excused: bool) -> None:
    detections = found([BOX, NEAR, (0, 0, 4, 4)], [0.9, 0.8, 0.7])
    assert matched(detections, [BOX], label, ignore=np.array([True])) == ([-1] * 3, [excused] * 3)


def test_a_true_box_goes_before_a_region() -> None:
    ignore = np.array([True, False])
    assert matched(found([BOX, BOX, FAR], [0.9, 0.8, 0.7]), [(0, 0, 20, 20), NEAR], ignore=ignore) == ([1, -1, -1], [False, True, False])


def test_half_in_a_region_by_its_own_area() -> None:
    detections = found([(5, 0, 15, 10), (6, 0, 16, 10)], [0.9, 0.8])  # half, and two fifths of each lie in BOX
    assert matched(detections, [BOX], ignore=np.array([True]))[1] == [True, False]


def test_empty_sides() -> None:
    assert matched(Detections.none(), []) == matched(Detections.none(), [BOX]) == ([], [])
    assert matched(found([BOX], [0.9]), []) == ([-1], [False])


def test_share_inside() -> None:
    boxes, regions = np.float32([(0, 0, 10, 10), (5, 5, 5, 9)]), np.float32([(0, 0, 20, 5), (90, 90, 99, 99)])
    assert share_inside(boxes, regions) == pytest.approx(np.array([[0.5, 0], [0, 0]]))


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
    assert counts.true_positives.tolist() == [1, 0, 0, 0]
    assert counts.false_positives.tolist() == [2, 0, 0, 1]
    assert counts.false_negatives.tolist() == [0, 1, 0, 2]
    assert counts.f1 == pytest.approx(2 / 8)  # 2 TP / (2 TP + FP + FN) = 2 / (2 + 3 + 3)
    assert [disagreement(a, b) for a, b in zip(student, oracle, strict=True)] == [0.5, 1, 0, 1]


def test_thresholds_and_classes() -> None:
    student, oracle = [found([A, C], [0.9, 0.39], [1, 0])], [found([A, C], [0.9, 0.3])]
    assert f1_against(student, oracle).f1 == 0
    assert f1_against(student, oracle, score=0.3).true_positives.tolist() == [1]
    assert f1_against(student, oracle, score=0.3).f1 == pytest.approx(2 / 4)
    assert f1_against([found([A], [0.9])], [found([(0, 0, 10, 6)], [0.9])], iou=0.7).f1 == 0


def test_nothing_there_and_nothing_found() -> None:
    assert f1_against([Detections.none()], [Detections.none()]).f1 == 1
    assert f1_against([], []).f1 == 1


def test_what_scores_promise() -> None:
    scores = np.asarray([0.9, 0.5, 0.3], np.float32)
    # of the two that are shown 1.4 are right and 0.6 wrong; 0.3 of the third is missed
    assert expected_disagreement(scores) == pytest.approx(1 - 2 * 1.4 / (2 * 1.4 + 0.6 + 0.3), rel=1e-6)
    assert expected_disagreement(scores, score=0.2) == pytest.approx(1 - 2 * 1.7 / (2 * 1.7 + 1.3), rel=1e-6)
    assert expected_disagreement(np.ones(3, np.float32)) == 0.0
    assert expected_disagreement(np.asarray([0.1], np.float32)) == 1.0, "what is only suspected will all be missed"
    assert expected_disagreement(np.zeros(0, np.float32)) == 0.0
