"""Average precision: cases worked by hand, faster-coco-eval called directly, and what is left out."""

import sys

import numpy as np
import pytest
from box_samples import found, frame_of, manifest_of, random_boxes

from vidkd.base.errors import DataError, MissingExtraError
from vidkd.detection.annotations import ANY_CLASS
from vidkd.detection.metrics import average_precision, recall_of
from vidkd.runtime.detections import Detections

A, B, C, D = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Importing what judges takes seconds: once, before any test."""
    pytest.importorskip("faster_coco_eval")
    pytest.importorskip("torchmetrics.detection.mean_ap")


def test_a_curve_by_hand() -> None:
    """Four boxes; by falling score right, wrong, right, wrong, right: precision 1, 1/2, 2/3, 1/2, 3/5 at recall 1/4, 1/4, 1/2, 1/2, 3/4.

    COCO reads precision at recall 0, .01, ..., 1, made falling: 26 levels (to .25) at 1, 25 (to .50) at 2/3, 25 (to .75) at 3/5, 25 at 0.
    """
    truth = manifest_of(frame_of([A, B]), frame_of([C, D], index=1))
    detections = {
        ("a.mp4", 0): found([A, C, B], [0.9, 0.8, 0.7]),
        ("a.mp4", 1): found([A, C], [0.6, 0.5]),
    }
    result = average_precision(truth, detections)
    expected = (26 * 1 + 25 * 2 / 3 + 25 * 3 / 5) / 101
    assert result.ap50 == pytest.approx(expected, abs=1e-6)
    assert result.ap50_by_class == {"cat": pytest.approx(expected, abs=1e-6)}  # no dog to find: no entry, and no zero in the mean
    assert result.map == pytest.approx(expected, abs=1e-6)  # every box that is right is exactly right
    assert (result.recall50, result.recall) == (pytest.approx(0.75), pytest.approx(0.75))
    assert result.recall50_by_class == {"cat": pytest.approx(0.75)}
    assert (result.frames, result.boxes, result.ignored, result.unannotated, result.incomplete) == (2, 4, 0, 0, 0)


def test_boxes_that_are_roughly_right_count_at_low_overlap_alone() -> None:
    truth = manifest_of(frame_of([A]))
    result = average_precision(truth, {("a.mp4", 0): found([(0, 0, 10, 7.2)], [0.9])})  # IoU .72
    assert (result.ap50, result.ap75) == (pytest.approx(1), 0)
    assert result.map == pytest.approx(0.5)  # .50, .55, .60, .65, .70 of ten
    assert result.ap_by_class == {"cat": pytest.approx(0.5)}


def test_the_mean_is_over_classes() -> None:
    truth = manifest_of(frame_of([A, B, C], [0, 0, 1]))
    result = average_precision(truth, {("a.mp4", 0): found([A, B, D], [0.9, 0.8, 0.7], [0, 0, 1])})
    assert result.ap50_by_class == {"cat": pytest.approx(1), "dog": pytest.approx(0)}
    assert result.ap50 == pytest.approx(0.5)


@pytest.mark.parametrize("label", [0, ANY_CLASS])
def test_regions_to_ignore(label: int) -> None:
    truth = manifest_of(frame_of([A, (20, 0, 60, 20)], [0, label], ignore=[False, True]))
    in_the_region = found([B, C, A], [0.9, 0.8, 0.7])
    assert average_precision(truth, {("a.mp4", 0): in_the_region}).ap50 == pytest.approx(1)
    other_class = found([B, C, A], [0.9, 0.8, 0.7], [1, 1, 0])
    assert average_precision(truth, {("a.mp4", 0): other_class}).ap50 == pytest.approx(1)
    beside = found([(70, 0, 80, 10), A], [0.9, 0.7])
    result = average_precision(truth, {("a.mp4", 0): beside})
    assert result.ap50 == pytest.approx(0.5, abs=1e-6)
    assert (result.boxes, result.ignored) == (1, 1)


def test_a_duplicate_costs_precision() -> None:
    truth = manifest_of(frame_of([A, B]))
    result = average_precision(truth, {("a.mp4", 0): found([A, A, B], [0.9, 0.8, 0.7])})
    assert result.ap50 == pytest.approx((51 * 1 + 50 * 2 / 3) / 101, abs=1e-6)


def test_frames_that_are_not_annotated_count_for_nothing() -> None:
    truth = manifest_of(frame_of([A]), frame_of([], index=1), frame_of([B], index=2, complete=False))
    base = {("a.mp4", 0): found([A], [0.5]), ("a.mp4", 1): Detections.none(), ("a.mp4", 2): found([C, D], [0.9, 0.9])}
    alone = average_precision(truth, base)
    assert alone.ap50 == pytest.approx(1)
    assert (alone.frames, alone.incomplete, alone.unannotated) == (2, 1, 0)
    elsewhere = {("a.mp4", 7): found([A, B], [0.9, 0.9]), ("b.mp4", 0): found([A], [0.9])}
    assert average_precision(truth, base | elsewhere).unannotated == 2
    assert average_precision(truth, base | elsewhere).ap50 == pytest.approx(1)
    wrong_in_empty = base | {("a.mp4", 1): found([A], [0.9])}  # annotated as empty: a mistake there counts
    assert average_precision(truth, wrong_in_empty).ap50 == pytest.approx(0.5, abs=1e-6)


def test_empty_sides() -> None:
    nothing = average_precision(manifest_of(frame_of([])), {("a.mp4", 0): found([A], [0.9])})
    assert (nothing.map, nothing.ap50, nothing.recall, nothing.ap50_by_class) == (None, None, None, {})
    only_ignored = average_precision(manifest_of(frame_of([A], ignore=[True])), {("a.mp4", 0): found([A], [0.9])})
    assert (only_ignored.ap50, only_ignored.ignored) == (None, 1)
    blind = average_precision(manifest_of(frame_of([A])), {("a.mp4", 0): Detections.none()})
    assert (blind.map, blind.ap50, blind.recall50) == (0, 0, 0)


def test_equals_faster_coco_eval_called_directly() -> None:
    """Boxes of whole pixels: many overlaps and recalls lie exactly on a threshold, where rounding shows."""
    from faster_coco_eval import COCO, COCOeval_faster

    rng = np.random.default_rng(5)
    frames, detections, annotations, guesses = [], {}, [], []
    for index in range(12):
        boxes, labels, ignore = random_boxes(rng, 5), rng.integers(0, 2, 5), rng.random(5) < 0.2
        near = np.concatenate([boxes + rng.integers(-2, 3, (5, 4)), random_boxes(rng, 3)])
        given = Detections(boxes=near, scores=rng.random(8), labels=[*labels, *rng.integers(0, 2, 3)], frame_index=index)
        frames.append(frame_of(boxes, labels, ignore=ignore, index=index))
        detections["a.mp4", index] = given
        for box, label, crowd in zip(boxes, labels.tolist(), ignore.tolist(), strict=True):
            row = coco_row(index, label, box)
            annotations.append({**row, "id": len(annotations) + 1, "iscrowd": int(crowd), "area": row["bbox"][2] * row["bbox"][3]})
        guesses += [
            {**coco_row(index, label, box), "score": score}
            for box, label, score in zip(near, given.labels.tolist(), given.scores.tolist(), strict=True)
        ]
    images, categories = [{"id": index + 1} for index in range(12)], [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    truth = COCO({"images": images, "annotations": annotations, "categories": categories})
    judge = COCOeval_faster(truth, truth.loadRes(guesses), iouType="bbox", print_function=lambda *_: None)
    judge.run()
    result = average_precision(manifest_of(*frames), detections)
    assert result.map == pytest.approx(judge.stats[0], abs=1e-6)
    assert result.map > 0.2
    assert (result.ap50, result.ap75, result.recall) == pytest.approx((judge.stats[1], judge.stats[2], judge.stats[8]), abs=1e-6)


def coco_row(index: int, label: int, box: np.ndarray) -> dict:
    x1, y1, x2, y2 = box.tolist()
    return {"image_id": index + 1, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1]}


def test_bad_input() -> None:
    truth = manifest_of(frame_of([A]))
    with pytest.raises(ValueError, match=r"no detections of frame \('a.mp4', 0\); where nothing was found"):
        average_precision(truth, {})
    with pytest.raises(ValueError, match=r"labels of frame \('a.mp4', 0\) are out of range 0 to 1"):
        average_precision(truth, {("a.mp4", 0): found([A], [0.9], [2])})
    with pytest.raises(DataError, match=r"'pets' has no completely annotated frame(.|\n)*recall_of"):
        average_precision(manifest_of(frame_of([A], complete=False)), {})


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidkd\[detect\]'"):
        average_precision(manifest_of(frame_of([A])), {("a.mp4", 0): Detections.none()})


def test_recall_of_single_objects() -> None:
    truth = manifest_of(
        frame_of([A]),
        frame_of([A, A], [0, 1], index=1, track_ids=[1, 1]),  # one object with two names
        frame_of([A], [ANY_CLASS], index=2, ignore=[True]),  # nothing to find
        frame_of([B], path="b.mp4"),
        frame_of([], path="b.mp4", index=1),
    )
    detections = {
        ("a.mp4", 0): found([A, B, C], [0.9, 0.9, 0.9]),  # more than the object costs nothing
        ("a.mp4", 1): found([A], [0.3], [1]),
        ("b.mp4", 0): found([B], [0.9], [1]),
    }
    result = recall_of(truth, detections)
    assert (result.objects.tolist(), result.found.tolist()) == ([1, 1, 1], [1, 1, 0])
    assert result.recall == pytest.approx(2 / 3)
    assert result.recall_by_path == {"a.mp4": 1.0, "b.mp4": 0.0}
    assert recall_of(truth, detections, score=0.5).recall == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="'pets' has no frame with an object to find"):
        recall_of(manifest_of(frame_of([])), {})
