"""Run a light detector along videos while it learns from a heavy oracle, which is asked on few key frames.

Writes what detect writes, and key_frames.jsonl, losses.csv and report.html. Killed at any moment, the same command goes on where it was,
unless --asynchronous. docs/guides/streams.md tells the rest.

  vidkd tkd street.mp4 --student tiny.cfg --weights tiny.weights --names coco.names --oracle yolox_nano.onnx --out learned
  vidkd tkd videos/ --student runs/tiny --oracle yolox_nano.onnx --policy selector.pt --budget 0.05 --out learned --update.lr 1e-4
"""

import argparse
import contextlib
import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidkd.cli.learning import (
    add_learning_arguments,
    add_settings_flag,
    budget_of,
    open_oracle,
    open_student,
    oracle_files,
    recorded,
    student_files,
)
from vidkd.cli.streams import FINISHING, STOPPED, add_stream_arguments, out_folder, region_of, stream_config
from vidkd.cli.tkd_policies import FLAG, check_policies, check_selector, compare_policies, policies_of
from vidkd.cli.tkd_selector import compare_with_selector
from vidkd.cli.tkd_student import check_saved, refuse_saved

if TYPE_CHECKING:
    from vidkd.detection.online import Oracle, Student
    from vidkd.detection.online.account import Account
    from vidkd.detection.online.config import LearningConfig
    from vidkd.detection.stream import Region, Stepper, StreamConfig
    from vidkd.inference.sources import Source

log = logging.getLogger(__name__)

TAKES_SETTINGS = True
TIMEOUT_S = 10.0
"""Of an answer beside the stream."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "inputs", nargs="+", metavar="VIDEO", help="video files, folders, globs in quotes, image sequences, a camera's number, rtsp://..."
    )
    add_learning_arguments(parser)
    parser.add_argument(
        "--policy", default="fixed", metavar="NAME", help="what chooses key frames: a policy, or the file of a trained selector"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="each input gets a folder of its own in it")
    parser.add_argument(
        "--save-student", type=Path, metavar="DIR", help="keep the student as it is after the last frame: cfg, weights, names"
    )
    parser.add_argument(
        "--emit-oracle", action="store_true", help="key frames carry the oracle's boxes, not the student's; only the JSON lines mark them"
    )
    parser.add_argument(
        FLAG, nargs="+", type=float, metavar="SHARE", help="compare all policies along each video at these shares of calls, for the report"
    )
    parser.add_argument(
        "--asynchronous",
        action="store_true",
        help="oracle and training run in parallel to the stream; a file is read at its frame rate; cannot be resumed",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="give up an answer of the oracle after this (default: 10 with --asynchronous, else never)",
    )
    add_stream_arguments(parser)
    add_settings_flag(parser, _settings)


def _settings() -> "type[LearningConfig]":
    from vidkd.detection.online.config import LearningConfig

    return LearningConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with every input: a copy of the student learns along each. settings: what results depend on, beside the stream's."""

    arguments: argparse.Namespace
    student: "Student"
    oracle: "Oracle"
    config: "LearningConfig"
    stream: "StreamConfig"
    labels: frozenset[int] | None
    region: "Region | None"
    settings: Mapping[str, Any]
    folders: Mapping[str, str]

    def saved_in(self, item: str) -> Path | None:
        """Where the student of an input is kept, if it is."""
        folder: Path | None = self.arguments.save_student
        return folder if folder is None or len(self.folders) == 1 else folder / Path(self.folders[item]).name


def run(arguments: argparse.Namespace) -> int:
    """Learn along every input, one after the other; returns 1 if one of several failed, 130 if the user stopped it."""
    from vidkd.base.errors import VidkdError
    from vidkd.detection.stream.inputs import find_inputs
    from vidkd.engine.interrupts import Interrupt

    inputs = find_inputs(arguments.inputs, leave_out=arguments.out)
    job, failed, interrupt = job_of(arguments, inputs), 0, Interrupt(FINISHING)
    with out_folder(arguments.out), interrupt.caught():
        for item in inputs:
            status = ""
            try:
                summary = learn_along(item, job, lambda: interrupt.asked)
                status = summary["status"]
                sys.stdout.write(_told(item, job, summary) + "\n")
            except VidkdError as error:
                if len(inputs) == 1:
                    raise
                failed += 1
                sys.stderr.write(f"vidkd: {item}: {error}\n")
            # a camera that was stopped is finished
            if interrupt.asked and (status == "stopped" or item != inputs[-1]):
                return STOPPED
    return 1 if failed else 0


