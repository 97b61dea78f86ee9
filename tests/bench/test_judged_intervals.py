"""Intervals of one evaluation: what draws of its groups tell, and nothing where there is one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vidkd.bench.draws import Intervals, clip_draws, clip_intervals, frame_intervals, metric_interval
from vidkd.bench.intervals import factor_of
from vidkd.data.manifest import Clip
from vidkd.detection.annotations import BoxManifest, LabelledFrame
from vidkd.detection.evaluate import BoxJudgement
from vidkd.detection.metrics import average_precision, recall_of
from vidkd.engine.evaluate import Judgement, Predictions
from vidkd.runtime.detections import Detections

BOX = np.array([[9, 9, 30, 30]], np.float32)
HIT = Detections(boxes=BOX, scores=np.ones(1, np.float32), labels=np.zeros(1, np.int64))


def predictions(right: list[bool], groups: str) -> Predictions:
    clips = [Clip(path=f"{number}.mp4", label=0, group=group, subsets={}) for number, group in enumerate(groups)]
    return Predictions(np.array([[0.9, 0.1] if hit else [0.2, 0.8] for hit in right]), clips, ("x", "y"))


def test_top1_is_drawn_as_in_studies_and_means_over_fractions_as_they_are() -> None:
    """Twenty groups of one clip, half of them right: Student's interval of that share; seen half, all are wrong."""
    groups, right = "abcdefghijklmnopqrst", [True, False] * 10
    found = clip_intervals(Judgement({None: predictions(right, groups)}))
    assert found.over == "20 test groups"
    half = stats.t.ppf(0.975, 19) * np.sqrt(0.25 / 19)
    assert found.ci95["top1"] == pytest.approx((0.5 - half, 0.5 + half), abs=0.025), "shares of twenty lie .05 apart"
    low, high = found.ci95["nll"]
    assert low < -np.log(0.9 * 0.2) / 2 < high
    both = clip_intervals(Judgement({0.5: predictions([False] * 20, groups), 1.0: predictions(right, groups)}))
    assert both.ci95["top1"] == pytest.approx((0.25 - half / 2, 0.25 + half / 2), abs=0.03), "half of what it is at the end"
    assert both.ci95["top1@obs50"] == (0, 0)
    assert clip_intervals(Judgement({None: predictions(right, "a" * 20)})).ci95 == {}


def test_an_interval_is_cut_to_the_range_of_its_metric_and_draws_are_not() -> None:
    """Four groups, all right but one: top-1 reaches 1. A log-likelihood below 1 in every draw may exceed it; a difference is unclipped."""
    groups = "abcd"
    judgement = Judgement({1.0: predictions([True, True, True, False], groups)})
    drawn = clip_draws(judgement)
    assert drawn["top1"].max() > 1, "stretched for four groups"
    found = clip_intervals(judgement).ci95
    assert found["top1"] == (0, 1)
    assert metric_interval("nll", np.linspace(0.5, 1.6, 401)) == pytest.approx((0.5275, 1.5725))
    assert metric_interval("verb_nll@obs20", np.linspace(-0.1, 1.6, 401))[0] == 0
    assert metric_interval("top1", np.zeros(0)) is None
    worse = clip_draws(Judgement({1.0: predictions([True, False, True, False], groups)}))["top1"]
    both = np.random.default_rng(0).integers(0, 4, (200, 4))  # the draws of groups
    by_hand = np.array([True, True, True, False])[both].mean(axis=1) - np.array([True, False, True, False])[both].mean(axis=1)
    assert drawn["top1"] - worse == pytest.approx(0.25 + (by_hand - 0.25) * factor_of(4)), "as if the differences were stretched"


def frames(groups: str, *, complete: bool = True) -> BoxManifest:
    found = tuple(
        LabelledFrame(
            path=f"{group}.mp4",
            frame_index=40 * number,
            width=90,
            height=90,
            boxes=BOX,
            labels=np.zeros(1, np.int64),
            ignore=np.zeros(1, bool),
            group=group,
            complete=complete,
        )
        for number, group in enumerate(groups)
    )
    return BoxManifest(name="boxes", root=Path(), classes=("box",), frames=found)


def detected(truth: BoxManifest) -> dict:
    """Every other box is found, and nothing else."""
    return {frame.key: Detections.none() if number % 2 else HIT for number, frame in enumerate(truth.frames)}


def test_of_detectors() -> None:
    truth = frames("abcdefghijklmnopqrst")
    found = frame_intervals(_judged(truth), truth)
    assert found.over == "20 test groups"
    assert found.ci95["recall50"] == pytest.approx((0.28, 0.72), abs=0.07)
    one = frames("a" * 20)
    assert frame_intervals(_judged(one), one).over == "16 stretches of 50 frames"
    still = frames("a")
    assert frame_intervals(_judged(still), still).ci95 == {}


def test_of_recall() -> None:
    truth = frames("abcdefghijklmnopqrst", complete=False)
    found = frame_intervals(BoxJudgement(found=recall_of(truth, detected(truth)), detections=detected(truth)), truth)
    assert found.over == "20 test groups"
    assert found.ci95["recall50"] == found.ci95["recall50_video"] == pytest.approx((0.28, 0.72), abs=0.03)


def recalled(frames: list[LabelledFrame], is_found: Callable[[LabelledFrame], bool]) -> Intervals:
    truth = BoxManifest(name="boxes", root=Path(), classes=("box",), frames=tuple(frames))
    found = {frame.key: HIT if is_found(frame) else Detections.none() for frame in frames}
    return frame_intervals(BoxJudgement(found=recall_of(truth, found), detections=found), truth)


def test_of_recall_in_images_by_their_folders() -> None:
    """Two folders are found whole and two are not: by single images the bounds would be near 0.4 and 0.6."""
    (frame,) = frames("a", complete=False).frames
    images = [dataclasses.replace(frame, path=f"{group}/{n}.png", frame_index=None, group=group) for group in "abcd" for n in range(30)]
    found = recalled(images, lambda image: image.group in "ab")
    assert found.over == "4 test groups"
    assert found.ci95["recall50"] == found.ci95["recall50_video"] == (0, 1)
    one = [dataclasses.replace(image, group="a") for image in images]
    assert recalled(one, lambda image: image.path[0] in "ab").over == "3 stretches of 50 frames"


def _judged(truth: BoxManifest) -> BoxJudgement:
    found = detected(truth)
    return BoxJudgement(detections=found, found=average_precision(truth, found))
