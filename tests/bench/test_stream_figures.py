"""Detections on annotated frames: kept small, and judged as by the metrics of detections, whichever frames are drawn."""

import dataclasses
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from vidkd.bench.intervals import bootstrap_ci, paired_difference
from vidkd.bench.streams.figures import Annotated, OnAnnotated, StreamCounts, judged
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.metrics import MOST, average_precision, recall_of
from vidkd.runtime.detections import Detections

CLASSES = ("a", "b", "never there")
FRAMES = 12
EMPTY = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64), "ignore": np.zeros(0, bool)}


def drawn(seed: int, *, complete: bool = True, every: int = 5) -> tuple[BoxManifest, list[Detections]]:
    """Frames with some boxes, of which some are ignored, and detections near some of them, in a frame of 100 x 100."""
    rng = np.random.default_rng(seed)
    frames, found = [], [Detections.none() for _ in range(FRAMES * every)]
    for place in range(0, FRAMES * every, every):
        count = int(rng.integers(0, 5))
        corners = rng.uniform(0, 70, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(8, 30, (count, 2))], axis=1).astype(np.float32)
        labels = rng.integers(0, 2, count)
        what = {"boxes": boxes, "labels": labels, "ignore": rng.random(count) < 0.2}
        frames.append(LabelledFrame(path="s", width=100, height=100, group="s", frame_index=place, complete=complete, **what))
        near = np.repeat(np.arange(count), rng.integers(0, 3, count))
        shifted = boxes[near] + rng.normal(0, 4, (len(near), 4))
        far = rng.uniform(0, 40, (2, 2))
        every_box = np.concatenate([shifted, np.concatenate([far, far + 20], axis=1)])
        every_box[:, 2:] = np.maximum(every_box[:, 2:], every_box[:, :2] + 1)
        names = np.concatenate([labels[near], rng.integers(0, 3, 2)])
        found[place] = Detections(boxes=every_box, scores=rng.integers(1, 20, len(every_box)) / 20, labels=names)
    return BoxManifest(name="s", root=Path(), classes=CLASSES, frames=tuple(frames)), found


def rounded(found: Detections) -> Detections:
    return dataclasses.replace(found, boxes=(found.boxes.astype(float) * 100).round() / 100)