def job_of(arguments: argparse.Namespace, inputs: Sequence[str]) -> Job:
    """The job that the arguments describe, its networks opened. Raises ConfigError or CheckpointError for one that cannot be."""
    from vidkd.base.settings import as_dict
    from vidkd.detection.online.config import LearningConfig, load_learning_config
    from vidkd.detection.policies import open_policy
    from vidkd.detection.stream import labels_of
    from vidkd.detection.stream.inputs import folder_names

    _check(arguments, inputs)
    log.info("opening %s and %s", arguments.student, arguments.oracle)  # before what runs them is imported
    config = load_learning_config(LearningConfig, arguments.settings, seed=arguments.seed)
    budget_of(arguments)
    open_policy(arguments.policy, seed=arguments.seed)
    stream = dataclasses.replace(stream_config(arguments, batch=1), real_time=arguments.asynchronous)
    region = region_of(arguments)
    light, heavy = student_files(arguments), oracle_files(arguments)
    student = open_student(light)
    check_selector(arguments, compare_with_selector(arguments, inputs, light, student, config))
    return Job(
        arguments=arguments,
        student=student,
        oracle=_timed(open_oracle(heavy, student, config.update), arguments),
        config=config,
        # what came of the learning is read from the lines
        stream=dataclasses.replace(stream, formats=tuple(dict.fromkeys([*stream.formats, "jsonl"]))),
        labels=labels_of(arguments.classes, student.class_names) if arguments.classes else None,
        region=region,
        settings={
            **recorded(light, heavy, arguments),
            **{name: value for name, value in as_dict(config).items() if name in ("update", "replay")},
            **_own_record(arguments),
            "region": None if region is None else region.text,
            "class_names": list(student.class_names),
        },
        folders={name: str(arguments.out / folder) for name, folder in folder_names(inputs).items()},
    )


def _check(arguments: argparse.Namespace, inputs: Sequence[str]) -> None:
    from vidkd.base.cores import check_threads
    from vidkd.base.errors import ConfigError
    from vidkd.inference.sources import is_live

    check_threads(arguments.threads, where="--threads")
    if arguments.timeout is not None and not arguments.timeout > 0:
        raise ConfigError(f"--timeout must be above 0, not {arguments.timeout:g}")
    if arguments.asynchronous and arguments.emit_oracle:
        raise ConfigError("beside the stream an answer comes too late to be emitted", hint="leave out --emit-oracle or --asynchronous")
    check_policies(arguments, inputs)
    if not arguments.asynchronous and any(map(is_live, inputs)):
        sys.stderr.write("vidkd: a live source waits for oracle and training, and loses frames meanwhile; --asynchronous does not\n")
    if arguments.asynchronous and not all(map(is_live, inputs)):
        sys.stderr.write(
            "vidkd: with --asynchronous a file is read at its own frame rate, as from a camera; without it, as fast as it can be\n"
        )


def _timeout_s(arguments: argparse.Namespace) -> float | None:
    """After which the oracle is given up, None for never."""
    if arguments.timeout is None:
        return TIMEOUT_S if arguments.asynchronous else None
    return float(arguments.timeout)


def _timed(oracle: "Oracle", arguments: argparse.Namespace) -> "Oracle":
    """The oracle with the time-out that was asked for; asynchronous learners, one an input, have their own and share the oracle."""
    from vidkd.detection.online import OneAtATime, TimedOracle

    if arguments.asynchronous:
        return OneAtATime(oracle)
    return oracle if arguments.timeout is None else TimedOracle(oracle, arguments.timeout)


