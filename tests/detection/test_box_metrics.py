"""Detections against true boxes: matching by hand and by a slow version, average precision by hand and by faster-coco-eval."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from box_samples import found, frame_of, manifest_of, random_boxes

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey
from vidkd.detection.metrics import (
    METRICS,
    average_precision,
    disagreement,
    drawn_precision,
    expected_disagreement,
    f1_against,
    match,
    match_at_each,
    recall_of,
    share_inside,
)
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


A, B, C, D = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)


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


def test_what_scores_promise() -> None:
    scores = np.asarray([0.9, 0.5, 0.3], np.float32)
    # of the two that are shown 1.4 are right and 0.6 wrong; 0.3 of the third is missed
    assert expected_disagreement(scores) == pytest.approx(1 - 2 * 1.4 / (2 * 1.4 + 0.6 + 0.3), rel=1e-6)
    assert expected_disagreement(scores, score=0.2) == pytest.approx(1 - 2 * 1.7 / (2 * 1.7 + 1.3), rel=1e-6)
    assert expected_disagreement(np.ones(3, np.float32)) == 0.0
    assert expected_disagreement(np.asarray([0.1], np.float32)) == 1.0, "what is only suspected will all be missed"
    assert expected_disagreement(np.zeros(0, np.float32)) == 0.0


KEY = ("a.mp4", 0)
Found = Mapping[FrameKey, Detections]


def test_a_curve_by_hand() -> None:
    """Four boxes; by falling score right, wrong, right, wrong, right: precision 1, 1/2, 2/3, 1/2, 3/5 at recall 1/4, 1/4, 1/2, 1/2, 3/4.

    COCO reads precision at recall 0, .01, ..., 1, made falling: 26 levels (to .25) at 1, 25 (to .50) at 2/3, 25 (to .75) at 3/5, 25 at 0.
    """
    truth = manifest_of(frame_of([A, B]), frame_of([C, D], index=1))
    result = average_precision(truth, {KEY: found([A, C, B], [0.9, 0.8, 0.7]), ("a.mp4", 1): found([A, C], [0.6, 0.5])})
    expected = (26 * 1 + 25 * 2 / 3 + 25 * 3 / 5) / 101
    # every box that is right is exactly right, so all overlaps say the same; no dog to find: no zero in the mean
    assert result.figures == pytest.approx({"ap50": expected, "map": expected, "ap75": expected, "recall": 0.75, "recall50": 0.75})
    assert [*result.rows[0].values()][1:] == pytest.approx([4, expected, expected, 0.75])
    assert result.rows[1] == {"class": "dog", "boxes": 0, "ap50": None, "ap": None, "recall50": None}
    assert result.counts == {"frames": 2, "boxes": 4, "ignored": 0, "incomplete": 0}


@pytest.mark.parametrize("label", [0, ANY_CLASS])
@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([B, C, A], [0, 0, 0], 1),  # in the region
        ([B, C, A], [1, 1, 0], 1),  # of another class
        ([(70, 0, 80, 10), A], [0, 0], 0.5),  # next to it
    ],
)
def test_regions_to_ignore(label: int, boxes: list, labels: list[int], expected: float) -> None:
    truth = manifest_of(frame_of([A, (20, 0, 60, 20)], [0, label], ignore=[False, True]))
    result = average_precision(truth, {KEY: found(boxes, [0.9, 0.8, 0.7][: len(boxes)], labels)})
    assert (result.figures["ap50"], result.counts["boxes"], result.counts["ignored"]) == (pytest.approx(expected), 1, 1)


def test_incomplete_frames_count_for_nothing() -> None:
    truth = manifest_of(frame_of([A]), frame_of([], index=1), frame_of([B], index=2, complete=False))
    base = {KEY: found([A], [0.5]), ("a.mp4", 1): Detections.none(), ("a.mp4", 2): found([C, D], [0.9, 0.9])}
    result = average_precision(truth, base)
    assert (result.figures["ap50"], [*result.counts.values()]) == (1, [2, 1, 0, 1])
    wrong_in_empty = base | {("a.mp4", 1): found([A], [0.9])}  # annotated as empty: a mistake there counts
    assert average_precision(truth, wrong_in_empty).figures["ap50"] == pytest.approx(0.5)
    with pytest.raises(DataError, match="'pets' has no completely annotated frame"):
        average_precision(manifest_of(frame_of([A], complete=False)), {})


def test_average_precision_of_empty_sides() -> None:
    for truth in (frame_of([]), frame_of([A], ignore=[True])):
        nothing = average_precision(manifest_of(truth), {KEY: found([A], [0.9])})
        assert np.isnan(list(nothing.figures.values())).all()
    blind = average_precision(manifest_of(frame_of([A])), {KEY: Detections.none()})
    assert set(blind.figures.values()) == {0.0}


def by_library(truth: BoxManifest, detections: Found) -> list[float]:
    """METRICS without recall50 of faster-coco-eval; a region that hides every class is repeated for each class."""
    coco = pytest.importorskip("faster_coco_eval")
    annotations, guesses = [], []
    for number, frame in enumerate(truth.frames, start=1):
        for box, label, crowd in zip(frame.boxes, frame.labels.tolist(), frame.ignore.tolist(), strict=True):
            for each in [0, 1] if label == ANY_CLASS else [label]:
                row = coco_row(number, each, box)
                annotations.append({**row, "id": len(annotations) + 1, "iscrowd": int(crowd), "area": row["bbox"][2] * row["bbox"][3]})
        seen = detections[frame.key]
        labels, scores = seen.labels.tolist(), seen.scores.tolist()
        guesses += [{**coco_row(number, *of), "score": score} for *of, score in zip(labels, seen.boxes, scores, strict=True)]
    images, categories = [{"id": number + 1} for number in range(len(truth.frames))], [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    whole = coco.COCO({"images": images, "annotations": annotations, "categories": categories})
    judge = coco.COCOeval_faster(whole, whole.loadRes(guesses), iouType="bbox", print_function=lambda *_: None)
    judge.run()
    return [judge.stats[place] for place in (1, 0, 2, 8)]


def coco_row(number: int, label: int, box: np.ndarray) -> dict:
    x1, y1, x2, y2 = box.tolist()
    return {"image_id": number, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def random_frames(seed: int, count: int = 8) -> tuple[BoxManifest, Found]:
    """Boxes of whole pixels, which often lie exactly on a threshold, regions of one class and of any, and frames without a box."""
    rng = np.random.default_rng(seed)
    frames, detections = [], {}
    for index in range(count):
        several = 0 if index == count - 1 else 5
        boxes, labels, ignore = random_boxes(rng, several), rng.integers(0, 2, several), rng.random(several) < 0.2
        labels[ignore & (rng.random(several) < 0.5)] = ANY_CLASS
        near = np.concatenate([boxes + rng.integers(-2, 3, boxes.shape), random_boxes(rng, 3)])
        frames.append(frame_of(boxes, labels, ignore=ignore, index=index))
        detections["a.mp4", index] = found(near, rng.random(len(near)), [*np.abs(labels), *rng.integers(0, 2, 3)], index)
    return manifest_of(*frames), detections


@pytest.mark.parametrize("seed", range(3))
def test_each_draw_is_judged_as_by_the_library(seed: int) -> None:
    truth, detections = random_frames(seed)
    times = np.concatenate([np.ones((1, 8), int), np.random.default_rng(seed).multinomial(8, np.full(8, 1 / 8), size=3)])
    drawn = drawn_precision(truth, detections, times)
    assert average_precision(truth, detections).figures == {name: drawn[name][0] for name in METRICS}
    assert 0.1 < drawn["map"][0] < 0.9
    for place, counts in enumerate(times):
        copies = [(copy, frame) for frame, count in zip(truth.frames, counts, strict=True) for copy in range(count)]
        frames = tuple(dataclasses.replace(frame, path=f"{copy}/{frame.path}") for copy, frame in copies)
        again = {new.key: detections[old.key] for new, (_, old) in zip(frames, copies, strict=True)}
        judged = by_library(dataclasses.replace(truth, frames=frames), again)
        assert [drawn[name][place] for name in METRICS[:4]] == pytest.approx(judged, abs=1e-6)


def test_draws_without_a_true_box_are_unknown() -> None:
    truth = manifest_of(frame_of([A]), frame_of([], index=1), frame_of([B], [1], index=2))
    detections = {KEY: found([A], [0.9]), ("a.mp4", 1): found([A], [0.95]), ("a.mp4", 2): Detections.none()}
    drawn = drawn_precision(truth, detections, np.array([[0, 3, 0], [1, 0, 0], [1, 2, 0], [1, 0, 1], [0, 0, 1]]))
    assert drawn["ap50"] == pytest.approx([np.nan, 1, 1 / 3, 0.5, 0], nan_ok=True)
    assert drawn["recall"] == pytest.approx([np.nan, 1, 1, 0.5, 0], nan_ok=True)


@pytest.mark.parametrize(("before", "expected"), [(99, 1 / 100), (100, 0.0)])
def test_a_hundred_of_a_class_count_in_a_frame(before: int, expected: float) -> None:
    """The true box comes as number 101 of its class, behind it and behind a hundred of the other."""
    boxes, scores = [B] * before + [A] + [B] * 100, [0.9] * before + [0.5] + [0.8] * 100
    detections = {KEY: found(boxes, scores, [0] * (before + 1) + [1] * 100)}
    assert average_precision(manifest_of(frame_of([A])), detections).figures["ap50"] == pytest.approx(expected)


def test_recall_of_single_objects() -> None:
    truth = manifest_of(
        frame_of([A]),
        frame_of([A, A], [0, 1], index=1, track_ids=[1, 1]),  # one object with two names
        frame_of([A], [ANY_CLASS], index=2, ignore=[True]),  # nothing to find
        frame_of([B], path="b.mp4"),
        frame_of([], path="b.mp4", index=1),
    )
    detections = {
        KEY: found([A, B, C], [0.9, 0.9, 0.9]),  # more than the object costs nothing
        ("a.mp4", 1): found([A], [0.3], [1]),
        ("b.mp4", 0): found([B], [0.9], [1]),
    }
    result = recall_of(truth, detections)
    assert (result.objects.tolist(), result.found.tolist()) == ([1, 1, 1], [1, 1, 0])
    assert result.metrics() == {"recall50": pytest.approx(2 / 3), "recall50_video": 0.5}
    assert [[*row.values()] for row in result.rows] == [["a.mp4", 2, 1.0], ["b.mp4", 1, 0.0]]
    assert recall_of(truth, detections, score=0.5).metrics()["recall50"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="'pets' has no frame with an object to find"):
        recall_of(manifest_of(frame_of([])), {})


@pytest.mark.parametrize("judge", [average_precision, recall_of])
def test_a_frame_without_an_entry_is_named(judge) -> None:
    truth = manifest_of(frame_of([A]), frame_of([A], index=3))
    with pytest.raises(DataError, match=r"no detections of: a\.mp4, frame 3\n  fix : "):
        judge(truth, {KEY: Detections.none()})
