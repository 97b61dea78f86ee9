"""Speed along a stream: a student alone, with its selector, and learning; oracles on every frame."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.timing import Stopwatch, timed
from vidkd.bench.performance.rows import Measured, Part, Row, Setting, ratio_row, value_row
from vidkd.bench.performance.stream_models import ORACLES, STUDENTS, frames_of_video, open_oracle, open_student, why_absent
from vidkd.bench.speed.rounds import Figure, interleave, median, ratio
from vidkd.detection.online import Answer, BoxOracle, Student, SynchronousLearner, Update
from vidkd.detection.policies import CallBudget
from vidkd.detection.policies.budget import KeyFrameChooser
from vidkd.detection.policies.lstm import LstmSelector
from vidkd.detection.policies.policy import ObservationBuilder
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.runtime.detector import Detector

SHARES = (0.02, 0.05, 0.1, 0.2)
"""Budgets shown."""
FRAMES, CALLS = 20, 1
SHARE = CALLS / FRAMES
TEACHER = "YOLOX-nano"
STRONGEST, TIMES_FASTER, SELECTOR_SHARE = "YOLOv8n", 4.0, 0.05
TEXT = (
    f"Milliseconds a frame of {FRAMES} frames of PETS 2009 that stay in memory, one at a time, resizing and suppression included, one "
    "thread. The student runs in ONNX Runtime unless it says eager, and learns in torch. Learning is in step with the stream, from answers "
    f"that are known, {SHARE:.0%} of the frames; the update is separate. Break-even is the cost of an oracle above which the student "
    "that learns from it, the calls paid for, is cheaper than the oracle on every frame: (student + selector + share x update) / "
    "(1 - share); asynchronously, the update costs the stream nothing. What learning costs at a budget, the share "
    f"of the frames on which the oracle is asked, is put together in each round: student + selector + share x (oracle + update), at "
    f"{', '.join(f'{100 * share:g}' for share in SHARES)} %."
)


def run(setting: Setting) -> Part:
    """All of it, or why it is left out."""
    title = "Speed along a stream"
    settings: dict[str, str | int | float] = {"threads": 1, "share of calls": f"{SHARE:.0%}", "update": _words(Update())}
    if (reason := why_absent()) is not None:
        return Part(title=title, text=TEXT, settings=settings, values=[], notes=[reason])
    torch.set_num_threads(1)
    frames = frames_of_video(FRAMES)
    setting.scratch.mkdir(parents=True, exist_ok=True)
    oracles = {name: open_oracle(name, setting.scratch) for name in ORACLES}
    values: list[Row] = []
    ratios: list[Row] = []
    budgets: list[Row] = []
    for name in list(STUDENTS)[: 1 if setting.quick else None]:
        found = _measure(name, frames, oracles, setting.rounds)
        values += _value_rows(name, found)
        ratios += _ratio_rows(name, found)
        budgets += _budget_rows(name, found)
    note = "YOLOv8n is there only as an 8-bit TFLite file and runs in LiteRT, everything else in ONNX Runtime."
    return Part(title=title, text=TEXT, settings=settings, notes=[note], values=values, ratios=ratios, budgets=budgets)


class Laps:
    """Milliseconds of the parts of one alternative, a list for every call of it."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = defaultdict(list)

    def add(self, seconds: dict[str, float], per: dict[str, int]) -> None:
        """A call's seconds by part, each shared by so many (frames, calls)."""
        for name, count in per.items():
            self.parts[name].append(1e3 * seconds.get(name, 0.0) / count)

    def last(self, name: str, rounds: int) -> list[float]:
        """Of the rounds that count: those after the warm-up."""
        return self.parts[name][-rounds:]


def _measure(name: str, frames: NDArray[np.uint8], oracles: dict[str, Detector], rounds: int) -> dict[str, list[float]]:
    """Milliseconds by round, of the alternatives and of the parts of the one that learns."""
    eager, light = open_student(name, "eager"), open_student(name, "onnx")
    chosen, taught = Laps(), Laps()
    alternatives: dict[str, Measured] = {
        "eager": partial(_ms_a_frame, eager, frames),
        "student": partial(_ms_a_frame, light, frames),
        "with selector": partial(_with_selector, light, frames, chosen),
        "learning": _learning(open_student(name, "onnx"), frames, oracles[TEACHER], taught),
        "new weights": partial(_new_weights, open_student(name, "onnx")),
        **{oracle: partial(_every_frame, detector, frames) for oracle, detector in oracles.items()},
    }
    found = interleave(alternatives, rounds=rounds)
    for part in ("student", "selector"):
        found[f"{part} of it"] = chosen.last(part, rounds)
    for part in ("student", "selector", "update"):
        found[f"{part}, learning"] = taught.last(part, rounds)
    rows = list(zip(found["student, learning"], found["selector, learning"], found["update, learning"], strict=True))
    found["in step"] = [break_even(student, selector, update, SHARE) for student, selector, update in rows]
    found["beside"] = [break_even(student, selector, 0.0, SHARE) for student, selector, _ in rows]
    return found


def _value_rows(name: str, found: dict[str, list[float]]) -> list[Row]:
    words = {
        "eager": "eager torch, student alone",
        "student": "student alone",
        "with selector": "student + selector",
        "selector of it": "selector of it",
        "learning": "student + selector + learning",
        "in step": "break-even oracle",
        "beside": "break-even oracle, learning asynchronously",
    }
    rows = [value_row(f"{name}: {text}", "ms/frame", found[key]) for key, text in words.items()]
    calls = {"update, learning": "update, new weights taken", "new weights": "taking new weights alone"}
    rows += [value_row(f"{name}: {text}", "ms/call", found[key]) for key, text in calls.items()]
    return rows + [value_row(f"{oracle} on every frame (with {name})", "ms/frame", found[oracle]) for oracle in ORACLES]