def _own_record(arguments: argparse.Namespace) -> dict[str, Any]:
    """What results depend on of the arguments that this verb alone has."""
    from vidkd.base.files import sha256
    from vidkd.detection.policies import names_selector

    policy = arguments.policy
    return {
        "policy": f"sha256 {sha256(policy)[:16]}" if names_selector(policy) else policy,
        "emit_oracle": arguments.emit_oracle,
        "asynchronous": arguments.asynchronous,
        "timeout_s": _timeout_s(arguments),
        "classes": sorted(arguments.classes) if arguments.classes else None,
        "track": arguments.track,
    }


def learn_along(item: str, job: Job, stop: Callable[[], bool]) -> dict[str, Any]:
    """Learn along one input and write all that comes of it; returns the summary of its stream. Raises as `walk_stream`."""
    from vidkd.base.errors import VideoError
    from vidkd.detection.stream import walk_stream
    from vidkd.report.boxes import draw_boxes

    folder, names = Path(job.folders[item]), job.student.class_names
    refuse_saved(folder, job.saved_in(item), overwrite=job.arguments.overwrite)
    with contextlib.ExitStack() as stack:
        try:
            summary = walk_stream(
                item,
                functools.partial(_stepper, job=job, item=item, stack=stack),
                folder,
                class_names=names,
                settings=job.settings,
                config=job.stream,
                draw=functools.partial(draw_boxes, class_names=names),
                stop=stop,
                overwrite=job.arguments.overwrite,
            )
        except VideoError:
            if (folder / "summary.json").exists():  # of an input that broke off, what there was counts
                write_account(item, job)
            raise
    if summary["status"] != "stopped":
        write_account(item, job)
        check_saved(folder, job.saved_in(item))
        if job.arguments.compare_policies:
            compare_policies(item, job)
            write_account(item, job)  # once more, with what the study says
    return summary


def _stepper(source: "Source", *, job: Job, item: str, stack: contextlib.ExitStack) -> "Stepper":
    """A fresh student that learns, with filters and tracks around it."""
    from vidkd.detection.stream import ByteTracker, Filtered, Tracked

    filtered = Filtered(_learning(source, job, item, stack), job.labels, job.region)
    return Tracked(filtered, ByteTracker(fps=source.fps / job.stream.every)) if job.arguments.track else filtered


def _learning(source: "Source", job: Job, item: str, stack: contextlib.ExitStack) -> "Stepper":
    import torch

    from vidkd.detection.online import AsynchronousLearner, SynchronousLearner
    from vidkd.detection.online.stepper import LearningStepper
    from vidkd.detection.policies import open_policy
    from vidkd.detection.stream.run import frames_wanted

    arguments = job.arguments
    torch.manual_seed(arguments.seed)
    student = job.student.copy().for_update(job.config.update, seed=arguments.seed)
    frames = frames_wanted(source, job.stream)
    parts = student, job.oracle, open_policy(arguments.policy, seed=arguments.seed), budget_of(arguments, frames=frames)
    if arguments.asynchronous:
        beside = AsynchronousLearner(
            *parts, update=job.config.update, replay=job.config.replay, timeout_s=_timeout_s(arguments) or TIMEOUT_S
        )
        return LearningStepper(stack.enter_context(beside), saved=job.saved_in(item), owner=Path(job.folders[item]))
    return LearningStepper(
        SynchronousLearner(*parts, update=job.config.update, replay=job.config.replay),
        emit_oracle=arguments.emit_oracle,
        saved=job.saved_in(item),
        owner=Path(job.folders[item]),
    )


