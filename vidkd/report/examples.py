"""Example clips for a report: what was seen, how it moved, where the teacher looked and where the student did."""

import base64
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError, VidkdError
from vidkd.base.files import atomic_write
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset, Sample
from vidkd.data.footage import open_clip
from vidkd.data.manifest import Clip
from vidkd.engine.clips import Clips
from vidkd.engine.setup import evaluation_set
from vidkd.inference.torch_classifier import Classified, classify
from vidkd.models.saved import SavedClassifier, load_classifier
from vidkd.report.moments import moment_of
from vidkd.report.parts import Strip
from vidkd.report.strips import Part, clip_strip, observed_strip

log = logging.getLogger(__name__)

LABEL_PX = 130
"""Width of the names at the left of a picture's rows."""
SHOWN_FRACTION = 0.2
"""The observed share that strips of early recognition show, or the nearest to it that is judged."""


def example_strips(
    student: Path | str, clips: Clips, subset: str, data: DataConfig, *, teacher: Path | str | None = None, count: int = 6
) -> list[Strip]:
    """Strips of `count` clips of a subset, its classes in turn: frames, flow, and the attention maps of teacher and student.

    Under `early` and `anticipation`: what the student observed (in early recognition the fraction nearest to SHOWN_FRACTION), the moment of
    its decision, and what the teacher saw, or without one what came. That part was not judged: where it is shorter than the window
    frames of it repeat, and where nothing of it can be shown the clip is left out and named in the log.
    student, teacher: checkpoints or run folders; a network without attention has no row. Where the flow of a clip cannot be had (it is not
    stored), its row is left out, and that of a teacher who sees flow. Raises what reading checkpoints and frames raises.
    """
    networks = {"teacher": load_classifier(teacher)} if teacher is not None else {}
    networks["student"] = load_classifier(student)
    whole = data.observe.protocol == "whole"
    views = ("rgb", "flow") if whole else _views_seen(networks)
    fraction = _shown_fraction(data)
    if not whole:
        data = dataclasses.replace(data, window=dataclasses.replace(data.window, short_clip="hold"))
    dataset = evaluation_set(clips, subset, data, views, fraction=fraction)
    fewer = tuple(view for view in views if view != ("flow" if whole else "future_flow"))
    spared = networks["student"].view == "rgb" if whole else fewer != views
    without_flow = evaluation_set(clips, subset, data, fewer, fraction=fraction) if spared else None
    numbers = in_turn(dataset.clips, count)
    if whole:
        return [_strip(dataset, without_flow, number, networks) for number in numbers]
    strips = [_observed_strip_or_none(dataset, without_flow, number, networks) for number in numbers]
    return [strip for strip in strips if strip is not None]


def _views_seen(networks: Mapping[str, SavedClassifier]) -> tuple[str, ...]:
    """Frames of both parts, and flow where a network sees it: a view with flow ends one pair earlier, so none is asked for in vain."""
    flow = [
        f"{prefix}flow" for prefix, who in (("", "student"), ("future_", "teacher")) if who in networks and networks[who].view == "flow"
    ]
    return ("rgb", "future_rgb", *flow)


def _shown_fraction(data: DataConfig) -> float | None:
    """The judged fraction that the strips show, None under a protocol that knows none."""
    fractions = [fraction for fraction in data.observe.judged_fractions if fraction is not None]
    return min(fractions, key=lambda fraction: abs(fraction - SHOWN_FRACTION), default=None)


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
    sample = _sample(dataset, without_flow, _middle_view(dataset, number))
    found = {
        name: classify(saved.model, sample[saved.view], torch.device("cpu")) for name, saved in networks.items() if saved.view in sample
    }
    attention = {name: of.attention for name, of in found.items() if of.attention is not None}
    return clip_strip(
        _channels_last(sample["rgb"]),
        flow=_channels_last(sample["flow"].float()) if "flow" in sample else None,
        attention=attention,
        shift_cells={name: saved.model.map_shift_cells for name, saved in networks.items()},
        **_named(dataset.clips[number], networks["student"], found["student"]),
    )


def _observed_strip_or_none(
    dataset: ClipDataset, without_flow: ClipDataset | None, number: int, networks: Mapping[str, SavedClassifier]
) -> Strip | None:
    """As `_observed_strip`; None, with a line in the log, for a clip of which a part cannot be shown."""
    try:
        return _observed_strip(dataset, without_flow, number, networks)
    except DataError as error:
        log.warning("%s is not among the example clips: %s", dataset.clips[number].path, error.what)
        return None


def _observed_strip(dataset: ClipDataset, without_flow: ClipDataset | None, number: int, networks: Mapping[str, SavedClassifier]) -> Strip:
    sample, clip = _sample(dataset, without_flow, _middle_view(dataset, number)), dataset.clips[number]
    with open_clip(dataset.root / clip.path, clip, dataset.footage) as video:
        moment = moment_of(clip, dataset.config.observe, video.timestamps_s, fraction=dataset.fraction)
    student, teacher = networks["student"], networks.get("teacher")
    device = torch.device("cpu")
    decided = classify(student.model, sample[student.view], device, sample["observed"])
    seen = None if teacher is None else sample.get(f"future_{teacher.view}")
    taught = None if teacher is None or seen is None else classify(teacher.model, seen, device)
    return observed_strip(
        _part(sample, "", "student", student, decided),
        _part(sample, "future_", "teacher", teacher, taught),
        moment,
        taught=teacher is not None,
        held_future=bool(sample["held_future"]),
        **_named(clip, student, decided),
    )


def _middle_view(dataset: ClipDataset, number: int) -> int:
    return number * dataset.views_per_clip + dataset.views_per_clip // 2


def _part(sample: Sample, prefix: str, who: str, saved: SavedClassifier | None, found: Classified | None) -> Part:
    """One side of a sample, with the attention of the network that saw it."""
    looked = {} if found is None or found.attention is None else {who: found.attention}
    flow = sample.get(f"{prefix}flow")
    return Part(
        rgb=_channels_last(sample[f"{prefix}rgb"]),
        flow=None if flow is None else _channels_last(flow.float()),
        attention=looked,
        shift_cells={} if saved is None else {who: saved.model.map_shift_cells},
    )


def _named(clip: Clip, student: SavedClassifier, found: Classified) -> dict[str, Any]:
    """True class, predicted class and name of a clip."""
    return {
        "label": None if clip.label is None else student.classes[clip.label],
        "predicted": student.classes[int(found.probabilities.argmax())],
        "name": clip.name or Path(clip.path).stem,
    }


def _sample(dataset: ClipDataset, without_flow: ClipDataset | None, number: int) -> Sample:
    """A sample with both views, or without flow where that cannot be had and only the teacher needs it."""
    try:
        return dataset[(0, number)]
    except VidkdError as error:
        if without_flow is None:
            raise
        sample = without_flow[(0, number)]  # frames that cannot be read are reported here
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