def _ratio_rows(name: str, found: dict[str, list[float]]) -> list[Row]:
    rows = [
        ratio_row(f"{name}: eager / ONNX Runtime", found["eager"], found["student"]),
        ratio_row(f"{name}: selector / student", found["selector of it"], found["student of it"], at_most=SELECTOR_SHARE),
        ratio_row(f"{name}: taking new weights / a frame of the student", found["new weights"], found["student"]),
    ]
    for oracle in ORACLES:
        bound = TIMES_FASTER if oracle == STRONGEST else None
        rows.append(ratio_row(f"{oracle} / {name} + selector", found[oracle], found["with selector"], at_least=bound))
        rows.append(ratio_row(f"{oracle} / break-even of {name}", found[oracle], found["in step"]))
    return rows


def _budget_rows(name: str, found: dict[str, list[float]]) -> list[Row]:
    parts = {"student": found["student"], "selector": found["selector of it"], "update": found["update, learning"]}
    return [row for oracle in ORACLES for row in budget_rows(f"{name}, learning from {oracle}", **parts, oracle=found[oracle])]


def _ms_a_frame(student: Student, frames: NDArray[np.uint8]) -> float:
    return 1e3 * timed(lambda: [student.detect(frame) for frame in frames]) / len(frames)


def _every_frame(oracle: Detector, frames: NDArray[np.uint8]) -> float:
    return 1e3 * timed(lambda: [oracle(frame[None]) for frame in frames]) / len(frames)


def _selector(student: Student) -> LstmSelector:
    """Without training, which computes as one with."""
    return LstmSelector(KeyFrameLSTM(SelectorConfig(features=student.feature_count)))


def _with_selector(student: Student, frames: NDArray[np.uint8], laps: Laps) -> float:
    chooser, watcher, clock = KeyFrameChooser(_selector(student), CallBudget(CALLS, FRAMES)), ObservationBuilder(), Stopwatch()
    for index, frame in enumerate(frames):
        with clock.part("student"):
            look = student.detect(frame, frame_index=index)
        with clock.part("selector"):
            observation = watcher.observe(frame, look)
            if chooser.choose(observation):
                watcher.called(observation)
    seconds = clock.seconds()
    laps.add(seconds, {"student": len(frames), "selector": len(frames)})
    return 1e3 * sum(seconds.values()) / len(frames)


def _learning(student: Student, frames: NDArray[np.uint8], teacher: Detector, laps: Laps) -> Measured:
    """One learner through all rounds, its buffer filled before the first: every update replays as many frames as it may."""
    oracle = BoxOracle(teacher, student.class_names)
    answers = [oracle(frame) for frame in frames]
    learner = SynchronousLearner(student, oracle, _selector(student), CallBudget(CALLS, FRAMES))
    for frame, answer in zip(frames, answers[: learner.trainer.trainer.update.replay], strict=False):
        learner.trainer.learn(student.detect(frame), answer)
    return partial(_learn, learner, frames, answers, laps)


def _learn(learner: SynchronousLearner, frames: NDArray[np.uint8], answers: Sequence[Answer], laps: Laps) -> float:
    total: dict[str, float] = defaultdict(float)
    calls = 0
    for frame, answer in zip(frames, answers, strict=True):
        record = learner.step(frame, answer=answer).record
        calls += record.called
        for part, seconds in record.seconds.items():
            total[part] += seconds
    laps.add(total, {"student": len(frames), "selector": len(frames), "update": max(calls, 1)})
    return 1e3 * sum(total.values()) / len(frames)


@torch.no_grad()
def _new_weights(student: Student) -> float:
    for value in student.net.parameters():
        value.add_(0.0)
    return 1e3 * timed(student.detector.follow_weights)


def _words(update: Update) -> str:
    what = f"blocks ({update.blocks})" if update.trains == "blocks" else update.trains
    shares = f", the best of {len(update.interpolate)} shares of what was learned before" if update.interpolate else ""
    return f"{what}, {update.steps} steps on {1 + update.replay} frames{shares}"


def stream_cost(student: float, selector: float, update: float, oracle: float, share: float) -> float:
    """Cost a frame of a student that learns in step; update, oracle: of one call, made on this share of the frames."""
    return student + selector + share * (update + oracle)


def break_even(student: float, selector: float, update: float, share: float) -> float:
    """The oracle's cost a frame at which `stream_cost` is that of the oracle on every frame. Raises ValueError unless 0 <= share < 1."""
    if not 0 <= share < 1:
        raise ValueError(f"the share of calls must lie in [0, 1): {share}")
    return (student + selector + share * update) / (1 - share)


def budget_rows(
    name: str,
    *,
    student: Sequence[float],
    selector: Sequence[float],
    update: Sequence[float],
    oracle: Sequence[float],
    shares: Sequence[float] = SHARES,
) -> list[Row]:
    """A row for each share: milliseconds a frame, and how many times those of the student alone, with intervals over rounds.

    student, selector, update, oracle: milliseconds of a frame or a call, by round; costs and ratios are put together within a round.
    """
    rows = []
    for share in shares:
        parts = zip(student, selector, update, oracle, strict=True)
        costs = [[stream_cost(*each, share=share)] for each in parts]
        times = ratio(costs, [[each] for each in student])
        rows.append({"name": name, "share": share, "ms": _plain(median(costs)), "ratio": _plain(times), "n": times.n})
    return rows


def _plain(figure: Figure) -> Row:
    """The number and its interval to four digits; no interval of a few rounds."""
    bounds = None if figure.ci95 is None else [_digits(bound) for bound in figure.ci95]
    return {"value": _digits(figure.value), "ci95": bounds}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
