"""A trained detector in its run: the checkpoint, and next to it the darknet files that every other tool reads."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vidkd.base.errors import CheckpointError
from vidkd.base.files import atomic_write, write_json
from vidkd.detection.opening import EXPORTED, about_of
from vidkd.models.darknet import Darknet, parse_cfg, save_weights, to_cfg
from vidkd.models.saved import read_checkpoint


@dataclass(frozen=True, kw_only=True)
class SavedDetector:
    """A detector read from a checkpoint, with its class names and the configuration of the run that made it (plain values)."""

    net: Darknet
    classes: tuple[str, ...]
    run: dict[str, Any]

    @property
    def resize(self) -> str | None:
        """How frames met its input in training; None where the run does not say."""
        found: str | None = self.run.get("data", {}).get("transform", {}).get("resize")
        return found


def detector_payload(student: nn.Module, classes: Sequence[str]) -> dict[str, Any]:
    """The part of a checkpoint that describes a detector: the text of its cfg, its classes, its weights; read with weights_only=True."""
    assert isinstance(student, Darknet)
    return {"cfg": to_cfg(student.config), "classes": list(classes), "state": student.state_dict()}


def is_detector(content: Mapping[str, Any]) -> bool:
    """Whether the content of a checkpoint is that of a detector."""
    return "cfg" in content["student"]


def load_detector(path: Path | str) -> SavedDetector:
    """The student of a checkpoint (a file, or the folder of a run), in eval mode, for `DarknetDetector(saved.net, saved.classes)`.

    Raises CheckpointError if it is missing, damaged, or not that of a detector.
    """
    content = read_checkpoint(path)
    if not is_detector(content):
        raise CheckpointError(
            f"{path} holds a classifier of clips, not a detector",
            hint="vidkd predict --model takes it; here name a run with task: yolo",
        )
    saved = content["student"]
    try:
        net = Darknet(parse_cfg(saved["cfg"]))
        net.load_state_dict(content.get("ema") or saved["state"])
        classes = tuple(map(str, saved["classes"]))
    except (RuntimeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"the weights of {path} do not fit the network that it names", reason=textwrap.shorten(str(error), 300)
        ) from error
    return SavedDetector(net=net.eval(), classes=classes, run=content.get("run", {}))


def export_darknet(run: Path | str, *, images_seen: int = 0) -> tuple[Path, Path, Path]:
    """Write student.cfg, student.weights and student.names of the run's best (else last) student into its folder; returns their paths.

    images_seen: recorded in the weights file. Raises CheckpointError as `load_detector` does, WriteError if the disk is full.
    """
    run = Path(run)
    saved = load_detector(run)
    return write_darknet(run, saved.net, saved.classes, resize=saved.resize, images_seen=images_seen)


def write_darknet(
    folder: Path, net: Darknet, classes: Sequence[str], *, resize: str | None, images_seen: int = 0, run: Path | None = None
) -> tuple[Path, Path, Path]:
    """Write student.cfg, student.weights and student.names of a network into a folder, and student.json; returns the paths of the first.

    resize: how frames meet the input, None if unknown. images_seen: recorded in the weights file. run: folder of the run along a
    stream whose student this is. Raises WriteError if the disk is full.
    """
    cfg, weights, names = (folder / f"{EXPORTED}.{suffix}" for suffix in ("cfg", "weights", "names"))
    write_json(about_of(cfg), {"resize": resize, "run": None if run is None else str(run.resolve())})
    with atomic_write(cfg) as file:
        file.write(to_cfg(net.config))
    save_weights(net, weights, images_seen=images_seen)
    with atomic_write(names) as file:
        file.writelines(f"{name}\n" for name in classes)
    return cfg, weights, names
