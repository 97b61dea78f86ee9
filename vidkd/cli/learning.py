"""What the verbs with a student and an oracle share: their arguments, and opening both."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.classifiers import RUNTIMES
from vidkd.cli.number_flags import add_count, add_number, add_share
from vidkd.cli.settings import list_settings

if TYPE_CHECKING:
    from vidkd.detection.online import Oracle, Student, Update
    from vidkd.detection.online.config import LearningConfig
    from vidkd.detection.opening import ModelFiles
    from vidkd.detection.policies import CallBudget


def add_learning_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files of student and oracle, the budget and the seed."""
    parser.add_argument("--student", required=True, metavar="F", help="the detector that learns: a darknet .cfg, or the folder of a run")
    parser.add_argument("--weights", metavar="F", help="the .weights of the student's .cfg")
    parser.add_argument("--names", metavar="F", help="the student's class names, one a line")
    parser.add_argument(
        "--resize", metavar="WAY", help="how frames meet the student (default: darknet, or the run's; stretch for Yolo-Fastest)"
    )
    parser.add_argument(
        "--student-runtime",
        choices=("eager", "onnx"),
        default="eager",
        help="what runs the student: torch, or ONNX Runtime, which is faster on a processor and takes the weights as they learn",
    )
    parser.add_argument(
        "--oracle", required=True, metavar="F", help="the detector that is asked: .onnx, .xml, .tflite, .cfg, a run, or torchvision:NAME"
    )
    parser.add_argument("--oracle-weights", metavar="F", help="the weights of the oracle's .cfg or torchvision:NAME")
    parser.add_argument(
        "--oracle-names", metavar="F", help="class names of the oracle's .cfg, or of weights for torchvision that have others"
    )
    parser.add_argument("--oracle-metadata", metavar="F", help="exported oracle: the YAML that says how to run it (default: beside it)")
    parser.add_argument("--oracle-resize", metavar="WAY", help="how frames meet the oracle's .cfg (default: darknet)")
    parser.add_argument("--oracle-runtime", choices=RUNTIMES, help="what runs an exported oracle's .onnx file (default: onnxruntime)")
    parser.add_argument("--oracle-device", help="where the oracle runs, as --device (default: that of --device)")
    add_share(parser, "--oracle-score", metavar="P", help="least score of the oracle's boxes (default: the model's)")
    add_number(
        parser,
        "--budget",
        above=0,
        most=1,
        default=0.05,
        metavar="SHARE",
        help="share of the frames sent to the oracle, at least one call (default: 0.05)",
    )
    add_count(
        parser, "--window", default=200, metavar="N", help="the budget holds in any N frames, of a shorter video in all (default: 200)"
    )
    add_count(parser, "--seed", least=0, default=0, help="of all that is drawn (default: 0)")


def student_files(arguments: argparse.Namespace) -> "ModelFiles":
    """The student's files; raises ConfigError for an exported one, or one of torchvision, which cannot learn."""
    from vidkd.base.errors import ConfigError
    from vidkd.detection.opening import TORCHVISION, ModelFiles
    from vidkd.runtime.opening import NETWORKS

    foreign = arguments.student.startswith(TORCHVISION)
    if foreign or Path(arguments.student).suffix.lower() in NETWORKS:
        kind = "a detector of torchvision" if foreign else "an exported model"
        raise ConfigError(f"{kind} cannot learn: {arguments.student}", hint="--student X.cfg --weights F --names F, or a run")
    given = {name: getattr(arguments, name) for name in ("weights", "names", "resize", "device", "threads", "score")}
    return ModelFiles(model=arguments.student, nms_iou=arguments.nms, runtime=arguments.student_runtime, model_flag="--student", **given)


def oracle_files(arguments: argparse.Namespace) -> "ModelFiles":
    """The oracle's files."""
    from vidkd.detection.opening import ModelFiles

    given = {name: getattr(arguments, f"oracle_{name}") for name in ("weights", "names", "metadata", "resize", "runtime", "score")}
    given["device"] = arguments.oracle_device or arguments.device
    return ModelFiles(model=arguments.oracle, flags="oracle-", model_flag="--oracle", threads=arguments.threads, **given)


def open_student(files: "ModelFiles") -> "Student":
    """The student, with the weights of its files. Raises ConfigError or CheckpointError as its reader."""
    from vidkd.detection.online import Student
    from vidkd.models.darknet.detector import DarknetDetector

    detector = files.open()
    assert isinstance(detector, DarknetDetector)
    return Student(detector)


def open_oracle(files: "ModelFiles", student: "Student", update: "Update") -> "Oracle":
    """The oracle, with raw heads where the loss compares them. Raises ConfigError where it has none, or none that pair."""
    from vidkd.base.errors import ConfigError
    from vidkd.detection.online import BoxOracle, HeadOracle
    from vidkd.detection.online.distillation import NEEDS_HEADS
    from vidkd.models.darknet.detector import DarknetDetector

    detector = files.open()
    if update.loss not in NEEDS_HEADS:
        return BoxOracle(detector, student.class_names)
    if not isinstance(detector, DarknetDetector):
        raise ConfigError(
            f"the loss {update.loss} compares raw heads, and {files.model} gives boxes alone", hint="--update.loss oracle_assigned"
        )
    return HeadOracle(detector, student.detector)


def recorded(student: "ModelFiles", oracle: "ModelFiles", arguments: argparse.Namespace) -> dict[str, Any]:
    """What results depend on of all these arguments, of values that JSON can hold, and what the files are called."""
    from vidkd.detection.stream.folder import CALLED

    return {
        "student": student.record(),
        "oracle": oracle.record(),
        CALLED: {"student": student.called, "oracle": oracle.called},
        **{name: getattr(arguments, name) for name in ("budget", "window", "seed")},
    }


def budget_of(arguments: argparse.Namespace, *, frames: int | None = None) -> "CallBudget":
    """A budget at its start. Raises ConfigError for a share or a window that cannot be.

    frames: of the stream, None where nobody knows. One that is shorter than the window is the window: else the share would be exceeded.
    """
    from vidkd.detection.policies import CallBudget

    window = arguments.window if frames is None else min(arguments.window, max(frames, 1))
    return CallBudget.of_share(arguments.budget, window=window)


class ListSettings(argparse.Action):
    """Print the settings that may follow as flags, and stop, whatever else is there or missing."""

    def __init__(self, option_strings: list[str], dest: str, kind: Callable[[], "type[LearningConfig]"], **given: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **given)
        self._kind = kind

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """See argparse."""
        parser.exit(list_settings(self._kind()))


def add_settings_flag(parser: argparse.ArgumentParser, kind: Callable[[], "type[LearningConfig]"]) -> None:
    """Add --settings and the hint that settings are flags. kind: called for the configuration when it is asked for."""
    parser.add_argument("--settings", action=ListSettings, kind=kind, help="list every setting that may follow as a flag, and stop")
    parser.epilog = "settings follow the inputs as flags: --update.lr 1e-4 --update.trains all --replay.frames 32   (--settings lists them)"
