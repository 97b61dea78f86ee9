"""What came of learning along a stream: the arithmetic of calls, outcomes and quarters, in step and beside."""

import csv
import json
from pathlib import Path

import pytest

from vidkd.base.errors import DataError
from vidkd.detection.online.account import Account, KeyFrameRow, read_account, write_key_frames, write_losses


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
    write_key_frames(tmp_path / "keys.jsonl", keys)
    rows = [json.loads(text) for text in (tmp_path / "keys.jsonl").read_text().splitlines()]
    assert [(row["frame"], row["time_s"], row["outcome"], row["failed"]) for row in rows] == [
        (3, 0.3, "kept", None),
        (5, None, "failed", "broken"),
    ]
    assert "boxes" not in rows[0]
    write_losses(tmp_path / "losses.csv", keys)
    with (tmp_path / "losses.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["frame"], row["loss_before"], row["loss_after"], row["replay_after"]) for row in table] == [("3", "2.0", "1.5", "")]


@pytest.mark.parametrize("row", ['{"frame": 0, "time_s": 0.0, "boxes": []}', "[]", "torn"])
def test_lines_of_something_else(write, row):
    path = write(line(0))
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(DataError, match="not a line of a stream that learned") as caught:
        read_account(path)
    assert caught.value.lines["line"] == "2"
