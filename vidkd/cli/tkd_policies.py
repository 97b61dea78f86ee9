"""`tkd --compare-policies`: what every key-frame policy would have made of the same video, as a study beside the run."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.base.errors import ConfigError
from vidkd.cli.learning import oracle_files

if TYPE_CHECKING:
    from vidkd.cli.tkd import Job

FLAG = "--compare-policies"
FOLDER = "policies"
"""In the folder of an input: the study, its cells, its summary and its page."""
UNLIKE = {"asynchronous": False, "every": 1, "seconds": None}
"""Flags with which a run goes another way along the video than a study does."""


def check_policies(arguments: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Raise ConfigError where a study could not go the run's way, or shares that are none, before anything is opened."""
    from vidkd.detection.opening import TORCHVISION, names_run
    from vidkd.inference.sources import is_live

    shares = arguments.compare_policies
    if shares is None:
        return
    if len(set(shares)) < len(shares) or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"{FLAG} takes different shares of frames, in (0, 1]: {', '.join(map(str, shares))}")
    for name, usual in UNLIKE.items():
        if getattr(arguments, name) != usual:
            raise ConfigError(f"{FLAG} goes in step along every frame of the video", hint=f"leave out --{name}")
    if arguments.oracle_runtime is not None:
        raise ConfigError(f"{FLAG} runs the oracle as its file is run by default", hint="leave out --oracle-runtime")
    if arguments.oracle.startswith(TORCHVISION) or names_run(oracle_files(arguments).model):
        mend = f"export it (vidkd export), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} asks a darknet .cfg or an exported file, not {arguments.oracle}", hint=mend)
    for item in inputs:
        if is_live(item) or not Path(item).is_file():
            raise ConfigError(f"{FLAG} needs a video file, which it reads again and again: {item}")


def check_selector(arguments: argparse.Namespace, unfit: Sequence[str]) -> None:
    """Raise ConfigError where a study would refuse the selector, before hours are spent. unfit: what speaks against it."""
    if arguments.compare_policies is not None and unfit:
        mend = f"train one on other videos with this student (vidkd train_selector), or leave out {FLAG}"
        raise ConfigError(f"{FLAG} would judge the selector by what it knows already: {'; '.join(unfit)}", hint=mend)


def compare_policies(item: str, job: "Job") -> None:
    """Run the study of an input, resuming it, and write its summary and page. Raises as `vidkd study` does."""
    from vidkd.bench.streams.policies_study import write_policies_study
    from vidkd.cli import study as study_verb
    from vidkd.detection.online.distillation import NEEDS_HEADS
    from vidkd.detection.policies import names_selector

    arguments, folder = job.arguments, Path(job.folders[item]) / FOLDER
    if arguments.overwrite and folder.is_dir():
        shutil.rmtree(folder)
    path = write_policies_study(
        folder,
        video=Path(item),
        student=job.student,
        oracle=oracle_files(arguments),
        learning=job.settings,
        heads=job.config.update.loss in NEEDS_HEADS,
        shares=arguments.compare_policies,
        seed=arguments.seed,
        selector=Path(arguments.policy) if names_selector(arguments.policy) else None,
    )
    parser = argparse.ArgumentParser()
    study_verb.add_arguments(parser)
    words = [str(path), "--out", str(folder), "--runs", str(folder / "runs"), "--cache", str(folder / "oracle")]
    given = parser.parse_args(words)
    given.settings = []
    study_verb.run(given)


def policies_of(folder: Path) -> dict[str, Any] | None:
    """The summary of the study beside a run, if there is one."""
    from vidkd.base.files import read_json

    path = folder / FOLDER / "summary.json"
    return read_json(path) if path.exists() else None
