"""Train a network, or distil one into another, as a configuration says.

A run that was interrupted goes on where it was when the same command is given again.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vidkd.cli.settings import add_settings_help, list_settings

if TYPE_CHECKING:
    from vidkd.cli.kinds import RunKind

TAKES_SETTINGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("--config", metavar="F", help="configuration (YAML), or the name of a shipped one (vidkd config ls)")
    parser.add_argument(
        "--resume",
        choices=["auto", "previous", "never"],
        default="auto",
        help="go on from the last checkpoint (auto), the one before, or refuse",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or mps; short for --train.device")
    add_settings_help(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, then write the run's report."""
    from vidkd.base.cores import check_threads
    from vidkd.base.settings import load_settings, place_of
    from vidkd.cli.kinds import kind_of_run

    device = [] if arguments.device is None else [f"--train.device={arguments.device}"]
    kind, task = kind_of_run(arguments.config, arguments.settings)
    config = load_settings(kind.config, arguments.config, overrides=[*arguments.settings, *device])
    if arguments.list_settings:
        return list_settings(kind.config, task)
    check_threads(config.train.threads, where=place_of(config, "train.threads"))
    return _train(kind, config, arguments.resume)


def _train(kind: "RunKind", config: Any, resume: str) -> int:
    """What it takes to train is imported here, after the settings were found to be right: it is most of the time of a start."""
    from vidkd.engine.loop import InterruptedRunError
    from vidkd.report.page import render_report
    from vidkd.report.run import run_report

    try:
        result = kind.fit(config, resume=resume)
    except InterruptedRunError as stopped:
        sys.stderr.write(f"vidkd: {stopped}\n")
        return 130
    best = "" if result.best is None else f"  best {kind.best} on val {result.best:.3f}"
    done = "found finished" if result.found_finished else "trained"
    sys.stdout.write(f"{done}: {result.folder}  {result.steps} steps in {result.seconds:.0f} s{best}\n")
    page = render_report(result.folder / "report.html", run_report(result.folder))
    sys.stdout.write(f"written: {page}\n")
    sys.stdout.write(f"to judge: vidkd evaluate --checkpoint {result.folder} --subset test\n")
    return 0
