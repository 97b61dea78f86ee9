"""The page of a stream along which a student learned: whether learning helped, its numbers, drawings and key frames."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidkd.detection.metrics import disagreement
from vidkd.detection.online.account import Account, FrozenComparison, KeyFrameRow
from vidkd.report.page import render_html
from vidkd.report.parts import Estimate, Strip
from vidkd.report.stream import (
    DISAGREEMENT,
    FEWEST,
    MOST_STRIPS,
    key_frame_strips,
    learning_table,
    loss_figure,
    stream_report,
    time_line,
    verdict,
)
from vidkd.runtime.detections import Detections
from vidkd.video import write_video

BOXES = {
    "student": {"boxes": [[4, 4, 20, 20], [0, 0, 8, 8]], "scores": [0.9, 0.2], "classes": ["cat", "cat"]},
    "oracle": {"boxes": [], "scores": [], "classes": []},
}


def key(frame: int, disagreement: float | None = 0.5, outcome: str = "kept", **more) -> KeyFrameRow:
    losses = {} if disagreement is None else {"loss_before": 2.0, "loss_after": 1.0}
    return KeyFrameRow(frame=frame, time_s=frame / 10, disagreement=disagreement, outcome=outcome, **{**losses, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "street"
    folder.mkdir()
    stages = {"decode": 2.0, "infer": 9.0, "draw": 1.0, "encode": 4.0, "total": 10.0}
    summary = {"input": "/videos/street.mp4", "frames": 100, "seconds": stages, "frames_per_second": {"end_to_end": 10.0}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "run.json").write_text(json.dumps({"selector": "<fixed>"}))
    return folder


ACCOUNT = Account(
    frames=100,
    keys=(key(0, 0.8), key(20, 0.6, "rolled_back"), key(40, None, "failed", failed="broken"), key(60, 0.4), key(80, 0.2)),
    seconds={"student": 5.0, "oracle": 2.0, "update": 1.0},
)


def rows(report, title: str) -> list[tuple[object, ...]]:
    (found,) = [table for table in report.tables if table.title == title]
    return [tuple(cell.value if isinstance(cell, Estimate) else cell for cell in row) for row in found.rows]


def test_the_numbers(folder: Path) -> None:
    report = stream_report(folder, ACCOUNT, budget=0.05, policy="fixed")
    assert {"frames": "100", "budget": "5.0 %", "calls": "5, 5.0 %", "answered": "4"}.items() <= report.notes.items()
    assert rows(report, "What became of the key frames") == [
        ("kept: the student learned", 3, 0.6),
        ("undone: it made the past worse", 1, 0.2),
        ("the oracle or the update failed", 1, 0.2),
    ]
    assert rows(report, "Time") == [
        ("student", 5.0, 50.0, 20.0),
        ("oracle", 2.0, 400.0, 50.0),
        ("update", 1.0, 250.0, 100.0),
        ("decode", 2.0, 20.0, 50.0),
        ("draw", 1.0, 10.0, 100.0),
        ("encode", 4.0, 40.0, 25.0),
        ("all together", 10.0, 100.0, 10.0),
    ]
    page = render_html(report)
    assert "<script" not in page
    assert "&lt;fixed&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_stream_without_calls_or_answers(folder: Path) -> None:
    report = stream_report(folder, Account(frames=3, keys=(), seconds={"student": 1.0}), budget=0.05, policy="fixed")
    assert [table.title for table in report.tables] == ["Time"]
    assert report.figures == ()
    failed = stream_report(folder, Account(frames=3, keys=(key(0, None, "failed"),)), budget=0.05, policy="fixed")
    assert failed.figures == ()


def test_the_drawings() -> None:
    line = time_line(ACCOUNT)
    assert line.wide
    assert "first quarter of key frames 80.0 %, of the last 20.0 %" in line.caption
    assert all(f">{kind}<" in line.svg for kind in ("learned", "undone", "nothing learned"))
    assert "seconds of the video" in line.svg
    untimed = Account(frames=9, keys=(KeyFrameRow(frame=4, time_s=None, disagreement=0.5, outcome="kept"),))
    assert ">frame<" in time_line(untimed).svg
    assert ">undone<" not in time_line(untimed).svg
    assert "Means: 2 before, 1 after." in loss_figure(ACCOUNT).caption


def test_key_frames_with_the_boxes_of_both(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 40 + 10 * index, np.uint8) for index in range(20)]
    write_video(tmp_path / "street.mp4", frames, fps=10, lossless=True)
    account = Account(frames=20, keys=(key(0, None, "failed"), *(key(frame, boxes=BOXES) for frame in range(1, 20))))
    strips = key_frame_strips(str(tmp_path / "street.mp4"), account, ["dog", "cat"])
    assert len(strips) == MOST_STRIPS
    assert [strips[0].title, strips[-1].title] == ["frame 1, 0.1 s: disagreement 50.0 %", "frame 19, 1.9 s: disagreement 50.0 %"]
    assert strips[0].caption.endswith("Kept: the student learned. Loss 2 before, 1 after.")
    picture = decoded(strips[0].rows[0][1])
    student, oracle = picture[:, :64], picture[:, -64:]
    assert np.ptp(oracle.astype(int)) <= 2  # nothing is drawn: the frame as it is
    assert student[19, 4:20].std(axis=0).max() < 1
    assert np.abs(student[19, 10].astype(int) - oracle[19, 10]).max() > 30
    # a box of score 0.2 does not count in the disagreement, and is not drawn
    np.testing.assert_allclose(student[2, 0], oracle[2, 0], atol=2)
    assert key_frame_strips("nowhere.mp4", Account(frames=1, keys=()), ["cat"]) == []


def test_how_many_key_frames_have_pictures(folder: Path) -> None:
    strip = Strip(title="frame", rows=())
    some = stream_report(folder, ACCOUNT, budget=0.05, policy="fixed", strips=[strip] * 3)
    assert some.strips_caption.startswith("3 of 5 key frames, spread evenly over those that the oracle answered.")
    every = stream_report(folder, ACCOUNT, budget=0.05, policy="fixed", strips=[strip] * 5)
    assert every.strips_caption == "Only boxes of a score of at least 0.4 are drawn: those that count in the disagreement."


def test_the_frozen_student_is_shown_too(folder: Path) -> None:
    plain = stream_report(folder, ACCOUNT, budget=0.05, policy="fixed")
    assert plain.text.startswith("Whether learning helped cannot be judged from this run.")
    judged = [FrozenComparison(frame=frame, learned=0.4, frozen=0.9, updated=frame > 0) for frame in (0, 20, 60, 80)]
    report = stream_report(folder, ACCOUNT, budget=0.05, policy="fixed", judged=judged)
    assert report.tables[0].title == "Disagreement with and without learning"
    assert report.text.startswith("On the 3 key frames after its first update")
    line = report.figures[0]
    assert all(f">{label}<" in line.svg for label in ("learning", "frozen", "learned"))
    assert ">frozen<" not in plain.figures[0].svg
    assert "IoU of at least 0.5" in line.caption


def decoded(uri: str) -> np.ndarray:
    import base64

    import cv2

    content = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))


def pairs(*values: tuple[float, float], updated_from: int = 1) -> list[FrozenComparison]:
    """Pairs of (learning, frozen)."""
    return [
        FrozenComparison(frame=20 * place, learned=learned, frozen=frozen, updated=place >= updated_from)
        for place, (learned, frozen) in enumerate(values)
    ]


def account(judged: list[FrozenComparison]) -> Account:
    keys = tuple(KeyFrameRow(frame=one.frame, time_s=one.frame / 10, disagreement=one.learned, outcome="kept") for one in judged)
    return Account(frames=20 * len(keys), keys=keys)


STEADY = [(0.5, 0.5)] + [(0.3 + 0.01 * place, 0.5 + 0.01 * place) for place in range(11)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (STEADY, "Learning helped on the key frames."),
        ([(frozen, learned) for learned, frozen in STEADY], "Learning did harm on the key frames."),
        ([(0.5, 0.5)] + 6 * [(0.3, 0.4), (0.4, 0.3)], "Whether learning helped cannot be distinguished from chance."),
    ],
)
def test_the_verdict_follows_the_interval_of_the_paired_difference(values: list[tuple[float, float]], said: str) -> None:
    judged = pairs(*values)
    text = verdict(account(judged), judged)
    assert text.startswith(said)
    learned, frozen = (100 * sum(pair[side] for pair in values[1:]) / len(values[1:]) for side in (0, 1))
    assert f"{learned:.1f} %; that of the frozen student is {frozen:.1f} % on the same frames" in text
    assert "only key frames are judged" in text


def test_frames_in_whose_choice_the_student_had_a_say_cannot_show_harm() -> None:
    worse, better = pairs(*[(frozen, learned) for learned, frozen in STEADY]), pairs(*STEADY)
    text = verdict(account(worse), worse, blind=False)
    assert text.startswith("Whether learning helped cannot be judged from these key frames.")
    assert "it looks worse here" in text
    assert verdict(account(better), better, blind=False).startswith("Learning helped on the key frames.")


def test_few_key_frames_give_no_verdict() -> None:
    judged = pairs(*STEADY[:FEWEST])
    assert f"On the {FEWEST - 1} key frames after its first update" in verdict(account(judged), judged)
    assert "too few to say whether learning helped" in verdict(account(judged), judged)
    judged = pairs(*STEADY[: FEWEST + 1])
    assert "Learning helped" in verdict(account(judged), judged)


def test_a_student_that_never_learned() -> None:
    judged = pairs(*STEADY, updated_from=99)
    assert verdict(account(judged), judged).startswith("The student learned nothing before its last key frame")


def test_a_stream_that_cannot_be_shown_again_says_what_its_quarters_cannot_tell() -> None:
    text = verdict(account(pairs(*[(0.8, 0)] * 2, *[(0.5, 0)] * 4, *[(0.2, 0)] * 2)))
    assert text.startswith("Whether learning helped cannot be judged from this run.")
    assert "80.0 % on the first quarter of the key frames and 20.0 % on the last (2 each)" in text
    assert verdict(Account(frames=3, keys=())) == ""


def test_the_table() -> None:
    table = learning_table(pairs(*STEADY), answered=40)
    rows = [tuple(cell.value if isinstance(cell, Estimate) else cell for cell in row) for row in table.rows]
    assert [row[:2] for row in rows] == [("first quarter", 3), ("last quarter", 3), ("all after the first update", 11)]
    assert rows[0][2:] == pytest.approx((1.11 / 3, 1.51 / 3, -0.4 / 3))
    assert rows[1][2:] == pytest.approx((0.39, 0.59, -0.2))
    assert rows[2][2:] == pytest.approx((0.35, 0.55, -0.2))
    brackets = table.rows[2][4]
    assert isinstance(brackets, Estimate)
    assert brackets.ci95 == pytest.approx((-0.2, -0.2))
    assert [row[4].ci95 for row in table.rows[:2] if isinstance(row[4], Estimate)] == [None, None]
    assert "Judged on 12 of 40 key frames" in table.caption
    assert "Judged on" not in learning_table(pairs(*STEADY), answered=12).caption


def test_what_disagreement_is_said_to_be_is_how_it_is_counted() -> None:
    assert "from a score of 0.4 on" in DISAGREEMENT
    assert "an IoU of at least 0.5" in DISAGREEMENT

    def one(score: float, width: float = 10.0) -> Detections:
        return Detections(boxes=[[0, 0, width, 10]], scores=[score], labels=[0])

    assert disagreement(one(0.4), one(0.4)) == 0
    assert disagreement(one(0.39), one(0.4)) == 1
    assert disagreement(one(0.4, width=5.0), one(0.4)) == 0
    assert disagreement(one(0.4, width=4.9), one(0.4)) == 1
