"""Example clips for a report: what was seen, how it moved, where the teacher looked and where the student did."""

import base64
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import VidkdError
from vidkd.base.files import atomic_write
from vidkd.data.dataset import ClipDataset, DataConfig, Sample
from vidkd.data.manifest import Clip
from vidkd.engine.classify import classify
from vidkd.engine.clips import Clips
from vidkd.engine.setup import evaluation_set
from vidkd.models.saved import SavedClassifier, load_classifier
from vidkd.report.parts import Strip
from vidkd.report.strips import clip_strip

log = logging.getLogger(__name__)

LABEL_PX = 130
"""Width of the names at the left of a picture's rows."""


def example_strips(
    student: Path | str, clips: Clips, subset: str, data: DataConfig, *, teacher: Path | str | None = None, count: int = 6
) -> list[Strip]:
    """Strips of `count` clips of a subset, its classes in turn: frames, flow, and the attention maps of teacher and student.

    student, teacher: checkpoints or run folders; a network without attention has no row. Where the flow of a clip cannot be had (it is not
    stored), its row is left out, and that of a teacher who sees flow. Raises what reading checkpoints and frames raises.
    """
    networks = {"teacher": load_classifier(teacher)} if teacher is not None else {}
    networks["student"] = load_classifier(student)
    dataset = evaluation_set(clips, subset, data, ("rgb", "flow"))
    without_flow = evaluation_set(clips, subset, data, ("rgb",)) if networks["student"].view == "rgb" else None
    chosen = in_turn(dataset.clips, count)
    return [_strip(dataset, without_flow, number, networks) for number in chosen]


def in_turn(clips: Sequence[Clip], count: int) -> list[int]:
    """Numbers of `count` clips, taking the classes in turn and within a class the clips in order."""
    seen: dict[int | None, int] = {}
    turns = []
    for number, clip in enumerate(clips):
        turn = seen.get(clip.label, 0)
        seen[clip.label] = turn + 1
        turns.append((turn, -1 if clip.label is None else clip.label, number))
    return [number for *_, number in sorted(turns)[:count]]


def _strip(dataset: ClipDataset, without_flow: ClipDataset | None, number: int, networks: Mapping[str, SavedClassifier]) -> Strip:
    sample = _sample(dataset, without_flow, number * dataset.views_per_clip + dataset.views_per_clip // 2)
    found = {
        name: classify(saved.model, sample[saved.view], torch.device("cpu")) for name, saved in networks.items() if saved.view in sample
    }
    attention = {name: of.attention for name, of in found.items() if of.attention is not None}
    clip, student = dataset.clips[number], networks["student"]
    return clip_strip(
        _channels_last(sample["rgb"]),
        flow=_channels_last(sample["flow"].float()) if "flow" in sample else None,
        attention=attention,
        shift_cells={name: saved.model.map_shift_cells for name, saved in networks.items()},
        label=None if clip.label is None else student.classes[clip.label],
        predicted=student.classes[int(found["student"].probabilities.argmax())],
        name=Path(clip.path).stem,
    )


def _sample(dataset: ClipDataset, without_flow: ClipDataset | None, number: int) -> Sample:
    """A sample with both views, or without flow where that cannot be had and nobody but the teacher wants it."""
    try:
        return dataset[(0, number)]
    except VidkdError as error:
        if without_flow is None:
            raise
        sample = without_flow[(0, number)]  # frames that cannot be read are told here
        log.warning("a strip has no flow: %s", error.what)
        return sample


def _channels_last(view: torch.Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(view.permute(1, 2, 3, 0).numpy())


def write_picture(path: Path, strips: Sequence[Strip]) -> None:
    """The strips as one PNG: below each clip's title its rows, each with its name at the left."""
    rows = [row for strip in strips for row in _picture_rows(strip)]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    with atomic_write(path, "wb") as file:
        file.write(cv2.imencode(".png", np.vstack(padded)[:, :, ::-1])[1].tobytes())


def _picture_rows(strip: Strip) -> list[NDArray[np.uint8]]:
    rows = [_line(strip.title, LABEL_PX * 6)]
    for name, uri in strip.rows:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"row '{name}' of {strip.title} is no picture")
        label = np.full((picture.shape[0], LABEL_PX, 3), 255, np.uint8)
        cv2.putText(label, name, (4, picture.shape[0] // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
        rows.append(np.asarray(np.pad(np.hstack([label, picture[:, :, ::-1]]), ((2, 2), (0, 0), (0, 0)), constant_values=255), np.uint8))
    return rows


def _line(text: str, width: int) -> NDArray[np.uint8]:
    """A line of text; OpenCV has no letters but ASCII."""
    line = np.full((24, width, 3), 255, np.uint8)
    plain = text.replace("\N{RIGHTWARDS ARROW}", "->").encode("ascii", "replace").decode()
    cv2.putText(line, plain, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (0, 0, 0), 1, cv2.LINE_AA)
    return line
