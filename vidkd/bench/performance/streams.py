"""Speed along a stream: a student alone, with its selector, and learning; oracles on every frame."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.roots import DATA_VARIABLE
from vidkd.base.timing import Stopwatch
from vidkd.bench.performance.suite import Measured, Part, Setting, milliseconds, ratio_row, value_row
from vidkd.detection.online import BoxOracle, Student, SynchronousLearner, Update
from vidkd.detection.policies import CallBudget
from vidkd.detection.policies.budget import KeyFrameChooser
from vidkd.detection.policies.lstm import LstmSelector
from vidkd.detection.policies.policy import ObservationBuilder
from vidkd.models.darknet.detector import DarknetDetector, Runtime
from vidkd.models.selector import KeyFrameLSTM, SelectorConfig
from vidkd.runtime.detector import Detector
from vidkd.runtime.letterbox import ResizeMode
from vidkd.runtime.opening import open_detector
from vidkd.video import open_video

VIDEO, NAMES = "pets09/vtest.avi", "weights/yolo_fastest/coco.names"
FIRST_FRAME = 100
STUDENTS: dict[str, tuple[str, str, ResizeMode]] = {
    "Yolo-Fastest-1.1": ("weights/yolo_fastest/yolo-fastest-1.1.cfg", "weights/yolo_fastest/yolo-fastest-1.1.weights", "stretch"),
    "tiny-YOLOv3": ("weights/yolov3_tiny/yolov3-tiny-m123.cfg", "weights/yolov3_tiny/yolov3-tiny.weights", "darknet"),
}
"""cfg and weights in the folder, and how frames meet the network."""
ORACLES = {
    "YOLOX-nano": (
        "weights/yolox_nano/yolox_nano_raw_0.1.1.onnx",
        "input: {size: [416, 416], layout: NCHW, colour: bgr, pixel_max: 255, resize: top_left}\n"
        "head: {style: yolox, strides: [8, 16, 32]}\n",
    ),
    "YOLOv8n": (
        "weights/yolov8n_int8/yolov8n_int8.tflite",
        "input: {size: [640, 640], layout: NHWC, colour: rgb, pixel_max: 1, resize: centre}\nhead: {style: yolov8, boxes: unit}\n",
    ),
}


def why_absent() -> list[str]:
    """A sentence that says why nothing can be measured; none where all files are there."""
    if not os.environ.get(DATA_VARIABLE):
        return [f"Left out: {DATA_VARIABLE} names no folder with the models and the video."]
    wanted = [VIDEO, NAMES, *(path for *files, _ in STUDENTS.values() for path in files), *(path for path, _ in ORACLES.values())]
    missing = [path for path in wanted if not (folder() / path).is_file()]
    return [f"Left out: {DATA_VARIABLE} lacks {', '.join(missing)}."] if missing else []


def folder() -> Path:
    """Where models and video lie."""
    return Path(os.environ[DATA_VARIABLE])


def open_student(name: str, runtime: Runtime) -> Student:
    """One of STUDENTS on the processor."""
    cfg, weights, resize = STUDENTS[name]
    return Student(DarknetDetector.open(folder() / cfg, folder() / weights, folder() / NAMES, resize=resize, runtime=runtime))


def open_oracle(name: str, scratch: Path) -> Detector:
    """One of ORACLES on one thread; scratch: where the YAML that it needs may be written."""
    path, metadata = ORACLES[name]
    side = scratch / f"{name}.yaml"
    side.write_text(f"classes: {folder() / NAMES}\n{metadata}", encoding="utf-8")
    return open_detector(folder() / path, metadata=side, threads=1, device="cpu")


def frames_of_video(count: int, first: int = FIRST_FRAME) -> NDArray[np.uint8]:
    """Frames that follow each other, (N, H, W, 3)."""
    with open_video(folder() / VIDEO) as video:
        return np.asarray(video.frames_at_indices(list(range(first, first + count))), np.uint8)


SHARES = (0.02, 0.05, 0.1, 0.2)
"""Budgets shown."""
FRAMES, CALLS = 20, 1
SHARE = CALLS / FRAMES
TEACHER, STRONGEST = "YOLOX-nano", "YOLOv8n"
EAGER, ALONE, SELECTED, LEARNING, WEIGHTS = (
    "student alone, eager torch",
    "student alone",
    "student + selector",
    "student + selector + learning",
    "taking new weights, a call",
)
TEXT = (
    f"Milliseconds a frame of {FRAMES} frames of PETS 2009 that stay in memory, one at a time, resizing and suppression included, one "
    "thread. The student runs in ONNX Runtime unless it says eager, and learns in torch. Learning is in step with the stream, from answers "
    f"that are known, {SHARE:.0%} of the frames; the update is separate. Break-even is the cost of an oracle above which the student "
    "that learns from it, the calls paid for, is cheaper than the oracle on every frame: (student + selector + share x update) / "
    "(1 - share); asynchronously, the update costs the stream nothing. What learning costs at a budget, the share "
    f"of the frames on which the oracle is asked, is put together in each round: student + selector + share x (oracle + update), at "
    f"{', '.join(f'{100 * share:g}' for share in SHARES)} %."
)
Rounds: TypeAlias = Mapping[str, Sequence[float]]


def measure_streams(setting: Setting) -> Part:
    """All of it, or why it is left out."""
    update = Update()
    what = f"blocks ({update.blocks})" if update.trains == "blocks" else update.trains
    kept = f", the best of {len(update.interpolate)} shares of what was learned before" if update.interpolate else ""
    words = f"{what}, {update.steps} steps on {1 + update.replay} frames{kept}"
    part = Part(
        title="Speed along a stream",
        text=TEXT,
        settings={"threads": 1, "share of calls": f"{SHARE:.0%}", "update": words},
        notes=why_absent() or ["YOLOv8n is there only as an 8-bit TFLite file and runs in LiteRT, everything else in ONNX Runtime."],
    )
    if why_absent():
        return part
    torch.set_num_threads(1)
    frames = frames_of_video(FRAMES)
    oracles = {name: open_oracle(name, setting.scratch) for name in ORACLES}
    for name in list(STUDENTS)[: 1 if setting.quick else None]:
        _compare(part, name, frames, oracles, setting.rounds)
    return part


def _compare(part: Part, name: str, frames: NDArray[np.uint8], oracles: Mapping[str, Detector], rounds: int) -> None:
    """Rows of one student: of the alternatives, of the parts of those with a selector and an update, and of what these cost together."""
    eager, light = open_student(name, "eager"), open_student(name, "onnx")
    chosen: dict[str, list[float]] = defaultdict(list)
    taught: dict[str, list[float]] = defaultdict(list)
    alternatives: dict[str, Measured] = {
        EAGER: partial(_ms_a_frame, eager, frames),
        ALONE: partial(_ms_a_frame, light, frames),
        SELECTED: partial(_with_selector, light, frames, chosen),
        LEARNING: _learning(open_student(name, "onnx"), frames, oracles[TEACHER], taught),
        WEIGHTS: partial(_new_weights, open_student(name, "onnx")),
        **{oracle: partial(_every_frame, detector, frames) for oracle, detector in oracles.items()},
    }
    ratios = [(EAGER, ALONE, ""), (WEIGHTS, ALONE, ""), *((one, SELECTED, ">= 4" if one == STRONGEST else "") for one in oracles)]
    measured = part.compare(alternatives, "ms", ratios, rounds=rounds, where=f", {name}")
    last = {side: {key: values[-rounds:] for key, values in laps.items()} for side, laps in (("chosen", chosen), ("taught", taught))}
    add_costs(part, name, last["chosen"], last["taught"], {ALONE: measured[ALONE], **{one: measured[one] for one in oracles}})


def add_costs(part: Part, name: str, chosen: Rounds, taught: Rounds, measured: Rounds) -> None:
    """Rows of what is put together within each round: the selector's share, break-even, and the cost of learning at each budget.

    chosen, taught: milliseconds of `student`, `selector` and `update` by round. measured: those of ALONE and of each oracle.
    """
    where = f", {name}"
    part.values.append(value_row(f"selector{where}", "ms", chosen["selector"]))
    part.values.append(value_row(f"update with new weights taken, a call{where}", "ms", taught["update"]))
    part.ratios.append(ratio_row(f"selector / student{where}", chosen["selector"], chosen["student"], "<= 0.05"))
    rows = list(zip(taught["student"], taught["selector"], taught["update"], strict=True))
    even = [break_even(*row, SHARE) for row in rows]
    part.values.append(value_row(f"break-even oracle{where}", "ms", even))
    part.values.append(
        value_row(f"break-even oracle, learning asynchronously{where}", "ms", [break_even(*row[:2], 0.0, SHARE) for row in rows])
    )
    for oracle in ORACLES:
        part.ratios.append(ratio_row(f"{oracle} / break-even{where}", measured[oracle], even))
        for share in SHARES:
            parts = zip(measured[ALONE], chosen["selector"], taught["update"], measured[oracle], strict=True)
            costs = [stream_cost(*row, share=share) for row in parts]
            learning = f"learning from {oracle} at {share:.0%} calls"
            part.values.append(value_row(f"{learning}{where}", "ms", costs))
            part.ratios.append(ratio_row(f"{learning} / {ALONE}{where}", costs, measured[ALONE]))


def _ms_a_frame(student: Student, frames: NDArray[np.uint8]) -> float:
    return milliseconds(lambda: [student.detect(frame) for frame in frames]) / len(frames)


def _every_frame(oracle: Detector, frames: NDArray[np.uint8]) -> float:
    return milliseconds(lambda: [oracle(frame[None]) for frame in frames]) / len(frames)


def _selector(student: Student) -> LstmSelector:
    """Without training, which computes as one with."""
    return LstmSelector(KeyFrameLSTM(SelectorConfig(features=student.feature_count)))


def _with_selector(student: Student, frames: NDArray[np.uint8], laps: dict[str, list[float]]) -> float:
    chooser, observer, clock = KeyFrameChooser(_selector(student), CallBudget(CALLS, FRAMES)), ObservationBuilder(), Stopwatch()
    for index, frame in enumerate(frames):
        with clock.part("student"):
            look = student.detect(frame, frame_index=index)
        with clock.part("selector"):
            observation = observer.observe(frame, look)
            if chooser.choose(observation):
                observer.called(observation)
    return _lap(laps, clock.seconds(), len(frames), 0)


def _learning(student: Student, frames: NDArray[np.uint8], teacher: Detector, laps: dict[str, list[float]]) -> Measured:
    """One learner through all rounds, its buffer filled before the first: every update replays as many frames as it may."""
    oracle = BoxOracle(teacher, student.class_names)
    answers = [oracle(frame) for frame in frames]
    learner = SynchronousLearner(student, oracle, _selector(student), CallBudget(CALLS, FRAMES))
    for frame, answer in zip(frames, answers[: learner.trainer.trainer.update.replay], strict=False):
        learner.trainer.learn(student.detect(frame), answer)

    def learn() -> float:
        records = [learner.step(frame, answer=answer).record for frame, answer in zip(frames, answers, strict=True)]
        total: dict[str, float] = defaultdict(float)
        for record in records:
            for name, seconds in record.seconds.items():
                total[name] += seconds
        return _lap(laps, total, len(frames), sum(record.called for record in records))

    return learn


def _lap(laps: dict[str, list[float]], seconds: Mapping[str, float], frames: int, calls: int) -> float:
    """Note milliseconds of the parts of one round, of a frame or a call each; returns those of all together a frame."""
    for name, count in (("student", frames), ("selector", frames), ("update", max(calls, 1))):
        laps[name].append(1e3 * seconds.get(name, 0.0) / count)
    return 1e3 * sum(seconds.values()) / frames


@torch.no_grad()
def _new_weights(student: Student) -> float:
    for value in student.net.parameters():
        value.add_(0.0)
    return milliseconds(student.detector.follow_weights)


def stream_cost(student: float, selector: float, update: float, oracle: float, share: float) -> float:
    """Cost a frame of a student that learns in step; update, oracle: of one call, made on this share of the frames."""
    return student + selector + share * (update + oracle)


def break_even(student: float, selector: float, update: float, share: float) -> float:
    """The oracle's cost a frame at which `stream_cost` is that of the oracle on every frame; share: in [0, 1)."""
    return (student + selector + share * update) / (1 - share)
