"""Whether learning helped along a stream: the words and the table that say so."""

import pytest

from vidkd.detection.metrics import disagreement
from vidkd.detection.online.account import Account, FrozenComparison, KeyFrameRow
from vidkd.report.parts import Estimate
from vidkd.report.stream_learning import DISAGREEMENT, FEWEST, learning_table, verdict
from vidkd.runtime.detections import Detections


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
