"""What the file of a selector says of its training, held against the run that it is to choose key frames for."""

import argparse
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidkd.detection.online import Student
    from vidkd.detection.online.config import LearningConfig
    from vidkd.detection.opening import ModelFiles

log = logging.getLogger(__name__)


def compare_with_selector(
    arguments: argparse.Namespace, inputs: Sequence[str], files: "ModelFiles", student: "Student", config: "LearningConfig"
) -> list[str]:
    """Log where a selector's file says that it was trained with another student, or other learning, or has seen a video of these.

    Returns what makes its choice none of a stranger's along these videos: another student, a video that it has seen, or a file that does
    not say which.
    """
    from vidkd.base.errors import VideoError
    from vidkd.base.settings import as_dict
    from vidkd.detection.policies import names_selector
    from vidkd.detection.policies.lstm import other_learning, other_student, read_about, says_where_from, seen_among
    from vidkd.inference.sources import is_live
    from vidkd.video.files import content_of

    selector = arguments.policy
    if not names_selector(selector):
        return []
    about, detector = read_about(selector), student.detector
    unfit = []
    if says_where_from(about):
        differing = other_student(about, detector.net, detector.resize)
    else:  # older ones know the student by its files alone
        unfit.append(f"the selector {selector} does not say which videos and which student it has seen")
        now = files.record()
        then = about.get("made_from", {}).get("student", now)
        differing = [name for name in ("model", "weights", "resize") if now.get(name) != then.get(name)]
    if differing:
        # its features may mean something else
        unfit.append(f"the selector {selector} was trained with another student: its {', '.join(differing)} differ")
        log.warning("%s", unfit[-1])
    learning = {**as_dict(config), **{name: getattr(arguments, name) for name in ("every", "budget", "window")}}
    if told := other_learning(about, learning):
        log.warning("the selector %s was trained with other learning: %s", selector, "; ".join(told))
    contents: dict[str, str] = {}
    for item in inputs:
        with contextlib.suppress(OSError, VideoError):  # what cannot be read is told when its turn comes
            contents |= {} if is_live(item) else {item: content_of(item)}
    if seen := seen_among(about, contents):
        unfit.append(f"the selector {selector} has seen {', '.join(seen)} in its training")
        log.warning("%s", unfit[-1])
    return unfit
