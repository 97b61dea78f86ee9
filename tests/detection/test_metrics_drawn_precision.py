"""Average precision of draws: the same as judging each draw by the library, frame by frame."""

import dataclasses

import numpy as np
import pytest
from box_samples import found, frame_of, manifest_of, random_boxes

from vidkd.detection.annotations import ANY_CLASS, BoxManifest, FrameKey
from vidkd.detection.metrics import average_precision, drawn_precision
from vidkd.runtime.detections import Detections

A, B = (0, 0, 10, 10), (20, 0, 30, 10)
FIGURES = ("ap50", "map", "ap75", "recall", "recall50")


def random_frames(seed: int, count: int = 8) -> tuple[BoxManifest, dict[FrameKey, Detections]]:
    """Boxes of whole pixels, which often lie exactly on a threshold, regions of one class and of any, and frames without a box."""
    rng = np.random.default_rng(seed)
    frames, detections = [], {}
    for index in range(count):
        several = 0 if index == count - 1 else 5
        boxes, labels, ignore = random_boxes(rng, several), rng.integers(0, 2, several), rng.random(several) < 0.2
        labels[ignore & (rng.random(several) < 0.5)] = ANY_CLASS
        near = np.concatenate([boxes + rng.integers(-2, 3, boxes.shape), random_boxes(rng, 3)])
        frames.append(frame_of(boxes, labels, ignore=ignore, index=index))
        guessed = [*np.abs(labels), *rng.integers(0, 2, 3)]
        detections["a.mp4", index] = found(near, rng.random(len(near)), guessed, index)
    return manifest_of(*frames), detections


def repeated(
    truth: BoxManifest, detections: dict[FrameKey, Detections], times: np.ndarray
) -> tuple[BoxManifest, dict[FrameKey, Detections]]:
    """Each frame as often as it was drawn, under names of their own."""
    frames, renamed = [], {}
    for frame, count in zip(truth.frames, times, strict=True):
        for copy in range(count):
            frames.append(dataclasses.replace(frame, path=f"{copy}/{frame.path}"))
            renamed[frames[-1].key] = detections[frame.key]
    return dataclasses.replace(truth, frames=tuple(frames)), renamed


@pytest.mark.parametrize("seed", range(3))
def test_each_draw_is_judged_as_by_the_library(seed: int) -> None:
    truth, detections = random_frames(seed)
    times = np.random.default_rng(seed).multinomial(8, np.full(8, 1 / 8), size=3)
    drawn = drawn_precision(truth, detections, np.concatenate([np.ones((1, 8), int), times]))
    for place, counts in enumerate([np.ones(8, int), *times]):
        judged = average_precision(*repeated(truth, detections, counts))
        assert [drawn[name][place] for name in FIGURES] == pytest.approx([getattr(judged, name) for name in FIGURES], abs=1e-6)
    assert 0.1 < drawn["map"][0] < 0.9


def test_draws_without_a_true_box_are_unknown() -> None:
    truth = manifest_of(frame_of([A]), frame_of([], index=1), frame_of([B], [1], index=2))
    detections = {("a.mp4", 0): found([A], [0.9]), ("a.mp4", 1): found([A], [0.95]), ("a.mp4", 2): Detections.none()}
    drawn = drawn_precision(truth, detections, np.array([[0, 3, 0], [1, 0, 0], [1, 2, 0], [1, 0, 1], [0, 0, 1]]))
    assert drawn["ap50"] == pytest.approx([np.nan, 1, 1 / 3, 0.5, 0], nan_ok=True)
    assert drawn["recall"] == pytest.approx([np.nan, 1, 1, 0.5, 0], nan_ok=True)


def test_a_hundred_of_a_class_count_in_a_frame() -> None:
    """The true box comes as number 101 of its class, behind it and behind a hundred of the other."""
    truth = manifest_of(frame_of([A], [0]))
    for before, expected in ((99, 1 / 100), (100, 0.0)):
        boxes, scores = [B] * before + [A] + [B] * 100, [0.9] * before + [0.5] + [0.8] * 100
        detections = {("a.mp4", 0): found(boxes, scores, [0] * (before + 1) + [1] * 100)}
        drawn = drawn_precision(truth, detections, np.array([[1]]))
        assert drawn["ap50"] == pytest.approx([expected])
        assert average_precision(truth, detections).ap50 == pytest.approx(expected, abs=1e-6)


def test_bad_input() -> None:
    truth, detections = random_frames(0, 2)
    with pytest.raises(ValueError, match=r"times must be \(draws, 2\), not \(1, 3\)"):
        drawn_precision(truth, detections, np.ones((1, 3), int))
    with pytest.raises(ValueError, match="no detections of frame"):
        drawn_precision(truth, {}, np.ones((1, 2), int))
