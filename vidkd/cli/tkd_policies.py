"""`tkd --compare-policies`: what every key-frame policy would have made of the same video, as a study next to the run; and which videos
a trained selector knows already.
"""

import contextlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import ConfigError, VideoError
from vidkd.base.files import read_json
from vidkd.base.settings import as_dict
from vidkd.bench.streams.policies_study import write_policies_study
from vidkd.cli import study as study_verb
from vidkd.cli.learning import oracle_files
from vidkd.cli.tkd import Settings
from vidkd.detection.online import Student
from vidkd.detection.online.config import LearningConfig
from vidkd.detection.online.distillation import NEEDS_HEADS
from vidkd.detection.opening import TORCHVISION, names_run
from vidkd.detection.policies import names_selector
from vidkd.detection.policies.lstm import objections, other_learning, read_about
from vidkd.video.files import content_of

if TYPE_CHECKING:
    from vidkd.cli.tkd_run import Job

log = logging.getLogger(__name__)

FLAG = "--compare-policies"
FOLDER = "policies"
"""In the folder of an input: the study, its cells, its summary and its page."""
UNLIKE = {"asynchronous": False, "every": 1, "seconds": None, "oracle_runtime": None}
"""Settings with which a run goes another way along the video than a study does."""


def check_policies(given: Settings, inputs: Sequence[str]) -> None:
    """Raise ConfigError where a study could not go the run's way, before anything is opened."""
    if not given.compare_policies:
        return
    for name, usual in UNLIKE.items():
        if getattr(given, name) != usual:
            raise ConfigError(f"{FLAG} is not possible with --{name.replace('_', '-')}", hint="leave out one of the two")
    if given.oracle.startswith(TORCHVISION) or names_run(oracle_files(given).model):
        mend = f"export it (vidkd export), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} asks a darknet .cfg or an exported file, not {given.oracle}", hint=mend)
    for item in inputs:
        if not Path(item).is_file():
            raise ConfigError(f"{FLAG} needs a video file, which it reads again and again: {item}")


def check_selector(given: Settings, unfit: Sequence[str]) -> None:
    """Raise ConfigError where a study would refuse the selector, before hours are spent. unfit: what speaks against it."""
    if given.compare_policies and unfit:
        mend = f"train one on other videos with this student (vidkd train_selector), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} would judge the selector by what it knows already: {'; '.join(unfit)}", hint=mend)


def compare_with_selector(given: Settings, inputs: Sequence[str], student: Student, config: LearningConfig) -> list[str]:
    """Log where a selector's file says that it was trained with another student, or other learning, or has seen a video of these.

    Returns why its choice along these videos is no fair test: another student, a video that it has seen, or a file that does not say which.
    """
    if not names_selector(given.policy):
        return []
    about, selector = read_about(given.policy), f"the selector {given.policy}"
    contents: dict[str, str] = {}
    for item in filter(lambda name: Path(name).exists(), inputs):
        with contextlib.suppress(OSError, VideoError):  # what cannot be read is reported when its turn comes
            contents[item] = content_of(item)
    net, resize = student.detector.net, student.detector.resize
    unfit = [f"{selector} {reason}" for reason in objections(about, net, resize, contents)]
    learning = {**as_dict(config), **{name: getattr(given, name) for name in ("every", "budget", "window")}}
    if other := other_learning(about, learning):
        log.warning("%s was trained with other learning: %s", selector, "; ".join(other))
    for reason in unfit:
        log.warning("%s", reason)
    return unfit


def compare_policies(item: str, job: "Job") -> None:
    """Run the study of an input, resuming it, and write its summary and page. Raises as `vidkd study` does."""
    given, folder = job.given, job.folders[item] / FOLDER
    if given.overwrite and folder.is_dir():
        shutil.rmtree(folder)
    path = write_policies_study(
        folder,
        video=Path(item),
        student=job.student,
        oracle=oracle_files(given),
        learning=job.record,
        heads=job.config.update.loss in NEEDS_HEADS,
        shares=given.compare_policies,
        seed=given.seed,
        selector=Path(given.policy) if names_selector(given.policy) else None,
    )
    runs, cache = str(folder / "runs"), str(folder / "oracle")
    study_verb.run(study_verb.Settings(config=str(path), out=str(folder), runs=runs, cache=cache))


def policies_of(folder: Path) -> dict[str, Any] | None:
    """The summary of the study next to a run, if there is one."""
    path = folder / FOLDER / "summary.json"
    return read_json(path) if path.exists() else None
