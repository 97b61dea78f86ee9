"""Average precision: cases worked by hand, faster-coco-eval, and what is left out."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from box_samples import found, frame_of, manifest_of, random_boxes

from vidkd.base.errors import DataError
from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey
from vidkd.detection.metrics import METRICS, average_precision, drawn_precision, recall_of
from vidkd.runtime.detections import Detections

A, B, C, D = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)
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


def test_boxes_that_are_roughly_right_count_at_low_overlap_only() -> None:
    figures = average_precision(manifest_of(frame_of([A])), {KEY: found([(0, 0, 10, 7.2)], [0.9])}).figures  # IoU .72
    assert (figures["ap50"], figures["ap75"]) == (1, 0)
    assert figures["map"] == pytest.approx(0.5)  # .50, .55, .60, .65, .70 of ten


def test_the_mean_is_over_classes() -> None:
    result = average_precision(manifest_of(frame_of([A, B, C], [0, 0, 1])), {KEY: found([A, B, D], [0.9, 0.8, 0.7], [0, 0, 1])})
    assert [row["ap50"] for row in result.rows] == [1, 0]
    assert result.figures["ap50"] == 0.5


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


def test_empty_sides() -> None:
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
