"""What the verbs with a student and an oracle share: their settings, and opening both."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from vidkd.base.records import Count, Share, Whole
from vidkd.cli.streams import FootageSettings

if TYPE_CHECKING:
    from vidkd.detection.online import Oracle, Student, Update
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.policies import CallBudget

Resize = Literal["darknet", "centre", "top_left", "stretch"]


@dataclass(frozen=True, kw_only=True)
class LearningSettings(FootageSettings):
    """Student, oracle, and how often it is asked.

    Args:
        model: the detector that learns: a darknet .cfg, or the folder of a run.
        weights: the .weights of its .cfg.
        names: its class names, one a line.
        resize: how frames meet it (default: darknet, or the run's; stretch for Yolo-Fastest).
        runtime: what runs it: torch (eager), or ONNX Runtime, which is faster on a processor and takes the weights as they learn.
        oracle: the detector that is asked: .onnx, .xml, .tflite, .cfg, a run, or torchvision:NAME.
        oracle_weights: the weights of the oracle's .cfg or torchvision:NAME.
        oracle_names: class names of the oracle's .cfg, or of weights for torchvision that have others.
        oracle_metadata: of an exported oracle the YAML that says how to run it (default: beside it).
        oracle_resize: how frames meet the oracle's .cfg (default: darknet).
        oracle_runtime: what runs an exported oracle's .onnx file (default: onnxruntime).
        oracle_device: where the oracle runs, as --device (default: that of --device).
        oracle_score: least score of the oracle's boxes (default: the model's).
        budget: share of the frames sent to the oracle, at least one call.
        window: the budget holds in any so many frames, of a shorter video in all.
        seed: of all that is drawn.
    """

    model: str
    weights: str | None = None
    names: str | None = None
    resize: Resize | None = None
    runtime: Literal["eager", "onnx"] = "eager"
    oracle: str
    oracle_weights: str | None = None
    oracle_names: str | None = None
    oracle_metadata: str | None = None
    oracle_resize: Resize | None = None
    oracle_runtime: Literal["onnxruntime", "openvino"] | None = None
    oracle_device: str | None = None
    oracle_score: Share | None = None
    budget: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    window: Count = 200
    seed: Whole = 0


def student_files(given: LearningSettings) -> "ModelFiles":
    """The student's files; raises ConfigError for an exported one, or one of torchvision, which cannot learn."""
    from vidkd.base.errors import ConfigError
    from vidkd.detection.opening import TORCHVISION, ModelFiles
    from vidkd.runtime.opening import NETWORKS

    foreign = given.model.startswith(TORCHVISION)
    if foreign or Path(given.model).suffix.lower() in NETWORKS:
        kind = "a detector of torchvision" if foreign else "an exported model"
        raise ConfigError(f"{kind} cannot learn: {given.model}", hint="--model X.cfg --weights F --names F, or a run")
    named = {name: getattr(given, name) for name in ("model", "weights", "names", "resize", "runtime", "device", "threads", "score")}
    return ModelFiles(nms_iou=given.nms, model_flag="--model", **named)


def oracle_files(given: LearningSettings) -> "ModelFiles":
    """The oracle's files."""
    from vidkd.detection.opening import ModelFiles

    named = {name: getattr(given, f"oracle_{name}") for name in ("weights", "names", "metadata", "resize", "runtime", "score")}
    device = given.oracle_device or given.device
    return ModelFiles(model=given.oracle, flags="oracle-", model_flag="--oracle", threads=given.threads, device=device, **named)


def open_both(student: "ModelFiles", oracle: "ModelFiles", update: "Update") -> "tuple[Student, Oracle]":
    """Student and oracle, with raw heads where the loss compares them.

    Raises ConfigError or CheckpointError as their readers, and where there are no raw heads, or none that pair.
    """
    from vidkd.base.errors import ConfigError
    from vidkd.detection.online import BoxOracle, HeadOracle, Student
    from vidkd.detection.online.distillation import NEEDS_HEADS
    from vidkd.models.darknet.detector import DarknetDetector

    light, heavy = student.open(), oracle.open()
    assert isinstance(light, DarknetDetector)
    if update.loss not in NEEDS_HEADS:
        return Student(light), BoxOracle(heavy, light.class_names)
    if not isinstance(heavy, DarknetDetector):
        raise ConfigError(
            f"the loss {update.loss} compares raw heads, and {oracle.model} has only boxes", hint="--update.loss oracle_assigned"
        )
    return Student(light), HeadOracle(heavy, light)


def recorded(student: "ModelFiles", oracle: "ModelFiles", given: LearningSettings) -> dict[str, Any]:
    """What results depend on of all these settings, of values that JSON can hold, and what the files are called."""
    from vidkd.detection.stream.folder import CALLED

    return {
        "student": student.record(),
        "oracle": oracle.record(),
        CALLED: {"student": student.called, "oracle": oracle.called},
        **{name: getattr(given, name) for name in ("budget", "window", "seed")},
    }


def budget_of(given: LearningSettings, *, frames: int | None = None) -> "CallBudget":
    """A budget at its start.

    frames: of the stream, None where nobody knows. One that is shorter than the window is the window: else the share would be exceeded.
    """
    from vidkd.detection.policies import CallBudget

    window = given.window if frames is None else min(given.window, max(frames, 1))
    return CallBudget.of_share(given.budget, window=window)
