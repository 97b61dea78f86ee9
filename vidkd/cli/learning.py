"""Student and oracle of the verbs that learn along videos, opened from their settings."""

from pathlib import Path
from typing import Any

from vidkd.base.errors import ConfigError
from vidkd.cli.streams import LearningSettings
from vidkd.detection.online import BoxOracle, HeadOracle, Oracle, Student, Update
from vidkd.detection.online.key_frames import NEEDS_HEADS
from vidkd.detection.opening import TORCHVISION, ModelFiles
from vidkd.detection.policies import CallBudget
from vidkd.detection.stream.folder import CALLED
from vidkd.models.darknet.detector import DarknetDetector
from vidkd.runtime.opening import NETWORKS


def student_files(given: LearningSettings) -> ModelFiles:
    """The student's files; raises ConfigError for an exported one, or one of torchvision, which cannot learn."""
    foreign = given.model.startswith(TORCHVISION)
    if foreign or Path(given.model).suffix.lower() in NETWORKS:
        kind = "a detector of torchvision" if foreign else "an exported model"
        raise ConfigError(f"{kind} cannot learn: {given.model}", hint="--model X.cfg --weights F --names F, or a run")
    named = {name: getattr(given, name) for name in ("model", "weights", "names", "resize", "runtime", "device", "threads", "score")}
    return ModelFiles(nms_iou=given.nms, model_flag="--model", **named)


def oracle_files(given: LearningSettings) -> ModelFiles:
    """The oracle's files."""
    named = {name: getattr(given, f"oracle_{name}") for name in ("weights", "names", "metadata", "resize", "runtime", "score")}
    device = given.oracle_device or given.device
    return ModelFiles(model=given.oracle, flags="oracle-", model_flag="--oracle", threads=given.threads, device=device, **named)


def open_both(student: ModelFiles, oracle: ModelFiles, update: Update) -> tuple[Student, Oracle]:
    """Student and oracle, with raw heads where the loss compares them.

    Raises ConfigError or CheckpointError as their readers, and where there are no raw heads, or none that pair.
    """
    light, heavy = student.open(), oracle.open()
    assert isinstance(light, DarknetDetector)
    if update.loss not in NEEDS_HEADS:
        return Student(light), BoxOracle(heavy, light.class_names)
    if not isinstance(heavy, DarknetDetector):
        raise ConfigError(
            f"the loss {update.loss} compares raw heads, and {oracle.model} has only boxes", hint="--update.loss oracle_assigned"
        )
    return Student(light), HeadOracle(heavy, light)


def recorded(student: ModelFiles, oracle: ModelFiles, given: LearningSettings) -> dict[str, Any]:
    """What results depend on of all these settings, of values that JSON can hold, and what the files are called."""
    return {
        "student": student.record(),
        "oracle": oracle.record(),
        CALLED: {"student": student.called, "oracle": oracle.called},
        **{name: getattr(given, name) for name in ("budget", "window", "seed")},
    }


def budget_of(given: LearningSettings, *, frames: int | None = None) -> CallBudget:
    """A budget at its start.

    frames: of the stream, None where it is unknown. One that is shorter than the window is the window: else the share would be exceeded.
    """
    window = given.window if frames is None else min(given.window, max(frames, 1))
    return CallBudget.of_share(given.budget, window=window)
