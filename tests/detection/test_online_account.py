"""What came of learning along a stream: the arithmetic of calls, outcomes and quarters, in step and beside."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from online_samples import NAMES, frame_with, student

from vidkd.base.errors import DataError
from vidkd.detection.metrics import SCORE, disagreement
from vidkd.detection.online import Student
from vidkd.detection.online.account import (
    Account,
    FrozenComparison,
    KeyFrameRow,
    as_row,
    compare_with_frozen,
    read_account,
    write_key_frames,
)
from vidkd.runtime.detections import Detections
from vidkd.runtime.formats import to_row
from vidkd.video import open_video, write_video


def line(frame, *, called=False, answered=None, failed=None, key=None, **update):
    learning = {
        "called": called,
        "answered": answered,
        "failed": failed,
        "seconds": {"student": 0.5, **({"oracle": 0.25} if called else {})},
    }
    if answered is not None:
        update = {"disagreement": 0.5, "outcome": "kept", "loss_before": 2.0, "loss_after": 1.0, "replay_before": None, **update}
        update = {"replay_after": None, "interpolated": None, **update}
    return {"frame": frame, "time_s": frame / 10, "learning": {**learning, **update}, **({"key": key} if key else {})}


@pytest.fixture
def write(tmp_path: Path):
    def written(*rows) -> Path:
        path = tmp_path / "detections.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return written


def test_in_step(write):
    boxes = {"student": {}, "oracle": {}}
    account = read_account(
        write(
            line(10, called=True, answered=0, key=boxes, disagreement=0.25),
            line(12),
            line(14, called=True, failed="broken"),
            line(16, called=True, answered=3, outcome="rolled_back", replay_before=3.0),
        )
    )
    assert [(key.frame, key.outcome, key.disagreement) for key in account.keys] == [
        (10, "kept", 0.25), (14, "failed", None), (16, "rolled_back", 0.5),
    ]  # fmt: skip
    assert [(key.failed, key.boxes, key.replay_before) for key in account.keys] == [
        (None, boxes, None), ("broken", None, None), (None, None, 3.0),
    ]  # fmt: skip
    assert (account.frames, account.share) == (4, 0.75)
    assert account.seconds == {"student": 2.0, "oracle": 0.75}
    assert account.outcomes == {"kept": 1, "failed": 1, "rolled_back": 1}


def test_the_cost_is_all_work_per_frame_against_one_call(write):
    account = read_account(write(line(0, called=True, answered=0), *(line(index) for index in range(1, 10))))
    assert account.cost == pytest.approx({"learning_ms_per_frame": 525.0, "oracle_ms_per_frame": 250.0, "ratio": 2.1})
    assert account.as_row()["cost"]["ratio"] == 2.1
    assert read_account(write(line(0))).cost is None


def test_beside_the_stream_answers_and_failures_are_those_of_an_earlier_call(write):
    account = read_account(
        write(
            line(0, called=True),
            line(1),
            line(2, called=True, answered=0),
            line(3, called=True, failed="too late"),
            line(4, failed="broken"),
            line(5, called=True),
        )
    )
    assert [(key.frame, key.outcome, key.failed) for key in account.keys] == [
        (0, "kept", None), (2, "failed", "too late"), (3, "failed", "broken"), (5, "no_answer", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"frame": 1, "time_s": 0.1}, "missing required field `learning`"),
        (line(1, answered=7), "7 is missing, a key or the call that it answers"),
        ({**line(1), "frame": "x"}, r"Expected `int`, got `str` - at `\$.frame`"),
        ({**line(1), "learning": {"called": False}}, "'seconds' is missing"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_a_line_that_tkd_did_not_write(write, second, reason):
    with pytest.raises(DataError, match=rf"(?s)not a line of tkd: .*detections\.jsonl:2.*{reason}.*fix +: .*--overwrite"):
        read_account(write(line(0, called=True), second))


@pytest.mark.parametrize(
    ("disagreements", "quarters"),
    [
        ([], None),
        ([None], None),
        ([0.5], (0.5, 0.5)),
        ([0.8, None, 0.1, 0.2, 0.4], (0.8, 0.4)),
        ([0.8, 0.6, 0.1, 0.2, 0.4], (0.7, 0.3)),
    ],
)
def test_quarters(disagreements, quarters):
    keys = tuple(KeyFrameRow(frame=frame, time_s=None, disagreement=value) for frame, value in enumerate(disagreements))
    found = Account(frames=100, keys=keys).quarters
    assert found == (None if quarters is None else pytest.approx(quarters))


def test_the_files(tmp_path):
    keys = (
        KeyFrameRow(frame=3, time_s=0.3, disagreement=0.5, outcome="kept", loss_before=2.0, loss_after=1.5, boxes={"student": {}}),
        KeyFrameRow(frame=5, time_s=None, outcome="failed", failed="broken"),
    )
    write_key_frames(tmp_path, keys)
    rows = [json.loads(text) for text in (tmp_path / "key_frames.jsonl").read_text().splitlines()]
    assert [(row["frame"], row["time_s"], row["outcome"], row["failed"]) for row in rows] == [
        (3, 0.3, "kept", None),
        (5, None, "failed", "broken"),
    ]
    assert "boxes" not in rows[0]
    with (tmp_path / "losses.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["frame"], row["loss_before"], row["loss_after"], row["replay_after"]) for row in table] == [("3", "2.0", "1.5", "")]


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
            own.net.layers[head.layer - 1].conv.bias.view(len(head.anchors), -1)[:, 4:] += 5
    return own


def test_the_frozen_student_is_judged_on_the_same_frames(video: str) -> None:
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
    judged = compare_with_frozen(video, account, own)
    assert [(one.frame, one.learned, one.updated) for one in judged] == [(0, 0.25, False), (10, 0.25, False), (20, 0.25, True)]
    assert judged[1].frozen == 0
    assert judged[2].frozen == pytest.approx(disagreement(found[2], ORACLE))
    assert judged[2].frozen > 0


def test_classes_that_the_oracle_does_not_know_do_not_count(video: str) -> None:
    own = sure()
    with open_video(video, backend="pyav") as frames:
        found = own.detect(frames.frames_at_indices([10])[0]).detections
    of_squares = found.select(found.labels == NAMES.index("square"))
    assert 0 < (of_squares.scores >= SCORE).sum() < (found.scores >= SCORE).sum()
    unknown = key(10, of_squares)
    unknown = dataclasses.replace(unknown, boxes={**unknown.boxes, "unknown": ["bar"]})
    for one, agrees in ((unknown, True), (key(10, of_squares), False)):
        (judged,) = compare_with_frozen(video, Account(frames=30, keys=(one,)), own)
        assert (judged.frozen == 0) is agrees


def test_the_means_are_over_frames_after_the_first_kept_update() -> None:
    def one(learned: float, frozen: float, updated: bool) -> FrozenComparison:
        return FrozenComparison(frame=0, learned=learned, frozen=frozen, updated=updated)

    judged = [one(0.9, 0.9, False), one(0.2, 0.5, True), one(0.4, 0.6, True)]
    assert as_row(judged) == {"key_frames": 2, "learned": pytest.approx(0.3), "frozen": pytest.approx(0.55)}
    assert as_row(judged[:1]) == {"key_frames": 0, "learned": None, "frozen": None}