def repeated(truth: BoxManifest, found: list[Detections], times: np.ndarray) -> tuple[BoxManifest, dict]:
    """The frames, each so many times, under names of their own."""
    frames, detections = [], {}
    for frame, count in zip(truth.frames, times.astype(int).tolist(), strict=True):
        for copy in range(count):
            frames.append(dataclasses.replace(frame, path=f"s{copy}"))
            detections[frames[-1].key] = rounded(found[frame.frame_index])
    return dataclasses.replace(truth, frames=tuple(frames)), detections


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("at_once", [2**24, 1], ids=["all draws at once", "one draw at a time"])
def test_average_precision_is_that_of_the_metrics_whichever_frames_are_drawn(seed: int, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(importlib.import_module("vidkd.detection.metrics"), "MOST_WEIGHTS", at_once)
    truth, found = drawn(seed)
    cell = OnAnnotated(seed=0, place="s", judged=judged(truth, found, 0.4), metric="ap50")
    times = np.random.default_rng(seed).integers(0, 3, (3, FRAMES)).astype(float)
    times[0] = 1
    expected = [average_precision(*repeated(truth, found, row)).figures["ap50"] for row in times]
    np.testing.assert_allclose(cell.of_draws(times), expected, atol=1e-6)
    assert cell.value == pytest.approx(expected[0], abs=1e-6)
    assert 0.05 < cell.value < 0.9


def test_a_box_that_lies_badly_counts_at_a_lower_iou() -> None:
    truth, _ = drawn(0)
    only = {"boxes": np.float32([[0, 0, 20, 20]]), "labels": np.array([0]), "ignore": np.array([False])}
    frame = dataclasses.replace(truth.frames[0], **only)
    truth = dataclasses.replace(truth, frames=(frame,))
    found = [Detections(boxes=[[0, 0, 20, 8]], scores=[0.9], labels=[0])]  # IoU .4
    kept = judged(truth, found, 0.4)
    assert [OnAnnotated(seed=0, place="s", judged=kept, metric=metric).value for metric in ("ap50", "ap30")] == [0.0, 1.0]
    assert (kept.ap50.tolist(), kept.ap30.tolist(), kept.scores.tolist()) == ([-1], [0], [9000])


@pytest.mark.parametrize("seed", range(2))
def test_recall_is_that_of_the_metrics(seed: int) -> None:
    truth, found = drawn(seed, complete=False)
    cell = OnAnnotated(seed=0, place="s", judged=judged(truth, found, 0.4), metric="recall")
    times = np.random.default_rng(seed).integers(0, 3, (3, FRAMES)).astype(float)
    expected = [recall_of(*repeated(truth, found, row), score=0.4).metrics()["recall50"] for row in times]
    np.testing.assert_allclose(cell.of_draws(times), expected)


def test_what_is_kept_comes_back() -> None:
    truth, found = drawn(1)
    kept = judged(truth, found, 0.4)
    again = Annotated.of_columns(json.loads(json.dumps(kept.columns())))
    for name, column in vars(kept).items():
        np.testing.assert_array_equal(getattr(again, name), column)


def test_a_range_has_its_own_frames_alone() -> None:
    truth, found = drawn(2)
    part = judged(truth, found, 0.4).between(10, 36)
    alone = judged(dataclasses.replace(truth, frames=truth.frames[2:8]), found, 0.4)
    for name, column in vars(alone).items():
        np.testing.assert_array_equal(getattr(part, name), column)


def test_of_too_many_boxes_of_a_class_the_best_are_kept() -> None:
    truth, found = drawn(0)
    scores = np.linspace(0.1, 0.9, MOST + 20)
    boxes = np.tile([[0, 0, 10, 10]], (len(scores), 1))
    crowd = Detections(boxes=np.concatenate([boxes, boxes[:5]]), scores=[*scores, *scores[:5]], labels=[0] * len(scores) + [1] * 5)
    kept = judged(truth, [crowd, *found[1:]], 0.4)
    assert kept.counts[0] == MOST + 5
    assert kept.scores[: kept.counts[0]][kept.labels[: kept.counts[0]] == 0].min() == round(10_000 * scores[20])


def cells(metric: str, seeds=(0, 1), draw: int = 0) -> list[OnAnnotated]:
    truth, _ = drawn(0)
    runs = {seed: drawn(0)[1] if not draw else drawn(seed + draw)[1] for seed in seeds}
    return [OnAnnotated(seed=seed, place="s", judged=judged(truth, found, 0.4), metric=metric) for seed, found in runs.items()]


def test_blocks_are_of_annotated_frames() -> None:
    own = cells("ap50")
    assert own[0].spacing == 5
    assert [own[0].units(block).block for block in (1, 5, 10, 15, 50)] == [1, 1, 2, 3, 3]


def test_the_interval_and_the_difference_are_of_shared_draws() -> None:
    own, others = (cells("ap50", range(5), draw) for draw in (0, 20))
    found = bootstrap_ci(own, block=10, draws=300)
    assert found.mean == pytest.approx(own[0].value)
    assert found.ci95[0] < found.mean < found.ci95[1]
    assert paired_difference(own, own, block=10, draws=50).ci95 == (0.0, 0.0)
    apart = paired_difference(own, others, block=10, draws=300)
    assert apart.mean == pytest.approx(np.mean([mine.value - other.value for mine, other in zip(own, others, strict=True)]))
    assert apart.ci95[0] > 0, "boxes near the true ones against boxes that were drawn for other frames"


def test_a_draw_without_a_true_box_says_nothing() -> None:
    truth, found = drawn(3)
    cell = OnAnnotated(seed=0, place="s", judged=judged(truth, found, 0.4), metric="ap50")
    assert np.isnan(cell.of_draws(np.zeros((1, FRAMES)))).all()
    empty = dataclasses.replace(truth, frames=tuple(dataclasses.replace(frame, **EMPTY) for frame in truth.frames[:2]))
    nothing = judged(empty, found, 0.4)
    assert np.isnan(OnAnnotated(seed=0, place="s", judged=nothing, metric="ap30").value)
    assert np.isnan(OnAnnotated(seed=0, place="s", judged=nothing, metric="recall").value)


def test_f1_of_an_empty_stretch_is_one_and_ranges_are_cut() -> None:
    cell = StreamCounts.of({"seed": 0, "place": "a", "counts": {"right": [1, 0, 2], "wrong": [0, 1, 0], "missed": [0, 0, 2]}})
    assert cell.between(1, 3).value == pytest.approx(4 / 7)
    assert StreamCounts(seed=0, place="a", counts_FN=np.zeros((2, 3))).value == 1
