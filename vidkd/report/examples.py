"""Example clips for a report: what was seen, how it moved, where the teacher looked and where the student did."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidkd.base.errors import DataError, VidkdError
from vidkd.data.config import DataConfig
from vidkd.data.dataset import ClipDataset, Sample
from vidkd.data.footage import open_clip
from vidkd.data.manifest import Clip
from vidkd.engine.clips import Clips
from vidkd.engine.setup import evaluation_set
from vidkd.inference.torch_classifier import TorchClassifier
from vidkd.models.saved import SavedClassifier, load_classifier
from vidkd.report.parts import Strip
from vidkd.report.strips import Part, clip_strip, moment_of, observed_strip
from vidkd.runtime.clip_classifier import ClipScores

log = logging.getLogger(__name__)

SHOWN_FRACTION = 0.2
"""The observed share that strips of early recognition show, or the nearest to it that is judged."""
SIDES = {"": "student", "future_": "teacher"}
"""Who sees which part of a clip under `early` and `anticipation`, by the prefix of its views."""


def example_strips(
    student: Path | str, clips: Clips, subset: str, data: DataConfig, *, teacher: Path | str | None = None, count: int = 6
) -> list[Strip]:
    """Strips of `count` clips of a subset, its classes in turn: frames, flow if a network sees it, attention maps of teacher and student.

    Under `early` and `anticipation`: what the student observed (in early recognition the fraction nearest to SHOWN_FRACTION), the moment of
    its decision, and what the teacher saw, or without one what came. That part was not judged: where it is shorter than the window
    frames of it repeat, and where nothing of it can be shown the clip is left out and named in the log.
    student, teacher: checkpoints or run folders; a network without attention has no row. Where the flow of a clip cannot be had (it is not
    stored), its row is left out, and that of a teacher who sees flow. Raises what reading checkpoints and frames raises.
    """
    networks = {"student": load_classifier(student), **({"teacher": load_classifier(teacher)} if teacher is not None else {})}
    whole = data.observe.protocol == "whole"
    fractions = [fraction for fraction in data.observe.judged_fractions if fraction is not None]
    fraction = min(fractions, key=lambda fraction: abs(fraction - SHOWN_FRACTION), default=None)
    # a view with flow ends one pair earlier, so flow is asked for only where a network sees it
    seen = {f"{'' if whole else prefix}flow" for prefix, who in SIDES.items() if who in networks and networks[who].view == "flow"}
    views, optional = ["rgb", *([] if whole else ["future_rgb"]), *sorted(seen)], "flow" if whole else "future_flow"
    if not whole:
        data = dataclasses.replace(data, window=dataclasses.replace(data.window, short_clip="hold"))
    sets = [evaluation_set(clips, subset, data, views, fraction=fraction)]
    if optional in views and not (whole and networks["student"].view == "flow"):
        sets.append(evaluation_set(clips, subset, data, [view for view in views if view != optional], fraction=fraction))
    strips = []
    for number in in_turn(sets[0].clips, count):
        try:
            strips.append(_strip(sets, number, networks))
        except DataError as error:
            if whole:
                raise
            log.warning("%s is not among the example clips: %s", sets[0].clips[number].path, error.what)
    return strips


def in_turn(clips: Sequence[Clip], count: int) -> list[int]:
    """Numbers of `count` clips, taking the classes in turn, within a class the groups, and within a group the clips in order."""
    turns: Counter[tuple[int, str]] = Counter()
    classes: dict[int, list[tuple[int, int]]] = {}
    for number, clip in enumerate(clips):
        label = -1 if clip.label is None else clip.label
        classes.setdefault(label, []).append((turns[label, clip.group], number))
        turns[label, clip.group] += 1
    ranked = sorted((turn, label, number) for label, found in classes.items() for turn, (_, number) in enumerate(sorted(found)))
    return [number for *_, number in ranked[:count]]


def _strip(sets: Sequence[ClipDataset], number: int, networks: Mapping[str, SavedClassifier]) -> Strip:
    """Of the middle view of a clip. sets: with all views, and where the teacher's flow can be missed without it."""
    dataset, student = sets[0], networks["student"]
    sample, clip = _sample(sets, number * dataset.views_per_clip + dataset.views_per_clip // 2), dataset.clips[number]
    whole = dataset.config.observe.protocol == "whole"
    found = {}
    for prefix, who in SIDES.items():
        view = f"{'' if whole else prefix}{networks[who].view}" if who in networks else ""
        if view in sample and (who == "student" or networks[who].model.config.attention.pooling != "mean"):
            classifier = TorchClassifier(networks[who].model)
            found[who] = classifier(sample[view].numpy()[None], None if whole or prefix else sample["observed"])
    named: dict[str, Any] = {
        "label": None if clip.label is None else student.classes[clip.label],
        "predicted": student.classes[int(found["student"].probabilities[0].argmax())],
        "name": clip.name or Path(clip.path).stem,
    }
    if whole:
        return clip_strip(_part(sample, "", ("teacher", "student"), networks, found), **named)
    with open_clip(dataset.root / clip.path, clip, dataset.footage) as video:
        moment = moment_of(clip, dataset.config.observe, video.timestamps_s, fraction=dataset.fraction)
    observed, future = (_part(sample, prefix, (who,), networks, found) for prefix, who in SIDES.items())
    return observed_strip(observed, future, moment, taught="teacher" in networks, held_future=bool(sample["held_future"]), **named)


def _part(
    sample: Sample, prefix: str, whose: Sequence[str], networks: Mapping[str, SavedClassifier], found: Mapping[str, ClipScores]
) -> Part:
    """One side of a sample, with the attention of the networks that saw it."""
    seen = {who: found[who].attention for who in whose if who in found}
    attention = {who: (maps[0], networks[who].model.map_shift_cells) for who, maps in seen.items() if maps is not None}
    flow = sample.get(f"{prefix}flow")
    return Part(
        rgb=_channels_last(sample[f"{prefix}rgb"]), flow=None if flow is None else _channels_last(flow.float()), attention=attention
    )


def _sample(sets: Sequence[ClipDataset], number: int) -> Sample:
    """A sample with all views, or without flow where that cannot be had and only the teacher needs it."""
    try:
        return sets[0][(0, number)]
    except VidkdError as error:
        if len(sets) == 1:
            raise
        sample = sets[1][(0, number)]  # frames that cannot be read are reported here
        log.warning("a strip has no flow: %s", error.what)
        return sample


def _channels_last(view: torch.Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(view.permute(1, 2, 3, 0).numpy())
