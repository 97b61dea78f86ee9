"""A stream's key frames, looked at again by the student as it began."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from online_samples import NAMES, frame_with, student

from vidkd.detection.metrics import disagreement
from vidkd.detection.metrics.matching import SCORE
from vidkd.detection.online import Student
from vidkd.detection.online.account import MOST_JUDGED, Account, BesideUnlearned, KeyFrameRow, as_row, beside_unlearned, evenly
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import to_row
from vidkd.video import open_video, write_video

ORACLE = Detections(boxes=[[20, 20, 34, 34]], scores=[0.9], labels=[0])


def key(frame: int, oracle: Detections | None = ORACLE, outcome: str = "kept", value: float | None = 0.25) -> KeyFrameRow:
    boxes = None
    if oracle is not None:
        row = to_row(oracle.at(frame, None), NAMES)
        boxes = {"oracle": {part: row[part] for part in ("boxes", "scores", "classes")}}
    return KeyFrameRow(frame=frame, time_s=None, disagreement=value, outcome=outcome, boxes=boxes)


@pytest.fixture
def video(tmp_path: Path) -> str:
    write_video(tmp_path / "street.mp4", [frame_with(square=(27, 27), seed=seed) for seed in range(30)], fps=10, lossless=True)
    return str(tmp_path / "street.mp4")


def sure() -> Student:
    """A student that sees something of either class everywhere, with scores that count."""
    own = student(score_threshold=0.0)
    for head in own.net.heads:
        with torch.no_grad():
            own.net.head_convolution(head).bias.view(len(head.anchors), -1)[:, 4:] += 5
    return own


def test_the_student_as_it_began_is_judged_on_the_same_frames(video: str) -> None:
    own = sure()
    with open_video(video, backend="pyav") as frames:
        pictures = frames.frames_at_indices([0, 10, 20])
    found = [own.detect(picture).detections for picture in pictures]
    assert all((one.scores >= SCORE).any() for one in found)
    # the oracle of frame 10 says what the student says, that of 20 something else
    account = Account(
        frames=30,
        keys=(key(0, outcome="no_better"), key(5, None, "failed"), key(10, found[1]), key(15, value=None, outcome="failed"), key(20)),
    )
    judged = beside_unlearned(video, account, own)
    assert [(one.frame, one.learned, one.taught) for one in judged] == [(0, 0.25, False), (10, 0.25, False), (20, 0.25, True)]
    assert judged[1].began == 0
    assert judged[2].began == pytest.approx(disagreement(found[2], ORACLE))
    assert judged[2].began > 0


def test_classes_that_the_oracle_does_not_know_do_not_count(video: str) -> None:
    own = sure()
    with open_video(video, backend="pyav") as frames:
        found = own.detect(frames.frames_at_indices([10])[0]).detections
    of_squares = found.select(found.labels == NAMES.index("square"))
    assert 0 < (of_squares.scores >= SCORE).sum() < (found.scores >= SCORE).sum()
    unknown = key(10, of_squares)
    unknown = dataclasses.replace(unknown, boxes={**unknown.boxes, "unknown": ["bar"]})
    for one, agrees in ((unknown, True), (key(10, of_squares), False)):
        (judged,) = beside_unlearned(video, Account(frames=30, keys=(one,)), own)
        assert (judged.began == 0) is agrees


def test_no_key_frame_with_boxes_means_that_no_video_is_read() -> None:
    assert beside_unlearned("nowhere.mp4", Account(frames=9, keys=(key(0, None),)), student()) == []


def test_many_key_frames_are_thinned_evenly() -> None:
    keys = [key(place) for place in range(1000)]
    chosen = [found.frame for found in evenly(keys, MOST_JUDGED)]
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 999, MOST_JUDGED)
    assert set(np.diff(chosen)) <= {10, 11}
    assert evenly(keys[:3], MOST_JUDGED) == keys[:3]
    assert evenly([], MOST_JUDGED) == []


def test_the_means_are_over_frames_after_the_first_kept_update() -> None:
    def one(learned: float, began: float, taught: bool) -> BesideUnlearned:
        return BesideUnlearned(frame=0, learned=learned, began=began, taught=taught)

    judged = [one(0.9, 0.9, False), one(0.2, 0.5, True), one(0.4, 0.6, True)]
    assert as_row(judged) == {"key_frames": 2, "learned": pytest.approx(0.3), "as_it_began": pytest.approx(0.55)}
    assert as_row(judged[:1]) == {"key_frames": 0, "learned": None, "as_it_began": None}