def write_account(item: str, job: Job) -> None:
    """Write key_frames.jsonl, losses.csv and report.html of a finished stream, and into its summary what came of learning.

    Raises VideoError where they cannot be written.
    """
    from vidkd.base.files import read_json, write_json
    from vidkd.detection.online.account import as_row, beside_unlearned, read_account, write_key_frames
    from vidkd.detection.stream.folder import REPORT, SUMMARY
    from vidkd.detection.stream.run import writing
    from vidkd.inference.sources import is_live
    from vidkd.report.page import render_report
    from vidkd.report.stream import key_frame_strips, stream_report

    folder, arguments = Path(job.folders[item]), job.arguments
    account = read_account(folder / "detections.jsonl")
    strips = [] if is_live(item) else key_frame_strips(item, account, job.student.class_names, sequence_fps=arguments.fps)
    judged = [] if is_live(item) else beside_unlearned(item, account, job.student, sequence_fps=arguments.fps)
    page = stream_report(
        folder,
        account,
        budget=arguments.budget,
        policy=Path(arguments.policy).name,
        strips=strips,
        judged=judged,
        policies=policies_of(folder),
    )
    with writing(folder, frames=account.frames):
        write_key_frames(folder, account.keys)
        render_report(folder / REPORT, page)
        chosen = {"policy": Path(arguments.policy).name, "budget": arguments.budget}
        told = {"without_learning": as_row(judged)} if judged else {}
        write_json(folder / SUMMARY, {**read_json(folder / SUMMARY), "learning": {**chosen, **account.as_row(), **told}})


def _told(item: str, job: Job, summary: Mapping[str, Any]) -> str:
    """What is printed of an input."""
    from vidkd.base.files import read_json
    from vidkd.detection.online.account import read_account
    from vidkd.detection.policies import BLIND
    from vidkd.detection.stream.folder import REPORT, SUMMARY

    folder = Path(job.folders[item])
    if summary["status"] == "stopped":
        further = "it cannot be gone on with: --overwrite begins anew" if job.arguments.asynchronous else "the same command goes on there"
        return f"{folder}: stopped after {summary['frames']} frames; {further}"
    saved = job.saved_in(item)
    note = f"\nstudent: {saved}" if saved is not None else ""
    unlearned = read_json(folder / SUMMARY)["learning"].get("without_learning")
    chose = job.arguments.policy not in BLIND
    told = report(read_account(folder / "detections.jsonl"), summary, str(folder), unlearned, chose=chose)
    return f"{told}\nwritten: {folder / REPORT}{note}"


def report(
    account: "Account", summary: Mapping[str, Any], folder: str, unlearned: Mapping[str, Any] | None = None, *, chose: bool = False
) -> str:
    """What the verb prints of a finished input.

    unlearned: what its summary says of the student as it began. chose: whether the student had a say in which frames are key frames.
    """
    from vidkd.report.stream_learning import FEWEST

    found = "found finished: " if summary["status"] == "found" else ""
    calls = f"{len(account.keys)} calls of the oracle ({account.share * 100:.1f} %)"
    words = [f"{folder}: {found}{account.frames} frames, {calls}"]
    if account.quarters is not None:
        first, last = account.quarters
        words.append(f"disagreement with the oracle on key frames (0: none), first quarter of the calls {first:.3f}, last {last:.3f}")
    if unlearned is not None and unlearned["key_frames"]:
        learned, began = unlearned["learned"], unlearned["as_it_began"]
        count = unlearned["key_frames"]
        frames_of = "the one key frame" if count == 1 else f"the {count} key frames"
        limits = "; the student that learned had a say in which these are, and looks worse on them" if chose else ""
        limits = "; too few to say whether learning helped" if count < FEWEST else limits
        words.append(f"on {frames_of} after the first update {learned:.3f}, of the student as it began {began:.3f}{limits}")
    parts = ", ".join(f"{part} {spent:.1f}" for part, spent in account.ms_a_frame.items())
    whole = summary["frames_per_second"].get("end_to_end", 0.0)
    words.append(f"{whole:.1f} frames a second; of a frame's milliseconds, over all frames: {parts}")
    return "\n".join([*words, *_cost(account)])


def _cost(account: "Account") -> list[str]:
    """What learning cost against the oracle on every frame, where the lines tell what a call takes."""
    cost = account.cost
    if cost is None:
        return []
    ratio = cost["ratio"]
    compared = f"{ratio:.1f} times as much as" if ratio >= 1 else f"{100 * ratio:.0f} % of"
    hint = "; the oracle alone would be faster and better" if ratio >= 1 else ""
    learning, oracle = cost["learning_ms_per_frame"], cost["oracle_ms_per_frame"]
    return [f"cost: {learning:.1f} ms per frame, {compared} the oracle on every frame ({oracle:.1f} ms){hint}"]
