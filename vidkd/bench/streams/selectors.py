"""Selectors in a study of streams: one that has seen the stream, or watched another student, would be judged by what it knows already."""

import dataclasses
import logging
from pathlib import Path

from vidkd.base.errors import ConfigError
from vidkd.bench.streams.study import Learning, StreamStudy
from vidkd.bench.study import CellKey, Places
from vidkd.detection.online import Student
from vidkd.detection.policies import LstmSelector, Policy, load_selector
from vidkd.detection.policies.lstm import objections, other_learning, read_about
from vidkd.video.files import content_of

log = logging.getLogger(__name__)


def open_selector(path: Path, study: StreamStudy, key: CellKey, places: Places, student: Student, learning: Learning) -> Policy:
    """The policy of a selector's file, for a cell. student: at its start.

    Logs what of update, replay and budget is other than in its training. Raises ConfigError for one that learned from a video of the
    cell's stream or was judged by one, that watched another student, or whose file does not say so much; CheckpointError as its reader.
    A video is known by its content: a copy in another encoding is another video.
    """
    policy, about = LstmSelector(load_selector(path)), read_about(path)
    videos = {segment.video: content_of(study.find(segment.video, places)) for segment in study.spec.streams[key.place].segments}
    if found := objections(about, student.detector.net, student.detector.resize, videos):
        hint = "train one on other videos with this student: vidkd train_selector"
        raise ConfigError(f"the selector {path} {' and '.join(found)}", stream=key.place, hint=hint)
    told_of = {**dataclasses.asdict(learning), "budget": key.calls, "every": 1}
    if told := other_learning(about, told_of):
        log.warning("%s: the selector %s was trained with other learning: %s", key, path, "; ".join(told))
    return policy
