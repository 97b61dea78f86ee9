"""A study of all key-frame policies along one video, with the student, the oracle and the learning of a run along it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vidkd.base.files import atomic_write
from vidkd.bench.streams.study import HINDSIGHT
from vidkd.detection.online import Student
from vidkd.detection.opening import ModelFiles
from vidkd.detection.policies import BARE
from vidkd.detection.saved import write_darknet

STUDY = "study.yaml"
STREAM = "video"
TEXT = (
    "Every policy asks the same oracle on as many frames, and the student learns from it alike. Boxes are scored against the oracle's of "
    "every frame, before it is learned from. Hindsight knows where the student errs, the oracle is asked everywhere: neither can be had."
)


def write_policies_study(
    folder: Path,
    *,
    video: Path,
    student: Student,
    oracle: ModelFiles,
    learning: Mapping[str, Any],
    heads: bool,
    shares: Sequence[float],
    seed: int,
    selector: Path | None = None,
) -> Path:
    """Write the frozen student and a study for `vidkd study` into a folder; returns the study's path.

    learning: plain settings of `update` and `replay`. heads: whether raw heads of the oracle are learned from. shares: of frames sent to
    the oracle, in (0, 1]. selector: the file of a trained one, one more policy. Raises CheckpointError if the disk is full.
    """
    # whole paths: a file of the same name below a root of the user's would be found first
    cfg, weights, names = (
        str(path.resolve()) for path in write_darknet(folder, student.net, student.class_names, resize=student.detector.resize)
    )
    files = {"cfg": cfg, "weights": weights, "names": names}
    methods: dict[str, Any] = {"student": {"kind": "frozen", "label": "no learning"}}
    methods |= {name: {"policy": name, "label": name.replace("_", " ")} for name in BARE}
    if selector is not None:
        methods["selector"] = {"policy": str(selector.resolve()), "label": selector.name}
    methods |= {HINDSIGHT: {"policy": HINDSIGHT}, "oracle": {"kind": "oracle", "label": "oracle on every frame"}}
    content = {
        "study": "policies",
        "title": f"Key-frame policies along {video.name}",
        "text": TEXT,
        "student": {**files, "resize": student.detector.resize, "nms_iou": student.detector.nms_iou},
        "oracle": {**_oracle(oracle), "heads": heads},
        "streams": {STREAM: {"segments": [{"video": str(video.resolve())}]}},
        "calls": list(shares),
        "seeds": [seed],
        "update": dict(learning["update"]),
        "replay": {name: value for name, value in learning["replay"].items() if name != "seed"},
        "methods": methods,
    }
    path = folder / STUDY
    with atomic_write(path) as file:
        yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
    return path


def _oracle(files: ModelFiles) -> dict[str, Any]:
    """Its files with whole paths, and what else is given of it."""
    paths = {name: getattr(files, name) for name in ("model", "weights", "names", "metadata")}
    given = {name: getattr(files, name) for name in ("score", "nms_iou", "resize")}
    return {name: str(Path(path).resolve()) for name, path in paths.items() if path} | {
        name: value for name, value in given.items() if value is not None
    }
